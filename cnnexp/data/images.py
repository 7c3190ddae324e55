"""What a data source returns: splits as indices into one memory-mapped uint8 array, and its duplicates. No torch."""

import hashlib
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cnnexp.data import counter

Pixels = NDArray[np.uint8]
Integers = NDArray[np.int64]
PARTS = ("train", "val", "test")  # of a source; stored as the index


@dataclass(frozen=True)
class Split:
    """The images of one split, as indices into an array that several splits may share.

    images: (M, H, W, C) uint8, memory-mapped, read-only. indices: (N,) int64, the images that are in the split.
    labels: (N,) int64, indices into ImageData.classes. ids: (N,) str, paths relative to the source's root.
    """

    images: Pixels
    indices: Integers
    labels: Integers
    ids: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class ImageData:
    """A prepared data set for image classification.

    image: (C, H, W). mean, std: C floats, of pixels / 255. fingerprint: a hash of all pixels, labels, class names and
    the source's own train, val and test; the draw of validation and the normalisation are not in it. skipped: the files
    that `on_corrupt: skip` left out. prepare_seconds: time spent on decoding, 0 if read from the cache. cache: the
    folder of the prepared arrays. copies: groups of indices, over all three splits, of images that are equal in every
    pixel. files: the folder to which ids are relative paths, None if the images are not files. notes: what to know of
    the source, such as files that are left out. drawn: a hash of what was drawn by the names of files, which is not in
    the fingerprint: {"split": ...} of test and validation, {"validation": ...} if the source has its own test.
    """

    name: str
    classes: list[str]
    image: tuple[int, int, int]
    mean: list[float]
    std: list[float]
    fingerprint: str
    train: Split
    val: Split
    test: Split
    skipped: list[str]
    prepare_seconds: float
    cache: str
    copies: list[Integers]
    files: str | None = None
    notes: list[str] = field(default_factory=list)
    drawn: dict[str, str] = field(default_factory=dict)

    def splits(self) -> dict[str, Split]:
        """Return {"train", "val", "test"} and their splits."""
        return {"train": self.train, "val": self.val, "test": self.test}


def channel_sums(images: Pixels) -> Integers:
    """Return the sum and the sum of squares of each image's channels: (N, H, W, C) uint8 -> (N, C, 2) int64."""
    squares = np.square(images, dtype=np.int32).sum((1, 2), dtype=np.int64)
    return np.stack([images.sum((1, 2), dtype=np.int64), squares], axis=-1)


def find_copies(images: Pixels, sums: Integers, indices: Integers) -> list[Integers]:
    """Return the groups of two or more of `indices` whose images are equal, each group in ascending order.

    images: (M, H, W, C) uint8. sums: (M, C, 2), the sums and sums of squares of each image's channels. Equal images
    have equal sums, so only images whose hash of the sums occurs twice are read.
    """
    indices = np.sort(indices)
    flat = sums[indices].reshape(len(indices), -1).astype(np.uint64)
    hashes = (flat * counter.bits(np.arange(flat.shape[1]))).sum(axis=1, dtype=np.uint64)
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    groups: dict[bytes, list[int]] = {}
    for index in indices[counts[inverse.reshape(-1)] > 1]:
        groups.setdefault(_digest(images[index]), []).append(int(index))
    return [np.array(group, np.int64) for group in groups.values() if len(group) > 1]


def equal_to_any(split: Split, others: Split) -> NDArray[np.bool_]:
    """Return which images of a split equal one of another split, of any data set, in every pixel: (N,).

    Both have images of one shape. One image is read at a time; 32 bytes of each stay in memory.
    """
    ours, theirs = (
        np.fromiter((_digest(part.images[i]) for i in part.indices), "S32", len(part)) for part in (split, others)
    )
    return np.isin(ours, theirs)


def _digest(image: Pixels) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image).data).digest()


def leaked(data: ImageData, split: Literal["val", "test"] = "test") -> int:
    """Return how many images of a split equal a training image in every pixel."""
    part = np.zeros(len(data.train.images), np.uint8)
    part[data.train.indices], part[data.splits()[split].indices] = 1, 2
    return sum(int((part[group] == 2).sum()) for group in data.copies if (part[group] == 1).any())


def contradictory(data: ImageData) -> int:
    """Return how many images equal, in every pixel, one of another class."""
    labels = np.full(len(data.train.images), -1)
    for split in data.splits().values():
        labels[split.indices] = split.labels
    return sum(len(group) for group in data.copies if len(np.unique(labels[group])) > 1)
