"""The operations on the disk, one function each: it reaches its failpoint first, and its errors name the file.

Nothing outside this package writes, renames, links, syncs, deletes or locks files (tests/storage/test_one_place.py).
role: the purpose of an operation, which is the first half of its failpoint's name.
"""

import errno
import io
import os
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cnnexp.errors import UserError
from cnnexp.storage.failpoints import reach
from cnnexp.storage.untrusted import open_no_link

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

BUFFER_BYTES = 1 << 20
TOKEN = secrets.token_hex(4)  # in names, beside the process id: containers may share process ids and a host name
NEW, APPEND = os.O_TRUNC, os.O_APPEND  # what happens to an existing file
# Errors of the machine, of which no code here is the cause.
MACHINE = {
    *(
        errno.EIO,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ENODEV,
        errno.ENXIO,
        errno.ENOTCONN,
        errno.EHOSTDOWN,
        errno.ENOLCK,
    ),
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMLINK, errno.EFBIG),
    *(errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN),
}
# Those of them that say nothing about a file, and may be gone at the next try.
TRANSIENT = {
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN),
}
FAILS = "the disk or the network folder fails; the same command continues once it works"
FIXES = {
    errno.ENOSPC: "free some space; the same command continues",
    errno.EDQUOT: "free some space; the same command continues",
    errno.EIO: FAILS,
    errno.ESTALE: FAILS,
    errno.EACCES: "allow writing there, or choose another folder",
    errno.EPERM: "allow writing there, or choose another folder",
    errno.EFBIG: "allow larger files, see ulimit -f",
    errno.EROFS: "choose a folder that can be written",
    errno.EMFILE: "allow more open files: ulimit -n 1024",
    errno.ENFILE: "the machine has too many open files; end other programs",
    errno.ENOMEM: "allow more memory, see ulimit -v, or end other programs",
    errno.EAGAIN: "allow more processes, see ulimit -u",
}


class StorageError(OSError, UserError):
    """An operation on the disk failed; the message names the file. It is both an OSError and a UserError.

    verb: "written", "read", or "used" where it is not known which.
    """

    def __init__(self, path: Path | str, error: OSError, verb: str = "written"):
        super().__init__(error.errno, error.strerror or str(error), str(path))
        self.verb = verb

    def __str__(self) -> str:
        fix = FIXES.get(self.errno or 0)
        if self.verb != "written" and self.errno in (errno.EACCES, errno.EPERM):
            fix = "check its permissions"
        return f"{self.filename}: cannot be {self.verb} ({self.strerror})" + (f"; {fix}" if fix else "")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn an OSError in the block into a StorageError that names `path`."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(path, error) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an error of the machine in the block into a StorageError that names `path`. Other errors pass."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError) or error.errno not in MACHINE:
            raise
        raise StorageError(path, error, "read") from error


def open_descriptor(path: Path, role: str, mode: int) -> int:
    """Open a file for writing, and create it if it is missing; the caller closes it. A link is not followed."""
    with naming(path):
        reach(f"{role}.open", path)
        return open_no_link(str(path), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | mode)


class Raw(io.RawIOBase):
    """An unbuffered file for writing. crc32: checksum of what was written, in order. failure: the first of a write."""

    def __init__(self, path: Path, role: str, mode: int):
        self.path, self.role, self.crc32 = path, role, 0
        self.failure: StorageError | None = None
        self.descriptor: int | None = None  # if opening fails, there is nothing to close
        self.descriptor = open_descriptor(path, role, mode)
        self.offset = 0
        if mode == APPEND:
            self.seek(0, os.SEEK_END)

    def writable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def write(self, content: "ReadableBuffer") -> int:
        """Write some or all of `content`; return the number of bytes written."""
        assert self.descriptor is not None
        view = memoryview(content).cast("B")
        try:
            with naming(self.path):
                part = view[: reach(f"{self.role}.write", self.path, view, self.offset)]
                written = os.write(self.descriptor, part)
        except StorageError as error:
            self.failure = self.failure or error
            raise
        self.crc32 = zlib.crc32(part[:written], self.crc32)
        self.offset += written
        return written

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to another position."""
        assert self.descriptor is not None
        with naming(self.path):
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
                with naming(self.path):
                    try:
                        reach(f"{self.role}.close", self.path)
                    finally:
                        os.close(self.descriptor)


def opened(path: Path, role: str, mode: int = NEW) -> io.BufferedWriter:
    """Open a file for buffered writing; its `raw` is a Raw."""
    return io.BufferedWriter(Raw(path, role, mode), BUFFER_BYTES)


def sync_folder(folder: Path) -> None:
    """Make new and changed names in `folder` durable."""
    sync(folder, "folder")


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
    """Rename a file; it replaces a file at `new`."""
    with naming(new):
        reach(f"{role}.rename", old, to=new)
        os.replace(old, new)


def rename_folder(old: Path, new: Path) -> None:
    """Rename a folder. Raises StorageError if `new` exists."""
    with naming(new):
        reach("folder.rename", old, to=new)
        os.rename(old, new)


def link(old: Path, new: Path, role: str) -> None:
    """Make a hard link `new` to a file."""
    with naming(new):
        reach(f"{role}.link", old, to=new)
        os.link(old, new)


def make_folder(path: Path) -> None:
    """Create a folder and its parents, durably; nothing happens if it exists."""
    with naming(path):
        if path.is_dir():
            return
        parent_exists = path.parent.exists()
    if not parent_exists:
        make_folder(path.parent)
    with naming(path):
        reach("folder.make", path)
        path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def remove_file(path: Path) -> None:
    """Delete a file; nothing happens if it is missing."""
    with naming(path):
        if path.exists() or path.is_symlink():
            reach("remove.file", path)
            path.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Delete a folder and everything below it."""
    with naming(path):
        reach("remove.folder", path)
        shutil.rmtree(path)
