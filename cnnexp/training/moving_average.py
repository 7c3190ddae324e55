"""An exponential moving average of the weights and buffers (`ema.decay`), which is evaluated in place of the model."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

WARM_UP = 10  # the decay of step t is at most (1 + t) / (WARM_UP + t), so that the first weights are soon forgotten


class MovingAverage(AveragedModel):
    """Torch's AveragedModel with a decay that rises to `decay` (Polyak & Juditsky 1992; the rise as in TensorFlow)."""

    def __init__(self, model: nn.Module, decay: float):
        super().__init__(model, multi_avg_fn=self._average, use_buffers=True)
        self.decay, self.rate = decay, 0.0

    def update(self, model: nn.Module, step: int) -> None:
        """Average the model's weights after a step, counted from 1."""
        self.rate = 1 - min(self.decay, (1 + step) / (WARM_UP + step))
        self.update_parameters(model)

    def _average(self, averages: Sequence[Tensor], values: Sequence[Tensor], count: Tensor | int) -> None:
        floats = [(a, v) for a, v in zip(averages, values, strict=True) if a.is_floating_point()]
        if floats:  # torch calls this for each type of numbers
            torch._foreach_lerp_([a for a, _ in floats], [v.to(a.dtype) for a, v in floats], self.rate)
        for average, value in zip(averages, values, strict=True):
            if not average.is_floating_point():  # counts of batches
                average.copy_(value)
