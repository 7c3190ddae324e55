"""A follower: a process that sends records to a tracker while runs are under way (`tracker=` and `track --follow`)."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import sleep

from cnnexp import storage, trackers
from cnnexp.errors import UserError, reason_of

SECONDS = 5  # between two looks
LOG = "tracker.log"
followers: list[subprocess.Popen[bytes]] = []  # of this process


def check_setting(name: str) -> None:
    """Raise UserError if the package of the setting `tracker` is not installed."""
    if name != "none":
        trackers.check(name)


def follow_study(name: str, folder: Path) -> None:
    """Start a follower of this process's runs below a folder, unless the tracker is none.

    Nothing that goes wrong is an error here.
    """
    if name == "none":
        return
    with suppress(OSError, UserError):
        words = ["track", str(folder), "--to", name, "--follow", "--pid", str(os.getpid())]
        log = storage.log_descriptor(folder / LOG)
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "cnnexp", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the runs; it ends after them
            )
        finally:
            os.close(log)
        followers.append(process)


def follow(folder: Path, name: str, place: str | None, pid: int | None) -> str:
    """Send what is new every few seconds until no run is under way; return why the last attempt failed, or ""."""
    from cnnexp.records.under_way import is_under_way

    failed, to = "", None
    with suppress(OSError):
        os.nice(10)
    while True:
        last = not (is_alive(pid) or (folder.exists() and is_under_way(folder)))
        try:
            to = to or trackers.tracker(name, folder, place)
            trackers.replay(folder, to)
            failed = ""
        except UserError as error:
            failed = reason(error)
        except Exception as error:  # of the tracker's library: it may work the next time
            failed, to = reason(error), None
        if last:
            return failed
        sleep(SECONDS)


def reason(error: Exception) -> str:
    """Return an error as one line."""
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return reason_of(text)


def is_alive(pid: int | None) -> bool:
    """Return whether a process lives."""
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
