"""Write a report again when records have changed: `cnnexp report --watch` and --serve."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep, time

from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.records.run_record import find_runs
from cnnexp.records.study import read_study
from cnnexp.report import Report
from cnnexp.search.trials import LOCK

SECONDS = 5  # at least between two looks at the records
SHARE = 5  # a report is written in at most a fifth of the time: the rest of the cores is for training
QUIET_SECONDS = 60  # a sweep in which nothing happens for so long, although runs are left, has ended


def watch(
    folder: Path, write: Callable[[], Report], say: Callable[[Report, str], None], forever: bool = False
) -> Report:
    """Write reports until no run at or below `folder` is under way, or forever; return the last one.

    say: called with the report and the number of runs by status, when these have changed.
    """
    written: Report | None = None
    seen: tuple[dict[Path, tuple[int, int]], str] = {}, ""
    said = ""
    while True:
        started, goes_on, now = monotonic(), forever or is_under_way(folder), (_state(folder), _counts(folder))
        if written is None or now != seen or not goes_on:
            written, seen = write(), now
            if now[1] != said:
                say(written, said := now[1])
        if not goes_on:
            return written
        sleep(max(SECONDS, (SHARE - 1) * (monotonic() - started)))


def is_under_way(folder: Path) -> bool:
    """Return whether a process works on a run, or a sweep that has runs left was active in the last QUIET_SECONDS."""
    runs = find_runs(folder)
    if any(run.status == "running" for run in runs):
        return True
    if any(storage.is_locked(run.folder.parent / LOCK) for run in runs):  # a search, between two trials
        return True
    found = _state(folder) or _state(folder, "study.json")  # reports write study.json too, so it counts at first only
    newest = max((changed for changed, _ in found.values()), default=0) / 1e9
    ended = {run.folder for run in runs if run.status != "interrupted"}
    studies = {run.folder.parent for run in runs} | {file.parent for file in folder.rglob("study.json")}
    left = any(place / Path(entry["folder"]).name not in ended for place in studies for entry in _planned(place))
    return left and time() - newest < QUIET_SECONDS


def _planned(folder: Path) -> list[dict[str, str]]:
    with suppress(UserError):
        if study := read_study(folder):
            return list(study["runs"])
    return []


def _state(folder: Path, *names: str) -> dict[Path, tuple[int, int]]:
    """Return {file: (ns of its last change, size)}, which changes when a run starts, ends an epoch or ends."""
    found = {}
    for name in names or ("run.json", "metrics.jsonl"):
        for file in folder.rglob(name):
            with suppress(FileNotFoundError):  # deleted meanwhile
                found[file] = (stat := file.stat()).st_mtime_ns, stat.st_size
    return found


def _counts(folder: Path) -> str:
    statuses = [run.status for run in find_runs(folder)]
    return ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
