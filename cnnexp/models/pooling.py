"""Max-pooling that does not keep its input: torch's keeps it for the backward pass, which only uses its shape.

In a network of convolution, batch norm and pooling, it is one of the two largest activations of each block.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Elements of the smallest input that is not kept. Measured: three poolings of smaller inputs add 0.3 ms to a step,
# because the function is in Python; from here on there is no difference in time.
MIN_ELEMENTS = 2**21


class MaxPool2d(nn.MaxPool2d):
    """torch's MaxPool2d, (N, C, H, W) -> (N, C, H', W'): the same bits, forward and backward, in less memory."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the largest of each window."""
        learns = torch.is_grad_enabled() and x.requires_grad
        plain = not learns or x.numel() < MIN_ELEMENTS or x.ndim != 4 or x.device.type not in ("cpu", "cuda")
        if plain or torch.compiler.is_compiling():  # the compiler plans its own memory
            return cast(Tensor, super().forward(x))
        window = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        return cast(Tensor, _MaxPool2d.apply(x, *window))


def as_torchs(network: nn.Module) -> None:
    """Make a network's max-pools torch's own, in place: the same bits, in a form that torch can trace and export.

    Tracing follows no choice by the size of a batch.
    """
    for module in network.modules():
        if type(module) is MaxPool2d:
            module.__class__ = nn.MaxPool2d  # type: ignore[assignment]


class _MaxPool2d(torch.autograd.Function):
    """The functions that torch calls for max_pool2d, but only the indices are kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *window: Any) -> Tensor:
        y, places = torch.ops.aten.max_pool2d_with_indices(x, *window)
        ctx.save_for_backward(places)
        last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        ctx.window, ctx.shape, ctx.layout = window, x.shape, torch.channels_last if last else torch.contiguous_format
        return cast(Tensor, y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (places,) = ctx.saved_tensors
        wanted = torch.empty(ctx.shape, dtype=gradient.dtype, device=gradient.device, memory_format=ctx.layout)
        backward = torch.ops.aten.max_pool2d_with_indices_backward.grad_input
        backward(gradient, wanted, *ctx.window, places, grad_input=wanted)  # `wanted` has the shape of the input
        return wanted, *(None for _ in ctx.window)
