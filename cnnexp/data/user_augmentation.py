"""A user's own augmentation, named by `_target_`: its random draws are repeatable, its result is checked."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Generator, Tensor

from cnnexp.errors import UserError
from cnnexp.rng import seed_device


class UserAugmentation:
    """Calls an augmentation that is not of this package.

    It may draw from the generator that it is given, or, as most of what there is, from the global ones of torch, NumPy
    and Python: these are seeded with the generator's own seed first, so that a batch is the same in a resumed run.
    """

    def __init__(self, augmentation: Callable[..., Any]):
        self.augmentation = augmentation

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return what it makes of x (N, C, H, W). Raises UserError unless that has the same shape and type."""
        seed = generator.initial_seed()
        seed_device(x.device, seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        shape, dtype = tuple(x.shape), x.dtype  # before: it may change x in place
        given = self.augmentation(x, generator)
        if not isinstance(given, Tensor):
            raise UserError(
                f"augmentation._target_: gave a {type(given).__name__} for a batch; allowed: {shape} {dtype}"
            )
        if tuple(given.shape) != shape or given.dtype != dtype:
            raise UserError(
                f"augmentation._target_: gave {tuple(given.shape)} {given.dtype} for a batch; allowed: {shape} {dtype}"
            )
        return given
