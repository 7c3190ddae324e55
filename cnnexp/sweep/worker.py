"""A slot's process: takes jobs from the sweep one after another, keeping imports, data and memory between them."""

import ctypes
import faulthandler
import os
import signal
import sys
import threading
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

from cnnexp.errors import Diverged, Interrupted, Skipped
from cnnexp.loop import Settings, TrainState

TELL_SECONDS = 0.5


def work(connection: Connection) -> None:
    """Run jobs until told None. Sends ("progress", fraction), then ("ended", status, message, resident MiB)."""
    os.setsid()  # a Ctrl-C reaches the sweep alone, which passes it on
    end_with_parent()
    faulthandler.enable()
    from cnnexp.run import run

    while (job := connection.recv()) is not None:
        catch_output(job.folder)
        try:
            status, message = run(job, Told(connection)).status, ""
        except Interrupted as error:
            status, message = "interrupted", str(error)
        except (Skipped, Diverged) as error:
            status, message = ("skipped" if isinstance(error, Skipped) else "diverged"), str(error)
        except BaseException as error:  # a run's SystemExit must not end the worker, either
            status = job.record().info.get("status", "failed")
            status = status if status in ("oom", "failed") else "failed"
            message = f"{type(error).__name__}: {error}".strip(": ")
        connection.send(("ended", status, message, resident_mib()))


class Told:
    """Progress that goes to the sweep: how much of the run is done, a few times a second."""

    def __init__(self, connection: Connection):
        self.connection, self.told = connection, 0.0

    def start(self, title: str, settings: Settings, state: TrainState) -> None:
        """Take note of the length of the run."""
        self.total = settings.total_steps

    def step(self, state: TrainState) -> None:
        """Tell the fraction of steps taken."""
        from time import monotonic

        if monotonic() - self.told > TELL_SECONDS:
            self.told = monotonic()
            self.connection.send(("progress", state.step / self.total))

    def epoch(self, line: str, state: TrainState) -> None:
        """Say nothing: the line is in the log."""

    def close(self) -> None:
        """Do nothing."""


def catch_output(folder: Any) -> None:
    """Send this process's standard output and error, C libraries' included, to the run's train.log."""
    folder.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(folder / "train.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def end_with_parent() -> None:
    """Be told to stop (SIGTERM: save, then end) when the sweep's process dies, however it dies."""
    parent = parent_process()
    assert parent is not None
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def resident_mib() -> float:
    """Return the memory that this process holds, in MiB (0 where /proc does not tell)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0
