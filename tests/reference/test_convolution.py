"""Convolution by its formula: torch's numbers and gradients, finite differences, and sums computed by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.autograd import gradcheck

from cnnexp.models.convnet import convnet
from cnnexp.reference.catalogue import torch_conv2d
from cnnexp.reference.comparison import draw, largest_difference, passes
from cnnexp.reference.convolution import CONVOLUTIONS
from cnnexp.reference.functional import by_formula, conv2d, filter_channels
from cnnexp.reference.windows import Geometry, from_columns, pad, size_out, to_columns

ROUNDING = 1e-12
WAYS = list(CONVOLUTIONS)


def shapes_of(
    x: tuple[int, ...], filters: int, kernel: tuple[int, int], geometry: Geometry, bias: bool
) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of x, w, b if there is one, and y."""
    output = geometry.output((x[2], x[3]), kernel)
    weight = (filters, x[1] // geometry.groups, *kernel)
    return (x, weight, *([(filters,)] if bias else []), (x[0], filters, *output))


def ours(way: str, geometry: Geometry) -> Callable[..., Tensor]:
    """Return the convolution of (x, w) or (x, w, b)."""
    return lambda x, weight, bias=None: conv2d(x, weight, bias, geometry, way)


def same(way: str, shapes: tuple[tuple[int, ...], ...], geometry: Geometry, dtype: torch.dtype = torch.float64) -> None:
    """Compare shape, dtype, output and all gradients of a convolution with torch's."""
    given = draw(shapes, dtype)
    found = passes(ours(way, geometry), *given)
    difference = largest_difference(found, passes(torch_conv2d(geometry), *given))
    assert difference < (ROUNDING if dtype == torch.float64 else 1e-5)
    assert all(tensor.abs().sum() > 0 for tensor in found)


# The twelve cases of the assignment that reports A and B answer; its filter is the twelfth, below.
TWELVE: dict[str, tuple[tuple[int, ...], int, tuple[int, int], Geometry, bool]] = {
    "square kernel": ((2, 3, 8, 8), 3, (3, 3), Geometry(), False),
    "horizontal kernel": ((2, 3, 8, 8), 3, (1, 5), Geometry(), False),
    "vertical kernel": ((2, 3, 8, 8), 3, (5, 1), Geometry(), False),
    "more filters than channels": ((2, 3, 8, 8), 7, (3, 3), Geometry(), False),
    "fewer filters than channels": ((2, 5, 8, 8), 2, (3, 3), Geometry(), False),
    "as many filters as channels": ((2, 4, 8, 8), 4, (3, 3), Geometry(), False),
    "stride": ((2, 3, 9, 9), 4, (3, 3), Geometry(stride=(2, 2)), False),
    "dilation": ((2, 3, 9, 9), 4, (3, 3), Geometry(dilation=(2, 2)), False),
    "grouping": ((2, 6, 8, 8), 4, (3, 3), Geometry(groups=2), False),
    "with bias": ((2, 3, 8, 8), 4, (3, 3), Geometry(), True),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", TWELVE)
def test_ten_of_the_twelve_cases(case: str, way: str) -> None:
    x, filters, kernel, geometry, bias = TWELVE[case]
    same(way, shapes_of(x, filters, kernel, geometry, bias), geometry)


@pytest.mark.parametrize("way", WAYS)
def test_a_bias_of_zero_is_torchs(way: str) -> None:
    (x, weight), upstream = draw([(2, 3, 8, 8), (4, 3, 3, 3), (2, 4, 6, 6)])
    inputs = [x, weight, torch.zeros(4, dtype=x.dtype)]
    found = passes(ours(way, Geometry()), inputs, upstream)
    assert largest_difference(found, passes(torch_conv2d(Geometry()), inputs, upstream)) < ROUNDING
    assert len(found) == 4 and found[3].abs().min() > 0, "a bias of zero has a gradient"


# The filters of report B's exercise, with kernels of the textbooks (Gonzalez & Woods 2018, ch. 3), not flipped.
FILTERS: dict[str, list[list[float]]] = {
    "identity": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    "box": [[1 / 9] * 3] * 3,
    "gaussian": [[1 / 16, 2 / 16, 1 / 16], [2 / 16, 4 / 16, 2 / 16], [1 / 16, 2 / 16, 1 / 16]],
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "laplace": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    "sobel_x": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "sobel_y": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("name", [*FILTERS, "blur"])
def test_a_filter_is_applied_to_each_channel(name: str, padding: int, way: str) -> None:
    kernel = torch.tensor([[1 / 12] * 3] * 4 if name == "blur" else FILTERS[name], dtype=torch.float64)
    (x,), _ = draw([(2, 3, 9, 7), ()])
    y = filter_channels(x, kernel, padding, way)
    assert y.shape == (2, 3, 9 + 2 * padding - kernel.shape[0] + 1, 7 + 2 * padding - kernel.shape[1] + 1)
    for n in range(2):
        for c in range(3):
            alone = filter_channels(x[n : n + 1, c : c + 1], kernel, padding, way)[0, 0]
            padded = np.pad(x[n, c].numpy(), padding)
            windows = np.lib.stride_tricks.sliding_window_view(padded, tuple(kernel.shape))
            expected = torch.from_numpy((windows * kernel.numpy()).sum((2, 3)))
            assert largest_difference([alone, y[n, c]], [expected, expected]) < ROUNDING
    assert filter_channels(x.float(), kernel, padding).dtype == torch.float32


def test_a_blur_takes_means_and_an_edge_filter_finds_edges() -> None:
    x = torch.zeros(1, 1, 5, 6, dtype=torch.float64)
    x[..., 3:] = 1.0  # dark on the left, light on the right
    edges = {name: filter_channels(x, torch.tensor(FILTERS[name], dtype=x.dtype))[0, 0] for name in FILTERS}
    assert edges["sobel_x"].tolist() == [[0, 4, 4, 0]] * 3 and edges["sobel_y"].abs().max() == 0
    torch.testing.assert_close(edges["box"][0], torch.tensor([0, 1 / 3, 2 / 3, 1], dtype=x.dtype))
    assert torch.equal(edges["identity"], x[0, 0, 1:-1, 1:-1])
    for name in ("box", "gaussian", "sharpen", "identity"):
        assert np.sum(FILTERS[name]) == pytest.approx(1), "such a filter keeps the brightness"


GRID = [
    Geometry((sy, sx), (py, px), (dy, dx), groups)
    for (sy, sx), (py, px), (dy, dx) in [
        ((1, 1), (0, 0), (1, 1)),
        ((1, 1), (1, 1), (1, 1)),
        ((2, 2), (1, 1), (1, 1)),
        ((2, 3), (0, 2), (1, 1)),
        ((1, 1), (2, 2), (2, 2)),
        ((3, 2), (2, 1), (1, 2)),
        ((4, 4), (3, 0), (2, 1)),
    ]
    for groups in (1, 2, 4)
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("geometry", GRID, ids=str)
def test_stride_padding_dilation_groups_and_odd_shapes_are_torchs(geometry: Geometry, way: str) -> None:
    for size, kernel, bias in (((7, 10), (3, 2), True), ((5, 11), (1, 3), False)):
        same(way, shapes_of((2, 4, *size), 4, kernel, geometry, bias), geometry)


@pytest.mark.parametrize("way", WAYS)
def test_float32_stays_float32(way: str) -> None:
    geometry = Geometry(padding=(1, 1))
    same(way, shapes_of((2, 3, 6, 5), 4, (3, 3), geometry, True), geometry, torch.float32)


@pytest.mark.integration
@pytest.mark.parametrize("geometry", [GRID[0], GRID[10], GRID[17]], ids=str)
def test_gradients_are_the_finite_differences(geometry: Geometry) -> None:
    inputs = [tensor.requires_grad_() for tensor in draw(shapes_of((1, 4, 5, 4), 4, (2, 3), geometry, True))[0]]
    for way in WAYS:
        assert gradcheck(ours(way, geometry), inputs, atol=1e-8, rtol=0)


def test_patches_and_back_are_transposes() -> None:
    geometry = Geometry((2, 1), (1, 2), (1, 2))
    (x, columns), _ = draw([(2, 3, 7, 6), (3, 3, 2, 2, 4, 8), ()])
    laid_out = to_columns(x, (3, 2), geometry)
    assert laid_out.shape == columns.shape
    back = from_columns(columns, (7, 6), geometry)
    assert float((laid_out * columns).sum()) == pytest.approx(float((x * back).sum()), rel=1e-12)
    assert torch.equal(pad(x, (0, 0)), x) and pad(x, (1, 2)).shape == (2, 3, 9, 10)


def test_a_wrong_gradient_is_detected() -> None:
    (x,), upstream = draw([(2, 3), (2, 3)])

    def cubed(x: Tensor, wrong: float = 1.0) -> Tensor:
        return by_formula(lambda x: (x**3, (x,)), lambda u, x: (wrong * 3 * u * x**2,), x)

    right = passes(cubed, [x], upstream)
    assert largest_difference(right, passes(lambda x: x**3, [x], upstream)) < ROUNDING
    assert largest_difference(passes(lambda x: cubed(x, 1.001), [x], upstream), right) > 1e-4
    assert not gradcheck(lambda x: cubed(x, 1.001), x.requires_grad_(), atol=1e-7, rtol=0, raise_exception=False)
    assert np.isnan(largest_difference([right[1] * np.nan], right[1:]))
    for other in ([], [right[1].float()], [right[1].T]):
        with pytest.raises(AssertionError):
            largest_difference(other, right[1:])


# Report D's convolution, worked by hand.
IMAGE = [[2, 1, 2, 3, 1], [3, 9, 1, 1, 4], [4, 5, 0, 7, 0]]
KERNEL = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
PRINTED = [[-11, 2, 4, -1, 7], [-24, 8, 12, -5, 12], [-19, 10, 4, -3, 15]]


def convolve(image: Tensor, kernel: Tensor) -> Tensor:
    """Convolve truly, with zeros outside: S[i, j] = sum over m, n of I[i - m, j - n] K[m, n], K's middle at (0, 0).

    That flips the kernel in both directions (Goodfellow, Bengio & Courville 2016, eq. 9.5). image: (H, W). kernel: of
    odd sides. Returns (H, W).
    """
    height, width = kernel.shape
    geometry = Geometry(padding=(height // 2, width // 2))
    return conv2d(image[None, None], kernel.flip(0, 1)[None, None], None, geometry, "loops")[0, 0]


def test_the_convolution_worked_by_hand() -> None:
    image, kernel = (torch.tensor(rows, dtype=torch.float64) for rows in (IMAGE, KERNEL))
    assert convolve(image, kernel).tolist() == PRINTED
    assert ndimage.convolve(np.array(IMAGE), np.array(KERNEL), mode="constant").tolist() == PRINTED
    flipped = filter_channels(image[None, None], kernel, padding=1)[0, 0]
    assert (-flipped).tolist() == PRINTED, "this kernel's flip is its negative"


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 3), (1, 7)])
def test_true_convolution_is_scipys(kernel: tuple[int, int]) -> None:
    (image, weights), _ = draw([(6, 7), kernel, ()])
    expected = torch.from_numpy(ndimage.convolve(image.numpy(), weights.numpy(), mode="constant"))
    assert largest_difference([convolve(image, weights)], [expected]) < ROUNDING


def test_the_printed_shape_arithmetic() -> None:
    assert [p for p in range(7) if size_out(64, 7, padding=p) == 64] == [3]
    assert [k for k in range(1, 513) if size_out(512, k) == 508] == [5]
    assert size_out(508, 2, stride=2) == 254
    assert size_out(254, 3) == 252


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
def test_sizes_are_counted(stride: int, padding: int, dilation: int) -> None:
    for size in range(5, 12):
        for kernel in (1, 2, 3):
            span = dilation * (kernel - 1) + 1
            places = [at for at in range(0, size + 2 * padding, stride) if at + span <= size + 2 * padding]
            assert size_out(size, kernel, stride, padding, dilation) == len(places)


@pytest.mark.parametrize("way", WAYS)
def test_a_window_that_does_not_fit_is_an_error(way: str) -> None:
    geometry = Geometry(padding=(1, 1), dilation=(2, 2))
    with pytest.raises(ValueError, match="a window of 7 does not fit into 4 with padding 1"):
        CONVOLUTIONS[way].forward(torch.ones(1, 1, 4, 9), torch.ones(1, 1, 4, 4), None, geometry)


def test_the_printed_parameter_table() -> None:
    blocks: list[Any] = []
    for out in (32, 64, 128):
        blocks += [{"conv": {"out": out, "kernel": 5, "padding": 2}}, {"pool": {"kernel": 2}}]
    blocks.append({"fc": {"out": 64}})
    dropout, head = {"pool": 0.0, "fc": 0.0}, {"norm": "none"}
    network = convnet((3, 32, 32), 10, blocks, "none", dropout, "relu", "default", head, impl="im2col")
    counts = [sum(p.numel() for p in m.parameters()) for m in network]
    assert [n for n in counts if n] == [2_432, 51_264, 204_928, 131_136, 650] and sum(counts) == 390_410
    assert network.pool3(torch.zeros(1, 128, 8, 8)).shape == (1, 128, 4, 4)
