"""Signals that ask a run to stop: the step is finished, the state saved, and the exit code says who asked.

SIGINT (Ctrl-C) is 130; SIGTERM, SIGUSR1 and SIGUSR2 (a scheduler's preemption) and SIGHUP (the terminal was closed) are
75. A second SIGINT ends the process at once; a SIGHUP that was ignored from the start (nohup) stays so. Where there is
no state to save (imports, data preparation, a report) the command just ends, with the same codes and without a
traceback.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from cnnexp.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED, Interrupted

CODES = {
    signal.SIGINT: EXIT_INTERRUPTED,
    signal.SIGTERM: EXIT_PREEMPTED,
    signal.SIGUSR1: EXIT_PREEMPTED,
    signal.SIGUSR2: EXIT_PREEMPTED,
    signal.SIGHUP: EXIT_PREEMPTED,
}
Handler = Callable[[int, FrameType | None], object]


class StopRequest:
    """Whether a signal has asked to stop; `exit_code` is None until then."""

    exit_code: int | None = None

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Take note of a signal; restore the default of SIGINT, so that a second one ends the process."""
        let_go_of_a_closed_terminal(number)
        self.exit_code = self.exit_code or CODES[signal.Signals(number)]
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def check(self) -> None:
        """Raise Interrupted if a signal has asked to stop."""
        if self.exit_code is not None:
            raise Interrupted(self.exit_code)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal end the block with Interrupted, and the processes that this one has started by then (Linux).

        For what takes long between two steps and leaves nothing to save. Whatever else the block raises then is taken
        for a consequence, as half-done imports are.
        """

        def end(number: int, frame: FrameType | None) -> None:
            self.ask(number, frame)
            end_children(os.getpid())
            raise Stop(CODES[signal.Signals(number)])  # which passes where any other error would be taken for an answer

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        try:
            with sent_to(end):
                self.check()  # it may have come before
                yield
        finally:
            if self.exit_code is not None:
                signal.signal(signal.SIGINT, signal.SIG_DFL)  # as `ask` left it: a second one ends the process
            self.check()


def end_children(pid: int) -> None:
    """Kill the processes that a process has started, and theirs. No effect where there is no /proc with their names."""
    children: list[int] = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            children += map(int, listed.read_text(encoding="ascii").split())
    for child in children:
        with suppress(ProcessLookupError):  # one may have ended by itself
            os.kill(child, signal.SIGSTOP)  # so that it starts no more
            end_children(child)
            os.kill(child, signal.SIGKILL)


class Stop(KeyboardInterrupt):
    """A signal came while there was no state to save; `exit_code` is 130 or 75."""

    def __init__(self, exit_code: int):
        super().__init__()
        self.exit_code = exit_code


def end_quietly() -> None:
    """Let the signals end this command with their exit codes, except where `stop_request` catches them."""
    for number in _heard():
        signal.signal(number, _end)


def _heard() -> list[signal.Signals]:
    return [number for number in CODES if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN]


def let_go_of_a_closed_terminal(number: int) -> None:
    """After a SIGHUP, send to nowhere what goes to a terminal that is gone: every write there would be an error."""
    if number != signal.SIGHUP:
        return
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def ignore() -> None:
    """Take no more notice of the signals: the command has ended, and its exit code is known."""
    for number in CODES:
        signal.signal(number, signal.SIG_IGN)


def _end(number: int, frame: FrameType | None) -> None:
    """Raise Stop, so that half-made files are removed; end the process here if an exception would do no good.

    That is in the middle of an import (a module that is half imported, or a C extension whose initialisation is cut
    off, answers with any error), and where Python can only report an exception and go on, as in a finaliser.
    """
    let_go_of_a_closed_terminal(number)
    code = CODES[signal.Signals(number)]
    if _importing(frame):
        _leave(code)
    ignore()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends the process at once
    report = sys.unraisablehook
    sys.unraisablehook = lambda lost: _leave(code) if isinstance(lost.exc_value, Stop) else report(lost)
    raise Stop(code)


def _leave(code: int) -> None:
    os.write(2, b"cnnexp: interrupted\n")
    os._exit(code)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@contextmanager
def sent_to(handler: Handler) -> Iterator[None]:
    """Let a handler answer the signals while the block runs."""
    before = {number: signal.signal(number, handler) for number in _heard()}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Catch the signals while the block runs. Only the main thread can; elsewhere nothing is caught."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    with sent_to(request.ask):
        yield request
    request.check()  # it came too late for the block, and is for what comes after it
