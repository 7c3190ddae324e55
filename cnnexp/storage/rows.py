"""Files that grow by lines: rows of metrics (JSON objects with a checksum each), and logs.

Rows are durable once `sync_file` has returned. A last row that a kill cut short is dropped on reading.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cnnexp.errors import UserError
from cnnexp.storage import disk
from cnnexp.storage.checksums import Damaged, decode, encode
from cnnexp.storage.files import write_bytes
from cnnexp.text import visible


def append_row(path: Path, row: dict[str, Any]) -> bytes:
    """Append one JSON object as a line, and return the line. It is durable once `sync_file(path)` has returned."""
    line = encode(row)
    with disk.opened(path, "rows", disk.APPEND) as file:
        file.write(line)
    return line


def sync_file(path: Path) -> None:
    """Make the rows of `path`, and its name in the folder, durable."""
    with disk.Raw(path, "rows", disk.APPEND) as file:
        file.sync()
    disk.sync_folder(path.parent)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a JSON-lines file, [] if it is missing. Reading stops at the first damaged line."""
    return [row for _, row in _intact(path)]


def keep_rows(path: Path, count: int) -> list[dict[str, Any]]:
    """Truncate a JSON-lines file to its first `count` rows, and return them.

    Raises UserError if fewer can be read.
    """
    kept = list(_intact(path))[:count]
    if len(kept) < count:
        raise UserError(f"{path}: has {len(kept)} readable rows, but {count} are needed; it was damaged or deleted")
    content = b"".join(line for line, _ in kept)
    if path.exists() and path.stat().st_size != len(content):
        write_bytes(path, content)
    return [row for _, row in kept]


def _intact(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    try:
        with disk.reading(path):
            lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    for line in lines:
        try:
            row = decode(line)
        except (ValueError, RecursionError, Damaged):
            return
        if not line.endswith(b"\n") or not isinstance(row, dict):
            return
        yield line, row


def append_text(path: Path, text: str) -> None:
    """Append text to a log."""
    with disk.opened(path, "log", disk.APPEND) as file:
        file.write(visible(text, lines=True).encode("utf-8", errors="backslashreplace"))


def log_descriptor(path: Path) -> int:
    """Open a log, for the output of a process, at its end; the caller closes it. Creates the folder."""
    disk.make_folder(path.parent)
    return disk.open_descriptor(path, "log", disk.APPEND)
