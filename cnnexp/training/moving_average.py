"""An exponential moving average of the weights and buffers (`ema.decay`), which is evaluated in place of the model."""

from itertools import chain

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

WARM_UP = 10  # the decay of step t is at most (1 + t) / (WARM_UP + t), so that the first weights are soon forgotten


class MovingAverage(AveragedModel):
    """Torch's AveragedModel with a decay that rises to `decay` (Polyak & Juditsky 1992; the rise as in TensorFlow).

    The average is taken here: `update_parameters` copies a number to the device, so a GPU's host would wait each step.
    """

    def __init__(self, model: nn.Module, decay: float):
        super().__init__(model, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Average the model's weights and buffers after a step, counted from 1. Those that are no floats are copied."""
        first = not self.n_averaged  # on the CPU
        averages = chain(self.module.parameters(), self.module.buffers())
        pairs = [*zip(averages, chain(model.parameters(), model.buffers()), strict=True)]
        floats = [(average, value) for average, value in pairs if average.is_floating_point() and not first]
        if floats:
            rate = 1 - min(self.decay, (1 + step) / (WARM_UP + step))
            torch._foreach_lerp_([average for average, _ in floats], [value for _, value in floats], rate)
        for average, value in pairs:
            if first or not average.is_floating_point():  # counts of batches
                average.copy_(value)
        self.n_averaged += 1
