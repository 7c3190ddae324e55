"""Whole files, replaced so that a reader, or a crash, sees the old one or the new one and nothing between.

A temporary file in the same folder, fsync, rename, fsync of the folder. A rename that is not durable yet is undone by
a power loss, never half done; nothing that counts on it goes on before the folder is synced.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from cnnexp.errors import UserError
from cnnexp.storage import disk
from cnnexp.storage.checksums import trailer


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Replace `path` by `content`, atomically and durably.

    Raises StorageError (disk full, no permission) and then leaves the old file as it was.
    """
    publish(draft(path, lambda file: file.write(content)), path)


def write_text(path: Path, content: str) -> None:
    """Replace `path` by UTF-8 text, atomically and durably."""
    write_bytes(path, content.encode("utf-8", errors="surrogateescape"))


def draft(path: Path, write: Callable[[IO[bytes]], Any], sealed: bool = False) -> Path:
    """Let `write` fill a temporary file beside `path`, and return it: seen and durable once it is published.

    sealed: end it with a checksum of all before, for `checksums.check`; `write` then writes in order, without seeking.
    Raises what `write` raises, or StorageError, and then leaves nothing behind.
    """
    temporary = _temporary(path)
    try:
        with disk.opened(temporary, "replace") as file:
            write(file)
            if sealed:
                file.flush()
                assert isinstance(file.raw, disk.Raw)
                file.write(trailer(file.raw.crc32, file.raw.offset))
    except BaseException:
        disk.remove_file(temporary)
        raise
    return temporary


def publish(temporary: Path, path: Path, keep_as: Path | None = None) -> None:
    """Put a draft in the place of `path`, atomically and durably. Raises StorageError, and then drops the draft.

    keep_as: the name that the file which was at `path` gets; a crash between leaves it there, and nothing at `path`.
    """
    try:
        disk.sync(temporary, "replace")
        if keep_as is not None and path.exists():
            disk.rename(path, keep_as, "keep")
        disk.rename(temporary, path, "replace")
    except BaseException:
        disk.remove_file(temporary)
        raise
    disk.sync_folder(path.parent)


def append_blocks(path: Path, blocks: Iterable[bytes]) -> None:
    """Append blocks of bytes as they come; what came before an error of `blocks` stays. Durable once published."""
    with disk.opened(path, "blocks", disk.AT_THE_END) as file:
        for block in blocks:
            file.write(block)


def sync_tree(folder: Path) -> None:
    """Make all files below a folder durable, and their names, before the folder gets a name that is looked for."""
    for path in sorted(folder.rglob("*"), reverse=True):
        disk.sync(path, "blocks")
    disk.sync_folder(folder)


def copy(source: Path, path: Path) -> None:
    """Put a copy of a durable file in the place of `path`, atomically: a second name for it where that is possible.

    Files are replaced here and never changed, so both names keep what they stand for.
    """
    if path.exists() and path.samefile(source):  # a rename of one name to the other would do nothing
        disk.sync_folder(path.parent)
        return
    temporary = _temporary(path)
    disk.remove_file(temporary)
    try:
        disk.link(source, temporary, "copy")
    except OSError:  # a file system without hard links
        temporary = draft(path, lambda file: file.write(source.read_bytes()))
    publish(temporary, path)


def remove_drafts(folder: Path) -> None:
    """Delete what writers that were killed have left in `folder`. Only for who holds the folder."""
    for left_over in folder.glob(".*.tmp"):
        disk.remove_file(left_over)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def rename(old: Path, new: Path) -> None:
    """Move a file over `new`, durably."""
    disk.rename(old, new, "move")
    disk.sync_folder(new.parent)


def make_folder(path: Path) -> None:
    """Create a folder and its parents. Raises UserError if that is impossible."""
    try:
        disk.make_folder(path)
    except OSError as error:
        raise UserError(f"{path}: cannot make this folder ({error.strerror})") from error


def remove(path: Path) -> None:
    """Delete a file or a whole folder; nothing happens if it is not there."""
    if path.is_dir() and not path.is_symlink():
        disk.remove_folder(path)
    else:
        disk.remove_file(path)


def size_bytes(path: Path) -> int:
    """Return the size of a file, or of all files below a folder."""
    if path.is_dir():
        return sum(f.lstat().st_size for f in path.rglob("*") if f.is_file())
    return path.stat().st_size
