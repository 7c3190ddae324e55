"""A user's augmentation, named by `_target_`: its random draws are made repeatable, and its result is checked."""

import inspect
import random
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Generator, Tensor

from cnnexp.errors import UserError
from cnnexp.rng import seed_device


class UserAugmentation:
    """Calls an augmentation from outside this package: one of (images, generator), or torchvision's, image by image.

    It may draw from the generator that it gets, or from the global ones of torch, NumPy and Python, as most libraries
    do: before each call these are seeded with a draw of the generator. So a resumed run draws the same batches, and an
    operation that is called twice for a batch draws anew.
    """

    def __init__(self, augmentation: Callable[..., Any]):
        """Raises UserError if the augmentation takes something else."""
        self.augmentation = augmentation
        self.per_image = type(augmentation).__module__.startswith("torchvision.transforms")
        if not self.per_image:
            check_signature(augmentation)

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Augment x (N, C, H, W). Raises UserError unless the result is a tensor of the same shape and dtype."""
        seed = int(torch.randint(2**63 - 1, (), generator=generator))
        seed_device(x.device, seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        expected = (tuple(x.shape), x.dtype)  # read first: the augmentation may change x in place
        if self.per_image:
            return self.of_images(x)
        result = self.augmentation(x, generator)
        is_tensor = isinstance(result, Tensor)
        if is_tensor and (tuple(result.shape), result.dtype) == expected:
            return cast(Tensor, result)
        raise wrong_result(result, "a batch", expected)

    def of_images(self, x: Tensor) -> Tensor:
        """Augment one image (C, H, W) after another, each with its own draws."""
        done = []
        for image in x:
            try:
                done.append(self.augmentation(image))
            except (RuntimeError, ValueError, TypeError) as error:
                name, reason = type(self.augmentation).__name__, str(error).strip().splitlines()[0]
                raise UserError(f"augmentation: {name} refuses a float image in [0, 1]: {reason}") from error
            if not isinstance(done[-1], Tensor) or (done[-1].shape, done[-1].dtype) != (image.shape, image.dtype):
                raise wrong_result(done[-1], "an image", (tuple(image.shape), image.dtype))
        return torch.stack(done)


def check_signature(augmentation: Callable[..., Any]) -> None:
    """Raise UserError unless an augmentation takes (images, generator)."""
    called = augmentation.forward if isinstance(augmentation, torch.nn.Module) else augmentation
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):
        return
    name = getattr(augmentation, "__qualname__", type(augmentation).__qualname__)
    try:
        second = list(signature.bind(0, 1).arguments)[1]
    except (TypeError, IndexError):
        raise UserError(f"augmentation._target_: {name} takes {signature}; allowed: (images, generator)") from None
    parameter = signature.parameters[second]
    if parameter.default is not parameter.empty and second != "generator":
        raise UserError(f"augmentation._target_: {name} takes {signature}; allowed: (images, generator)")


def wrong_result(result: Any, what: str, expected: tuple[tuple[int, ...], torch.dtype]) -> UserError:
    """Return the error for a result of the wrong type, shape or dtype. what: that which was given."""
    found = f"{tuple(result.shape)} {result.dtype}" if isinstance(result, Tensor) else f"a {type(result).__name__}"
    return UserError(f"augmentation._target_: gave {found} for {what}; allowed: {expected[0]} {expected[1]}")
