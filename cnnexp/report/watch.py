"""Write a report again when records have changed: `cnnexp report --watch` and --serve."""

from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic, sleep

from cnnexp.records.run_record import find_runs
from cnnexp.records.under_way import is_under_way, last_changes
from cnnexp.report import Report
from cnnexp.search.trials import is_search, retrained_folder

SECONDS = 5  # at least between two looks at the records
SHARE = 5  # a report is written in at most a fifth of the time: the rest of the cores is for training


def watch(
    folder: Path, write: Callable[[], Report], say: Callable[[Report, str], None], forever: bool = False
) -> Report:
    """Write reports until no run at or below `folder` is under way, or forever; return the last one.

    With a search, the runs of its retrained winner count too.
    say: called with the report and the number of runs by status, when these have changed.
    """
    written: Report | None = None
    seen: tuple[dict[Path, tuple[int, int]], str] = {}, ""
    said = ""
    while True:
        started, folders = monotonic(), _watched(folder)
        goes_on, now = forever or any(map(is_under_way, folders)), (_changes(folders), _counts(folders))
        if written is None or now != seen or not goes_on:
            written, seen = write(), now
            if now[1] != said:
                say(written, said := now[1])
        if not goes_on:
            return written
        sleep(max(SECONDS, (SHARE - 1) * (monotonic() - started)))


def _watched(folder: Path) -> list[Path]:
    if is_search(folder) and (retrained := retrained_folder(folder)).is_dir():
        return [folder, retrained]
    return [folder]


def _changes(folders: Sequence[Path]) -> dict[Path, tuple[int, int]]:
    return {file: change for folder in folders for file, change in last_changes(folder).items()}


def _counts(folders: Sequence[Path]) -> str:
    statuses = [run.status for folder in folders for run in find_runs(folder)]
    return ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
