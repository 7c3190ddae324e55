"""Data from arrays in memory, for a user's `_target_` to return."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnexp.data.cache import Prepared
from cnnexp.data.images import ImageData
from cnnexp.data.splits import make_splits
from cnnexp.errors import UserError

Pairs = tuple[NDArray[np.uint8], NDArray[np.integer]]


def image_data(
    name: str, classes: Sequence[str], train: Pairs, test: Pairs, val: Pairs | None = None, val_fraction: float = 0.1
) -> ImageData:
    """Make ImageData from arrays: each of train, test and val is (images (N, H, W, C) uint8, labels (N,) in [0, K)).

    Without `val` a stratified `val_fraction` of train is held out. mean and std are those of the training split.
    Raises UserError for arrays of another shape or dtype, labels outside [0, K), or a class without images.
    """
    parts = [("train", train), *([("val", val)] if val is not None else []), ("test", test)]
    for what, pairs in parts:
        _check(name, what, *pairs, train[0].shape[1:], len(classes))
    images = np.concatenate([pairs[0] for _, pairs in parts])
    labels = np.concatenate([pairs[1] for _, pairs in parts]).astype(np.int64)
    numbers = np.concatenate([np.full(len(p[1]), ("train", "val", "test").index(w), np.uint8) for w, p in parts])
    ids = np.array([f"{what}/{row}" for what, pairs in parts for row in range(len(pairs[1]))])
    squares = np.square(images, dtype=np.int32).sum((1, 2), dtype=np.int64)
    sums = np.stack([images.sum((1, 2), dtype=np.int64), squares], axis=-1)
    content = hashlib.blake2b("\0".join(classes).encode(), digest_size=16)
    for array in (images, labels, numbers):
        content.update(array.tobytes())
    prepared = Prepared(
        name, list(classes), images, labels, ids, numbers, sums, content.hexdigest(), [], 0.0, Path("memory")
    )
    return make_splits(prepared, val_fraction, 0, None, None, None, "dataset")


def _check(name: str, what: str, images: Any, labels: Any, shape: tuple[int, ...], classes: int) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape or shape[2] not in (1, 3):
        allowed = "uint8 (N, H, W, C), C 1 or 3, of one size"
        raise UserError(f"{name}.{what}: given images {images.dtype} {images.shape}; allowed: {allowed}")
    if len(images) != len(labels) or not set(np.unique(labels)) == set(range(classes)):
        raise UserError(
            f"{name}.{what}: given {len(labels)} labels; allowed: one an image, in [0, {classes}), every class"
        )
