"""The training loop: a pure batch for every step, and lists of (due, action) pairs before and after it."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from time import perf_counter
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnnexp.data.batches import Batch
from cnnexp.errors import Diverged
from cnnexp.optim.losses import share_of
from cnnexp.optim.schedules import Schedule
from cnnexp.rng import fold, seed_device
from cnnexp.training.device import Device, synchronize
from cnnexp.training.moving_average import MovingAverage

SECONDS = ("features", "train", "evaluate", "checkpoint")
Action = Callable[["TrainState"], None]
Due = Callable[[int], bool]


class BatchSource(Protocol):
    """Gives `fit` its batches."""

    def at(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0: a pure function of the step."""


@dataclass
class Settings:
    """The constants of a run's training loop.

    loss: of (logits (N, K), labels (N,)), a mean. is_plain: it is the cross entropy, which rows and curves show.
    accumulate: in how many parts a batch is computed.
    """

    seed: int
    total_steps: int
    steps_per_epoch: int
    loss: Callable[[Tensor, Tensor], Tensor]
    is_plain: bool
    accumulate: int
    clip_norm: float | None
    device: Device

    @property
    def epochs(self) -> int:
        """Return the number of epochs, including a partial last one."""
        return self.epoch(self.total_steps)

    def epoch(self, step: int) -> int:
        """Return the 1-based epoch of the last of `step` steps."""
        return -(-step // self.steps_per_epoch)

    def step_in_epoch(self, step: int) -> int:
        """Return the 1-based position in its epoch of the last of `step` steps."""
        return (step - 1) % self.steps_per_epoch + 1


@dataclass
class TrainState:
    """Everything that a step changes; `state_dict` is all that a resumed run needs.

    learner: the module that batches pass through: the model, or its head if features are computed once (features.py).
    in_training: called instead of the learner in training steps: if they are compiled (compile.py), or if several
    processes share a batch (shared_batch.py).
    losses, correct: (steps_per_epoch,) of this epoch so far: mean loss, and number of right answers, of each batch.
    shown_losses: for rows and curves, as for validation: the cross entropy; `losses` itself if that is the loss.
    unfrozen: (step, parameter): it learns after that number of steps, and is frozen before.
    average: of the weights, evaluated in place of the model's own (moving_average.py).
    chain: that of the last of `chain_rows` rows of the hash chain (hash_chain.py).
    best: {epoch, val_accuracy, val_loss} of the best epoch so far.
    """

    model: nn.Module
    learner: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler | None
    losses: Tensor
    shown_losses: Tensor
    correct: Tensor
    batch_size: int
    step: int = 0
    rows: int = 0
    probe_rows: int = 0
    chain_rows: int = 0
    chain: str = ""
    best: dict[str, Any] = field(default_factory=dict)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    epochs_since_best: int = 0
    stopped: str | None = None
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SECONDS, 0.0))
    epoch_seconds: float = 0.0
    in_training: Callable[[Tensor], Tensor] | None = None
    average: MovingAverage | None = None
    unfrozen: list[tuple[int, nn.Parameter]] = field(default_factory=list)

    @property
    def evaluated(self) -> nn.Module:
        """Return the network that is validated and kept: the average of its weights, if there is one."""
        return self.model if self.average is None else self.average.module

    def freeze_until(self) -> None:
        """Freeze or free the parameters of `unfrozen` for the next step: a function of its number."""
        for step, parameter in self.unfrozen:
            parameter.requires_grad_(self.step >= step)

    def state_dict(self) -> dict[str, Any]:
        """Return the state without `best_weights`, which have a separate file."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else {},
            "losses": self.losses,
            **({} if self.shown_losses is self.losses else {"shown_losses": self.shown_losses}),
            "correct": self.correct,
            **({} if self.average is None else {"average": self.average.state_dict()}),
            **{name: getattr(self, name) for name in PLAIN},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.scaler:
            self.scaler.load_state_dict(state["scaler"])
        self.losses.copy_(state["losses"])
        if self.shown_losses is not self.losses:
            self.shown_losses.copy_(state["shown_losses"])
        self.correct.copy_(state["correct"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        for name in PLAIN:
            setattr(self, name, state[name])

    @contextmanager
    def timed(self, what: str, device: Device) -> Iterator[None]:
        """Add the time of the block, including the device's work, to `seconds[what]`."""
        start = perf_counter()
        yield
        synchronize(device)
        self.seconds[what] = self.seconds.get(what, 0.0) + perf_counter() - start

    def wait_for_device(self, device: Device) -> None:
        """Wait until an accelerator has finished the last step, and count the time as training."""
        if device.kind != "cpu":
            start = perf_counter()
            synchronize(device)
            waited = perf_counter() - start
            self.seconds["train"] += waited
            self.epoch_seconds += waited


PLAIN = (
    "step",
    "rows",
    "probe_rows",
    "chain_rows",
    "chain",
    "best",
    "epochs_since_best",
    "stopped",
    "seconds",
    "epoch_seconds",
)


def train_step(state: TrainState, batch: Batch, settings: Settings) -> None:
    """Take one optimiser step on a batch; its loss and number of right answers stay on the device."""
    if not state.learner.training:  # faster than calling train() on all layers at every step
        state.learner.train()
    state.schedule.before_step(state.step)
    state.optimizer.zero_grad(set_to_none=True)  # before the forward pass, so that activations can use the memory
    seed_device(settings.device.torch, fold(settings.seed, "dropout", state.step))
    numbers = [_backward(state, part, batch, settings) for part in batch.parts(settings.accumulate)]
    scaler = state.scaler
    if settings.clip_norm is not None:
        if scaler:
            scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), settings.clip_norm)
    if scaler:
        scaler.step(state.optimizer)
        scaler.update()
    else:
        state.optimizer.step()
    if state.average is not None:
        state.average.update(state.model, state.step + 1)
    position = state.step % settings.steps_per_epoch
    loss, shown, right = (reduce(torch.add, of_parts) for of_parts in zip(*numbers, strict=True))
    state.losses[position] = loss
    if not settings.is_plain:
        state.shown_losses[position] = shown
    state.correct[position] = right


def _backward(state: TrainState, part: Batch, batch: Batch, settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """Add the gradient of a part of a batch to the weights' gradients.

    Returns what the part adds to the loss, to the cross entropy, and to the number of right answers: those that are the
    label with the larger share.
    """
    with settings.device.autocast():
        logits = (state.learner if state.in_training is None else state.in_training)(part.images)
        loss = _of_both(settings.loss, logits.float(), part, batch)
    (state.scaler.scale(loss) if state.scaler else loss).backward()  # type: ignore[no-untyped-call]
    logits, shown = logits.detach(), loss.detach()
    if not settings.is_plain:
        shown = _of_both(functional.cross_entropy, logits.float(), part, batch)
    labels = part.labels if part.mixed is None or part.share >= 0.5 else part.mixed
    return loss.detach(), shown, (logits.argmax(1) == labels).sum()


def _of_both(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, part: Batch, batch: Batch) -> Tensor:
    """Return what a part adds to the loss of its batch; of mixed images, that of both labels, each with its share."""

    def of(labels: Tensor, of_batch: Tensor) -> Tensor:
        value = loss(logits, labels)
        return value if part is batch else value * share_of(loss, labels, of_batch)

    own = of(part.labels, batch.labels)
    if part.mixed is None or batch.mixed is None:
        return own
    return part.share * own + (1 - part.share) * of(part.mixed, batch.mixed)


def fit(
    state: TrainState,
    batches: BatchSource,
    settings: Settings,
    actions: Iterable[tuple[Due, Action]],
    before: Iterable[tuple[Due, Action]] = (),
) -> None:
    """Train from `state.step` to the end, or until an action sets `state.stopped`.

    actions: run after each step, in order, if `due(steps taken)` is true. before: the same before the step, with the
    number of steps including it. Raises Diverged if a loss is not finite: on a CPU at once. On an accelerator reading a
    loss makes the host wait, so there the actions call `check_finite`.
    """
    actions, before = list(actions), list(before)
    while state.step < settings.total_steps and state.stopped is None:
        state.freeze_until()
        for due, action in before:
            if due(state.step + 1):
                action(state)
        start = perf_counter()
        train_step(state, batches.at(state.step), settings)
        state.step += 1
        if settings.device.kind == "cpu":
            check_finite(state, settings)
        if state.step % settings.steps_per_epoch == 0 or state.step == settings.total_steps:
            synchronize(settings.device)  # so that the epoch's time includes all of its work
        elapsed = perf_counter() - start
        state.seconds["train"] += elapsed
        state.epoch_seconds += elapsed
        for due, action in actions:
            if due(state.step):
                action(state)


def check_finite(state: TrainState, settings: Settings) -> None:
    """Raise Diverged, naming the step, if a loss of this epoch is not finite."""
    steps = settings.step_in_epoch(state.step)
    if math.isfinite(float(state.losses[:steps].sum())):
        return
    bad = (~torch.isfinite(state.losses[:steps])).nonzero()
    if len(bad):
        step = state.step - steps + int(bad[0]) + 1
        raise Diverged(
            f"the loss of step {step} (epoch {settings.epoch(step)}) is not finite; try a lower optimizer.lr", step
        )


def has_finite_weights(state: TrainState) -> bool:
    """Tell whether all weights and buffers are finite; if not, the loss of the next step will be NaN or infinite."""
    numbers = [tensor for tensor in state.model.state_dict().values() if tensor.is_floating_point()]
    return bool(torch.stack([tensor.isfinite().all() for tensor in numbers]).all())
