"""A person's own data set and augmentation, as a config would name them by `_target_`."""

import math
import random

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


def warm_cosine(
    optimizer: torch.optim.Optimizer, total_steps: int, warmup: int = 2
) -> torch.optim.lr_scheduler.LRScheduler:
    """Rise over `warmup` steps, then fall to 0 at `total_steps`: both count steps of the optimiser."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total_steps - warmup)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


class Forgetful:
    """An augmentation that draws from the global generators, and gives what it is asked for."""

    def __init__(self, gives="batch"):
        self.gives = gives

    def __call__(self, x: Tensor, generator: Generator) -> object:
        """Return the batch with noise of three sources; or a tuple, half of it, in float64 or smaller."""
        x = x + 0.1 * torch.randn_like(x) + 0.1 * float(np.random.random()) + 0.1 * random.random()
        return {"batch": x, "tuple": (x, x), "half": x[::2], "float64": x.double(), "smaller": x[:, :, 1:-1]}[
            self.gives
        ]


class Untyped:
    """An augmentation whose setting has no annotation."""

    def __init__(self, strength=0.1):
        self.strength = strength

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return x as it is."""
        return x


class Noise:
    """Adds noise of a standard deviation of `strength` to pixels in [0, 1]."""

    def __init__(self, strength: float):
        self.strength = strength

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return x (N, C, H, W) with noise drawn from the generator."""
        return (x + self.strength * torch.randn(x.shape, generator=generator).to(x.device)).clamp(0, 1)


def no_optimizer(params: object, lr: float = 0.1) -> None:
    """Forget to return the optimiser."""
