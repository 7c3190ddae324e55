"""Signals that ask a run to stop: the step is finished, the state saved, and the exit code says who asked.

SIGINT (Ctrl-C) is 130; SIGTERM, SIGUSR1 and SIGUSR2 (a scheduler's preemption) are 75. A second SIGINT ends the
process at once.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cnnexp.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED, Interrupted

CODES = {
    signal.SIGINT: EXIT_INTERRUPTED,
    signal.SIGTERM: EXIT_PREEMPTED,
    signal.SIGUSR1: EXIT_PREEMPTED,
    signal.SIGUSR2: EXIT_PREEMPTED,
}


class StopRequest:
    """Whether a signal has asked to stop; `exit_code` is None until then."""

    exit_code: int | None = None

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Take note of a signal; restore the default of SIGINT, so that a second one ends the process."""
        self.exit_code = self.exit_code or CODES[signal.Signals(number)]
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def check(self) -> None:
        """Raise Interrupted if a signal has asked to stop."""
        if self.exit_code is not None:
            raise Interrupted(self.exit_code)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Catch the signals while the block runs. Only the main thread can; elsewhere nothing is caught."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.ask) for number in CODES}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
