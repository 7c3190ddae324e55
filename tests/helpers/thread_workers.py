"""Threads in the place of worker processes: the same decisions, without the seconds that a process takes to start."""

import os
import threading
from collections.abc import Callable
from multiprocessing import Pipe
from typing import Any

import pytest

from cnnexp.sweep import worker as workers
from cnnexp.sweep.local import LocalEngine
from cnnexp.sweep.worker import Worker


class Thread:
    """Stands for a worker's process."""

    pid = None
    exitcode = 0

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...]):
        self.sentinel, self.end = os.pipe()
        self.thread = threading.Thread(target=self.body, args=(target, args), daemon=True)
        self.thread.start()

    def body(self, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        target(*args)
        os.close(self.end)

    def is_alive(self) -> bool:
        return self.thread.is_alive()

    def join(self, timeout: float | None = None) -> None:
        self.thread.join(timeout)

    terminate = kill = lambda self: None


def until_told(connection: Any) -> None:
    """Do what a worker's process does, but for what concerns the process."""
    while (plan := connection.recv()) is not None:
        connection.send(("ended", *workers.make(plan, workers.PipeProgress(connection)), 0.0))
    connection.close()


def use_threads(monkeypatch: pytest.MonkeyPatch) -> list[Worker]:
    """Make workers threads from here on; return the list of all that are started."""
    started: list[Worker] = []

    def start_worker(self: LocalEngine) -> Worker:
        ours, theirs = Pipe()
        process: Any = Thread(until_told, (theirs,))
        worker = Worker(self.slots[0], process, ours)
        self.workers.append(worker)
        started.append(worker)
        return worker

    monkeypatch.setattr(LocalEngine, "start_worker", start_worker)
    return started
