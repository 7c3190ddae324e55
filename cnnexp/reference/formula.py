"""A step of torch's autograd whose output and gradients are both given by formulas."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

Kept = tuple[Tensor, tuple[Tensor, ...]]  # an output, and what its gradients need
Gradients = tuple[Tensor | None, ...]
Forward = Callable[..., Kept]
Backward = Callable[..., Gradients]


class _Formula(Function):
    @staticmethod
    def forward(ctx: Any, forward: Forward, backward: Backward, *inputs: Tensor | None) -> Tensor:
        y, kept = forward(*inputs)
        ctx.save_for_backward(*kept)
        ctx.formula = backward
        return y

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients, needed = ctx.formula(upstream, *ctx.saved_tensors), ctx.needs_input_grad[2:]
        return None, None, *(g if wanted else None for g, wanted in zip(gradients, needed, strict=True))


def by_formula(forward: Forward, backward: Backward, *inputs: Tensor | None) -> Tensor:
    """Compute a layer in the inputs' precision, with the gradients of its own formula.

    forward(*inputs) gives y and what the gradients need; backward(u, *what they need) gives those of all inputs.
    """
    device = next(tensor.device.type for tensor in inputs if tensor is not None)
    with torch.autocast(device, enabled=False):
        y: Tensor = _Formula.apply(forward, backward, *inputs)
    return y
