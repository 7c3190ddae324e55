"""A slot's process, which makes one run after another and keeps imports, data and memory between them."""

import ctypes
import faulthandler
import gc
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

from cnnexp.errors import Diverged, Interrupted, Skipped, UserError
from cnnexp.process.signals import CODES
from cnnexp.storage import Locked, log_descriptor
from cnnexp.sweep.engine import GRACE_SECONDS
from cnnexp.sweep.server import CONTEXT, import_ahead, without_main
from cnnexp.sweep.slots import Slot
from cnnexp.training.plan import Plan
from cnnexp.training.progress import Progress

if TYPE_CHECKING:
    from cnnexp.training.loop import Settings, TrainState

PROGRESS_SECONDS = 0.5  # between two messages
EXIT_CODE_SECONDS = 5.0  # for the server to report it
LOST_EXIT_CODE = 255  # what multiprocessing reports for a worker whose server has ended


@dataclass
class Worker:
    """A slot's process as the sweep sees it, and the run that it is making.

    pidfd: readable once the process has ended. The process's sentinel instead reports what the server says, and a
    worker may outlive its server. None where the system has no such descriptors.
    """

    slot: Slot
    process: BaseProcess
    connection: Connection
    plan: Plan | None = None
    pidfd: int | None = None

    @property
    def ended(self) -> int:
        """Return a descriptor that is readable once the process has ended."""
        return self.process.sentinel if self.pidfd is None else self.pidfd

    def is_alive(self) -> bool:
        """Return whether the process has not ended."""
        return not wait([self.ended], 0)

    def send_signals(self, *numbers: int) -> None:
        """Send signals to the process, if it has not ended."""
        if self.process.pid is not None and self.is_alive():
            for number in numbers:
                with suppress(ProcessLookupError):
                    os.kill(self.process.pid, number)

    def exit_code(self) -> int | None:
        """Return the exit code of the process, which has ended; None if its server has ended too and cannot say."""
        self.process.join(EXIT_CODE_SECONDS)
        return None if self.process.exitcode == LOST_EXIT_CODE else self.process.exitcode

    def close(self) -> None:
        """Close the connection, and the descriptor of the process."""
        self.connection.close()
        if self.pidfd is not None:
            os.close(self.pidfd)


def start(slot: Slot) -> Worker:
    """Start the process of a slot, and the server of such processes if it has ended.

    Raises EOFError or ConnectionError if the server ends meanwhile, UserError if its temporary folder was deleted.
    """
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=work, args=(theirs,), daemon=True)
    try:
        import_ahead()
        with without_main():
            process.start()
    except FileNotFoundError as error:
        raise UserError("TMPDIR: the temporary folder of this sweep was deleted; the same command continues") from error
    finally:
        theirs.close()
    worker = Worker(slot, process, ours)
    with suppress(AttributeError, OSError):
        worker.pidfd = os.pidfd_open(process.pid)
    return worker


def stop(workers: Sequence[Worker], until: float) -> None:
    """End the processes of workers: at once if they are idle, else after a time to save. None lives after `until`.

    A process that was stopped (SIGSTOP) continues, so that it can save.
    """
    for worker in workers:
        if worker.plan is not None:
            worker.send_signals(signal.SIGTERM)
        else:
            with suppress(OSError):  # it may have exited meanwhile
                worker.connection.send(None)
        worker.send_signals(signal.SIGCONT)
    for worker in workers:
        wait([worker.ended], max(until - monotonic(), 0.0))
    for worker in workers:
        worker.send_signals(signal.SIGKILL)
        wait([worker.ended], 1.0)
        worker.close()


# What follows runs in the worker's process.


def work(connection: Connection) -> None:
    """Make the runs that are sent, until None. Sends ("progress", fraction), then ("ended", status, message, MiB)."""
    os.setsid()  # a Ctrl-C reaches the sweep alone, which passes it on
    signal.pthread_sigmask(signal.SIG_UNBLOCK, CODES)  # blocked since this process began: see server.import_ahead
    end_with_parent()
    faulthandler.enable()
    gc.freeze()  # a collection would search all of torch, and so copy the memory that workers share
    while (plan := receive(connection)) is not None:
        status, message = make_logged(plan, PipeProgress(connection))
        with suppress(OSError):  # the sweep's process has exited
            connection.send(("ended", status, message, resident_mib()))


def receive(connection: Connection) -> Plan | None:
    """Wait for a run; None if there is none left."""
    try:
        plan: Plan | None = connection.recv()
    except (EOFError, OSError):
        return None
    return plan


def make_logged(plan: Plan, progress: "PipeProgress") -> tuple[str, str]:
    """Make a run as `make` does; what it prints goes to its train.log."""
    try:
        redirect_output(plan.folder)
    except (OSError, UserError) as error:
        return "failed", f"{type(error).__name__}: {error}"
    return make(plan, progress)


def make(plan: Plan, progress: "PipeProgress") -> tuple[str, str]:
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
        info = plan.record().info
        if info.get("status") == "oom":
            return "oom", info["error"]["message"]
        return "failed", f"{type(error).__name__}: {error}".strip(": ")


class PipeProgress(Progress):
    """Sends to the sweep how much of the run is done, twice a second."""

    def __init__(self, connection: Connection):
        self.connection, self.sent = connection, 0.0

    def start(self, title: str, settings: "Settings", state: "TrainState") -> None:
        """Note the length of the run."""
        self.total = settings.total_steps

    def step(self, state: "TrainState") -> None:
        """Send the fraction of steps taken."""
        if monotonic() - self.sent > PROGRESS_SECONDS:
            self.sent = monotonic()
            with suppress(OSError):  # the sweep's process has exited: a signal to stop will follow
                self.connection.send(("progress", state.step / self.total))


def redirect_output(folder: Path) -> None:
    """Send this process's standard output and error, C libraries' included, to the run's train.log."""
    sys.stdout.flush()
    sys.stderr.flush()
    log = log_descriptor(folder / "train.log")
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def end_with_parent() -> None:
    """When the sweep's process ends, for whatever reason, end this one: by SIGTERM (it saves), then by SIGKILL."""
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
    """Return the memory that this process holds, in MiB; 0 without /proc."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0


def memory_mib() -> float:
    """Return the machine's memory in MiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
