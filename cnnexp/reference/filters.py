"""A filter applied to each channel on its own, and true convolution, for checks by hand."""

import torch
from torch import Tensor

from cnnexp.reference.convolution import CONVOLUTIONS
from cnnexp.reference.windows import Geometry, same_padding

# Kernels of the textbooks (Gonzalez & Woods 2018, ch. 3), not flipped.
FILTERS: dict[str, list[list[float]]] = {
    "identity": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    "box": [[1 / 9] * 3] * 3,
    "gaussian": [[1 / 16, 2 / 16, 1 / 16], [2 / 16, 4 / 16, 2 / 16], [1 / 16, 2 / 16, 1 / 16]],
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "laplace": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    "sobel_x": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "sobel_y": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
}


def box(height: int, width: int) -> Tensor:
    """Return the blur that takes the mean of height x width pixels, in float64."""
    return torch.full((height, width), 1 / (height * width), dtype=torch.float64)


def filter_channels(x: Tensor, kernel: Tensor, padding: int = 0, impl: str = "im2col") -> Tensor:
    """Apply one filter to each channel by itself: y[n, c] = x[n, c] cross-correlated with the kernel.

    x: (N, C, H, W). kernel: (kh, kw), taken to x's dtype. padding: zeros on every side; without any the output is
    (N, C, H - kh + 1, W - kw + 1). It is a convolution with as many groups as channels, all with the same weights.
    Raises ValueError if the kernel is larger than the padded image.
    """
    channels = x.shape[1]
    weight = kernel.to(x.dtype).expand(channels, 1, *kernel.shape)
    geometry = Geometry(padding=(padding, padding), groups=channels)
    return CONVOLUTIONS[impl].forward(x, weight, None, geometry)


def convolve(image: Tensor, kernel: Tensor) -> Tensor:
    """Convolve truly, with zeros outside: S[i, j] = sum over m, n of I[i - m, j - n] K[m, n], K's middle at (0, 0).

    That flips the kernel in both directions (Goodfellow, Bengio & Courville 2016, eq. 9.5). image: (H, W). kernel: of
    odd sides. Returns (H, W), as scipy.ndimage.convolve(mode="constant") does. Raises ValueError for even sides.
    """
    geometry = Geometry(padding=(same_padding(kernel.shape[0]), same_padding(kernel.shape[1])))
    y = CONVOLUTIONS["loops"].forward(image[None, None], kernel.flip(0, 1)[None, None], None, geometry)
    return y[0, 0]
