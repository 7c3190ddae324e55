"""How long the runs of a sweep take, from those that are done."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cnnexp.errors import UserError
from cnnexp.records.run_record import find_runs
from cnnexp.training.plan import Plan

WORK_OF_A_MODEL = ("_target_", "name", "blocks", "channels", "kernels", "stride", "fc")


class Times:
    """How long a run takes: as the runs that are done with its config, else as those whose work is the same."""

    def __init__(self, folders: Iterable[Path]):
        self.by_fingerprint: dict[str, tuple[int, float]] = {}  # how many runs, and their seconds in all
        self.by_work: dict[str, tuple[int, float]] = {}
        self.work: dict[str, str] = {}  # by fingerprint: as `work_of` returns it
        for folder in set(folders):
            for run in find_runs(folder) if folder.exists() else []:
                result = run.info.get("result") or {}
                pruned = result.get("stopped") == "pruned"
                if run.status == "done" and not pruned and isinstance(run.info.get("seconds"), dict):
                    fingerprint = str(run.info.get("fingerprint"))
                    with suppress(UserError):
                        if fingerprint not in self.work:  # reading a config takes 10 ms
                            self.work[fingerprint] = work_of(run.config())
                        self.learn(fingerprint, self.work[fingerprint], run.info["seconds"]["total"])

    def learn(self, fingerprint: str, work: str, seconds: float) -> None:
        """Note a run's seconds. work: as `work_of` returns it."""
        for known, key in ((self.by_fingerprint, fingerprint), (self.by_work, work)):
            count, total = known.get(key, (0, 0.0))
            known[key] = count + 1, total + seconds

    def expected(self, plan: Plan) -> float | None:
        """Return the expected seconds of a run; None if they are unknown."""
        known = self.by_fingerprint.get(plan.fingerprint) or self.by_work.get(self.work_of(plan))
        return known[1] / known[0] if known else None

    def work_of(self, plan: Plan) -> str:
        """Return `work_of` of a run's config, computed once for its fingerprint."""
        if plan.fingerprint not in self.work:
            self.work[plan.fingerprint] = work_of(plan.config)
        return self.work[plan.fingerprint]

    def total(self, plans: Iterable[Plan], slots: int) -> float | None:
        """Return the expected seconds of runs on so many slots; None if those of a run are unknown."""
        expected = [self.expected(plan) for plan in plans]
        known = [seconds for seconds in expected if seconds is not None]
        if len(known) < len(expected):
            return None
        return max(sum(known) / slots, max(known, default=0.0))

    def left(self, waiting: Iterable[Plan], running: Iterable[tuple[Plan, float]], slots: int) -> float | None:
        """Return the expected seconds to the end of a sweep; None if those of a run are unknown.

        running: each with the fraction of it that is done.
        """
        total = self.total(waiting, slots)
        expected = [(self.expected(plan), fraction) for plan, fraction in running]
        if total is None or any(seconds is None for seconds, _ in expected):
            return None
        return total + sum((seconds or 0.0) * (1 - fraction) for seconds, fraction in expected) / slots

    def shortest(self, plans: Iterable[Plan]) -> float | None:
        """Return the expected seconds of the shortest run; None if they are unknown."""
        return min((seconds for plan in plans if (seconds := self.expected(plan)) is not None), default=None)


def work_of(config: Mapping[str, Any]) -> str:
    """Return, as text, what mostly decides how long a run takes: network, data, epochs, batch size and optimiser."""
    model = config.get("model", {})
    data = {key: value for key, value in config.get("data", {}).items() if key not in ("root", "cache")}
    work = [model.get(key) for key in WORK_OF_A_MODEL] + [config.get("optimizer", {}).get("_target_")]
    return json.dumps([*work, data, config.get("epochs"), config.get("batch_size")], sort_keys=True, default=str)
