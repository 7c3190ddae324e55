"""Signals that ask a run to stop: the step is finished, the state saved, and the exit code names the signal.

SIGINT (Ctrl-C) gives 130; SIGTERM, SIGUSR1 and SIGUSR2 (a scheduler's preemption) and SIGHUP (the terminal was closed)
give 75. A second SIGINT ends the process at once. A SIGHUP that is ignored from the start (nohup) stays ignored. If
there is no state to save (imports, data preparation, a report), the command ends with the same codes and no traceback.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Set
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
    number: int | None = None

    def __init__(self, second: "Handler | int | None"):
        """second: the handler of a second SIGINT."""
        self.second, self.again = second, False

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Record a signal; a second SIGINT ends the process, or in a program that calls cnnexp, what it is doing."""
        release_terminal(number)
        self.number = self.number or number
        self.exit_code = self.exit_code or CODES[signal.Signals(number)]
        signal.signal(signal.SIGINT, self.ask_again if callable(self.second) else self.second)

    def ask_again(self, number: int, frame: FrameType | None) -> None:
        """Note a second SIGINT, and let the program's own handler raise what it raises."""
        self.again = True
        assert callable(self.second)
        self.second(number, frame)

    @contextmanager
    def ended_anywhere(self) -> Iterator[None]:
        """Raise KeyboardInterrupt for any error of the block after a second SIGINT, such as one within torch's code."""
        try:
            yield
        except Exception as error:
            if self.again:
                raise KeyboardInterrupt from error
            raise

    def check(self) -> None:
        """Raise Interrupted if a signal has asked to stop."""
        if self.exit_code is not None:
            raise Interrupted(self.exit_code, self.number)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal end the block with Interrupted, and kill the processes that the block has started (Linux).

        For long work between two steps that leaves nothing to save. Any other error of the block after a signal counts
        as a consequence, such as half-done imports.
        """
        before = children(os.getpid())

        def end(number: int, frame: FrameType | None) -> None:
            self.ask(number, frame)
            end_children(os.getpid(), before)
            raise Stop(CODES[signal.Signals(number)])  # not an Exception, which the block might catch

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        try:
            with sent_to(end):
                self.check()  # a signal may have come before
                yield
        finally:
            if self.exit_code is not None:
                signal.signal(signal.SIGINT, self.second)  # as after `ask`
            self.check()


def children(pid: int) -> set[int]:
    """Return the child processes of a process; none without a /proc that lists them."""
    found = set[int]()
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found.update(map(int, listed.read_text(encoding="ascii").split()))
    return found


def end_children(pid: int, spared: Set[int] = frozenset()) -> None:
    """Kill the child processes of a process, and theirs; those that are `spared` live on."""
    for child in children(pid) - spared:
        with suppress(ProcessLookupError):  # one may have ended by itself
            os.kill(child, signal.SIGSTOP)  # so that it starts no more
            end_children(child)
            os.kill(child, signal.SIGKILL)


class Stop(KeyboardInterrupt):
    """A signal came while there was no state to save. exit_code: 130 or 75."""

    def __init__(self, exit_code: int):
        super().__init__()
        self.exit_code = exit_code


def end_quietly() -> None:
    """Let the signals end this command with their exit codes, except where `stop_request` catches them."""
    for number in _handled():
        signal.signal(number, _end)


def _handled() -> list[signal.Signals]:
    return [number for number in CODES if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN]


def release_terminal(number: int) -> None:
    """After a SIGHUP, redirect output from the closed terminal to /dev/null, since every write to it would fail."""
    if number != signal.SIGHUP:
        return
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, descriptor)
            os.close(null)


def ignore() -> None:
    """Ignore the signals from now on: the command has ended, and its exit code is known."""
    for number in CODES:
        signal.signal(number, signal.SIG_IGN)


def _end(number: int, frame: FrameType | None) -> None:
    """Raise Stop, so that half-made files are removed; end the process here if an exception would not end it.

    That is the case during an import, where a half-imported module or C extension fails with any error, and where
    Python only reports an exception and continues, as in a finaliser.
    """
    release_terminal(number)
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
    """Let a handler answer the signals while the block runs, if this is the main thread; other threads cannot."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in _handled()}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Catch the signals while the block runs; see `sent_to`."""
    earlier = signal.getsignal(signal.SIGINT)
    request = StopRequest(signal.SIG_DFL if earlier in (None, _end) else earlier)
    with sent_to(request.ask):
        yield request
    request.check()  # the signal came too late for the block
