"""What a report was made of, as a stamp that changes when a record changes. Files are looked at, not read."""

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

from cnnexp.records.provenance import PACKAGE, code
from cnnexp.records.run_record import RunRecord
from cnnexp.search.trials import SEARCH, TRIALS, is_search, retrained, retrained_folder

FILES = ("run.json", "metrics.jsonl", "predictions.npz", "probes.jsonl", "config.yaml")  # of a run, in a report

MAKERS = ("report", "pages")  # folders of the package
MADE_BY = (".py", ".j2", ".js", ".css", ".mplstyle")


def stamp(folder: Path, records: Iterable[RunRecord], *options: object) -> str:
    """Return the stamp of a study's or search's report: of its records, the options, and the code that makes it."""
    files = [folder / name for name in ("study.json", SEARCH, TRIALS)]
    if is_search(folder):
        files += [retrained_folder(folder) / "study.json", *(run / "run.json" for run in retrained(folder))]
    parts = [repr((code()["digest"], makers(PACKAGE), options, list(map(_state, files))))]
    parts += [repr((run.folder.name, run.status, [_state(run.folder / name) for name in FILES])) for run in records]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


@functools.lru_cache(maxsize=1)
def makers(package: Path) -> str:
    """Hash the files that make pages: sources, templates, scripts and styles. code()["digest"] leaves them out."""
    content = hashlib.blake2b(digest_size=16)
    for file in sorted(file for name in MAKERS for file in (package / name).rglob("*") if file.suffix in MADE_BY):
        content.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    return content.hexdigest()


def _state(file: Path) -> tuple[int, int] | None:
    try:
        found = file.lstat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
