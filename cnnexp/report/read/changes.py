"""What a report was made of, as a stamp that changes when a record changes. Files are looked at, not read."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from cnnexp.records.provenance import code
from cnnexp.records.run_record import RunRecord
from cnnexp.search.trials import SEARCH, TRIALS, is_search, retrained

FILES = ("run.json", "metrics.jsonl", "predictions.npz", "probes.jsonl", "config.yaml")  # of a run, in a report


def stamp(folder: Path, records: Iterable[RunRecord], *options: object) -> str:
    """Return the stamp of a study's or search's report: of its records, the options, and the code that makes it."""
    files = [folder / name for name in ("study.json", SEARCH, TRIALS)]
    if is_search(folder):
        files += [run / "run.json" for run in retrained(folder)]
    parts = [repr((code()["digest"], options, list(map(_state, files))))]
    parts += [repr((run.folder.name, run.status, [_state(run.folder / name) for name in FILES])) for run in records]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _state(file: Path) -> tuple[int, int] | None:
    try:
        found = file.lstat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
