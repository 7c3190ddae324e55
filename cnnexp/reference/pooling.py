"""Max-pooling, forward and backward: the largest number of each window, and the gradient at its position.

    y[n, c, i, j] = max over a, b of x[n, c, i s + a, j s + b]        dL/dx: u goes to the largest, the others get 0

x (N, C, H, W), y (N, C, Ho, Wo), window kh x kw, stride s, no padding. Of equal numbers the first one, row by row, gets
the gradient, as in torch. (Zhou & Chellappa 1988; Boureau, Ponce & LeCun 2010 compare it with averaging.)
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from cnnexp.reference.windows import Geometry, Pair, from_columns, to_columns


class MaxPool(NamedTuple):
    """One implementation. forward(x, kernel, stride) returns y; backward(u, x, kernel, stride) returns dL/dx."""

    forward: Callable[[Tensor, Pair, Pair], Tensor]
    backward: Callable[[Tensor, Tensor, Pair, Pair], Tensor]


def forward_loops(x: Tensor, kernel: Pair, stride: Pair) -> Tensor:
    """Return y, one window after another. Raises ValueError if the window does not fit."""
    geometry = Geometry(stride=stride)
    y = x.new_empty(*x.shape[:2], *geometry.output((x.shape[2], x.shape[3]), kernel))
    for n, c, i, j in itertools.product(*map(range, y.shape)):
        y[n, c, i, j] = x[n, c][geometry.window((i, j), kernel)].max()
    return y


def backward_loops(upstream: Tensor, x: Tensor, kernel: Pair, stride: Pair) -> Tensor:
    """Return dL/dx, one window after another; a pixel that is the largest of several windows sums their gradients."""
    geometry, gradient = Geometry(stride=stride), torch.zeros_like(x)
    for n, c, i, j in itertools.product(*map(range, upstream.shape)):
        window = geometry.window((i, j), kernel)
        a, b = divmod(int(x[n, c][window].argmax()), kernel[1])
        gradient[n, c][window][a, b] += upstream[n, c, i, j]
    return gradient


def forward_columns(x: Tensor, kernel: Pair, stride: Pair) -> Tensor:
    """Return y: the largest of each patch. Raises ValueError if the window does not fit."""
    patches = to_columns(x, kernel, Geometry(stride=stride)).flatten(1, 2)  # (C, kh kw, N, Ho, Wo)
    return patches.amax(1).transpose(0, 1).contiguous()


def backward_columns(upstream: Tensor, x: Tensor, kernel: Pair, stride: Pair) -> Tensor:
    """Return dL/dx: patches of zeros, with u at the largest number, added to the pixels that they were copied from."""
    geometry = Geometry(stride=stride)
    columns = to_columns(x, kernel, geometry)
    largest = columns.flatten(1, 2).max(1, keepdim=True).indices
    gradient = torch.zeros_like(columns)
    gradient.flatten(1, 2).scatter_(1, largest, upstream.transpose(0, 1).unsqueeze(1))
    return from_columns(gradient, (x.shape[2], x.shape[3]), geometry)


MAX_POOLS = {"loops": MaxPool(forward_loops, backward_loops), "im2col": MaxPool(forward_columns, backward_columns)}
