"""Learning-rate schedules: pure functions of the step, so that resuming needs only the step.

A curve maps a step (0, 1, ...) to a factor of the configured learning rate. Only `plateau` has a state, because it
depends on a validation metric; the state is saved with the run.
"""

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cnnexp.config.signature import Index, Monitored, NonNegative, Positive, Probability, Rate, Span, SpanOrNone, steps

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

Curve = Callable[[int], float]


class Schedule:
    """Sets the learning rate of each parameter group before each step: its initial value times `curve(step)`.

    monitor: the validation metric that `after_epoch` is given.
    """

    monitor = "loss"

    def __init__(self, optimizer: "Optimizer", curve: Curve):
        self.optimizer = optimizer
        self.curve = curve
        self.base = [group["lr"] for group in optimizer.param_groups]

    def before_step(self, step: int) -> None:
        """Set the learning rate for this step."""
        for group, lr in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = lr * self.curve(step)

    def after_epoch(self, value: float) -> None:
        """Update the state by an epoch's value of `monitor`; schedules without a state do nothing."""

    @property
    def learning_rate(self) -> float:
        """Return the learning rate; of several parameter groups, the largest."""
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    def state_dict(self) -> dict[str, Any]:
        """Return the state to save besides the step."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""


class Plateau(Schedule):
    """Multiplies the curve by `factor` each time `monitor` has stalled for more than `patience` epochs.

    The rule is that of torch's ReduceLROnPlateau(threshold_mode="rel"), with mode="min" for the loss and "max" for all
    other metrics; a test compares them.
    """

    def __init__(
        self,
        optimizer: "Optimizer",
        curve: Curve,
        factor: float,
        patience: int,
        threshold: float,
        floor: float,
        monitor: str,
    ):
        super().__init__(optimizer, lambda step: curve(step) * self.scale)
        self.factor, self.patience, self.threshold, self.floor = factor, patience, threshold, floor
        self.monitor, self.sign = monitor, 1 if monitor == "loss" else -1
        self.scale, self.best, self.bad_epochs = 1.0, self.sign * math.inf, 0

    def after_epoch(self, value: float) -> None:
        """Lower the scale if the value has stalled for more than `patience` epochs."""
        if self.sign * value < self.sign * self.best * (1 - self.sign * self.threshold):
            self.best, self.bad_epochs = value, 0
        else:
            self.bad_epochs += 1
        if self.bad_epochs > self.patience:
            self.scale, self.bad_epochs = max(self.scale * self.factor, self.floor), 0

    def state_dict(self) -> dict[str, Any]:
        """Return the scale, the best value and the count of bad epochs."""
        return {"scale": self.scale, "best": self.best, "bad_epochs": self.bad_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        self.scale, self.best, self.bad_epochs = state["scale"], state["best"], state["bad_epochs"]


class TorchSchedule(Schedule):
    """A scheduler of torch's or of a user, stepped once per epoch, or with `every_step` after each optimiser step.

    ReduceLROnPlateau, which needs the validation loss, is always stepped once per epoch.
    """

    def __init__(self, optimizer: "Optimizer", scheduler: "LRScheduler", every_step: bool):
        from torch.optim.lr_scheduler import ReduceLROnPlateau

        super().__init__(optimizer, lambda step: 1.0)
        self.scheduler = scheduler
        self.needs_loss = isinstance(scheduler, ReduceLROnPlateau)
        self.every_step = every_step and not self.needs_loss

    def before_step(self, step: int) -> None:
        """Step the scheduler for the previous optimiser step, if it counts steps."""
        if self.every_step and step > 0:
            with warnings.catch_warnings():  # in a resumed run, the optimiser stepped in another process
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
                self.scheduler.step()

    def after_epoch(self, value: float) -> None:
        """Step the scheduler if it counts epochs, with the validation loss if it needs it."""
        if self.needs_loss:
            self.scheduler.step(value)  # type: ignore[arg-type]
        elif not self.every_step:
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the scheduler's state."""
        return dict(self.scheduler.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        self.scheduler.load_state_dict(state)


def warmed(curve: Curve, warmup: int) -> Curve:
    """Rise linearly over `warmup` steps, as (step + 1) / warmup, then follow `curve`, starting at its step 0."""
    return lambda step: (step + 1) / warmup if step < warmup else curve(step - warmup)


def constant(optimizer: "Optimizer", steps_per_epoch: int, warmup: SpanOrNone) -> Schedule:
    """Keep the learning rate."""
    return Schedule(optimizer, warmed(lambda step: 1.0, steps(warmup, steps_per_epoch)))


def step(optimizer: "Optimizer", steps_per_epoch: int, every: Span, gamma: Positive, warmup: SpanOrNone) -> Schedule:
    """Multiply the learning rate by `gamma` after each `every`."""
    period = steps(every, steps_per_epoch)
    return Schedule(optimizer, warmed(lambda step: gamma ** (step // period), steps(warmup, steps_per_epoch)))


def cosine(
    optimizer: "Optimizer", total_steps: int, steps_per_epoch: int, floor: Probability, warmup: SpanOrNone
) -> Schedule:
    """Fall along half a cosine from 1 at the first step to `floor` at `total_steps`."""
    rise = steps(warmup, steps_per_epoch)
    length = max(total_steps - rise, 1)
    return Schedule(optimizer, warmed(lambda step: half_cosine(1.0, floor, step / length), rise))


def onecycle(optimizer: "Optimizer", total_steps: int, rise: Rate, start: Probability, end: Probability) -> Schedule:
    """Rise from `start` to 1 over a fraction `rise` of the steps, then fall to `end`; the momentum stays.

    The rates are those of torch's OneCycleLR, with cycle_momentum=False: the peak is at step `rise * total_steps - 1`,
    so that below 1 / `rise` steps all fall. A single step, which torch gives the rate of the end, has that of the peak.
    """
    peak = rise * total_steps - 1
    fall = total_steps - 1 - peak

    def curve(step: int) -> float:
        if step < peak:
            return half_cosine(start, 1.0, step / peak)
        return half_cosine(1.0, end, (step - peak) / fall) if total_steps > 1 else 1.0

    return Schedule(optimizer, curve)


def plateau(
    optimizer: "Optimizer",
    steps_per_epoch: int,
    factor: Rate,
    patience: Index,
    threshold: NonNegative,
    floor: Probability,
    warmup: SpanOrNone,
    monitor: Monitored = "loss",
) -> Schedule:
    """Multiply the learning rate by `factor` when a validation metric stalls for more than `patience` epochs."""
    curve = warmed(lambda step: 1.0, steps(warmup, steps_per_epoch))
    return Plateau(optimizer, curve, factor, patience, threshold, floor, monitor)


def half_cosine(first: float, last: float, progress: float) -> float:
    """Return the value between `first` (progress 0) and `last` (progress 1) on half a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2
