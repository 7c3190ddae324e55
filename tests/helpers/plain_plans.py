"""Plans that no run can be made of, but that have a place to be recorded; and an engine that pretends to make them."""

import heapq
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnnexp.records.run_record import now
from cnnexp.sweep.engine import Ended, Event, Lost
from cnnexp.sweep.plan_file import FACTS, SETTINGS
from cnnexp.training.plan import Plan


def plain_plan(folder: Path, arm: str, seed: int = 0, upstream: Plan | None = None) -> Plan:
    """Return a Plan of a study `s` whose fingerprint is its arm."""
    config: dict[str, Any] = {name: {} for name in SETTINGS}
    config |= {"study": {"name": "s", "arm": arm}, "seed": seed, "device": {"kind": "cpu", "threads": 1}}
    facts = {**dict.fromkeys(FACTS), "user_code": {}}
    return Plan(config, [], [], facts, arm, folder / "s" / f"{arm}-s{seed}-{arm}", "cnnexp train", upstream)


def finish(plan: Plan, status: str, seconds: float = 1.0) -> None:
    """Record a run as ended, without having run it."""
    (plan.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    plan.record().update(
        status=status,
        arm=plan.arm,
        seconds={"total": seconds},
        result={"val_accuracy": 0.5, "test_accuracy": 0.5} if status == "done" else None,
        finished=now(),
        error=None,
    )


End = tuple[float, str]  # after so many seconds: a status, or "lost run" or "lost node"


class FakeEngine:
    """Makes runs in virtual time. ends: how an attempt at a run, counted from 1, ends."""

    def __init__(self, slots: int, ends: Callable[[Plan, int], End]):
        self.slots, self.ends = slots, ends
        self.time, self.busy_seconds, self.running = 0.0, 0.0, 0
        self.coming: list[tuple[float, int, Event]] = []
        self.order = itertools.count()
        self.started: dict[str, int] = {}
        self.begun: list[str] = []  # labels
        self.stopped: list[bool] = []
        self.closed = False

    def free(self) -> int:
        return self.slots - self.running

    def start(self, plan: Plan) -> None:
        assert self.free() > 0
        self.running += 1
        self.begun.append(plan.label)
        attempt = self.started[plan.label] = self.started.get(plan.label, 0) + 1
        seconds, end = self.ends(plan, attempt)
        self.busy_seconds += seconds
        event = Lost(plan, end, "run" if end == "lost run" else "node") if end[:4] == "lost" else Ended(plan, end, end)
        heapq.heappush(self.coming, (self.time + seconds, next(self.order), event))

    def news(self, timeout: float) -> list[Event]:
        if not self.coming:
            self.time += timeout
            return []
        self.time, _, event = heapq.heappop(self.coming)
        self.running -= 1
        if isinstance(event, Ended) and event.status not in ("held", "interrupted"):
            finish(event.plan, event.status, self.ends(event.plan, 1)[0])
        return [event]

    def stop(self, now: bool) -> None:
        self.stopped.append(now)

    def close(self) -> None:
        self.closed = True

    def describe(self) -> str:
        return f"{self.slots} pretended slot(s)"
