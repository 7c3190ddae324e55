"""Windows that move over an image: output sizes, padding, and patches as columns (im2col) and back.

Shape letters: N images, C channels, H x W pixels, kh x kw the window, Ho x Wo its positions.
"""

import itertools
from dataclasses import dataclass

from torch import Tensor

Pair = tuple[int, int]  # along the height and the width


def size_out(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """Return the number of positions of a window: floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1.

    All are pixels along one side (Dumoulin & Visin 2016, arXiv 1603.07285, relationship 15).
    Raises ValueError if the window is larger than the padded image.
    """
    free = size + 2 * padding - dilation * (kernel - 1) - 1
    if free < 0:
        raise ValueError(f"a window of {dilation * (kernel - 1) + 1} does not fit into {size} with padding {padding}")
    return free // stride + 1


@dataclass(frozen=True)
class Geometry:
    """How a window moves: stride, padding by zeros, dilation (pixels between its taps), and groups of channels."""

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def output(self, size: Pair, kernel: Pair) -> Pair:
        """Return (Ho, Wo) for an image of `size` (H, W). Raises ValueError if the window does not fit."""
        sides = zip(size, kernel, self.stride, self.padding, self.dilation, strict=True)
        height, width = (size_out(*side) for side in sides)
        return height, width

    def window(self, place: Pair, kernel: Pair) -> tuple[slice, slice]:
        """Return the rows and columns of the padded image that the window covers at one position (i, j)."""
        rows, columns = (
            slice(at * stride, at * stride + dilation * (taps - 1) + 1, dilation)
            for at, stride, dilation, taps in zip(place, self.stride, self.dilation, kernel, strict=True)
        )
        return rows, columns

    def tap(self, tap: Pair, output: Pair) -> tuple[slice, slice]:
        """Return the rows and columns of the padded image that one tap (a, b) of the window meets at all positions."""
        rows, columns = (
            slice(at * dilation, at * dilation + stride * (places - 1) + 1, stride)
            for at, stride, dilation, places in zip(tap, self.stride, self.dilation, output, strict=True)
        )
        return rows, columns


def pad(x: Tensor, padding: Pair) -> Tensor:
    """Pad images by zeros: (N, C, H, W) -> (N, C, H + 2 p, W + 2 q) for padding (p, q)."""
    images, channels, height, width = x.shape
    padded = x.new_zeros(images, channels, height + 2 * padding[0], width + 2 * padding[1])
    crop(padded, padding).copy_(x)
    return padded


def crop(padded: Tensor, padding: Pair) -> Tensor:
    """Remove the padding again; return a view."""
    height, width = padded.shape[2:]
    return padded[:, :, padding[0] : height - padding[0], padding[1] : width - padding[1]]


def to_columns(x: Tensor, kernel: Pair, geometry: Geometry) -> Tensor:
    """Lay out every patch: (N, C, H, W) -> (C, kh, kw, N, Ho, Wo), kh kw times the memory at stride 1.

    columns[c, a, b, n, i, j] = padded x[n, c, i stride + a dilation, j stride + b dilation]: im2col (Chellapilla, Puri
    & Simard 2006). With the first three and the last three axes flattened, each column is a patch.
    """
    output = geometry.output((x.shape[2], x.shape[3]), kernel)
    padded = pad(x, geometry.padding)
    columns = x.new_empty(x.shape[1], *kernel, x.shape[0], *output)
    for a, b in itertools.product(range(kernel[0]), range(kernel[1])):
        rows, across = geometry.tap((a, b), output)
        columns[:, a, b] = padded[:, :, rows, across].transpose(0, 1)
    return columns


def from_columns(columns: Tensor, size: Pair, geometry: Geometry) -> Tensor:
    """Add each patch to the pixels that it was copied from: (C, kh, kw, N, Ho, Wo) -> (N, C, H, W).

    This is the transpose of `to_columns`: with y = to_columns(x), dL/dx is from_columns(dL/dy).
    """
    channels, *kernel, images, height, width = columns.shape
    p, q = geometry.padding
    padded = columns.new_zeros(images, channels, size[0] + 2 * p, size[1] + 2 * q)
    for a, b in itertools.product(range(kernel[0]), range(kernel[1])):
        rows, across = geometry.tap((a, b), (height, width))
        padded[:, :, rows, across] += columns[:, a, b].transpose(0, 1)
    return crop(padded, (p, q))
