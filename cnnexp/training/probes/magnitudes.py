"""Histograms of magnitudes: the exact count of a tensor's numbers between each two powers of two.

The bins are the exponents of float32, so they are the same for every layer, step and device, and can be stacked.
"""

from typing import Any

import torch
from torch import Tensor

BIAS = 127  # of the exponent in an IEEE 754 single
OTHER = 255  # the exponent of infinities and NaN


def counts(x: Tensor) -> Tensor:
    """Return (256,) int64 on the tensor's device: how many of its numbers have each exponent."""
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)  # the order in memory, so that nothing is copied
    exponents = (x.detach().float().reshape(-1).view(torch.int32) >> 23).to(torch.uint8)  # drops the sign
    return torch.bincount(exponents, minlength=256)


def histogram(counts: Tensor) -> dict[str, Any]:
    """Return {numbers, zeros, not_finite, first, counts} from the result of `counts`, to be recorded.

    counts[i] is how many numbers have 2**(first + i) <= |x| < 2**(first + i + 1). Numbers below 2**-126 count as zero.
    """
    all_counts: list[int] = counts.tolist()
    found = [exponent for exponent in range(1, OTHER) if all_counts[exponent]]
    low, high = (found[0], found[-1]) if found else (BIAS, BIAS - 1)
    return {
        "numbers": sum(all_counts),
        "zeros": all_counts[0],
        "not_finite": all_counts[OTHER],
        "first": low - BIAS,
        "counts": all_counts[low : high + 1],
    }
