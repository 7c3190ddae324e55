"""Engines that are made in another process by name, for the tests of `Isolated`."""

import os
import time

from plain_plans import End, FakeEngine

from cnnexp.errors import UserError
from cnnexp.sweep.engine import Event, Progress
from cnnexp.training.plan import Plan


def done(plan: Plan, attempt: int) -> End:
    return 1.0, "done"


def good() -> FakeEngine:
    return FakeEngine(2, done)


def refused() -> FakeEngine:
    raise UserError("there is no such cluster")


def broken() -> FakeEngine:
    raise RuntimeError("a bug")


class Tells(FakeEngine):
    """Says of each run that it is half done, before it ends."""

    def __init__(self) -> None:
        super().__init__(1, done)

    def news(self, timeout: float) -> list[Event]:
        events = super().news(timeout)
        return [*(Progress(event.plan, 0.5) for event in events), *events]


class Hangs(FakeEngine):
    """Answers until a run has started."""

    def __init__(self) -> None:
        super().__init__(1, done)

    def news(self, timeout: float) -> list[Event]:
        if self.running:
            time.sleep(1000.0)
        time.sleep(timeout)
        return []


class Dies(Hangs):
    """Ends its process when a run has started."""

    def news(self, timeout: float) -> list[Event]:
        if self.running:
            os._exit(1)
        return super().news(timeout)
