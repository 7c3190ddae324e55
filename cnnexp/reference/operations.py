"""How each operation of this room, and torch's own, is computed forward and backward: see `Run` in comparison.py."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cnnexp.reference import dense, normalization
from cnnexp.reference.activations import ACTIVATIONS
from cnnexp.reference.comparison import Run, by_autograd
from cnnexp.reference.convolution import CONVOLUTIONS, bias_gradient
from cnnexp.reference.filters import filter_channels
from cnnexp.reference.pooling import MAX_POOLS
from cnnexp.reference.update_rules import Memory, Rule
from cnnexp.reference.windows import Geometry, Pair

EPS, KEEP, STEPS = 1e-5, 0.75, 3


def convolution(way: str, geometry: Geometry) -> Run:
    """Return the Run of (x, w) or (x, w, b) by "loops" or "im2col"."""
    forward, input_gradient, weight_gradient = CONVOLUTIONS[way]

    def run(inputs: Sequence[Tensor], upstream: Tensor) -> list[Tensor]:
        x, weight, *bias = inputs
        return [
            forward(x, weight, bias[0] if bias else None, geometry),
            input_gradient(upstream, weight, (x.shape[2], x.shape[3]), geometry),
            weight_gradient(upstream, x, (weight.shape[2], weight.shape[3]), geometry),
            *([bias_gradient(upstream)] if bias else []),
        ]

    return run


def torch_convolution(geometry: Geometry) -> Run:
    """Return torch's Run of the same."""
    g = geometry
    return by_autograd(lambda x, w, b=None: functional.conv2d(x, w, b, g.stride, g.padding, g.dilation, g.groups))


def max_pool(way: str, kernel: Pair, stride: Pair) -> Run:
    """Return the Run of (x,) by "loops" or "im2col"."""
    forward, backward = MAX_POOLS[way]
    return lambda inputs, upstream: [
        forward(inputs[0], kernel, stride),
        backward(upstream, inputs[0], kernel, stride),
    ]


def activation(name: str, **settings: float) -> Run:
    """Return the Run of (z,) by an activation's value and slope."""
    own = ACTIVATIONS[name]
    return lambda inputs, upstream: [
        own.value(inputs[0], **settings),
        own.backward(upstream, inputs[0], **settings),
    ]


def affine(inputs: Sequence[Tensor], upstream: Tensor) -> list[Tensor]:
    """Compute (x, w, b)."""
    x, weight, bias = inputs
    return [dense.affine(x, weight, bias), *dense.affine_backward(upstream, x, weight)]


def batch_norm_graph(inputs: Sequence[Tensor], upstream: Tensor) -> list[Tensor]:
    """Compute (x, scale, shift) the long way."""
    x, scale, shift = inputs
    y, steps = normalization.batch_norm_graph(x, scale, shift, EPS)
    return [y, *normalization.batch_norm_graph_backward(upstream, steps, scale)]


def batch_norm(inputs: Sequence[Tensor], upstream: Tensor) -> list[Tensor]:
    """Compute (x, scale, shift), simplified."""
    x, scale, shift = inputs
    y, normalised, inverse = normalization.batch_norm(x, scale, shift, EPS)
    return [y, *normalization.batch_norm_backward(upstream, normalised, inverse, scale)]


def spatial(rows: Run) -> Run:
    """Return the Run for images of one for rows: reshape, normalise, reshape back."""

    def run(inputs: Sequence[Tensor], upstream: Tensor) -> list[Tensor]:
        x, *affine = inputs
        y, d_x, *others = rows([normalization.to_rows(x), *affine], normalization.to_rows(upstream))
        return [normalization.from_rows(y, x.shape), normalization.from_rows(d_x, x.shape), *others]

    return run


def layer_norm(inputs: Sequence[Tensor], upstream: Tensor) -> list[Tensor]:
    """Compute (x, scale, shift)."""
    x, scale, shift = inputs
    y, normalised, inverse = normalization.layer_norm(x, scale, shift, EPS)
    return [y, *normalization.layer_norm_backward(upstream, normalised, inverse, scale)]


def blur(inputs: Sequence[Tensor], upstream: Tensor) -> list[Tensor]:
    """Filter each channel of (x, kernel); the output only."""
    x, kernel = inputs
    return [filter_channels(x, kernel)]


def torch_blur(inputs: Sequence[Tensor], upstream: Tensor) -> list[Tensor]:
    """Let torch do the same."""
    x, kernel = inputs
    channels = x.shape[1]
    return [functional.conv2d(x, kernel.expand(channels, 1, *kernel.shape), groups=channels)]


def torch_dropout(x: Tensor) -> Tensor:
    """Drop out as torch does, with the same units at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return functional.dropout(x, 1 - KEEP)


def dropout_inverted(inputs: Sequence[Tensor], upstream: Tensor) -> list[Tensor]:
    """Compute (x,) with the units that torch keeps."""
    mask = torch_dropout(torch.ones_like(upstream)) > 0
    return [dense.dropout_inverted(tensor, mask, KEEP) for tensor in (inputs[0], upstream)]


def dropout_vanilla(inputs: Sequence[Tensor], upstream: Tensor) -> list[Tensor]:
    """Compute (x,) with the units that torch keeps, and last what prediction makes of x."""
    mask = torch_dropout(torch.ones_like(upstream)) > 0
    trained = [dense.dropout_vanilla(tensor, mask) for tensor in (inputs[0], upstream)]
    return [*trained, dense.predict_vanilla(inputs[0], KEEP)]


def torch_dropout_vanilla(inputs: Sequence[Tensor], upstream: Tensor) -> list[Tensor]:
    """Let torch do the same: its dropout scales what it keeps by 1 / keep, here taken back; prediction is keep x."""
    return [*by_autograd(lambda x: KEEP * torch_dropout(x))(inputs, upstream), KEEP * inputs[0]]


def cross_entropy(inputs: Sequence[Tensor], upstream: Tensor) -> list[Tensor]:
    """Compute (logits,) with labels 0, 1, ... K-1, 0, 1, ..."""
    logits = inputs[0]
    return [
        dense.cross_entropy(logits, labels_of(logits)),
        dense.cross_entropy_backward(upstream, logits, labels_of(logits)),
    ]


def labels_of(logits: Tensor) -> Tensor:
    """Return the labels 0, 1, ... K-1, 0, 1, ... for logits (N, K)."""
    return torch.arange(len(logits)) % logits.shape[1]


def stepped(rule: Rule, **settings: Any) -> Run:
    """Return the Run of a few steps of a rule on (weights,), with the upstream for a gradient; new weights only."""

    def run(inputs: Sequence[Tensor], upstream: Tensor) -> list[Tensor]:
        weights, memory = inputs[0], Memory()
        for _ in range(STEPS):
            weights, memory = rule(weights, upstream, memory, **settings)
        return [weights]

    return run


def torch_stepped(optimizer: Callable[..., torch.optim.Optimizer], **settings: Any) -> Run:
    """Return the Run of the same steps by one of torch's optimisers."""

    def run(inputs: Sequence[Tensor], upstream: Tensor) -> list[Tensor]:
        weights = torch.nn.Parameter(inputs[0].clone())
        weights.grad = upstream
        own = optimizer([weights], **settings)
        with torch.no_grad():
            for _ in range(STEPS):
                inspect.unwrap(type(own).step)(own)  # the wrappers would import torch's compiler, 1.5 s
        return [weights.detach()]

    return run
