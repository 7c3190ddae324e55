"""Counts of a data set: images per class and split, and the training split's pixel values per channel."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cnnexp.data.images import ImageData, Integers, Split
from cnnexp.text import plural

BLOCK = 256  # images counted at a time


def class_counts(data: ImageData) -> dict[str, Integers]:
    """Return {split: (K,) numbers of images} of the splits that have any."""
    splits = {name: split for name, split in data.splits().items() if len(split)}
    return {name: np.bincount(split.labels, minlength=len(data.classes)) for name, split in splits.items()}


def pixel_counts(split: Split) -> Integers:
    """Return (C, 256): how often each channel of a split's images has each value.

    Pillow counts, which is many times faster than numpy's bincount.
    """
    channels, width = split.images.shape[-1], split.images.shape[2]
    counts: Integers = np.zeros(channels * 256, np.int64)
    for start in range(0, len(split), BLOCK):
        block = split.images[split.indices[start : start + BLOCK]]
        shape = (-1, width, channels) if channels == 3 else (-1, width)
        counts += np.array(Image.fromarray(block.reshape(shape)).histogram())
    return counts.reshape(channels, 256)


@dataclass(frozen=True)
class Channel:
    """One channel of the training images: statistics of its values (0 to 255), and the range after normalising."""

    name: str
    mean: float
    std: float
    low: int
    high: int
    normalised_low: float
    normalised_high: float


def channels(counts: Integers, mean: list[float], std: list[float]) -> list[Channel]:
    """Return the statistics of every channel. counts: of `pixel_counts`; mean, std: of the normalisation."""
    names = ("red", "green", "blue") if len(counts) == 3 else ("gray",)
    found = []
    for name, count, m, s in zip(names, counts, mean, std, strict=True):
        values = [int(value) for value in np.flatnonzero(count)]
        total = int(count.sum())
        first = sum(value * int(count[value]) for value in values)
        second = sum(value * value * int(count[value]) for value in values)
        deviation = math.sqrt(total * second - first * first) / total
        ends = [(value / 255 - m) / s for value in (values[0], values[-1])]
        found.append(Channel(name, first / total, deviation, values[0], values[-1], *ends))
    return found


def balance(counts: Integers, classes: list[str]) -> str:
    """Describe how much larger the largest class of a split is than its smallest."""
    low, high = int(counts.argmin()), int(counts.argmax())
    if counts[low] == counts[high]:
        return f"every class has {plural(int(counts[low]), 'image')} (largest / smallest: 1)"
    largest = f"the largest class, {classes[high]}, has {counts[high]:,}"
    if not counts[low]:
        empty = int((counts == 0).sum())
        others = "has" if empty == 1 else f"and {plural(empty - 1, 'other class')} have"
        return f"{largest}; {classes[low]} {others} none"
    ratio, least = counts[high] / counts[low], plural(int(counts[low]), "image")
    return f"{largest}, the smallest, {classes[low]}, {least} (largest / smallest: {ratio:.2f})"


def imbalance(counts: Integers) -> float | None:
    """Return the largest class's number of images over the smallest's; None if a class has none."""
    return float(counts.max() / counts.min()) if counts.min() else None
