"""The one room that writes, syncs, renames, locks and deletes files.

Whole files are replaced atomically: a temporary file in the same folder, fsync, rename, fsync of the folder. Rows are
appended one JSON object a line; a last line that was torn by a kill is dropped on reading.
"""

import errno
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import IO, TYPE_CHECKING, Any

from cnnexp.errors import UserError
from cnnexp.own_files import no_link
from cnnexp.plain_text import visible

if TYPE_CHECKING:
    from numpy.typing import NDArray


LOOK_SECONDS = 0.1


class Locked(UserError):
    """Another live process holds the lock; the message names its pid and host."""


def sync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Replace `path` by `content` so that a reader, or a crash, sees the old file or the new one and nothing between.

    Raises OSError (disk full, no permission) and then leaves the old file as it was.
    """
    publish(draft(path, lambda file: file.write(content)), path)


def draft(path: Path, write: Callable[[IO[bytes]], Any]) -> Path:
    """Let `write` fill a temporary file beside `path`, and return it: seen and durable once it is published.

    Raises what `write` raises, or OSError, and then leaves nothing behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb", opener=no_link) as file:
            write(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def publish(temporary: Path, path: Path) -> None:
    """Put a draft in the place of `path`, atomically and durably. Raises OSError, and then drops the draft."""
    try:
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def copy(source: Path, path: Path) -> None:
    """Put a copy of a durable file in the place of `path`, atomically: a second name for it where that is possible.

    Files are replaced here and never changed, so both names keep what they stand for.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # a file system without hard links
        temporary = draft(path, lambda file: file.write(source.read_bytes()))
    publish(temporary, path)


def remove_drafts(folder: Path) -> None:
    """Delete what writers that were killed have left in `folder`. Only for who holds the folder."""
    for left_over in folder.glob(".*.tmp"):
        left_over.unlink(missing_ok=True)


def write_array(path: Path, blocks: Iterable["NDArray[Any]"]) -> tuple[int, ...]:
    """Write blocks of rows of one dtype and row shape as one new .npy file, holding one block at a time.

    Returns the array's shape. Not atomic: it is for files in a folder that `publish_folder` makes visible.
    """
    import numpy as np

    header: dict[str, Any] = {"descr": "|u1", "fortran_order": False, "shape": (0,)}
    rows = 0
    with open(path, "wb") as file:
        for block in blocks:
            if not rows:
                header["descr"], header["shape"] = np.lib.format.dtype_to_descr(block.dtype), (0, *block.shape[1:])
                np.lib.format.write_array_header_1_0(file, header)  # leaves room for the count, written at the end
            file.write(np.ascontiguousarray(block).data)
            rows += len(block)
        shape: tuple[int, ...] = (rows, *header["shape"][1:])
        header["shape"] = shape
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header)
    return shape


def append_blocks(path: Path, blocks: Iterable[bytes]) -> None:
    """Append blocks of bytes as they come; what came before an error of `blocks` stays. Durable once published."""
    with open(path, "ab") as file:
        for block in blocks:
            file.write(block)


def write_text(path: Path, content: str) -> None:
    """Replace `path` by UTF-8 text, atomically and durably."""
    write_bytes(path, content.encode("utf-8", errors="surrogateescape"))


def write_json(path: Path, content: Any) -> None:
    """Replace `path` by indented JSON, atomically and durably. Non-finite numbers are written as NaN or Infinity."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises UserError naming the file if it is missing or malformed."""
    try:
        return json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Append one JSON object as a line. Rows are durable once `sync_file(path)` has returned."""
    with open(path, "a", encoding="utf-8", opener=no_link) as file:
        file.write(json.dumps(row) + "\n")


def sync_file(path: Path) -> None:
    """Make what was appended to `path`, and its name in the folder, durable."""
    with open(path, "a", encoding="utf-8", opener=no_link) as file:
        os.fsync(file.fileno())
    sync_folder(path.parent)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a JSON-lines file, [] if it is missing; reading stops at the first torn or malformed line."""
    rows: list[dict[str, Any]] = []
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return rows
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not line.endswith(b"\n") or not isinstance(row, dict):
            break
        rows.append(row)
    return rows


def keep_rows(path: Path, count: int) -> None:
    """Cut a JSON-lines file down to its first `count` rows. Raises UserError if it has fewer that can be read."""
    found = len(read_rows(path))
    if found < count:
        raise UserError(f"{path}: has {found} readable rows, where {count} are to be kept; it was damaged or deleted")
    if path.exists():
        lines = path.read_bytes().splitlines(keepends=True)
        write_bytes(path, b"".join(lines[:count]))


def make_folder(path: Path) -> None:
    """Create a folder and its parents. Raises UserError if that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot make this folder ({error.strerror})") from error


def publish_folder(temporary: Path, final: Path) -> None:
    """Rename a finished folder into place; if another process was first, drop ours and keep the other's."""
    for file in temporary.iterdir():
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())
    sync_folder(temporary)
    try:
        os.rename(temporary, final)
    except OSError:
        if not final.exists():
            raise
        remove(temporary)
    sync_folder(final.parent)


def remove(path: Path) -> None:
    """Delete a file or a whole folder; nothing happens if it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def size_bytes(path: Path) -> int:
    """Return the size of a file, or of all files below a folder."""
    if path.is_dir():
        return sum(f.lstat().st_size for f in path.rglob("*") if f.is_file())
    return path.stat().st_size


@contextmanager
def lock(path: Path, wait: bool = False) -> Iterator[None]:
    """Hold an exclusive lock on `path` while the block runs; the kernel drops it when the process ends.

    With `wait` it waits for the holder; otherwise it raises Locked, naming the holder's pid and host.
    """
    make_folder(path.parent)
    with _lock_file(path) as file:
        try:
            _take(file, wait)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise Locked(f"{path.parent}: is in use by {holder}") from error
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _lock_file(path: Path) -> IO[str]:
    try:
        return open(path, "a+", encoding="utf-8", opener=no_link)
    except OSError as error:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise Locked(f"{path}: is not a lock, but a link or a folder; delete it") from error
        raise


def _take(file: IO[str], wait: bool) -> None:
    """Take the lock of an open file; without `wait` give up after LOOK_SECONDS: `is_locked` holds it for a moment."""
    end = monotonic() + LOOK_SECONDS
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            if monotonic() > end:
                raise
            sleep(0.005)


def is_locked(path: Path) -> bool:
    """Tell whether a live process holds the lock at `path`."""
    try:
        # Reading is all that a folder of someone else's may allow.
        file = open(path, "rb", opener=no_link)  # noqa: SIM115
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):  # a link, folder or socket: no lock of ours
            return False
        raise
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def rename(old: Path, new: Path) -> None:
    """Move a file over `new`, durably."""
    os.replace(old, new)
    sync_folder(new.parent)


def append_text(path: Path, text: str) -> None:
    """Append text to a log."""
    with open(path, "a", encoding="utf-8", errors="backslashreplace", opener=no_link) as file:
        file.write(visible(text, lines=True))
