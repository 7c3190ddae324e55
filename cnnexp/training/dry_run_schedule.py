"""Try the optimiser and the schedule of a config before anything is trained: see dry_run.py."""

import functools
import json
import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cnnexp.config.signature import steps
from cnnexp.errors import UserError, warn_once
from cnnexp.training import build

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from cnnexp.optim.schedules import Schedule

SHOWN_STEPS = 20_000  # of a schedule; measured: 0.01 s for one of this package, 0.2 s for one of torch
SAME_RATE = 0.05  # a learning rate that changes by less than this fraction is called constant


def try_optimizer(config: Mapping[str, Any]) -> "Optimizer":
    """Build the optimiser for weights of a convolution, a matrix and a bias, and step once. Raises UserError."""
    import torch
    from torch import nn

    model = nn.ParameterList(nn.Parameter(torch.ones(shape)) for shape in ((4, 3, 3, 3), (4, 4), (4,)))
    with build.refused("optimizer", config, "optimizer"):
        optimizer = build.build_optimizer(config, model)
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 0.01)
        optimizer.step()
    if optimizer.defaults.get("maximize"):
        raise UserError("optimizer.maximize: given true, but the loss is to become small; leave it out")
    return optimizer


@functools.lru_cache(maxsize=64)
def try_both(nodes: str, total_steps: int, steps_per_epoch: int, has_val: bool) -> None:
    """Try the optimiser and the schedule of a config, and warn of them once, however many runs have them."""
    config = json.loads(nodes)
    for note in try_schedule(config, try_optimizer(config), total_steps, steps_per_epoch, has_val):
        warn_once(note, f"cnnexp: {note}")


def try_schedule(
    config: Mapping[str, Any], optimizer: "Optimizer", total_steps: int, steps_per_epoch: int, has_val: bool
) -> list[str]:
    """Build the schedule and step it to the end of the run. Returns notes: what of it does not do what it says.

    Raises UserError if the schedule refuses, or contradicts the run.
    """
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    with build.refused("scheduler", config, "scheduler"):
        schedule = build.build_schedule(config, optimizer, total_steps, steps_per_epoch)
    watching = getattr(schedule, "scheduler", None)
    if isinstance(watching, ReduceLROnPlateau):
        if watching.mode != "min":
            raise UserError(f"scheduler.mode: given {watching.mode}; allowed: min, because it watches a loss")
        if not has_val:
            raise UserError("scheduler: ReduceLROnPlateau watches the validation loss; set data.val_fraction above 0")
    stride = steps_per_epoch if watching is not None and not getattr(schedule, "every_step", False) else 1
    rates = _rates(config, schedule, total_steps, steps_per_epoch, stride)
    if not any(rates):
        raise UserError("optimizer: the learning rate is 0 in all steps: nothing would be trained")
    if len(rates) * stride < total_steps:
        return []
    return _notes(config, schedule, rates, (total_steps, steps_per_epoch, stride))


def _notes(
    config: Mapping[str, Any], schedule: "Schedule", rates: list[float], lengths: tuple[int, int, int]
) -> list[str]:
    """Return what of a schedule does not do what it says. lengths: total_steps, steps_per_epoch and stride of rates."""
    total_steps, steps_per_epoch, stride = lengths
    watching = getattr(schedule, "scheduler", None)
    notes, node = list[str](), config["scheduler"]
    if (still := rates.count(0.0) * stride) >= steps_per_epoch:
        notes.append(f"scheduler: the learning rate is 0 in {still} of {total_steps} steps, which train nothing")
    rise = 0 if watching is not None else steps(node.get("warmup", 0), steps_per_epoch)
    if rise > total_steps:
        given, reached = node["warmup"], f"the learning rate reaches {max(rates):.3g}, never {schedule.base[0]:g}"
        notes.append(f"scheduler.warmup: given {given}, more than the run has: {reached}")
    elif not node["_target_"].endswith(".constant") and max(rates) - min(rates) < SAME_RATE * max(rates):
        counts = "; a scheduler class of torch is stepped once an epoch" if stride > 1 else ""
        epochs = f"{total_steps / steps_per_epoch:.3g}"
        notes.append(
            f"scheduler: changes nothing in {epochs} epoch{'' if epochs == '1' else 's'}, the learning rate stays "
            f"{max(rates):.3g}{counts}"
        )
    if watching is not None and isinstance(lr := config["optimizer"].get("lr"), (int, float)):
        doubled = {**config, "optimizer": {**config["optimizer"], "lr": 2 * lr}}
        other = build.build_schedule(doubled, try_optimizer(doubled), total_steps, steps_per_epoch)
        if _rates(doubled, other, total_steps, steps_per_epoch, stride) == rates:
            notes.append(
                f"scheduler: sets the learning rate itself, up to {max(rates):.3g}; optimizer.lr has no effect"
            )
    return notes


def _rates(
    config: Mapping[str, Any], schedule: "Schedule", total_steps: int, steps_per_epoch: int, stride: int
) -> list[float]:
    """Return the learning rate of every `stride`-th step, while the validation loss stays the same.

    Of a long run the first SHOWN_STEPS are returned. Raises UserError for a rate that is negative or not finite.
    """
    rates = list[float]()
    with build.refused("scheduler", config, "scheduler"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself shows them
        for step in range(0, min(total_steps, SHOWN_STEPS * stride), stride):
            schedule.before_step(step)
            rates.append(schedule.learning_rate)
            if not 0 <= rates[-1] < math.inf:
                when = f"step {step + 1}" if stride == 1 else f"epoch {step // stride + 1}"
                raise UserError(f"scheduler: the learning rate of {when} is {rates[-1]:g}; it must not be below 0")
            if (step + stride) % steps_per_epoch == 0:
                schedule.after_epoch(1.0)
    return rates
