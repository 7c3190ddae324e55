"""How tests prepare a run for the loop, and how they cut one off."""

import os
import signal
from pathlib import Path

from cnnexp.data.batches import Batches
from cnnexp.training import build, device
from cnnexp.training import setup as start
from cnnexp.training.loop import Settings, TrainState
from cnnexp.training.plan import Plan
from cnnexp.training.progress import Progress


def prepared(plan: Plan) -> tuple[TrainState, Batches, Settings]:
    """Build what `fit` needs, as a run does."""
    where = device.resolve(plan.config["device"])
    data = build.build_data(plan.config)
    batches = start.batches_of(plan.config, data, where)
    settings = start.settings_of(plan.config, batches, where)
    return start.new_state(plan.config, data, settings), batches, settings


class Killed(BaseException):
    """Stands for a process that ends at once."""


class CutAt(Progress):
    """Ends the run at a step: by a signal, which lets it save, or as if it had been killed."""

    def __init__(self, step: int, number: signal.Signals | None):
        self.at, self.number = step, number

    def step(self, state: TrainState) -> None:
        if state.step == self.at:
            if self.number is None:
                raise Killed
            os.kill(os.getpid(), self.number)


def gone(pid: int) -> bool:
    """Tell whether a process has ended (a zombie that nobody waits for has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
