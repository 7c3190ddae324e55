"""Starts the other processes of a run, and ends them: those of `device.processes`, or of torchrun and srun.

Process 0 is the command itself, or a worker of a sweep. It starts the others as `python -m cnnexp.training.follow`;
torchrun and srun start all of them as the same command. Each of the others waits for a plan (follow.py).
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from select import select
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, NoReturn

from cnnexp.errors import EXIT_REQUEST, EXIT_SOME_FAILED, Interrupted, ProcessLost, UserError, is_out_of_memory
from cnnexp.process.signals import Stop
from cnnexp.storage import log_descriptor, remove
from cnnexp.training.exchange import connect, connect_launched, send, wait_for_all
from cnnexp.training.launched import Place

if TYPE_CHECKING:
    from cnnexp.training.plan import Plan
    from cnnexp.training.ranks import Ranks

SILENT_SECONDS = 300.0  # after which a process that does not answer is given up
START_SECONDS = 120.0  # for a process to import torch
CAUSE_SECONDS = 5.0  # for a process that has failed to say why
OF_EXCHANGES = ("gloo", "nccl", "connection closed", "connection reset", "timed out", "process group")

_leading: list["Ranks"] = []  # of process 0, while others that torchrun or srun has started wait for what it sends


def lead(place: Place, make: Callable[[], int]) -> int:
    """Make runs as process 0 of those that torchrun or srun has started; returns the exit code."""

    def wake(plan: "Plan") -> None:
        _leading.clear()
        send(plan, group)
        wait_for_all(group)

    ranks, code = ranks_of(place, wake), EXIT_SOME_FAILED
    group = connect_launched(ranks, "", place, SILENT_SECONDS)
    _leading.append(ranks)
    try:
        code = make()
    except UserError:
        code = EXIT_REQUEST
        raise
    except (Interrupted, Stop) as error:
        code = error.exit_code
        raise
    finally:
        if _leading:  # else a run has ended for all of them
            with suppress(RuntimeError):  # another may have ended
                send(code, group)
    return code


def ranks_of(place: Place, wake: "Callable[[Plan], None]") -> "Ranks":
    """Return the place of a process as the run sees it."""
    from cnnexp.training.ranks import Ranks

    return Ranks(place.rank, place.count, place.local_rank, place.local_count, wake)


@contextmanager
def together(plan: "Plan") -> "Iterator[Ranks]":
    """Have the other processes of a run at hand while the block runs, if it has any.

    An error of an exchange is raised as ProcessLost, or as MemoryError if a process had no memory left.
    """
    from cnnexp.training.ranks import ALONE

    count = plan.config["device"].get("processes", 1)
    if count == 1:
        yield ALONE
        return
    if _leading:
        (ranks,) = _leading
        try:
            yield ranks
        except Exception as error:
            if of_an_exchange(error):
                raise ProcessLost(
                    f"a process of the run has ended, or was silent for {SILENT_SECONDS:.0f} s"
                ) from error
            raise
        _leading[:] = [ranks]
        return
    with _Children(plan, count) as children:
        try:
            yield children.ranks
        except Exception as error:
            if of_an_exchange(error):
                children.raise_cause(error)
            raise


def of_an_exchange(error: Exception) -> bool:
    """Tell whether an error is of an exchange between processes."""
    return isinstance(error, RuntimeError) and _names_an_exchange(f"{type(error).__name__} {error}")


def _names_an_exchange(message: str) -> bool:
    return any(words in message.lower() for words in OF_EXCHANGES)


class _Children:
    """The processes that process 0 has started. None outlives it: each ends when its input does."""

    def __init__(self, plan: "Plan", count: int):
        from cnnexp.training.ranks import Ranks

        self.ranks = Ranks(0, count, 0, count, self.wake)
        self.kind = plan.config["device"]["kind"].partition(":")[0]
        self.meeting = plan.folder / ".meeting"  # the file in which torch lets the processes find each other
        self.method = self.meeting.resolve().as_uri()
        self.started: list[subprocess.Popen[str]] = []
        self.joined = False
        remove(self.meeting)  # of a run that was killed
        log = log_descriptor(plan.folder / "train.log")
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            for rank in range(1, count):
                arguments = json.dumps([rank, count, self.kind, self.method, SILENT_SECONDS])
                command = [sys.executable, "-P", "-m", "cnnexp.training.follow", arguments]
                pipe = subprocess.PIPE
                child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True, env=environ)
                self.started.append(child)
        finally:
            os.close(log)

    def __enter__(self) -> "_Children":
        return self

    def wake(self, plan: "Plan") -> None:
        """Wait until all have imported torch, connect, and send the plan."""
        for number, child in enumerate(self.started, 1):
            if "ready" not in (said := self._line(child, START_SECONDS)):
                self._raise_end(number, child, said)
        group = connect(self.ranks, self.kind, self.method, SILENT_SECONDS)
        self.joined = True
        send(plan, group)
        wait_for_all(group)

    def _line(self, child: "subprocess.Popen[str]", seconds: float) -> dict[str, Any]:
        """Return the next message of a process; {} if it has ended, or says nothing."""
        assert child.stdout is not None
        if not select([child.stdout], [], [], seconds)[0]:
            return {}
        found: dict[str, Any] = json.loads(child.stdout.readline() or "{}")
        return found

    def raise_cause(self, error: Exception) -> NoReturn:
        """Raise why an exchange has failed: what a process says, how it ended, or that it does not answer.

        A process that has ended because an exchange failed there too is not the cause.
        """
        until, consequences = monotonic() + CAUSE_SECONDS, dict[int, dict[str, Any]]()
        while monotonic() < until and len(consequences) < len(self.started):
            for number, child in enumerate(self.started, 1):
                if number in consequences or child.poll() is None:
                    continue
                said = self._line(child, 0.0)
                if said.get("memory") or not _names_an_exchange(said.get("message", "")):
                    self._raise_end(number, child, said, error)
                consequences[number] = said
            sleep(0.05)
        for number, said in consequences.items():
            if "timed out" not in str(error).lower():
                self._raise_end(number, self.started[number - 1], said, error)
        raise ProcessLost(f"a process of the run did not answer for {SILENT_SECONDS:.0f} s") from error

    def _raise_end(
        self, number: int, child: "subprocess.Popen[str]", said: dict[str, Any], error: Exception | None = None
    ) -> NoReturn:
        """Raise how a process ended. said: its last message, {} if there is none."""
        name = f"process {number + 1} of {self.ranks.count}"
        if said.get("memory"):
            raise MemoryError(f"{name}: {said['message']}") from error
        if said:
            raise ProcessLost(f"{name}: {said['message']}") from error
        with suppress(subprocess.TimeoutExpired):
            child.wait(CAUSE_SECONDS)
        if (code := child.returncode) is None:
            raise ProcessLost(f"{name} was not ready after {START_SECONDS:.0f} s; see train.log") from error
        if code == -signal.SIGKILL:
            raise ProcessLost(f"{name} was killed by SIGKILL, perhaps because memory ran out") from error
        end = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with code {code}"
        raise ProcessLost(f"{name} {end}; see train.log") from error

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """End the processes: after a run they end by themselves; after an error there is nothing to wait for."""
        from torch import distributed

        for child in self.started:
            if error is None:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(CAUSE_SECONDS)
            child.kill()
            child.communicate()
        if self.joined:
            distributed.destroy_process_group()
        remove(self.meeting)


def message_of(error: BaseException) -> str:
    """Return the line with which a process says why it failed."""
    text = f"{type(error).__name__}: {error}".strip(": ")
    return json.dumps({"memory": is_out_of_memory(error), "message": text})
