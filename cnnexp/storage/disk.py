"""The operations on the disk, one function each: past their failpoint, and with errors that name the file.

Nothing outside this package opens a file to write it, renames, links, syncs, deletes or locks
(tests/storage/test_one_place.py).
role: what an operation is for, the first half of its failpoint's name.
"""

import errno
import io
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cnnexp.errors import UserError
from cnnexp.storage.failpoints import reach
from cnnexp.storage.trusted import no_link

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CHUNK = 1 << 20  # bytes that are gathered before the system is asked to write them
NEW, AT_THE_END = os.O_TRUNC, os.O_APPEND  # what becomes of a file that is there
MENDS = {
    errno.ENOSPC: "make room; the same command goes on",
    errno.EDQUOT: "make room; the same command goes on",
    errno.EIO: "the disk or the network folder fails; the same command goes on once it works",
    errno.EACCES: "give leave to write there, or choose another folder",
    errno.EPERM: "give leave to write there, or choose another folder",
    errno.EROFS: "choose a folder that can be written",
}


class StorageError(OSError, UserError):
    """The disk did not do what was asked; the message names the file. Both an OSError and a line for a person."""

    def __init__(self, path: Path, error: OSError):
        super().__init__(error.errno, error.strerror or str(error), str(path))

    def __str__(self) -> str:
        mend = MENDS.get(self.errno or 0)
        return f"{self.filename}: cannot be written ({self.strerror})" + (f"; {mend}" if mend else "")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a StorageError that names `path`."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(path, error) from error


def open_descriptor(path: Path, role: str, mode: int) -> int:
    """Open a file for writing, making it if need be; the caller closes it. A link is not followed."""
    with naming(path):
        reach(f"{role}.open", path)
        return no_link(str(path), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | mode)


class Raw(io.RawIOBase):
    """A file that is being written, without a buffer. crc32: of what was written to it, in order."""

    def __init__(self, path: Path, role: str, mode: int):
        self.path, self.role, self.crc32 = path, role, 0
        self.descriptor: int | None = None  # should it not be opened, there is nothing to close
        self.descriptor = open_descriptor(path, role, mode)
        self.offset = os.lseek(self.descriptor, 0, os.SEEK_END) if mode == AT_THE_END else 0

    def writable(self) -> bool:
        """Tell that it can be written."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be written anywhere."""
        return True

    def write(self, content: "ReadableBuffer") -> int:
        """Write some or all of `content`; return how many bytes."""
        assert self.descriptor is not None
        whole = memoryview(content).cast("B")
        with naming(self.path):
            part = whole[: reach(f"{self.role}.write", self.path, whole, self.offset)]
            written = os.write(self.descriptor, part)
        self.crc32 = zlib.crc32(part[:written], self.crc32)
        self.offset += written
        return written

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go on elsewhere."""
        assert self.descriptor is not None
        self.offset = os.lseek(self.descriptor, offset, whence)
        return self.offset

    def sync(self) -> None:
        """Make what was written durable."""
        assert self.descriptor is not None
        with naming(self.path):
            reach(f"{self.role}.sync", self.path)
            os.fsync(self.descriptor)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            super().close()
            if self.descriptor is not None:
                os.close(self.descriptor)


def opened(path: Path, role: str, mode: int = NEW) -> io.BufferedWriter:
    """Open a file for writing, behind a buffer; `raw` is its Raw."""
    return io.BufferedWriter(Raw(path, role, mode), CHUNK)


def sync_folder(folder: Path, role: str = "folder") -> None:
    """Make renames and new names in `folder` durable."""
    sync(folder, role)


def sync(path: Path, role: str) -> None:
    """Make the content of a file, or the names in a folder, durable."""
    with naming(path):
        reach(f"{role}.sync", path)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def rename(old: Path, new: Path, role: str) -> None:
    """Give a file another name; one that has it goes."""
    with naming(new):
        reach(f"{role}.rename", old, to=new)
        os.replace(old, new)


def rename_folder(old: Path, new: Path) -> None:
    """Give a folder another name. Raises StorageError if something has it already."""
    with naming(new):
        reach("folder.rename", old, to=new)
        os.rename(old, new)


def link(old: Path, new: Path, role: str) -> None:
    """Give a file a second name."""
    with naming(new):
        reach(f"{role}.link", old, to=new)
        os.link(old, new)


def make_folder(path: Path) -> None:
    """Create a folder, and its parents, durably; nothing happens if it is there."""
    if path.is_dir():
        return
    if not path.parent.exists():
        make_folder(path.parent)
    with naming(path):
        reach("folder.make", path)
        path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def remove_file(path: Path) -> None:
    """Delete a file; nothing happens if it is not there."""
    if path.exists() or path.is_symlink():
        with naming(path):
            reach("remove.file", path)
            path.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Delete a folder and all below it."""
    with naming(path):
        reach("remove.folder", path)
        shutil.rmtree(path)
