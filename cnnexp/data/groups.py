"""Splits by group: all images of one plot, animal or patient are for training, or all for validation, or for the test.

Images of one group resemble each other. If some are trained on, the others are no test. Groups are drawn in an order by
their names and `split_seed`, so that each class has its share as nearly as they allow.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cnnexp.data.images import Integers
from cnnexp.errors import UserError

FOLDER = "folder"


def group_of(pattern: str, name: str) -> str:
    """Return the group of an image from its class and its path within the class, as "cat/plot3/1.jpg".

    pattern: "folder" is the folder below the class. Else a regular expression, searched in the path within the class:
    its first group in parentheses, or its match. Raises UserError if the name has no such part.
    """
    path = name.partition("/")[2]
    if pattern == FOLDER:
        if not (place := path.rpartition("/")[0]):
            raise UserError(f"data.group: folder: {name} is in no folder below its class")
        return place.partition("/")[0]
    found = re.search(pattern, path)
    group = found and found.group(1 if found.re.groups else 0)
    if not group:
        raise UserError(f"data.group: {pattern!r} matches no part of {path} (class {name.partition('/')[0]})")
    return group


def check_pattern(where: str, pattern: str | None) -> None:
    """Raise UserError if a pattern is no regular expression."""
    try:
        re.compile(pattern or FOLDER)
    except re.error as error:
        allowed = "folder, or a regular expression"
        raise UserError(f"{where}: given {pattern!r}; allowed: {allowed} ({error})") from error


def numbered(groups: Sequence[str]) -> tuple[list[str], Integers]:
    """Return the names of G groups, sorted, and the number of each image's group, (N,)."""
    names, numbers = np.unique(np.array(groups, dtype=object), return_inverse=True)
    return [str(name) for name in names], numbers.astype(np.int64)


def draw(pool: NDArray[np.bool_], labels: Integers, groups: Integers, order: Integers, share: float) -> Integers:
    """Return the images of a pool whose groups are drawn, about `share` of each class; (n,) indices.

    pool, labels, groups: (N,). order: (G,), the groups in the order in which they are tried. A group is drawn if the
    number of images of each class is nearer to its share with it. A class whose share is half an image or more gets a
    group, if another one is left for training: every class keeps one. Empty if no group can be drawn.
    """
    counts = _counts(pool, labels, groups)
    total, drawn = counts.sum(axis=0), np.zeros(len(counts), bool)
    have, due = np.zeros_like(total), share * total

    def can_go(group: int) -> bool:
        """Return whether the group has images, is not drawn, and leaves an image of every class."""
        left = total - have - counts[group]
        return bool(counts[group].any() and not drawn[group] and left[total > 0].all())

    for group in order:
        nearer = np.abs(have + counts[group] - due).sum() < np.abs(have - due).sum()
        if nearer and can_go(group):
            drawn[group] = True
            have += counts[group]
    for label in np.flatnonzero((due >= 0.5) & (have == 0)):
        group = next((g for g in order if counts[g, label] and can_go(g)), None)
        if group is not None and not have[label]:
            drawn[group] = True
            have += counts[group]
    return np.flatnonzero(pool & drawn[groups])


def in_fold(
    pool: NDArray[np.bool_], labels: Integers, groups: Integers, order: Integers, folds: int, fold: int
) -> Integers:
    """Return which images of a pool are in a fold; (n,) indices. Raises UserError for more folds than groups.

    The only group of a class is in no fold: it is trained on in all of them. The largest groups are dealt out first:
    each to an empty fold, else to the one that has least of its classes, and never to one that has all other images of
    a class, if another fold has not.
    """
    counts = _counts(pool, labels, groups)
    total, present = counts.sum(axis=0), counts.any(axis=1)
    dealt = present & ~((counts == total) & (total > 0)).any(axis=1)
    for given, which in ((present, ""), (dealt, " that is not the only one of a class")):
        if (most := int(given.sum())) < folds:
            raise UserError(f"data.folds: given {folds}; allowed: at most {most}, one for each group{which}")
    shares = counts / np.maximum(total, 1)
    filled, held = np.zeros((folds, len(total))), np.zeros((folds, len(total)), np.int64)
    number = np.full(len(counts), -1)
    for group in order[np.argsort(-counts[order].sum(axis=1), kind="stable")]:
        if dealt[group]:
            added = ((filled + shares[group]) ** 2 - filled**2).sum(axis=1)
            takes_all = ((held + counts[group] == total) & (counts[group] > 0)).any(axis=1)
            number[group] = np.lexsort((filled.sum(axis=1), added, filled.any(axis=1), takes_all))[0]
            filled[number[group]] += shares[group]
            held[number[group]] += counts[group]
    return np.flatnonzero(pool & (number[groups] == fold))


def joined(copies: Sequence[Integers], groups: Integers) -> list[Integers]:
    """Join groups of images that have copies in common: sets of images (indices) that must be in one split."""
    root = np.arange(groups.max(initial=-1) + 1)
    for same in copies:
        together = np.unique(root[groups[same]])
        root[np.isin(root, together)] = together[0]
    return [np.flatnonzero(root[groups] == number) for number in np.unique(root[groups[np.concatenate(copies)]])]


def _counts(pool: NDArray[np.bool_], labels: Integers, groups: Integers) -> Integers:
    """Return the number of images of each group and class in a pool: (G, K)."""
    counts: Integers = np.zeros((int(groups.max()) + 1, int(labels.max()) + 1), np.int64)
    np.add.at(counts, (groups[pool], labels[pool]), 1)
    return counts
