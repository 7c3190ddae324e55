"""Files written as a unit: a reader, or a crash, sees the old file or the new one and nothing between.

Each write goes to a temporary file in the same folder, then fsync, rename, fsync of the folder. A power loss may undo a
rename whose folder is not synced yet; it never leaves half a file. What depends on a file waits for that sync.
JSON objects carry a checksum (see checksums.py). Folders of arrays are written beside their final place and renamed.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cnnexp.errors import UserError
from cnnexp.storage import checksums, disk
from cnnexp.storage.checksums import Damaged

if TYPE_CHECKING:
    from numpy.typing import NDArray

DRAFT = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp", re.DOTALL)  # names as `_temporary` makes them


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Replace `path` by `content`, atomically and durably.

    Raises StorageError (disk full, no permission) and then leaves the old file unchanged.
    """
    publish(draft(path, lambda file: file.write(content)), path)


def write_text(path: Path, content: str) -> None:
    """Replace `path` by UTF-8 text, atomically and durably."""
    write_bytes(path, content.encode("utf-8", errors="surrogateescape"))


def write_json(path: Path, content: Any) -> None:
    """Replace `path` by indented JSON, atomically and durably; an object gets a checksum.

    Non-finite numbers are written as NaN or Infinity.
    """
    if isinstance(content, dict):
        write_bytes(path, checksums.encode(content, indent=2))
    else:
        write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file and check its checksum, which is not part of the result.

    Raises UserError naming the file if it is missing or malformed, Damaged if it does not match its checksum.
    """
    try:
        return checksums.decode(path.read_bytes())
    except Damaged as error:
        raise Damaged(f"{path}: {error}; it was damaged, or changed by hand") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


def draft(path: Path, write: Callable[[IO[bytes]], Any], checksum: bool = False) -> Path:
    """Let `write` fill a temporary file beside `path`, and return it. `publish` makes it visible and durable.

    checksum: append a checksum of the content, for `verify_checksum`; `write` must then write without seeking.
    Raises what `write` raises, or StorageError, and then leaves no file behind. An error of the disk that `write`
    turned into another error, as torch.save does, is raised itself.
    """
    temporary = _temporary(path)
    raw: disk.Raw | None = None
    try:
        with disk.opened(temporary, "replace") as file:
            assert isinstance(file.raw, disk.Raw)
            raw = file.raw
            write(file)
            if checksum:
                file.flush()
                file.write(checksums.trailer(raw.crc32, raw.offset))
    except BaseException as error:
        disk.remove_file(temporary)
        if raw is not None and raw.failure is not None and isinstance(error, Exception):
            raise raw.failure from error
        raise
    return temporary


def publish(temporary: Path, path: Path, keep_as: Path | None = None, durable: bool = False) -> None:
    """Rename a draft to `path`, atomically and durably. Raises StorageError, and then deletes the draft.

    keep_as: the new name of the file that was at `path`; after a crash between the two renames, `path` is missing.
    durable: the draft's content is durable already.
    """
    try:
        if not durable:
            disk.sync(temporary, "replace")
        if keep_as is not None and path.exists():
            disk.rename(path, keep_as, "keep")
        disk.rename(temporary, path, "replace")
    except BaseException:
        disk.remove_file(temporary)
        raise
    disk.sync_folder(path.parent)


def append_blocks(path: Path, blocks: Iterable[bytes]) -> None:
    """Append blocks of bytes; an error of `blocks` keeps those before it. Durable once published."""
    with disk.opened(path, "blocks", disk.APPEND) as file:
        for block in blocks:
            file.write(block)


def copy(source: Path, path: Path) -> None:
    """Replace `path` by a copy of a durable file, atomically: a hard link if the file system has them.

    Files are replaced and never changed in place, so the two names stay independent.
    """
    if path.exists() and path.samefile(source):  # a rename of one name to the other would do nothing
        disk.sync_folder(path.parent)
        return
    temporary = _temporary(path)
    disk.remove_file(temporary)
    linked = True
    try:
        disk.link(source, temporary, "copy")
    except OSError:  # a file system without hard links
        linked = False
        temporary = draft(path, lambda file: file.write(source.read_bytes()))
    publish(temporary, path, durable=linked)


def rename(old: Path, new: Path) -> None:
    """Move a file to `new`, replacing it, durably."""
    disk.rename(old, new, "move")
    disk.sync_folder(new.parent)


def remove(path: Path) -> None:
    """Delete a file, or a folder with its content; nothing happens if it is missing."""
    with disk.naming(path):
        folder = path.is_dir() and not path.is_symlink()
    if folder:
        disk.remove_folder(path)
    else:
        disk.remove_file(path)


def remove_drafts(folder: Path) -> None:
    """Delete the drafts that killed writers left in `folder`. The caller holds the folder's lock."""
    for left_over in folder.glob(".*.tmp"):
        disk.remove_file(left_over)


def drafts_below(folder: Path) -> list[Path]:
    """Return the drafts at or below `folder`, and no hidden temporary file of another program."""
    return [file for file in folder.rglob(".*.tmp") if DRAFT.fullmatch(file.name)]


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{disk.TOKEN}.tmp")


def make_folder(path: Path) -> None:
    """Create a folder and its parents. Raises UserError if that is impossible."""
    try:
        disk.make_folder(path)
    except OSError as error:
        fix = f"; {disk.FIXES[error.errno]}" if error.errno in disk.FIXES else ""
        raise UserError(f"{path}: cannot make this folder ({error.strerror}){fix}") from error


def size_bytes(path: Path) -> int:
    """Return the size of a file, of a link itself, or of all files below a folder; 0 of what is deleted meanwhile."""
    total = 0
    with disk.reading(path):
        for file in path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]:
            with suppress(FileNotFoundError):
                found = file.lstat()
                total += 0 if stat.S_ISDIR(found.st_mode) else found.st_size
    return total


def sync_tree(folder: Path) -> None:
    """Make all files below a folder, and their names, durable. Call it before the folder gets its final name."""
    for path in sorted(folder.rglob("*"), reverse=True):
        disk.sync(path, "blocks")
    disk.sync_folder(folder)


def write_array(path: Path, blocks: Iterable["NDArray[Any]"]) -> tuple[int, ...]:
    """Write blocks of rows of one dtype and row shape as one new .npy file, with one block in memory at a time.

    Returns the array's shape. Not atomic: the file lies in a folder that `publish_folder` makes visible.
    """
    import numpy as np

    header: dict[str, Any] = {"descr": "|u1", "fortran_order": False, "shape": (0,)}
    rows = 0
    with disk.opened(path, "array") as file:
        for block in blocks:
            if not rows:
                header["descr"], header["shape"] = np.lib.format.dtype_to_descr(block.dtype), (0, *block.shape[1:])
                np.lib.format.write_array_header_1_0(file, header)  # it reserves space for the count, written last
            file.write(np.ascontiguousarray(block).data)
            rows += len(block)
        shape: tuple[int, ...] = (rows, *header["shape"][1:])
        header["shape"] = shape
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header)
    return shape


def publish_folder(temporary: Path, final: Path) -> None:
    """Rename a finished folder to its final name; if another process did so first, delete ours and keep its folder."""
    for file in sorted(temporary.iterdir()):
        disk.sync(file, "array")
    disk.sync_folder(temporary)
    try:
        disk.rename_folder(temporary, final)
    except OSError:
        if not final.exists():
            raise
        remove(temporary)
    disk.sync_folder(final.parent)
