"""A slot's process: takes plans from the sweep one after another, keeping imports, data and memory between them."""

import ctypes
import faulthandler
import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from time import sleep
from typing import Any

from cnnexp.errors import Diverged, Interrupted, Skipped, UserError
from cnnexp.signals import CODES
from cnnexp.storage import Locked, log_descriptor
from cnnexp.training.loop import Settings, TrainState
from cnnexp.training.plan import Plan
from cnnexp.training.progress import Progress

TELL_SECONDS = 0.5
GRACE_SECONDS = 30.0  # between asking a worker to stop and killing it


def work(connection: Connection) -> None:
    """Run plans until told None. Sends ("progress", fraction), then ("ended", status, message, resident MiB)."""
    os.setsid()  # a Ctrl-C reaches the sweep alone, which passes it on
    signal.pthread_sigmask(signal.SIG_UNBLOCK, CODES)  # blocked since this process began: see server.import_ahead
    end_with_parent()
    faulthandler.enable()
    while (plan := receive(connection)) is not None:
        status, message = make_logged(plan, Told(connection))
        with suppress(OSError):  # the sweep's process is gone, and with it who would want to know
            connection.send(("ended", status, message, resident_mib()))


def receive(connection: Connection) -> Plan | None:
    """Wait for a plan; None if there is none to come."""
    try:
        plan: Plan | None = connection.recv()
    except (EOFError, OSError):
        return None
    return plan


def make_logged(plan: Plan, progress: "Told") -> tuple[str, str]:
    """Make a run as `make` does, with all that is printed in its train.log."""
    try:
        catch_output(plan.folder)
    except (OSError, UserError) as error:
        return "failed", f"{type(error).__name__}: {error}"
    return make(plan, progress)


def make(plan: Plan, progress: "Told") -> tuple[str, str]:
    """Make a run; return how it ended (a status, or `held`) and why. Nothing that a run raises ends the worker."""
    from cnnexp.training.run import run

    try:
        return run(plan, progress).status, ""
    except Interrupted as error:
        return ("done", "") if plan.record().info.get("status") == "done" else ("interrupted", str(error))
    except Skipped as error:
        return "skipped", str(error)
    except Diverged as error:
        return "diverged", str(error)
    except Locked as error:
        return "held", str(error)
    except BaseException as error:  # SystemExit too
        status = plan.record().info.get("status")
        return ("oom" if status == "oom" else "failed"), f"{type(error).__name__}: {error}".strip(": ")


class Told(Progress):
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
            with suppress(OSError):  # nobody listens any more: this run is about to be told to stop
                self.connection.send(("progress", state.step / self.total))


def catch_output(folder: Any) -> None:
    """Send this process's standard output and error, C libraries' included, to the run's train.log."""
    sys.stdout.flush()
    sys.stderr.flush()
    log = log_descriptor(folder / "train.log")
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def end_with_parent() -> None:
    """When the sweep's process dies, in whatever way, be told to stop (SIGTERM: save, then end); if that hangs, die."""
    parent = parent_process()
    assert parent is not None
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        sleep(GRACE_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def resident_mib() -> float:
    """Return the memory that this process holds, in MiB (0 where /proc does not tell)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0
