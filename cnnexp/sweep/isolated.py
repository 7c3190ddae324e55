"""An engine in a process of its own, for a library whose calls can hang and then hold back signals."""

import math
import os
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import monotonic
from typing import Any

from cnnexp.errors import EXIT_PREEMPTED, Interrupted, UserError
from cnnexp.process.signals import CODES
from cnnexp.storage import log_descriptor
from cnnexp.sweep.engine import GRACE_SECONDS, Engine, Event, Progress
from cnnexp.sweep.server import without_main
from cnnexp.training.plan import Plan

BEGIN_SECONDS = 120.0  # for the first message
SILENT_SECONDS = 25.0  # between two messages, before the process counts as hung
ALIVE_SECONDS = 1.0  # between two messages if nothing happens
POLL_SECONDS = 0.02
CLOSE_SECONDS = 4.0  # at least, for the process to end


class Isolated:
    """Starts the process with the first run, and follows what it says; see `Engine`.

    make: returns the engine, or raises UserError; called there. name: of the engine, for people. log: a file for what
    is printed there.
    """

    def __init__(self, make: Callable[[], Engine], name: str, log: Path):
        self.make, self.name, self.log = make, name, log
        self.process: BaseProcess | None = None
        self.connection: Connection
        self.slots = 0
        self.running: set[Path] = set()
        self.silent_at = math.inf
        self.kill_at = math.inf
        self.to_stop: bool | None = None  # what `stop` was called with, and the process does not know

    def free(self) -> int:
        """Return how many more runs can start now: none until the engine is made, which this begins."""
        if self.process is None:
            self.connection, theirs = get_context("spawn").Pipe()
            self.process = get_context("spawn").Process(target=host, args=(theirs, self.make, self.log), daemon=True)
            with without_main():
                self.process.start()
            theirs.close()
            self.silent_at = monotonic() + BEGIN_SECONDS
        return max(self.slots - len(self.running), 0)

    def start(self, plan: Plan) -> None:
        """Send a run to the engine."""
        self.running.add(plan.folder)
        self.send("start", plan)

    def send(self, method: str, *arguments: object) -> None:
        """Ask for a call of the engine; `news` finds out if its process has ended."""
        with suppress(OSError):
            self.connection.send((method, arguments))

    def news(self, timeout: float) -> list[Event]:
        """Wait for events.

        Raises Interrupted, with exit code 75, if the process hangs or has ended; UserError if the engine raised it.
        """
        if self.to_stop is not None:
            now, self.to_stop = self.to_stop, None
            self.send("stop", now)
        events: list[Event] = []
        until = monotonic() + timeout
        try:
            while not events and self.connection.poll(max(until - monotonic(), 0.0)):
                events = self.receive(*self.connection.recv())
        except (EOFError, OSError):
            self.silent_at = 0.0
        if monotonic() > self.silent_at:
            print(f"{self.name} does not answer, and {len(self.running)} run(s) are not done; see {self.log}")
            self.kill_at = 0.0
            raise Interrupted(EXIT_PREEMPTED)
        return events

    def receive(self, kind: str, content: Any, events: list[Event]) -> list[Event]:
        """Note a message of the process, and return its events."""
        self.silent_at = monotonic() + SILENT_SECONDS
        if kind == "refused":
            raise UserError(content)
        if kind == "made":
            print(content, flush=True)
        else:
            self.slots = content
        self.running -= {event.plan.folder for event in events if not isinstance(event, Progress)}
        return events

    def stop(self, now: bool) -> None:
        """Let the next `news` stop the engine, since a signal may come while a message is being sent."""
        self.kill_at = min(self.kill_at, monotonic() + GRACE_SECONDS)
        self.to_stop = now

    def close(self) -> None:
        """Close the engine, and end its process."""
        if self.process is not None:
            self.send("close")
            seconds = min(self.kill_at - monotonic(), GRACE_SECONDS)
            self.process.join(max(seconds, CLOSE_SECONDS) if self.kill_at else 0.0)
            self.process.kill()
            self.process.join()

    def describe(self) -> str:
        """Return the engine's name."""
        return self.name


def host(connection: Connection, make: Callable[[], Engine], log: Path) -> None:
    """Serve an engine in this process, until it is closed or the sweep's process ends."""
    os.setsid()  # a Ctrl-C reaches the sweep alone, which passes it on
    descriptor = log_descriptor(log)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    no_answer_to_signals()
    try:
        engine = make()
        no_answer_to_signals()  # the library may have set its own
        connection.send(("made", engine.describe(), []))
        serve(connection, engine)
    except UserError as error:
        connection.send(("refused", str(error), []))
    except BaseException:
        traceback.print_exc()
    os._exit(0)  # the library may wait for ever


def no_answer_to_signals() -> None:
    """Leave signals to the sweep's process: a scheduler may send them to all. Programs that are started get them."""
    for number in CODES:
        signal.signal(number, lambda *_: None)


def serve(connection: Connection, engine: Engine) -> None:
    """Call the engine's methods as asked, and send what it says."""
    busy, slots_sent, sent_at = 0, 0, 0.0
    while True:
        while connection.poll(POLL_SECONDS):
            try:
                method, arguments = connection.recv()
            except (EOFError, OSError):  # the sweep's process has exited
                engine.stop(False)
                method, arguments = "close", ()
            busy += method == "start"
            getattr(engine, method)(*arguments)
            if method == "close":
                return
        events = engine.news(POLL_SECONDS)
        busy -= sum(not isinstance(event, Progress) for event in events)
        slots = engine.free() + busy
        if events or slots != slots_sent or monotonic() > sent_at + ALIVE_SECONDS:
            slots_sent, sent_at = slots, monotonic()
            with suppress(OSError):
                connection.send(("slots", slots, events))
