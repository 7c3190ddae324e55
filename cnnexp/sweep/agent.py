"""What makes runs on another machine, for an engine that can call methods there: `Agent`.

It trains nothing itself: signals reach the main thread of a worker, and the end of a worker is not that of its machine.
"""

import os
import socket
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

from cnnexp.errors import UserError
from cnnexp.records.provenance import digest
from cnnexp.storage import presence
from cnnexp.sweep.engine import Event, Progress
from cnnexp.sweep.local import LocalEngine
from cnnexp.sweep.slots import Slot
from cnnexp.training.plan import Plan

NEWS_SECONDS = 1.0  # between two answers
SILENT_SECONDS = 20.0  # after an answer, without another question: the agent stops its run


class Agent:
    """On a node: makes one run after another in a worker process. Its methods run in threads, at the same time."""

    def __init__(
        self, slot: Slot, folders: list[Path], planner: str, code: str, cwd: Path, path: list[str],
        environment: dict[str, str],
    ):  # fmt: skip
        os.environ.update(environment)
        sys.path += [folder for folder in path if folder not in sys.path]
        self.folders, self.planner, self.code, self.cwd = folders, planner, code, cwd
        self.engine, self.present = LocalEngine([slot]), ExitStack()
        self.attempt, self.end, self.answered_at = 0, list[Event](), 0.0
        self.asking, self.closed = threading.Lock(), threading.Event()

    def ready(self) -> str:
        """Return why this node cannot make runs; "" if it can."""
        here = socket.gethostname()
        if digest() != self.code:
            return f"{here}: has another version of cnnexp than the machine that planned; install the same"
        try:
            os.chdir(self.cwd)
            self.present.close()
            for folder in self.folders:
                if not (folder / presence.FOLDER / self.planner).exists():
                    return f"{folder}: is another folder on {here}; share it between all machines (outputs=DIR)"
                self.present.enter_context(presence.at_work(folder))
        except (OSError, UserError) as error:
            return f"{here}: {error}"
        return ""

    def news(self, attempt: int, plan: Plan) -> list[Event]:
        """Return what is new of a run, for the last time with its end. The first question starts it."""
        with self.asking:
            if attempt != self.attempt:
                self.attempt, self.end = attempt, []
                self.engine.start(plan)
            latest, until = list[Event](), monotonic() + NEWS_SECONDS
            while not self.end and monotonic() < until:
                for event in self.engine.news(NEWS_SECONDS):
                    if isinstance(event, Progress):
                        latest = [event]
                    else:
                        self.end = [event]
            self.answered_at = monotonic()
            return latest + self.end

    def live(self) -> None:
        """Return at the end of this agent. A run of which nobody has asked for a while is stopped."""
        while not self.closed.wait(1.0):
            idle = self.attempt == 0 or self.end or self.asking.locked()
            if not idle and monotonic() > self.answered_at + SILENT_SECONDS:
                self.close()
                os._exit(1)

    def stop(self, now: bool) -> None:
        """Ask the run to save and stop."""
        self.engine.stop(now)

    def close(self) -> None:
        """Stop the run, and end its process."""
        with self.asking:
            if not self.closed.is_set():
                self.closed.set()
                self.engine.close()
                self.present.close()
