"""Convolution, forward and backward, in two implementations: four nested loops; im2col and one matrix product.

    y[n, f, i, j] = b[f] + sum over c, a, b of w[f, c, a, b] x[n, c, i s + a d - p, j s + b d - p]

x (N, C, H, W) with zeros outside, w (F, C / G, kh, kw), b (F,), y (N, F, Ho, Wo), stride s, dilation d, padding p. The
channels and the filters are in G groups, and a filter sees only the channels of its group. As usual in deep learning,
this is a cross-correlation: the kernel is not flipped (Goodfellow, Bengio & Courville 2016, eq. 9.6). The gradients
follow from u = dL/dy by the chain rule: in each product above, the gradient of one factor is u times the other.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from cnnexp.reference.windows import Geometry, Pair, crop, from_columns, pad, to_columns


class Convolution(NamedTuple):
    """One implementation: y of (x, w, b or None), dL/dx of (u, w, (H, W)), dL/dw of (u, x, (kh, kw)); geometry last."""

    forward: Callable[[Tensor, Tensor, Tensor | None, Geometry], Tensor]
    input_gradient: Callable[[Tensor, Tensor, Pair, Geometry], Tensor]
    weight_gradient: Callable[[Tensor, Tensor, Pair, Geometry], Tensor]


def forward_loops(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Return y by the formula above, one number after another. Raises ValueError if the window does not fit."""
    kernel = _kernel(weight)
    y = x.new_empty(len(x), len(weight), *geometry.output((x.shape[2], x.shape[3]), kernel))
    padded = pad(x, geometry.padding)
    for n, f, i, j in _numbers(y):
        patch = padded[n, _channels(f, weight, geometry)][:, *geometry.window((i, j), kernel)]
        y[n, f, i, j] = patch.reshape(1, -1) @ weight[f].reshape(-1, 1)  # the sum over c, a, b of their products
    return y if bias is None else y + bias[:, None, None]


def input_gradient_loops(upstream: Tensor, weight: Tensor, size: Pair, geometry: Geometry) -> Tensor:
    """Return dL/dx (N, C, H, W): for each number of y, every pixel of its patch gets u times its weight."""
    p, q = geometry.padding
    channels = weight.shape[1] * geometry.groups
    padded = upstream.new_zeros(len(upstream), channels, size[0] + 2 * p, size[1] + 2 * q)
    for n, f, i, j in _numbers(upstream):
        patch = padded[n, _channels(f, weight, geometry)][:, *geometry.window((i, j), _kernel(weight))]
        patch += upstream[n, f, i, j] * weight[f]
    return crop(padded, geometry.padding)


def weight_gradient_loops(upstream: Tensor, x: Tensor, kernel: Pair, geometry: Geometry) -> Tensor:
    """Return dL/dw (F, C / G, kh, kw): for each number of y, every weight gets u times its pixel of the patch."""
    gradient = x.new_zeros(upstream.shape[1], x.shape[1] // geometry.groups, *kernel)
    padded = pad(x, geometry.padding)
    for n, f, i, j in _numbers(upstream):
        patch = padded[n, _channels(f, gradient, geometry)][:, *geometry.window((i, j), kernel)]
        gradient[f] += upstream[n, f, i, j] * patch
    return gradient


def forward_im2col(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Return y = w X in each group: w (F / G, C kh kw / G) times the patches X (C kh kw / G, N Ho Wo).

    Raises ValueError if the window does not fit.
    """
    columns = to_columns(x, _kernel(weight), geometry)
    images, height, width = columns.shape[3:]
    y = torch.bmm(_by_group(weight, geometry), _patches(columns, geometry))
    y = y.reshape(len(weight), images, height, width).transpose(0, 1).contiguous()
    return y if bias is None else y + bias[:, None, None]


def input_gradient_im2col(upstream: Tensor, weight: Tensor, size: Pair, geometry: Geometry) -> Tensor:
    """Return dL/dx (N, C, H, W): the patches' gradients dL/dX = w^T u, added by `from_columns`."""
    channels, kernel = weight.shape[1] * geometry.groups, _kernel(weight)
    images, _, height, width = upstream.shape
    u = _by_group(upstream.transpose(0, 1), geometry)
    columns = torch.bmm(_by_group(weight, geometry).transpose(1, 2), u)
    return from_columns(columns.reshape(channels, *kernel, images, height, width), size, geometry)


def weight_gradient_im2col(upstream: Tensor, x: Tensor, kernel: Pair, geometry: Geometry) -> Tensor:
    """Return dL/dw = u X^T (F, C / G, kh, kw); the product sums over all patches of all images."""
    u = _by_group(upstream.transpose(0, 1), geometry)
    gradient = torch.bmm(u, _patches(to_columns(x, kernel, geometry), geometry).transpose(1, 2))
    return gradient.reshape(upstream.shape[1], x.shape[1] // geometry.groups, *kernel)


def bias_gradient(upstream: Tensor) -> Tensor:
    """Return dL/db (F,): b[f] is in every number of its channel, so u is summed over images and pixels."""
    return upstream.sum((0, 2, 3))


CONVOLUTIONS = {
    "loops": Convolution(forward_loops, input_gradient_loops, weight_gradient_loops),
    "im2col": Convolution(forward_im2col, input_gradient_im2col, weight_gradient_im2col),
}


def _numbers(y: Tensor) -> Iterator[tuple[int, ...]]:
    """Yield all indices of y: four nested loops over images, filters, rows and columns."""
    return itertools.product(*(range(length) for length in y.shape))


def _channels(f: int, weight: Tensor, geometry: Geometry) -> slice:
    """Return the channels of x in the group of filter f."""
    filters, channels = weight.shape[:2]
    group = f * geometry.groups // filters
    return slice(group * channels, (group + 1) * channels)


def _kernel(weight: Tensor) -> Pair:
    return weight.shape[2], weight.shape[3]


def _by_group(filters: Tensor, geometry: Geometry) -> Tensor:
    """Reshape (F, ...) to (G, F / G, the rest flattened)."""
    return filters.reshape(geometry.groups, len(filters) // geometry.groups, -1)


def _patches(columns: Tensor, geometry: Geometry) -> Tensor:
    """Reshape (C, kh, kw, N, Ho, Wo) to (G, C kh kw / G, N Ho Wo): each column is a patch of one group."""
    images, height, width = columns.shape[3:]
    return columns.reshape(geometry.groups, -1, images * height * width)
