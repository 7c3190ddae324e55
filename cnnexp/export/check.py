"""An exported file compared with torch: the same images, in batches of several sizes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnexp.data.images import Pixels, Split
from cnnexp.export.formats import FORMATS, Compute
from cnnexp.text import plural
from cnnexp.training.inference import TrainedModel, Transform
from cnnexp.version import version_of

MAX_IMAGES = 512
BATCHES = (1, 7, 64)  # the last one repeats
TOLERANCE = {"fp32": 1e-3}  # of the largest logit. Measured: 1e-6 for three layers, 2e-5 for ResNet-18
LOW_PRECISION = 0.05  # where the run's own precision is lower than the file's


@dataclass(frozen=True)
class Check:
    """What a comparison found. images: "50 test images". same: how many get the same class. bound: of `largest`."""

    reader: str
    images: str
    count: int
    same: int
    largest: float
    bound: float

    @property
    def passed(self) -> bool:
        """Tell whether the file computes what the run's network does."""
        return self.largest <= self.bound

    def __str__(self) -> str:
        sizes = ", ".join(map(str, BATCHES[:-1])) + f" and {BATCHES[-1]}"
        return (
            f"{self.reader}, {self.images} in batches of {sizes}: the class of {self.same} of {self.count} as with "
            f"torch, largest difference of a logit {self.largest:.1e} (allowed {self.bound:.1e})"
        )


def some_of(split: Split) -> Pixels:
    """Return at most MAX_IMAGES of a split, evenly over its order: (N, H, W, C) uint8."""
    step = max(1, -(-len(split) // MAX_IMAGES))
    return np.ascontiguousarray(split.images[split.indices[::step]])


def random_pixels(transform: Transform) -> Pixels:
    """Return noise in place of images."""
    channels, height, width = transform.image
    return np.random.default_rng(0).integers(0, 256, (64, height, width, channels), np.uint8)


def check(name: str, content: bytes, model: TrainedModel, pixels: Pixels, what: str) -> Check | None:
    """Compare an exported file with the run's network; None if the library that reads it is not installed.

    model: on the CPU, in the run's precision; its network may be changed. what: the kind of images.
    """
    form = FORMATS[name]
    if (version := version_of(form.reader)) is None:
        return None
    expected = model.logits(pixels)
    found = in_batches(form.read(content, model), pixels)
    largest = float(np.abs(found - expected).max())
    bound = TOLERANCE.get(model.device.precision, LOW_PRECISION) * max(1.0, float(np.abs(expected).max()))
    same = int((found.argmax(1) == expected.argmax(1)).sum())
    reader = f"{form.reader} {version}"
    return Check(reader, plural(len(pixels), what), len(pixels), same, largest, bound)


def in_batches(compute: Compute, pixels: Pixels) -> NDArray[np.float32]:
    """Compute the logits of all images, in batches of the sizes of BATCHES."""
    parts, start = list[NDArray[np.float32]](), 0
    while start < len(pixels):
        size = BATCHES[min(len(parts), len(BATCHES) - 1)]
        parts.append(compute(pixels[start : start + size]))
        start += size
    return np.concatenate(parts)
