"""The folder of this process for temporary files. One that a killed process left is deleted by the next process.

A process holds a lock on its folder, which the kernel releases when the process ends.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path

from cnnexp.errors import UserError
from cnnexp.storage import disk

PREFIX = "cnnexp-process-"
MADE_BELOW = "pymp-*"  # by multiprocessing, for its sockets; nothing else is deleted
AT_LAST = -1000  # multiprocessing deletes its folders with -100
MAX_BYTES = 50  # of the path of TMPDIR; the path of a socket below has at most 103 on macOS, 107 on Linux


@contextmanager
def temporary_files_here() -> Iterator[None]:
    """Let the temporary files of the block be made in this process's folder."""
    before, tempfile.tempdir = tempfile.tempdir, str(_folder())
    try:
        yield
    finally:
        tempfile.tempdir = before


@cache
def _folder() -> Path:
    """Make this process's folder, after deleting those of processes that have ended; it is deleted at the exit."""
    try:
        parent = Path(tempfile.gettempdir())
        if len(os.fsencode(parent)) > MAX_BYTES and os.access("/tmp", os.W_OK):
            parent = Path("/tmp")
        for other in parent.glob(f"{PREFIX}*"):
            _remove_unused(other)
        while True:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            try:
                _lock(folder)
            except (BlockingIOError, FileNotFoundError):  # another process is deleting it
                continue
            except OSError as error:
                if error.errno in disk.TRANSIENT:  # else there are no locks, so that no process deletes it
                    raise
            if folder.exists():
                break
    except OSError as error:
        raise UserError(f"TMPDIR: no temporary folder can be made ({error}); set it to one with space") from error
    Finalize(None, _remove_empty, (folder,), exitpriority=AT_LAST)  # at the exit of this process, and of no fork
    return folder


def _lock(folder: Path) -> int:
    """Lock a folder of this user. Raises OSError if another process holds it. The lock ends with the descriptor."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid != os.getuid():
            raise PermissionError(f"{folder}: belongs to another user")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _remove_unused(folder: Path) -> None:
    """Delete a folder made here, unless a live process holds it."""
    with suppress(OSError):
        descriptor = _lock(folder)
        try:
            for below in folder.glob(MADE_BELOW):
                disk.remove_folder(below)
            folder.rmdir()
        finally:
            os.close(descriptor)


def _remove_empty(folder: Path) -> None:
    """Delete this process's folder, when multiprocessing has deleted what it made there."""
    with suppress(OSError):
        folder.rmdir()
