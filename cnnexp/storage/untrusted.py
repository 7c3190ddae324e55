"""Checks for the files of a folder that may come from anyone: a file is used only if it lies in that folder.

A link in such a folder could point to any file of this machine, which would then be shown in a report, appended to, or
deleted. A pipe would block the reader forever, and a file of gigabytes would fill the memory. The folder itself may be
a link if the user named it; only what lies below it is checked.
"""

import os
import stat
from pathlib import Path

from cnnexp.errors import UserError

MIB = 2**20
MAX_BYTES = {  # far more than a run writes: a thousand classes with long names, a step row for each of a million steps
    "run.json": 64 * MIB,
    "study.json": 64 * MIB,
    "plan.json": 512 * MIB,
    "search.json": 64 * MIB,
    "trials.jsonl": 64 * MIB,
    "report.json": 64 * MIB,
    "made-of.json": MIB,
    "config.yaml": MIB,
    "metrics.jsonl": 1024 * MIB,
    "probes.jsonl": 1024 * MIB,
    "hash_chain.jsonl": 1024 * MIB,
    "predictions.npz": 4096 * MIB,
    ".pt": 64 * 1024 * MIB,
    **dict.fromkeys((".csv", ".md", ".tex"), 1024 * MIB),
}


def checked_file(folder: Path, name: str) -> Path:
    """Return folder/name; the file may be missing. name: a key of MAX_BYTES, or a name with one of its suffixes.

    Raises UserError for a link, for what is not a regular file, and for a file that is larger than a run writes.
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
    allowed = MAX_BYTES[name if name in MAX_BYTES else path.suffix]
    if found.st_size > allowed:
        raise UserError(f"{path}: cannot be read ({found.st_size // MIB} MiB; allowed: {allowed // MIB} MiB)")
    return path


def checked_folder(folder: Path, name: str) -> Path:
    """Return folder/name, a folder to write in; it may be missing. Raises UserError for a link, and for a file."""
    path = folder / name
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise UserError(f"{path}: is {'a link' if path.is_symlink() else 'a file'}, not a folder; move it")
    return path


def open_no_link(path: str, flags: int) -> int:
    """Open a file, as `opener` of `open`: OSError if it is a link; opening a pipe does not block."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
