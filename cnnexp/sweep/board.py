"""What a person sees of a sweep: one bar with done, failed, running and the time left; plain lines elsewhere."""

import json
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import mean
from time import monotonic
from typing import Any

from tqdm import tqdm

from cnnexp.errors import UserError
from cnnexp.records.run_record import find_runs
from cnnexp.text import duration, visible
from cnnexp.training.plan import Plan


class Times:
    """How long a run takes, learnt from those that are done: of its config, else of those that train as long as it.

    Two runs train as long if their network's builder, data, epochs, batch size and optimiser are the same.
    """

    def __init__(self, folders: Iterable[Path]):
        self.own: dict[str, list[float]] = {}
        self.alike: dict[str, list[float]] = {}
        work: dict[str, str] = {}  # by fingerprint: to read a config takes 10 ms
        for folder in set(folders):
            for run in find_runs(folder) if folder.exists() else []:
                if run.status == "done" and isinstance(run.info.get("seconds"), dict):
                    fingerprint = str(run.info.get("fingerprint"))
                    with suppress(UserError):
                        work[fingerprint] = work.get(fingerprint) or work_of(run.config())
                        self.learn(fingerprint, work[fingerprint], run.info["seconds"]["total"])

    def learn(self, fingerprint: str, work: str, seconds: float) -> None:
        """Take note of a run's seconds. work: as `work_of` tells it."""
        self.own.setdefault(fingerprint, []).append(seconds)
        self.alike.setdefault(work, []).append(seconds)

    def expected(self, plan: Plan) -> float | None:
        """Return the seconds that a run may take; None while nothing is known."""
        known = self.own.get(plan.fingerprint) or self.alike.get(work_of(plan.config))
        return mean(known) if known else None

    def total(self, plans: Iterable[Plan], slots: int) -> float | None:
        """Return the seconds that plans may take on so many slots; None while nothing is known."""
        expected = [self.expected(plan) for plan in plans]
        known = [seconds for seconds in expected if seconds is not None]
        if len(known) < len(expected):
            return None
        return max(sum(known) / slots, max(known, default=0.0))


def work_of(config: Mapping[str, Any]) -> str:
    """Return, as text, what of a config mostly decides how long its run takes."""
    model = config.get("model", {})
    data = {key: value for key, value in config.get("data", {}).items() if key not in ("root", "cache")}
    work = [model.get(key) for key in ("_target_", "name", "blocks")] + [config.get("optimizer", {}).get("_target_")]
    return json.dumps([*work, data, config.get("epochs"), config.get("batch_size")], sort_keys=True, default=str)


class Board:
    """Shows the sweep's progress."""

    def __init__(self, total: int, already: int):
        self.counts = {"done": already}
        self.fractions: dict[str, float] = {}
        self.started = monotonic()
        self.terminal = sys.stderr.isatty()
        self.total = total
        layout = "{desc} {bar} {n:.1f}/{total} runs [{elapsed}{postfix}]"
        self.bar = tqdm(total=total, initial=already, bar_format=layout, disable=not self.terminal, desc="sweep")

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        line = visible(line)
        if self.terminal:
            self.bar.write(line)
        else:
            print(line, flush=True)

    def progress(self, plan: Plan, fraction: float, left: float | None) -> None:
        """Take note of how far a run is; left: seconds to the end of the sweep."""
        self.fractions[plan.label] = fraction
        self.show(left)

    def ended(self, plan: Plan, status: str, line: str, left: float | None) -> None:
        """Take note of a run that ended, and say so."""
        self.fractions.pop(plan.label, None)
        self.counts[status] = self.counts.get(status, 0) + 1
        self.say(f"[{sum(self.counts.values())}/{self.total}] {line}")
        self.show(left)

    def show(self, left: float | None) -> None:
        """Draw the bar again."""
        counts = ", ".join(f"{status} {count}" for status, count in self.counts.items() if count)
        time_left = f", about {duration(left)} left" if left is not None else ""
        self.bar.set_postfix_str(f"{counts}, running {len(self.fractions)}{time_left}", refresh=False)
        self.bar.n = sum(self.counts.values()) + sum(self.fractions.values())
        self.bar.refresh()

    def close(self) -> None:
        """End the bar."""
        self.bar.close()


def plan_table(plans: list[Plan], statuses: Mapping[str, str], times: Times) -> str:
    """Return a line a run: status, arm, seed, expected time, and what its arm changes."""
    from cnnexp.text import align

    rows = [("status", "arm", "seed", "time", "changes")]
    for plan in plans:
        expected = times.expected(plan)
        time = "" if statuses[str(plan.folder)] == "done" else duration(expected) if expected is not None else "?"
        changes = ", ".join(plan.changes) or "nothing"
        rows.append((statuses[str(plan.folder)], plan.arm, str(plan.seed), time, changes))
    return align(rows)
