"""Train, validation and test splits: stratified samples by their own seed, and the statistics for normalisation."""

import functools
import inspect
import logging
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnexp.config import signature
from cnnexp.config.signature import Count, Index, Positive, Range, Rate
from cnnexp.data import counter
from cnnexp.data.cache import Prepared
from cnnexp.data.images import PARTS, ImageData, Integers, Split, find_copies
from cnnexp.errors import UserError
from cnnexp.text import plural

Folds = Annotated[int, Range(low=2, high=100)] | None
DEFAULTS = {"val_fraction": 0.1, "test_fraction": 0.2}  # those of configs/data
VALIDATION, LIMIT = 1, 2  # purposes of a draw: different numbers, so that the draws are independent


def apportion(counts: Integers, total: int, least: int) -> Integers:
    """Divide `total` among K classes in proportion to `counts`: K numbers in [least, counts] whose sum is `total`.

    The caller makes sure that such numbers exist. Ties go to the earlier class.
    """
    quota = counts * total / counts.sum()
    share: Integers = np.clip(np.floor(quota).astype(np.int64), np.minimum(least, counts), counts)
    while share.sum() < total:
        share[np.argmax(np.where(share < counts, quota - share, -np.inf))] += 1
    while share.sum() > total:
        share[np.argmin(np.where(share > least, quota - share, np.inf))] -= 1
    return share


def stratified_sample(labels: Integers, share: Integers, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Draw share[k] images of each class k, those with the lowest keys; return a mask (N,).

    labels, keys: (N,). share: (K,). A larger share contains a smaller one.
    """
    chosen = np.zeros(len(labels), bool)
    for label, count in enumerate(share):
        members = np.flatnonzero(labels == label)
        chosen[members[np.argsort(keys[members], kind="stable")[:count]]] = True
    return chosen


def limit(labels: Integers, count: int | None, classes: int, seed: int, key: str) -> NDArray[np.bool_]:
    """Draw a stratified subset of `count` images (all, if None or more than N); return a mask (N,).

    key: the setting, for the error. Raises UserError if `count` is below the number of classes.
    """
    return lowest(labels, count, classes, counter.bits(seed, LIMIT, np.arange(len(labels))), key)


def lowest(labels: Integers, count: int | None, classes: int, keys: NDArray[np.uint64], key: str) -> NDArray[np.bool_]:
    """Draw the images with the lowest keys (N,) of each class: as `limit` does."""
    if count is None or count >= len(labels):
        return np.ones(len(labels), bool)
    counts = np.bincount(labels, minlength=classes)
    if count < (present := int((counts > 0).sum())):
        raise UserError(f"data.{key}: given {count}; allowed: at least {present}, one image of every class")
    return stratified_sample(labels, apportion(counts, count, least=1), keys)


def validation(
    labels: Integers, fraction: float, classes: int, seed: int, key: str = "val_fraction"
) -> NDArray[np.bool_]:
    """Draw the stratified validation part of the training images; return a mask (N,).

    key: the setting, for the error. Raises UserError unless there is at least one such image, and one training image of
    every class.
    """
    if fraction == 0:
        return np.zeros(len(labels), bool)
    counts = np.bincount(labels, minlength=classes)
    total = math.floor(fraction * len(labels) + 0.5)
    if total == 0 or total > len(labels) - classes:
        part = key.removesuffix("_fraction").replace("val", "validation")
        what = f"no {part} image" if total == 0 else "less than one image of every class for training"
        raise UserError(f"data.{key}: {fraction} of {len(labels)} training images leaves {what}")
    keys = counter.bits(seed, VALIDATION, np.arange(len(labels)))
    return stratified_sample(labels, _leaving_one(counts, total), keys)


def in_fold(labels: Integers, folds: int, fold: int, seed: int) -> NDArray[np.bool_]:
    """Return which images (N,) are in one of `folds` stratified folds, whose sizes differ by one at most.

    The images of a class are dealt out in the order of the keys that draw the validation part. Raises UserError unless
    every class keeps an image for training.
    """
    if (least := int(np.bincount(labels)[np.unique(labels)].min())) < 2 or folds > len(labels):
        allowed = "at most as many folds as images, and every class needs two images"
        given = f"{len(labels)} images, {least} of the smallest class"
        raise UserError(f"data.folds: given {folds}; allowed: {allowed} ({given})")
    dealt = np.lexsort((counter.bits(seed, VALIDATION, np.arange(len(labels))), labels))
    numbers = np.empty(len(labels), np.int64)
    numbers[dealt] = np.arange(len(labels)) % folds
    return np.asarray(numbers == fold)


def val_as_test(train: str, val: str, test: str, drawn: bool) -> str:
    """Return a note on a data set without a test split. The splits as it calls them; drawn: if validation is drawn."""
    source = f"; the validation images are taken from {train}" if drawn else ""
    return f"the test images are those of {val}, because there is no {test}{source}"


def without_effect(key: str, given: float, part: str, why: str = "") -> list[str]:
    """Return a note on a fraction that is not the default, of a data set whose `part` images are its own.

    why: another reason, which is said in place of that.
    """
    if given == DEFAULTS[key]:
        return []
    return [f"data.{key}={given:g} has no effect: {why or f'the data set has its own {part} images'}"]


def _leaving_one(counts: Integers, total: int) -> Integers:
    share = apportion(counts, total, least=0)
    share = np.minimum(share, counts - 1)
    while share.sum() < total:
        share[np.argmax(counts - 1 - share)] += 1
    return share


def statistics(sums: Integers, pixels: int) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation of each channel, of pixels / 255.

    sums: (N, C, 2) int64, the sum and the sum of squares of each image's channels. pixels: of one image. A constant
    channel gets a standard deviation of 1, with a warning.
    """
    count = len(sums) * pixels
    total, squares = ([int(s) for s in column] for column in sums.sum(axis=0).T)
    mean = [t / count / 255 for t in total]
    std = [math.sqrt(count * q - t * t) / count / 255 for t, q in zip(total, squares, strict=True)]
    if 0.0 in std:
        logging.getLogger(__name__).warning("data: a channel has the same value everywhere; its std is set to 1")
    return mean, [s or 1.0 for s in std]


def make_splits(
    prepared: Prepared,
    val_fraction: Rate,
    split_seed: Index,
    train_limit: Count | None,
    val_limit: Count | None,
    test_limit: Count | None,
    normalize: Literal["dataset"] | dict[str, Any],
    folds: Folds,
    fold: Index | None,
) -> ImageData:
    """Split prepared images into train, val and test, and take or compute the normalisation.

    val_fraction: the stratified part of the training images held out for validation; without effect if the source has
    validation images. split_seed: seeds that draw and the subsets; it is not the run's seed. *_limit: the size of a
    stratified subset of a split; None takes all. normalize: "dataset", the mean and std of the training split, or
    {"mean": C floats, "std": C floats} of pixels / 255. folds, fold: one of so many parts of the training and
    validation images is the validation split. Raises UserError for a number that the images do not allow.
    """
    if len(prepared.classes) < 2:
        given = plural(len(prepared.classes), "class")
        raise UserError(f"data: {prepared.name} has {given}; at least two are needed")
    parts = _draw(
        prepared, val_fraction, split_seed, (folds, fold), {"train": train_limit, "val": val_limit, "test": test_limit}
    )
    notes = list[str]()
    if prepared.assigned is None and folds is None and (prepared.parts == PARTS.index("val")).any():
        notes = without_effect("val_fraction", val_fraction, "validation")
    for note in notes:
        logging.getLogger(__name__).warning("data: %s", note)
    _, height, width, channels = prepared.images.shape
    if isinstance(normalize, str):
        mean, std = statistics(prepared.sums[parts["train"]], height * width)
    else:
        mean, std = normalisation(normalize, channels)
    images, labels, ids = prepared.images, prepared.labels, prepared.ids
    splits = {name: Split(images, part, labels[part], ids[part]) for name, part in parts.items()}
    return ImageData(
        name=prepared.name,
        classes=prepared.classes,
        image=(channels, height, width),
        mean=mean,
        std=std,
        fingerprint=prepared.fingerprint,
        skipped=prepared.skipped,
        prepare_seconds=prepared.seconds,
        cache=str(prepared.folder),
        copies=find_copies(images, prepared.sums, np.concatenate(list(parts.values()))),
        files=prepared.files,
        notes=[*prepared.notes, *notes],
        drawn=prepared.drawn,
        **splits,
    )


def _draw(
    prepared: Prepared,
    val_fraction: float,
    seed: int,
    cut: tuple[int | None, int | None],
    limits: Mapping[str, int | None],
) -> dict[str, Integers]:
    """Return the indices of the images of each split: as the source assigned them, else drawn."""
    if prepared.assigned is not None:
        return {name: np.flatnonzero(prepared.assigned == number) for number, name in enumerate(PARTS)}
    classes, labels = len(prepared.classes), prepared.labels
    parts = {name: np.flatnonzero(prepared.parts == number) for number, name in enumerate(PARTS)}
    folds, fold = cut
    if folds and fold is not None:
        both = np.sort(np.concatenate([parts["train"], parts["val"]]))
        held_out = in_fold(labels[both], folds, fold, seed)
        parts |= {"train": both[~held_out], "val": both[held_out]}
    elif not len(parts["val"]):
        held_out = validation(labels[parts["train"]], val_fraction, classes, seed)
        parts |= {"train": parts["train"][~held_out], "val": parts["train"][held_out]}
    for name, count in limits.items():
        parts[name] = parts[name][limit(labels[parts[name]], count, classes, seed, f"{name}_limit")]
    return parts


def with_splits(prepares: Callable[..., Prepared]) -> Callable[..., ImageData]:
    """Make a data source of a function that prepares images: it also takes the parameters of `make_splits`.

    Its signature, which is the schema of its YAML, names both. All are given by name. A function that divides the
    images itself takes `**splitting`, these parameters without `normalize`, and returns the images `assigned`.
    """
    own, shared = (dict(inspect.signature(function).parameters) for function in (prepares, make_splits))
    del shared["prepared"]
    dividing = shared.keys() - {"normalize"} if own.pop("splitting", None) else set[str]()
    joined = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in (own | shared).values()])

    @functools.wraps(prepares)
    def source(**settings: Any) -> ImageData:
        joined.bind(**settings)  # a TypeError before anything is prepared
        prepared = prepares(**{name: settings[name] for name in own.keys() | dividing})
        return make_splits(prepared, **{name: settings[name] for name in shared})

    vars(source).update(__signature__=joined, check=check)
    return source


def normalisation(given: Mapping[str, Any], channels: int) -> tuple[list[float], list[float]]:
    """Return mean and std of `normalize: {mean: [...], std: [...]}`. Raises UserError unless there are C of each.

    Gray images take the means of three numbers: those of a network for RGB images.
    """
    mean, std = ([float(v) for v in given[key]] for key in ("mean", "std"))
    if channels == 1 and len(mean) == len(std) == 3:
        mean, std = [sum(mean) / 3], [sum(std) / 3]
    if len(mean) != channels or len(std) != channels:
        given_ones = f"{plural(len(mean), 'mean')} and {plural(len(std), 'std')}"
        raise UserError(f"data.normalize: given {given_ones}; the images have {plural(channels, 'channel')}")
    return mean, std


def check(where: str, node: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Check what the signature of a source cannot say: the numbers of `normalize`, and the fold. Raises UserError."""
    folds, fold = node.get("folds"), node.get("fold")
    if (folds is None) != (fold is None):
        missing, given = ("folds", f"fold={fold}") if folds is None else ("fold", f"folds={folds}")
        fix = f"0 to {folds - 1} (all: data.fold={','.join(map(str, range(folds)))})" if folds else "a number of folds"
        raise UserError(f"{where}.{missing}: given null with {where}.{given}; allowed: {fix}")
    if folds is not None and fold is not None and fold >= folds:
        raise UserError(f"{where}.fold: given {fold}; allowed with {where}.folds={folds}: 0 to {folds - 1}")
    if isinstance(node.get("normalize"), Mapping):
        signature.check(f"{where}.normalize", node["normalize"], _normalize, inner=True)
        _check_scale(f"{where}.normalize", **node["normalize"])


def _check_scale(where: str, mean: list[float], std: list[float]) -> None:
    """Raise UserError for numbers that are not of pixels / 255: means are from 0 to 1, and std is at most 1."""
    for key, values in (("mean", mean), ("std", std)):
        if not all(0 <= value <= 1 for value in values):
            allowed = "numbers from 0 to 1, of pixels / 255: divide values of the 0-255 scale by 255"
            raise UserError(f"{where}.{key}: given {values}; allowed: {allowed}")


def _normalize(mean: list[float], std: list[Positive]) -> None:
    """State the schema of `normalize`."""
