"""A user's augmentation, named by `_target_`: its random draws are made repeatable, and its result is checked."""

import random
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from torch import Generator, Tensor

from cnnexp.errors import UserError
from cnnexp.rng import seed_device


class UserAugmentation:
    """Calls an augmentation from outside this package.

    It may draw from the generator that it gets, or from the global ones of torch, NumPy and Python, as most libraries
    do: these are seeded with the generator's seed before each call, so that a resumed run draws the same batches.
    """

    def __init__(self, augmentation: Callable[..., Any]):
        self.augmentation = augmentation

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Augment x (N, C, H, W). Raises UserError unless the result is a tensor of the same shape and dtype."""
        seed = generator.initial_seed()
        seed_device(x.device, seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        expected = (tuple(x.shape), x.dtype)  # read first: the augmentation may change x in place
        result = self.augmentation(x, generator)
        is_tensor = isinstance(result, Tensor)
        if is_tensor and (tuple(result.shape), result.dtype) == expected:
            return cast(Tensor, result)
        found = f"{tuple(result.shape)} {result.dtype}" if is_tensor else f"a {type(result).__name__}"
        raise UserError(f"augmentation._target_: gave {found} for a batch; allowed: {expected[0]} {expected[1]}")
