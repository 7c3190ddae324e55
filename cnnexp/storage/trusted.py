"""The files of a folder that may come from anyone: they are read, and written beside, only if they lie in it.

A link in a stranger's folder could lead to any file here: it would be shown in a report, appended to, or deleted. A
pipe would be waited for without end, and a file of gigabytes fill the memory. What is named on the command line may be
a link: only what lies below it is looked at.
"""

import os
import stat
from pathlib import Path

from cnnexp.errors import UserError

MIB = 2**20
LARGEST = {  # far above what a run writes: a thousand classes with long names, a step row for each of a million steps
    "run.json": 64 * MIB,
    "study.json": 64 * MIB,
    "report.json": 64 * MIB,
    "config.yaml": MIB,
    "metrics.jsonl": 1024 * MIB,
    "probes.jsonl": 1024 * MIB,
    "hash_chain.jsonl": 1024 * MIB,
    "predictions.npz": 4096 * MIB,
    ".pt": 64 * 1024 * MIB,
    ".csv": 1024 * MIB,
}


def own_file(folder: Path, name: str) -> Path:
    """Return folder/name, to be read; it need not be there. name: one of LARGEST, or with an ending of it.

    Raises UserError for a link, for what is no file, and for one that is larger than a run would write.
    """
    path = folder / name
    try:
        found = path.lstat()
    except (OSError, ValueError):
        return path
    if stat.S_ISLNK(found.st_mode):
        raise UserError(f"{path}: is a link; the files of a run are read only from its own folder")
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path}: is not a file")
    largest = LARGEST[name if name in LARGEST else path.suffix]
    if found.st_size > largest:
        raise UserError(f"{path}: cannot be read ({found.st_size // MIB} MiB; allowed: {largest // MIB} MiB)")
    return path


def own_folder(folder: Path, name: str) -> Path:
    """Return folder/name, to be written in; it need not be there. Raises UserError for a link, and for a file."""
    path = folder / name
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise UserError(
            f"{path}: is not a folder of its own, but {'a link' if path.is_symlink() else 'a file'}; move it"
        )
    return path


def no_link(path: str, flags: int) -> int:
    """Open a file for `open(..., opener=no_link)`: OSError if it is a link; a pipe is not waited for."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
