"""What a sweep asks of whoever computes its runs: `Engine`. How to write one: docs/engines.md."""

from dataclasses import dataclass
from typing import Literal, Protocol

from cnnexp.training.plan import Plan


@dataclass(frozen=True)
class Progress:
    """A run has come so far. fraction: of its steps, in [0, 1]."""

    plan: Plan
    fraction: float


@dataclass(frozen=True)
class Ended:
    """A run ended in good order: `worker.make` returned this status and message."""

    plan: Plan
    status: str
    message: str


@dataclass(frozen=True)
class Lost:
    """What computed the run ended without a report.

    whose: "run" if the run's own process ended, which may be the run's fault: it counts as failed. "node" if what is
    around it ended, such as a machine: the run is started again, from its last checkpoint.
    """

    plan: Plan
    cause: str
    whose: Literal["run", "node"]


Event = Progress | Ended | Lost


class Engine(Protocol):
    """Computes runs somewhere. Called by one thread, the scheduler's; only `stop` may interrupt another method."""

    def free(self) -> int:
        """Return how many more runs can start now."""

    def start(self, plan: Plan) -> None:
        """Start a run, and return without waiting for it. Each started run leads to one Ended or Lost."""

    def news(self, timeout: float) -> list[Event]:
        """Return what has happened since the last call; wait for at most `timeout` seconds if nothing has."""

    def stop(self, now: bool) -> None:
        """Ask every run to save and stop, those that start later too; with `now`, end them without saving.

        A run that has not stopped after GRACE_SECONDS is ended. Called from a signal's handler: it must not wait.
        """

    def close(self) -> None:
        """End everything that this engine has started, within GRACE_SECONDS of `stop`."""

    def describe(self) -> str:
        """Return where runs are computed, for people: "2 slot(s) (cpu; 1 thread(s) each)"."""


GRACE_SECONDS = 25.0  # between asking a run to stop and ending it: a sweep ends within 30 s
LATE_SECONDS = 60.0  # a network mount may show so late what another machine has written
