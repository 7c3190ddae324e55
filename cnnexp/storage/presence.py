"""Who else works in a folder, on this machine or another; and whether the locks of files reach from there to here.

On some network mounts they do not, although no call fails (NFS with local_lock=all, Lustre without flock): two machines
would make the same run at once. Each process holds a lock on a file of its own, and touches it every second. Another
process that is free to take this lock, although the file is still touched, is not protected from the first.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

from cnnexp.errors import UserError
from cnnexp.storage import disk
from cnnexp.storage.locks import holder, lock
from cnnexp.storage.untrusted import checked_folder

FOLDER = ".workers"
TOUCH_SECONDS = 1.0
PATIENCE_SECONDS = 5.0  # without a touch: its process has ended
MOST = 32  # others that are looked at


@contextmanager
def at_work(folder: Path) -> Iterator[None]:
    """Show other processes, while the block runs, that this one works in `folder`.

    Raises UserError before the block if locks do not reach another process that works there.
    """
    place = checked_folder(folder, FOLDER)
    own = place / own_name()
    stop = threading.Event()
    with lock(own):
        threading.Thread(target=_touch, args=(own, stop), daemon=True).start()
        try:
            _check_locks(place, own)
            yield
        finally:
            stop.set()
            with suppress(OSError):
                disk.remove_file(own)


def own_name() -> str:
    """Return the name of this process's file there: host, process id, where that id counts, token."""
    return f"{socket.gethostname()}-{os.getpid()}-{_namespace()}-{disk.TOKEN}.lock"


def _namespace() -> int:
    """Return a number for the processes that share process ids with this one: a container has its own; 0: unknown."""
    with suppress(OSError):
        return os.stat("/proc/self/ns/pid").st_ino
    return 0


def _touch(path: Path, stop: threading.Event) -> None:
    while not stop.wait(TOUCH_SECONDS):
        with suppress(OSError):
            os.utime(path)


def _check_locks(place: Path, own: Path) -> None:
    """Compare the locks of other processes with their signs of life; remove the files of those that have ended."""
    others = sorted((file for file in place.glob("*.lock") if file != own), key=_touched, reverse=True)[:MOST]
    silent = {file: _touched(file) for file in others if holder(file) is None}
    end = monotonic() + PATIENCE_SECONDS
    while silent and monotonic() < end:
        for file, before in list(silent.items()):
            if not file.exists() or _ended_here(file):
                del silent[file]
                disk.remove_file(file)
            elif _touched(file) != before and holder(file) is None and file.exists():
                fix = "mount it with locks (NFS: without nolock or local_lock; Lustre: with flock), or use one machine"
                other = f"{host_and_pid(file)}, which works in this folder too"
                raise UserError(
                    f"{place.parent}: locks of files do not reach {other}; both would make the same runs: {fix}"
                )
        sleep(0.1)
    for file in silent:
        disk.remove_file(file)


def _touched(file: Path) -> int:
    """Return when a file was touched, 0 if it is gone. Opening it lets a network mount ask its server."""
    with suppress(OSError), open(file, "rb") as handle:
        return os.fstat(handle.fileno()).st_mtime_ns
    return 0


def _ended_here(file: Path) -> bool:
    """Tell whether a file is of a process of this machine and container that has ended; False if that is unknown."""
    host, _, pid = host_and_pid(file).rpartition("-")
    here = host == socket.gethostname() and f"-{_namespace()}-" in file.stem and _namespace() != 0
    return here and pid.isdigit() and not Path(f"/proc/{pid}").exists()


def host_and_pid(file: Path) -> str:
    """Return "host-pid" of a process's file."""
    return file.stem.rsplit("-", 2)[0]
