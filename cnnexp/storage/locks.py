"""File locks: one process holds a lock at a time, and the kernel releases it when the process ends."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import IO

from cnnexp.errors import UserError
from cnnexp.storage.disk import StorageError, naming
from cnnexp.storage.failpoints import reach
from cnnexp.storage.files import make_folder
from cnnexp.storage.untrusted import open_no_link

RETRY_SECONDS = 0.1
UNREADABLE = "another user"  # holds a lock, maybe: it cannot be read, so nobody here sees when it is free


class Locked(UserError):
    """Another live process holds the lock; the message names its process id and host."""


@contextmanager
def lock(path: Path, wait: bool = False) -> Iterator[None]:
    """Hold an exclusive lock on `path` while the block runs.

    wait: wait for the holder. Otherwise a held lock raises Locked, which names the holder's process id and host.
    """
    make_folder(path.parent)
    with _held_file(path, wait) as file:
        with suppress(OSError):  # of a full disk, on which files can still be deleted
            reach("lock.write", path)
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"pid {os.getpid()} on {socket.gethostname()}".encode())
        try:
            yield
        finally:
            with suppress(OSError):  # a stale name in the file is harmless
                file.truncate(0)


def _held_file(path: Path, wait: bool) -> IO[str]:
    """Open and lock the file at `path`. If it was deleted meanwhile, lock the new file there."""
    while True:
        file = _lock_file(path)
        try:
            _take(file, wait)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise Locked(f"{path.parent}: is in use by {holder}") from error
        except OSError as error:  # for example a file system without locks
            file.close()
            raise StorageError(path, error) from error
        file.close()
        make_folder(path.parent)


def _lock_file(path: Path) -> IO[str]:
    try:
        with naming(path):
            reach("lock.open", path)
            return open(path, "a+", encoding="utf-8", opener=open_no_link)
    except OSError as error:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise UserError(f"{path}: is not a lock file, but a link or a folder; delete it") from error
        raise


def _take(file: IO[str], wait: bool) -> None:
    """Lock an open file. Without `wait`, retry for RETRY_SECONDS, because `is_locked` holds the lock for a moment."""
    end = monotonic() + RETRY_SECONDS
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            if monotonic() > end:
                raise
            sleep(0.005)


def is_locked(path: Path) -> bool:
    """Return whether a live process holds the lock at `path`."""
    return holder(path) is not None


def holder(path: Path) -> str | None:
    """Return what the live process that holds the lock at `path` says of itself, None without one.

    Raises StorageError if the disk does not answer.
    """
    try:
        # Another user's folder may be readable only.
        file = open(path, "rb", opener=open_no_link)  # noqa: SIM115
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):  # a link, folder or socket: not one of our locks
            return None
        if error.errno in (errno.EACCES, errno.EPERM):  # of another user: it may be in use
            return UNREADABLE
        raise StorageError(path, error, "read") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return file.read(1000).decode(errors="replace").strip() or "another process"
    return None
