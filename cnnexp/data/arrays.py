"""Data from arrays in memory, for a user's `_target_` to return."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnexp.data.cache import Prepared
from cnnexp.data.images import PARTS, ImageData, channel_sums
from cnnexp.data.splits import make_splits
from cnnexp.errors import UserError

Pairs = tuple[NDArray[np.uint8], NDArray[np.integer]]


def image_data(
    name: str, classes: Sequence[str], train: Pairs, test: Pairs, val: Pairs | None = None, val_fraction: float = 0.1
) -> ImageData:
    """Make ImageData from arrays: each of train, test and val is (images (N, H, W, C) uint8, labels (N,) in [0, K)).

    Without `val` a stratified `val_fraction` of train is held out. mean and std are those of the training split.
    Raises UserError for arrays of another shape or dtype, labels outside [0, K), or a class without training images.
    """
    given = {"train": train, "test": test} if val is None else {"train": train, "val": val, "test": test}
    for part, pairs in given.items():
        _check(f"{name}.{part}", *pairs, train[0].shape[1:], len(classes))
    images = np.concatenate([pixels for pixels, _ in given.values()])
    labels = np.concatenate([numbers for _, numbers in given.values()]).astype(np.int64)
    parts = np.array([PARTS.index(part) for part, (_, numbers) in given.items() for _ in numbers], np.uint8)
    ids = np.array([f"{part}/{i}" for part, (_, numbers) in given.items() for i in range(len(numbers))])
    content = hashlib.blake2b("\0".join(classes).encode(), digest_size=16)
    for array in (images, labels, parts):
        content.update(array.tobytes())
    sums, fingerprint = channel_sums(images), content.hexdigest()
    prepared = Prepared(name, list(classes), images, labels, ids, parts, sums, fingerprint, [], 0.0, Path("memory"))
    return make_splits(prepared, val_fraction, 0, None, None, None, "dataset")


def _check(where: str, images: Any, labels: Any, shape: tuple[int, ...], classes: int) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape or shape[2] not in (1, 3):
        allowed = "uint8 (N, H, W, C), C 1 or 3, of one size"
        raise UserError(f"{where}: given images {images.dtype} {images.shape}; allowed: {allowed}")
    found, every = set(np.unique(labels)), where.endswith(".train")
    if len(images) != len(labels) or not found <= set(range(classes)) or len(found) < (classes if every else 1):
        allowed = f"one an image, in [0, {classes}){', every class' * every}"
        raise UserError(f"{where}: given {len(labels)} labels; allowed: {allowed}")
