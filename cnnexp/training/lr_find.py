"""A learning-rate range test (Smith 2017, arXiv 1506.01186): train while the rate grows, and watch the loss."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import savgol_filter

from cnnexp.errors import UserError
from cnnexp.optim.schedules import Schedule
from cnnexp.training import device as devices
from cnnexp.training.build import build_data
from cnnexp.training.check_data import check_data
from cnnexp.training.cpu import check_openmp
from cnnexp.training.loop import train_step
from cnnexp.training.setup import batches_of, choose_precisions, new_state, settings_of

Floats = NDArray[np.float64]
ENOUGH = 2.0  # a loss so many times that at the start ends the test: the rate is too high
SMOOTHED = 0.75  # decades of learning rate that the loss is smoothed over
CONSTANT = {"_target_": "cnnexp.optim.schedules.constant", "warmup": 0}
LEAST_FALL = 0.02  # of the loss, as a share, to speak of falling


@dataclass(frozen=True)
class RangeTest:
    """rates: (N,) learning rates, growing. losses: (R, N), of R seeds; nan after the end. smooth: (N,) their mean.

    suggested: where the smoothed loss falls fastest; None if it falls nowhere. lowest: where it is lowest.
    """

    rates: Floats
    losses: Floats
    smooth: Floats
    suggested: float | None
    lowest: float


def range_test(
    config: dict[str, Any], low: float, high: float, steps: int, seeds: int, say: Callable[[str], None]
) -> RangeTest:
    """Train for `steps` steps from the first weights, once for each seed, with rates from low to high.

    config: resolved and checked. Raises UserError if the optimiser has no learning rate, or the data is too small.
    """
    base = config["optimizer"].get("lr")
    if not isinstance(base, (int, float)) or not base > 0:
        raise UserError("optimizer.lr: is missing, or 0: give the optimizer a learning rate, such as optimizer.lr=0.01")
    device = devices.resolve(config["device"])
    check_openmp(device.threads)
    devices.set_up(device)
    data = build_data(config)
    check_data(config, data)
    rates = np.geomspace(low, high, steps)
    losses = np.full((seeds, steps), np.nan)
    for index in range(seeds):
        own = {**config, "seed": config["seed"] + index, "scheduler": CONSTANT}  # torch's set rates when they are made
        batches = batches_of(own, data, device)
        settings = settings_of(own, batches, device)
        state = new_state(own, data, settings)
        choose_precisions(state, own, data, device)
        state.schedule = Schedule(state.optimizer, lambda step: float(rates[step]) / base)
        for step in range(steps):
            state.step = step
            state.freeze_until()
            train_step(state, batches.at(step), settings)
            loss = float(state.shown_losses[step % settings.steps_per_epoch])
            if not math.isfinite(loss) or (step > 0 and loss > ENOUGH * np.nanmean(losses[index, :5])):
                break
            losses[index, step] = loss
        say(f"seed {own['seed']}: {int(np.isfinite(losses[index]).sum())} steps, to a rate of {rates[step]:.3g}")
    return suggest(rates, losses)


def suggest(rates: Floats, losses: Floats) -> RangeTest:
    """Smooth the mean loss over the rates that all seeds have passed, and find where it falls fastest."""
    finite = np.isfinite(losses).all(axis=0)
    passed = losses.shape[1] if finite.all() else int(finite.argmin())
    mean = losses[:, :passed].mean(axis=0)
    per_decade = (len(rates) - 1) / math.log10(rates[-1] / rates[0])
    window = max(int(SMOOTHED * per_decade) // 2 * 2 + 1, 5)
    smooth = np.full(len(rates), np.nan)
    if passed <= window:
        return RangeTest(rates, losses, smooth, None, math.nan)
    smooth[:passed] = savgol_filter(mean, window, 1)
    lowest = int(np.nanargmin(smooth))
    slope = savgol_filter(mean, window, 1, deriv=1)[: lowest + 1]
    falls = 1 - smooth[lowest] / smooth[0] > LEAST_FALL
    return RangeTest(rates, losses, smooth, float(rates[int(slope.argmin())]) if falls else None, float(rates[lowest]))
