"""Histograms on a logarithmic scale: how many numbers lie between each two powers of two, for any tensor, exactly.

The bins are those of a float's own exponent, so they are the same for every layer, step and device, and can be stacked.
"""

from typing import Any

import torch
from torch import Tensor

BIAS = 127  # of the exponent in an IEEE 754 single
OTHER = 255  # the exponent of what is not finite


def counts(x: Tensor) -> Tensor:
    """Return (256,) int64: how many numbers of a tensor have which exponent, on its device."""
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)  # as it lies in memory, so that nothing is copied
    exponents = (x.detach().float().reshape(-1).view(torch.int32) >> 23).to(torch.uint8)  # drops the sign
    return torch.bincount(exponents, minlength=256)


def histogram(counts: Tensor) -> dict[str, Any]:
    """Return {numbers, zeros, not_finite, first, counts} of what `counts` gave, as it is recorded.

    counts[i] is how many numbers have 2**(first + i) <= |x| < 2**(first + i + 1). What is smaller than 2**-126 counts
    as zero.
    """
    told: list[int] = counts.tolist()
    found = [exponent for exponent in range(1, OTHER) if told[exponent]]
    low, high = (found[0], found[-1]) if found else (BIAS, BIAS - 1)
    return {
        "numbers": sum(told),
        "zeros": told[0],
        "not_finite": told[OTHER],
        "first": low - BIAS,
        "counts": told[low : high + 1],
    }
