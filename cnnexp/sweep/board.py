"""What a person sees of a sweep: one bar with done, failed, running and the time left; plain lines elsewhere."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean
from time import monotonic

from tqdm import tqdm

from cnnexp.job import Job
from cnnexp.record import find_runs


class Times:
    """How long a run takes, learnt from those that are done: of its arm if there are any, else of the study."""

    def __init__(self, folders: Iterable[Path]):
        self.seconds: dict[tuple[str, str], list[float]] = {}
        for folder in set(folders):
            for run in find_runs(folder) if folder.exists() else []:
                if run.status == "done" and isinstance(run.info.get("seconds"), dict):
                    self.learn(str(run.info.get("arm")), str(run.info.get("fingerprint")), run.info["seconds"]["total"])

    def learn(self, arm: str, fingerprint: str, seconds: float) -> None:
        """Take note of a run's seconds."""
        self.seconds.setdefault((arm, fingerprint), []).append(seconds)

    def expected(self, job: Job) -> float | None:
        """Return the seconds that a run may take; None while nothing is known."""
        own = self.seconds.get((job.arm, job.fingerprint))
        if own:
            return mean(own)
        everything = [mean(values) for values in self.seconds.values()]
        return mean(everything) if everything else None

    def total(self, jobs: Iterable[Job], slots: int) -> float | None:
        """Return the seconds that jobs may take on so many slots; None while nothing is known."""
        expected = [self.expected(job) for job in jobs]
        known = [seconds for seconds in expected if seconds is not None]
        if len(known) < len(expected):
            return None
        return max(sum(known) / slots, max(known, default=0.0))


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
        if self.terminal:
            self.bar.write(line)
        else:
            print(line, flush=True)

    def progress(self, job: Job, fraction: float, left: float | None) -> None:
        """Take note of how far a run is; left: seconds to the end of the sweep."""
        self.fractions[job.label] = fraction
        self.show(left)

    def ended(self, job: Job, status: str, line: str, left: float | None) -> None:
        """Take note of a run that ended, and say so."""
        self.fractions.pop(job.label, None)
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


def duration(seconds: float) -> str:
    """Return "45 s", "12 min" or "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def plan_table(jobs: list[Job], statuses: Mapping[str, str], times: Times) -> str:
    """Return a line a run: status, arm, seed, expected time, and what its arm changes."""
    from cnnexp.text_table import align

    rows = [("status", "arm", "seed", "time", "changes")]
    for job in jobs:
        expected = times.expected(job)
        time = "" if statuses[str(job.folder)] == "done" else duration(expected) if expected is not None else "?"
        changes = ", ".join(job.changes) or "nothing"
        rows.append((statuses[str(job.folder)], job.arm, str(job.seed), time, changes))
    return align(rows)
