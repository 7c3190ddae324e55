"""The operations as functions whose gradients are computed by the formulas of this package, not by torch's autograd.

convolution.py, dense.py, normalization.py, pooling.py and activations.py hold the formulas. Shapes are theirs.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from cnnexp.reference import dense, normalization
from cnnexp.reference.activations import ACTIVATIONS
from cnnexp.reference.convolution import CONVOLUTIONS, bias_gradient
from cnnexp.reference.pooling import MAX_POOLS
from cnnexp.reference.windows import Geometry, Pair

Saved = tuple[Tensor, ...]
Gradients = tuple[Tensor | None, ...]


class _Formula(Function):
    @staticmethod
    def forward(ctx: Any, forward: Callable[..., Any], backward: Callable[..., Any], *inputs: Tensor | None) -> Tensor:
        y: Tensor
        y, saved = forward(*inputs)
        ctx.save_for_backward(*saved)
        ctx.formula = backward
        return y

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Gradients:
        gradients, needed = ctx.formula(upstream, *ctx.saved_tensors), ctx.needs_input_grad[2:]
        return None, None, *(g if wanted else None for g, wanted in zip(gradients, needed, strict=True))


def by_formula(
    forward: Callable[..., tuple[Tensor, Saved]], backward: Callable[..., Gradients], *inputs: Tensor | None
) -> Tensor:
    """Compute forward(*inputs), which returns y and the tensors to save, in the precision of the inputs.

    backward(dL/dy, *saved) returns the gradient of each input, None for one that needs none.
    """
    device = next(tensor.device.type for tensor in inputs if tensor is not None)
    with torch.autocast(device, enabled=False):
        y: Tensor = _Formula.apply(forward, backward, *inputs)
    return y


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, impl: str = "im2col") -> Tensor:
    """Convolve x (N, C, H, W). impl: "loops" or "im2col". Raises ValueError if the window does not fit."""
    way, size, kernel = CONVOLUTIONS[impl], (x.shape[2], x.shape[3]), (weight.shape[2], weight.shape[3])
    learns_below = x.requires_grad  # the gradient of the network's input images is not needed

    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Saved]:
        return way.forward(x, weight, bias, geometry), (x, weight)

    def backward(upstream: Tensor, x: Tensor, weight: Tensor) -> Gradients:
        return (
            way.input_gradient(upstream, weight, size, geometry) if learns_below else None,
            way.weight_gradient(upstream, x, kernel, geometry),
            bias_gradient(upstream),
        )

    return by_formula(forward, backward, x, weight, bias)


def filter_channels(x: Tensor, kernel: Tensor, padding: int = 0, impl: str = "im2col") -> Tensor:
    """Cross-correlate each channel of x (N, C, H, W) with the same kernel (kh, kw), which is cast to x's dtype.

    padding: zeros on each side. It is a convolution with C groups of equal weights.
    """
    weight = kernel.to(x.dtype).expand(x.shape[1], 1, *kernel.shape)
    return conv2d(x, weight, None, Geometry(padding=(padding, padding), groups=x.shape[1]), impl)


def max_pool2d(x: Tensor, kernel: Pair, stride: Pair, impl: str = "im2col") -> Tensor:
    """Max-pool x (N, C, H, W). impl: "loops" or "im2col". Raises ValueError if the window does not fit."""
    way = MAX_POOLS[impl]
    return by_formula(
        lambda x: (way.forward(x, kernel, stride), (x,)),
        lambda upstream, x: (way.backward(upstream, x, kernel, stride),),
        x,
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x w^T + b."""
    return by_formula(lambda x, w, b: (dense.affine(x, w, b), (x, w)), dense.affine_backward, x, weight, bias)


def batch_norm(x: Tensor, scale: Tensor, shift: Tensor, eps: float, graph: bool = False) -> Tensor:
    """Normalise x (N, D) by its batch statistics. graph: one operation after another instead of simplified."""
    if graph:
        forward, backward = normalization.batch_norm_graph, normalization.batch_norm_graph_backward
        return by_formula(partial(forward, eps=eps), backward, x, scale, shift)
    return by_formula(partial(normalization.batch_norm, eps=eps), normalization.batch_norm_backward, x, scale, shift)


def layer_norm(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """Normalise each example of x (N, D)."""
    return by_formula(partial(normalization.layer_norm, eps=eps), normalization.layer_norm_backward, x, scale, shift)


def activation(z: Tensor, name: str, **settings: float) -> Tensor:
    """Return f(z) for an activation f of ACTIVATIONS."""
    f = ACTIVATIONS[name]
    return by_formula(
        lambda z: (f.value(z, **settings), (z,)), lambda upstream, z: (upstream * f.slope(z, **settings),), z
    )


def dropout(x: Tensor, mask: Tensor, keep: float, vanilla: bool = False) -> Tensor:
    """Return x with the units outside `mask` set to 0; divided by `keep` unless vanilla. The gradient is the same."""

    def drop(values: Tensor) -> Tensor:
        return dense.dropout_vanilla(values, mask) if vanilla else dense.dropout_inverted(values, mask, keep)

    return by_formula(lambda x: (drop(x), ()), lambda upstream: (drop(upstream),), x)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross entropy of logits (N, K) and labels (N,), a scalar."""
    return by_formula(
        lambda z: (dense.cross_entropy(z, labels), (z,)),
        lambda upstream, z: (dense.cross_entropy_backward(upstream, z, labels),),
        logits,
    )
