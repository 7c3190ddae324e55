"""Trackers: TensorBoard, MLflow and W&B get what the run directories say, from a process of its own.

The records are the truth. `replay` sends what a tracker does not have yet, so it can be repeated at any time, also
while runs are under way: a slow, absent or failing tracker delays or stops no run. A new tracker is one class with the
methods of `Tracker`, a name in TRACKERS and a line in `tracker`.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from cnnexp import storage
from cnnexp.claims.metrics import SCORES
from cnnexp.config.keys import flatten
from cnnexp.errors import UserError, unknown
from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.version import version_of

TRACKERS = ("tensorboard", "mlflow", "wandb")  # named as the packages that they need
METRICS = ("loss", "accuracy", *SCORES, "learning_rate", "images_per_second")
ENVIRONMENT = {  # for the libraries, unless it is set: MLflow would try for minutes to reach a server
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "WANDB_MODE": "offline",  # it would ask for a login
}
MOST_SETTINGS = 200  # of a config
LOCK = ".tracker.lock"  # held while runs are sent: two that send at once would both send what is new


class Tracker(Protocol):
    """Receives runs. Every method may raise any error of its library.

    place: where it keeps them. whole_steps: all rows of a step are sent together, again if one of them is new.
    """

    place: str
    whole_steps: bool

    def begin(self, run: RunRecord, config: Mapping[str, Any]) -> int:
        """Open a run with its settings, and return how many of its rows are there already.

        config: {dotted key: value}.
        """

    def rows(self, run: RunRecord, rows: list[tuple[dict[str, float], int, float]], count: int) -> None:
        """Add rows: metrics by name, the optimiser step, and the time in seconds since 1970.

        count: of the run's rows, with those that were there before.
        """

    def end(self, run: RunRecord) -> None:
        """Close a run, and say how it ended. Called for those under way too: `run.status` is `running`."""

    def report(self, study: str, folder: Path, figures: list[Path]) -> None:
        """Add a study's report. folder: with its page. figures: PNG files."""


def check(name: str) -> None:
    """Raise UserError for an unknown tracker, or one whose package is not installed."""
    if name not in TRACKERS:
        raise unknown("tracker", "tracker", name, TRACKERS)
    if version_of(name) is None:
        raise UserError(f"tracker: {name} is not installed; pip install 'cnnexp[{name}]'")


def tracker(name: str, folder: Path, place: str | None) -> Tracker:
    """Return the tracker of a folder of runs. place: its folder or address; None: below `folder`."""
    check(name)
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    if name == "tensorboard":
        from cnnexp.trackers.tensorboard import TensorBoard

        return TensorBoard(folder, place)
    if name == "mlflow":
        from cnnexp.trackers.mlflow import MLflow

        return MLflow(folder, place)
    from cnnexp.trackers.wandb import WandB

    return WandB(folder, place)


def replay(folder: Path, to: Tracker) -> tuple[int, int]:
    """Send what a tracker does not have yet of the runs at or below a folder.

    Returns the numbers of runs and of new rows.
    """
    with alone(folder):
        return _replay(folder, to)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process sends the runs of a folder, and be the only one; not where nothing can be written."""
    if not os.access(folder, os.W_OK):
        yield
        return
    with storage.lock(folder / LOCK, wait=True):
        yield


def _replay(folder: Path, to: Tracker) -> tuple[int, int]:
    runs, sent = [run for run in find_runs(folder) if run.problem is None], 0
    for run in runs:
        try:
            config = dict(list(flatten(run.config()).items())[:MOST_SETTINGS])
            rows = storage.read_rows(run.metrics)
        except UserError:  # it has not written them yet, or they are damaged, which `cnnexp runs` says
            continue
        known = to.begin(run, config)
        while to.whole_steps and 0 < known < len(rows) and rows[known - 1].get("step") == rows[known].get("step"):
            known -= 1
        if new := _with_times(run, rows)[known:]:
            to.rows(run, new, len(rows))
            sent += len(new)
        to.end(run)
    for page in sorted({run.folder.resolve().parent for run in runs}):
        if (page / "report" / "index.html").exists():
            to.report(page.name, page / "report", sorted((page / "report" / "figures").glob("*.png")))
    return len(runs), sent


def _with_times(run: RunRecord, rows: list[dict[str, Any]]) -> list[tuple[dict[str, float], int, float]]:
    """Return each row's metrics by name, as "val/accuracy", its step, and when it was written, by the rows' seconds."""
    at, found = started(run), []
    for row in rows:
        at += row.get("seconds", 0.0)
        where = "step" if row.get("kind") == "step" else row.get("split", "train")
        metrics = {f"{where}/{name}": float(row[name]) for name in METRICS if row.get(name) is not None}
        found.append((metrics, int(row.get("step", 0)), at))
    return found


def started(run: RunRecord) -> float:
    """Return when a run started, in seconds since 1970; 0 if it does not say."""
    try:
        return datetime.fromisoformat(str(run.info.get("started"))).timestamp()
    except ValueError:
        return 0.0


def place_of(run: RunRecord) -> str:
    """Return "STUDY/RUN", by the folders' names: two studies may have the same run."""
    return str(Path(run.folder.resolve().parent.name, run.name))


def results(run: RunRecord) -> dict[str, float]:
    """Return the numbers of a run's result."""
    found = run.info.get("result") or {}
    return {name: float(value) for name, value in found.items() if type(value) in (int, float)}


def plain(value: Any) -> str | int | float | bool:
    """Return a setting as trackers take it: a text, a number, true or false."""
    return value if isinstance(value, (str, int, float, bool)) else str(value)


class Sent:
    """What was sent of each run, in a file beside what a tracker keeps. Several processes may write it at a time."""

    def __init__(self, file: Path):
        self.file = file

    def of(self, key: str) -> dict[str, Any]:
        """Return what was sent of a run, {} for nothing, and if the file cannot be read."""
        try:
            found = storage.read_json(self.file)[key]
        except (UserError, KeyError, TypeError):
            return {}
        return found if isinstance(found, dict) else {}

    def set(self, key: str, **values: Any) -> None:
        """Remember what was sent of a run."""
        with storage.lock(self.file.with_suffix(".lock"), wait=True):
            try:
                known = storage.read_json(self.file)
            except UserError:
                known = {}
            known = known if isinstance(known, dict) else {}
            storage.write_json(self.file, {**known, key: {**self.of(key), **values}})
