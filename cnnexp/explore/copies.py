"""Images that are there more than once: in which splits, under which classes, and what that means for a result."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cnnexp.data.images import ImageData, Integers

IMAGES = {"train": "training images", "val": "validation images", "test": "test images"}


@dataclass(frozen=True)
class Copy:
    """One image of a group of equal ones. row: into ImageData's images."""

    split: str
    id: str
    label: int
    row: int


@dataclass(frozen=True)
class Copies:
    """The groups of equal images, those that matter most first: over classes, then training images in test."""

    groups: list[list[Copy]]
    sizes: dict[str, int]

    def within(self, split: str) -> int:
        """Return how many images of a split repeat another one of it."""
        counts = (sum(copy.split == split for copy in group) for group in self.groups)
        return sum(max(0, count - 1) for count in counts)

    def shared(self, one: str, other: str) -> int:
        """Return how many images of split `other` are in split `one` too."""
        return sum(copy.split == other for group in self.groups if one in _splits(group) for copy in group)

    def contradictions(self) -> list[list[Copy]]:
        """Return the groups whose images have different labels."""
        return [group for group in self.groups if contradicts(group)]

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield the pairs of splits that hold images: train and val, train and test, val and test."""
        yield from itertools.combinations([name for name, size in self.sizes.items() if size], 2)


def find(data: ImageData) -> Copies:
    """Return the groups of equal images of a data set."""
    splits = data.splits()
    split_of = np.full(len(data.train.images), -1, np.int8)
    place_of: Integers = np.zeros(len(split_of), np.int64)
    for number, split in enumerate(splits.values()):
        split_of[split.indices], place_of[split.indices] = number, np.arange(len(split))
    names = list(splits)

    def member(row: int) -> Copy:
        name, place = names[split_of[row]], place_of[row]
        return Copy(name, str(splits[name].ids[place]), int(splits[name].labels[place]), row)

    groups = [[member(int(row)) for row in rows] for rows in data.copies]
    groups.sort(key=lambda group: (not contradicts(group), not {"train", "test"} <= _splits(group), group[0].row))
    return Copies(groups, {name: len(split) for name, split in splits.items()})


def contradicts(group: list[Copy]) -> bool:
    """Tell whether equal images have different labels."""
    return len({copy.label for copy in group}) > 1


def _splits(group: list[Copy]) -> set[str]:
    return {copy.split for copy in group}


def warnings(copies: Copies) -> list[str]:
    """Say what of the copies makes a result doubtful."""
    found = []
    for one, other, so in (
        ("train", "test", "the test accuracy counts what the network has seen"),
        ("val", "test", "the best epoch is chosen on what is then tested"),
        ("train", "val", "the validation accuracy counts what the network has seen"),
    ):
        if count := copies.shared(one, other):
            share = f"{count:,} of {copies.sizes[other]:,} {IMAGES[other]} ({100 * count / copies.sizes[other]:.2g} %)"
            what = "is" if count == 1 else "are"
            found.append(f"Leak from {one} to {other}: {share} {what} also in {one}, pixel for pixel; {so}.")
    if groups := copies.contradictions():
        single = len(groups) == 1
        found.append(
            f"Contradiction: {len(groups):,} image{'s' * (not single)} stand{'s' * single} under more than one class "
            f"({sum(map(len, groups)):,} copies): no network can have all of them right."
        )
    return found


def summary(copies: Copies) -> str:
    """Say in one sentence how many copies there are."""
    total = sum(copies.sizes.values())
    if not copies.groups:
        return f"None of the {total:,} images is there twice (compared by their prepared pixels)."
    images = sum(map(len, copies.groups))
    within = ", ".join(f"{copies.within(name):,} within {name}" for name, size in copies.sizes.items() if size)
    return (
        f"{images:,} of {total:,} images are equal to another one in every prepared pixel, in {len(copies.groups):,} "
        f"group{'s' * (len(copies.groups) != 1)}; repeats: {within}."
    )
