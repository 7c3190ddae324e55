"""Which images of a tree are for training, validation and test: a function of each file's own name.

A file's split depends on a hash of its class, its path within the class, and `split_seed`. So adding or removing a file
leaves all others where they are, except in small classes: a class of which half an image or more should be in a part
has at least one there, and every class keeps one for training. Counts follow the fractions on average. Folds are cut by
the same hashes: fold i of k has the files whose hash, as a fraction, is in [i/k, (i+1)/k). Files with
groups are divided by groups.py instead.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnexp.data import groups, splits
from cnnexp.data.images import Integers
from cnnexp.errors import UserError
from cnnexp.text import plural

TRAIN, VAL, TEST, LEFT_OUT = 0, 1, 2, 255
Parts = NDArray[np.uint8]


@dataclass(frozen=True)
class Cut:
    """The settings of `splits.make_splits` that divide a source, and test_fraction: 0 if the tree has its own test.

    With folds, one of them is the validation split; of a tree without a test split, it is the test split.
    """

    test_fraction: float
    val_fraction: float
    split_seed: int
    train_limit: int | None
    val_limit: int | None
    test_limit: int | None
    folds: int | None = None
    fold: int | None = None


def assign(
    names: Sequence[str], labels: Integers, parts: Parts, cut: Cut, classes: int, groups_of: Sequence[str] | None = None
) -> Parts:
    """Return the split of each of N files: TRAIN, VAL, TEST, or LEFT_OUT by a limit.

    names: class and path within it. labels: (N,). parts: (N,), the split in whose folder each lies. With a train_limit
    and no val_limit, validation is limited in proportion. Folds are cut from training and validation images. groups_of:
    the group of each file, whose files stay in one split. Raises UserError for numbers that the files do not allow.
    """
    found, keys = parts.copy(), _hashes(names, cut.split_seed)
    grouped = None if groups_of is None else _Groups(groups_of, cut.split_seed)
    if cut.folds and cut.fold is not None:
        pool, (column, into) = found != TEST, (0, TEST) if cut.test_fraction else (1, VAL)
        found[pool] = TRAIN
        if grouped:
            found[groups.in_fold(pool, labels, grouped.numbers, grouped.order(column), cut.folds, cut.fold)] = into
        else:
            found[in_fold(pool, labels, keys[:, column], cut.folds, cut.fold)] = into
    elif cut.test_fraction:
        found[_part(found == TRAIN, labels, keys, 0, cut.test_fraction, "test_fraction", grouped)] = TEST
    if cut.val_fraction and not (found == VAL).any():
        found[_part(found == TRAIN, labels, keys, 1, cut.val_fraction, "val_fraction", grouped)] = VAL
    limits = {TRAIN: cut.train_limit, VAL: cut.val_limit, TEST: cut.test_limit}
    total = int((found == TRAIN).sum())
    if cut.val_limit is None and cut.train_limit is not None and cut.train_limit < total:
        held_out = labels[found == VAL]
        limits[VAL] = max(round(len(held_out) * cut.train_limit / total), len(np.unique(held_out)))
    for part, (setting, count) in zip(("train", "val", "test"), limits.items(), strict=True):
        members = np.flatnonzero(found == setting)
        kept = splits.lowest(labels[members], count, classes, keys[members, 2], f"{part}_limit")
        found[members[~kept]] = LEFT_OUT
    return found


class _Groups:
    """The number of each file's group, (N,), and orders of the G groups by the hashes of their names."""

    def __init__(self, groups_of: Sequence[str], seed: int):
        names, self.numbers = groups.numbered(groups_of)
        self._keys = _hashes(names, seed)

    def order(self, column: int) -> Integers:
        """Return the groups in the order of one of the three hashes: (G,)."""
        return np.argsort(self._keys[:, column], kind="stable")


def _part(
    pool: NDArray[np.bool_],
    labels: Integers,
    keys: NDArray[np.uint64],
    column: int,
    share: float,
    key: str,
    grouped: _Groups | None,
) -> Integers:
    """Return the files of a pool that are drawn for a part, or the groups of files: (n,) indices."""
    if grouped is None:
        return _drawn(pool, labels, keys[:, column], share, key)
    drawn = groups.draw(pool, labels, grouped.numbers, grouped.order(column), share)
    if not len(drawn):
        there = plural(len(np.unique(grouped.numbers[pool])), "group")
        raise UserError(f"data.{key}: {share} of {there} leaves none; a class needs images of two groups or more")
    return drawn


def in_fold(pool: NDArray[np.bool_], labels: Integers, keys: NDArray[np.uint64], folds: int, fold: int) -> Integers:
    """Return which files of a pool are in a fold; (n,) indices. A class in one fold only gives its last file away."""
    numbers = (_as_fractions(keys) * folds).astype(np.int64)
    for label in np.unique(labels[pool]):
        members = np.flatnonzero(pool & (labels == label))
        if len(set(numbers[members].tolist())) == 1:
            numbers[members[np.argmax(keys[members])]] += 1
    found = np.flatnonzero(pool & (numbers % folds == fold))
    if not len(found):
        raise UserError(f"data.folds: given {folds}; fold {fold} of {plural(int(pool.sum()), 'image')} has none")
    return found


def _as_fractions(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    return np.asarray((keys >> np.uint64(11)) * 2.0**-53)


def _hashes(names: Sequence[str], seed: int) -> NDArray[np.uint64]:
    """Return three independent hashes of each name: (N, 3)."""
    digests = (hashlib.blake2b(f"{seed}/{n}".encode(errors="surrogateescape"), digest_size=24).digest() for n in names)
    return np.frombuffer(b"".join(digests), "<u8").reshape(-1, 3).astype(np.uint64)


def _drawn(pool: NDArray[np.bool_], labels: Integers, keys: NDArray[np.uint64], share: float, key: str) -> Integers:
    """Return which files of a pool are drawn: those whose key, as a fraction, is below `share`; (n,) indices."""
    taken = pool & (_as_fractions(keys) < share)
    if not taken.any() and share * pool.sum() >= 0.5:
        taken[np.flatnonzero(pool)[np.argmin(keys[pool])]] = True
    for label in np.unique(labels[pool]):
        members = np.flatnonzero(pool & (labels == label))
        members = members[np.argsort(keys[members], kind="stable")]
        if not taken[members].any() and share * len(members) >= 0.5:
            taken[members[0]] = True
        if taken[members].all():
            taken[members[-1]] = False
    if not taken.any():
        raise UserError(f"data.{key}: {share} of {plural(int(pool.sum()), 'image')} leaves no image")
    return np.flatnonzero(taken)


def keep_together(
    found: Parts, movable: NDArray[np.bool_], copies: Sequence[Integers], names: Sequence[str], into: int | None = None
) -> int:
    """Move copies of an image into one split, in place: that of the copy with the shortest name; return their number.

    found: (N,) splits. movable: those that were drawn; the others lie where their folders put them. into: the split
    that is preferred where a copy is in it.
    """
    moved = 0
    for group in copies:
        drawn = group[movable[group]]
        if len(drawn) > 1:
            first = min(drawn, key=lambda i: (len(names[i]), names[i]))
            part = int(found[first]) if into is None or into not in found[drawn] else into
            moved += int((found[drawn] != part).sum())
            found[drawn] = part
    return moved
