"""Whether runs below a folder are under way, as their files tell."""

from contextlib import suppress
from pathlib import Path
from time import time

from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.records.run_record import find_runs
from cnnexp.records.study import read_study

QUIET_SECONDS = 60  # a sweep in which nothing happens for so long, although runs are left, has ended
SEARCH_LOCK = ".search.lock"  # held by the command that proposes the trials of a search


def is_under_way(folder: Path) -> bool:
    """Return whether a process works on a run, or a sweep that has runs left was active in the last QUIET_SECONDS."""
    runs = find_runs(folder)
    if any(run.status == "running" for run in runs):
        return True
    if any(storage.is_locked(run.folder.parent / SEARCH_LOCK) for run in runs):  # a search, between two trials
        return True
    found = last_changes(folder) or last_changes(
        folder, "study.json"
    )  # reports write study.json too, so it counts at first only
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


def last_changes(folder: Path, *names: str) -> dict[Path, tuple[int, int]]:
    """Return {file: (ns of its last change, size)}, which changes when a run starts, ends an epoch or ends."""
    found = {}
    for name in names or ("run.json", "metrics.jsonl"):
        for file in folder.rglob(name):
            with suppress(FileNotFoundError):  # deleted meanwhile
                found[file] = (stat := file.stat()).st_mtime_ns, stat.st_size
    return found
