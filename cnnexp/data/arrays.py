"""Data from arrays in memory, for a user's `_target_` to return."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnexp.data.cache import Prepared
from cnnexp.data.images import PARTS, ImageData, channel_sums
from cnnexp.data.splits import check, make_splits
from cnnexp.errors import UserError
from cnnexp.text import listed, plural

Pairs = tuple[NDArray[np.uint8], NDArray[np.integer]]


def image_data(
    name: str,
    classes: Sequence[str],
    train: Pairs,
    test: Pairs,
    val: Pairs | None = None,
    val_fraction: float = 0.1,
    split_seed: int = 0,
    train_limit: int | None = None,
    val_limit: int | None = None,
    test_limit: int | None = None,
    normalize: Any = "dataset",
    folds: int | None = None,
    fold: int | None = None,
) -> ImageData:
    """Make ImageData from arrays: each of train, test and val is (images (N, H, W, C) uint8, labels (N,) in [0, K)).

    Without `val` a stratified `val_fraction` of train is held out; split_seed draws it. *_limit: the size of a
    stratified subset. folds, fold: see `make_splits`. normalize: "dataset", the mean and std of the training split, or
    {"mean": [...], "std": [...]}. Raises UserError for arrays of another shape or dtype, labels outside [0, K), or a
    class without training images.
    """
    given = {"train": train, "test": test} if val is None else {"train": train, "val": val, "test": test}
    for part, pairs in given.items():
        _check(f"{name}.{part}", *pairs, train[0].shape[1:], classes)
    images = np.concatenate([pixels for pixels, _ in given.values()])
    labels = np.concatenate([numbers for _, numbers in given.values()]).astype(np.int64)
    parts = np.array([PARTS.index(part) for part, (_, numbers) in given.items() for _ in numbers], np.uint8)
    ids = np.array([f"{part}/{i}" for part, (_, numbers) in given.items() for i in range(len(numbers))])
    sums, fingerprint = channel_sums(images), fingerprint_of(classes, images, labels, parts)
    prepared = Prepared(name, list(classes), images, labels, ids, parts, sums, fingerprint, [], 0.0, Path("memory"))
    check("data", {"normalize": normalize, "folds": folds, "fold": fold}, {})
    return make_splits(prepared, val_fraction, split_seed, train_limit, val_limit, test_limit, normalize, folds, fold)


def fingerprint_of(classes: Sequence[str], *arrays: NDArray[Any]) -> str:
    """Return a hash of the names of classes and of the content of arrays."""
    content = hashlib.blake2b("\0".join(classes).encode(), digest_size=16)
    for array in arrays:
        content.update(array.tobytes())
    return content.hexdigest()


def _check(where: str, images: Any, labels: Any, shape: tuple[int, ...], classes: Sequence[str]) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape or shape[2] not in (1, 3):
        allowed = "uint8 (N, H, W, C), C 1 or 3, of one size"
        raise UserError(f"{where}: given images {images.dtype} {images.shape}; allowed: {allowed}")
    given = f"{where}: given {len(labels)} labels"
    if len(images) != len(labels):
        raise UserError(f"{given} for {len(images)} images; allowed: one an image")
    wrong = np.flatnonzero(~np.isin(labels, np.arange(len(classes))))
    if len(wrong):
        last = len(classes) - 1
        raise UserError(
            f"{given}; that of item {wrong[0]} is {labels[wrong[0]]}; allowed: 0 to {last}, {_named(classes)}"
        )
    missing = sorted(set(range(len(classes))) - set(labels.tolist())) if where.endswith(".train") else []
    if missing or not len(labels):
        none = f"; {missing[0]} ({classes[missing[0]]}) has none" if missing else ""
        raise UserError(f"{given}; allowed: one an image, in [0, {len(classes)}), every class{none}")


def _named(classes: Sequence[str]) -> str:
    return f"{plural(len(classes), 'class')}: {listed(classes, 3)}"
