"""`cnnexp report --watch`: write the report again while runs are under way. Meanwhile the page reloads itself."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep, time

from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.pages.files import MANIFEST
from cnnexp.records.run_record import find_runs
from cnnexp.records.study import read_study
from cnnexp.report import Report

RELOAD_SECONDS = 5  # of the page, and at least between two reports
SHARE = 5  # a report is written in at most a fifth of the time: the rest of the cores is for training
QUIET_SECONDS = 60  # a sweep in which nothing happens for so long, although runs are left, has ended
RELOADS = re.compile(r'<meta http-equiv="refresh"[^>]*>\n?')


def watch(folder: Path, write: Callable[[int], Report], say: Callable[[Report, str], None]) -> Report:
    """Write reports until no run at or below `folder` is under way; return the last one.

    write: given the seconds between two reloads of the page, 0 for none. say: called with the report and
    the number of runs by status, when these have changed. However this ends, the page no longer reloads itself.
    """
    written: Report | None = None
    seen: dict[Path, tuple[int, int]] = {}
    said = ""
    try:
        while True:
            started, goes_on, now = monotonic(), is_under_way(folder), _state(folder)
            if written is None or now != seen or not goes_on:
                written, seen = write(RELOAD_SECONDS if goes_on else 0), now
                if (counts := _counts(folder)) != said:
                    say(written, said := counts)
            if not goes_on:
                return written
            sleep(max(RELOAD_SECONDS, (SHARE - 1) * (monotonic() - started)))
    except BaseException:
        if written is not None:
            stop_reloading(written.index.parent)
        raise


def stop_reloading(out: Path) -> None:
    """Take the reloading out of the pages of a report."""
    for manifest in out.rglob(MANIFEST):
        with suppress(OSError, UserError):
            page = manifest.with_name("index.html")
            if not page.is_symlink():
                storage.write_text(page, RELOADS.sub("", page.read_text(encoding="utf-8"), count=1))


def is_under_way(folder: Path) -> bool:
    """Return whether a process works on a run, or a sweep that has runs left was active in the last QUIET_SECONDS."""
    runs = find_runs(folder)
    if any(run.status == "running" for run in runs):
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
