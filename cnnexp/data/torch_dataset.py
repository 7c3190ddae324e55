"""Torch data sets as data: every item is read once, into arrays in memory."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cnnexp.data.arrays import fingerprint_of, image_data
from cnnexp.data.folders import split_of
from cnnexp.data.images import ImageData, Integers, Pixels
from cnnexp.data.pixels import flatten
from cnnexp.data.splits import DEFAULTS, check, in_fold, val_as_test, validation, without_effect
from cnnexp.errors import UserError
from cnnexp.text import shorten, visible

OTHER_COLOURS = ("P", "PA", "YCbCr", "HSV", "LAB")  # modes of Pillow whose numbers are no red, green and blue
READ_TWICE = 32  # items, to find random changes
TEST_FRACTION = 0.2  # of a data set that is not divided


def from_datasets(
    name: str, given: Any, test_fraction: float = TEST_FRACTION, split_seed: int = 0, **splitting: Any
) -> ImageData | None:
    """Return the images of torch data sets; None if `given` is something else.

    given: {"train": ..., "test": ...}, with "val" or without; (train, test) or (train, test, val); or one data set, of
    which a stratified `test_fraction`, or one of `folds`, is the test split. The names of splits are those of folders,
    and as there, without "test" the "val" is used as test. splitting: more settings of `image_data`.
    An item is (image, label). An image is a PIL image, an array (H, W, C) or (H, W), or a tensor (C, H, W); its numbers
    are 0 to 255, or floats in [0, 1]. A PIL image with a palette becomes RGB. All images have one size.
    Raises UserError for other items, and for splits with other names or too many of them.
    """
    parts = _splits(given)
    if parts is None:
        return None
    read = {part: read_items(f"data ({part})", dataset) for part, dataset in parts.items()}
    count = 1 + max(int(labels.max(initial=0)) for _, labels in read.values())
    named, is_subset = _class_names(parts["train"])
    classes = [str(found) for found in (list(named)[:count] if is_subset else named) or range(count)]
    for part, dataset in parts.items() if named else ():
        names = [str(found) for found in _class_names(dataset)[0] or classes]
        read[part] = read[part][0], _in_order_of(f"data ({part})", classes, names, read[part][1])
    if "test" not in read and "val" in read:
        read["test"] = read.pop("val")
        drawn = splitting.get("folds") is not None or splitting.get("val_fraction", DEFAULTS["val_fraction"]) > 0
        said = val_as_test("train", "val", "test", drawn)
        for note in (said, *without_effect("test_fraction", test_fraction, "test", "val is used as test")):
            logging.getLogger(__name__).warning("data: %s", note)
    fingerprint = None
    if "test" not in read:
        images, labels = read["train"]
        folds, fold = (splitting.pop(key, None) for key in ("folds", "fold"))
        check("data", {"folds": folds, "fold": fold}, {})
        if folds:
            held_out, fingerprint = in_fold(labels, folds, fold, split_seed), fingerprint_of(classes, images, labels)
        else:
            held_out = validation(labels, test_fraction, len(classes), split_seed, "test_fraction")
        read = {"train": (images[~held_out], labels[~held_out]), "test": (images[held_out], labels[held_out])}
    data = image_data(name, classes, read["train"], read["test"], read.get("val"), split_seed=split_seed, **splitting)
    return replace(data, fingerprint=fingerprint) if fingerprint else data  # one of all folds, which are one arm


def _splits(given: Any) -> dict[str, Any] | None:
    """Return {"train", "test" or "val": its data set}; None if `given` is something else."""
    named = given if isinstance(given, Mapping) else {"train": given}
    if isinstance(given, (tuple, list)):
        named = dict(zip(("train", "test", "val", *range(3, len(given))), given, strict=False))
    if not named or not all(hasattr(found, "__getitem__") and hasattr(found, "__len__") for found in named.values()):
        return None
    if isinstance(given, (tuple, list)) and len(given) > 3:
        raise UserError(f"data: gives {len(given)} data sets; allowed: (train, test) or (train, test, val)")
    names = dict[str, Any]()
    for name in named:
        part = split_of(str(name))
        if part is None:
            raise UserError(f"data: gives the split {shorten(repr(name), 60)}; allowed: train, test and val")
        if part in names:
            raise UserError(f"data: gives the {part} split twice, as {names[part]!r} and {name!r}; keep one")
        names[part] = name
    return {part: named[name] for part, name in names.items()} if "train" in names else None


def _class_names(dataset: Any) -> tuple[Sequence[Any], bool]:
    """Return the names of a data set's classes, empty if it has none, and whether it is a torch Subset.

    Those of a Subset, as random_split makes, are the names of what it is a part of: it may lack the last ones.
    """
    from torch.utils.data import Subset

    whole = dataset
    while isinstance(whole, Subset):
        whole = whole.dataset
    return getattr(whole, "classes", None) or (), whole is not dataset


def _in_order_of(where: str, classes: list[str], names: list[str], labels: Integers) -> Integers:
    """Return the labels (N,) of a data set as places in `classes`. names: its own classes, in the order of its labels.

    torchvision's ImageFolder numbers the classes that it finds, so a class without test images shifts all that follow.
    Classes of equal names stay as they are numbered.
    """
    if names == classes or not len(labels) or len(set(classes)) < len(classes):
        return labels
    if labels.max() >= len(names):
        raise UserError(f"{where}: has the label {labels.max()} but {len(names)} classes")
    used = [names[label] for label in np.unique(labels)]
    if missing := [name for name in used if name not in classes]:
        raise UserError(
            f"{where}: has images of {shorten(repr(missing[0]), 60)}, a class that the training images do not have; "
            "rename it in `classes`"
        )
    return np.array([classes.index(name) if name in used else 0 for name in names], np.int64)[labels]


def read_items(where: str, dataset: Any) -> tuple[Pixels, Integers]:
    """Return all images (N, H, W, C) uint8 and labels (N,) of a data set. Raises UserError for a wrong item."""
    images, labels = list[Pixels](), list[int]()
    for index in range(len(dataset)):
        place = f"{where}: item {index}{file_of(dataset, index)}"
        image, label = pair(place, dataset[index])
        images.append(pixels(place, image))
        labels.append(label)
        if images[-1].shape != images[0].shape:
            raise UserError(f"{place}: is {images[-1].shape}, item 0 is {images[0].shape}; resize all to one size")
    if not images:
        raise UserError(f"{where}: has no items")
    again = (pixels(where, pair(where, dataset[index])[0]) for index in range(min(READ_TWICE, len(images))))
    if not all(np.array_equal(*both) for both in zip(images, again, strict=False)):
        raise UserError(f"{where}: gives another image each time; leave random changes to augmentation=")
    return np.stack(images), np.array(labels, np.int64)


def file_of(dataset: Any, index: int) -> str:
    """Return the file of an item in parentheses, where a data set lists them as torchvision's do; else ""."""
    try:
        return f" ({visible(dataset.samples[index][0])})"
    except (AttributeError, TypeError, LookupError):
        return ""


def pair(where: str, item: Any) -> tuple[Any, int]:
    """Return an item's image and label. Raises UserError unless it is (image, whole number)."""
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        shown = f"{type(item).__name__} of {len(item)}" if isinstance(item, (tuple, list)) else type(item).__name__
        raise UserError(f"{where}: is a {shown}; allowed: (image, label)")
    label = item[1].tolist() if hasattr(item[1], "tolist") else item[1]
    if isinstance(label, (bool, int, float)) and float(label).is_integer() and label >= 0:
        return item[0], int(label)
    raise UserError(f"{where}: its label is {shorten(repr(label), 60)}; allowed: the number of its class, from 0")


def pixels(where: str, image: Any) -> Pixels:
    """Return an image as (H, W, C) uint8. Raises UserError for numbers or shapes that are no image."""
    if getattr(image, "mode", None) in OTHER_COLOURS and hasattr(image, "convert"):
        image = flatten(image, "RGB")
    is_tensor = hasattr(image, "detach")
    array = np.asarray(image.detach().cpu() if is_tensor else image)
    if array.ndim == 2:
        array = array[None] if is_tensor else array[..., None]
    if array.ndim != 3 or array.dtype.kind not in "iufb":
        raise UserError(f"{where}: is {array.dtype} {array.shape}; allowed: a PIL image, (H, W, C), a tensor (C, H, W)")
    if is_tensor:
        array = array.transpose(1, 2, 0)
    low, high, most = array.min(), array.max(), 1 if array.dtype.kind in "fb" else 255
    if not 0 <= low <= high <= most:
        raise UserError(f"{where}: has numbers from {low:g} to {high:g}; allowed: 0 to {most}; leave out Normalize")
    return np.rint(array * 255.0).astype(np.uint8) if most == 1 else array.astype(np.uint8)
