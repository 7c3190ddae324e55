"""A person's own data set and augmentation, as a config would name them by `_target_`."""

import numpy as np
import torch
from torch import Generator, Tensor

from cnnexp.data.arrays import image_data
from cnnexp.data.images import ImageData


def stripes(count: int, size: int) -> ImageData:
    """Bright stripes, upright or level: two classes of `count` images each, and half as many to test."""
    generator = np.random.default_rng(0)

    def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
        images = generator.integers(0, 60, (2 * number, size, size, 3), dtype=np.uint8)
        labels = np.arange(2 * number) % 2
        for image, label, place in zip(images, labels, generator.integers(0, size, 2 * number), strict=True):
            image[(slice(None), place) if label else place] = 250
        return images, labels

    return image_data("stripes", ["level", "upright"], draw(count), draw(count // 2))


class Noise:
    """Adds noise of a standard deviation of `strength` to pixels in [0, 1]."""

    def __init__(self, strength: float):
        self.strength = strength

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return x (N, C, H, W) with noise drawn from the generator."""
        return (x + self.strength * torch.randn(x.shape, generator=generator).to(x.device)).clamp(0, 1)
