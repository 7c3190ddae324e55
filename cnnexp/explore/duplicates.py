"""Images that occur more than once: in which splits, with which classes, and what that means for a result."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cnnexp.data.images import ImageData
from cnnexp.text import plural

IMAGES = {"train": "training images", "val": "validation images", "test": "test images"}


@dataclass(frozen=True)
class Member:
    """One image of a group of equal ones. index: into ImageData's images."""

    split: str
    id: str
    label: int
    index: int


Group = list[Member]


@dataclass(frozen=True)
class Duplicates:
    """The groups of equal images, most important first: those with several classes, then those in train and test.

    sizes: {split: number of its images}.
    """

    groups: list[Group]
    sizes: dict[str, int]

    def within(self, split: str) -> int:
        """Return the number of images of a split that repeat another image of it."""
        counts = (sum(member.split == split for member in group) for group in self.groups)
        return sum(max(0, count - 1) for count in counts)

    def shared(self, one: str, other: str) -> int:
        """Return the number of images of split `other` that are in split `one` too."""
        return sum(member.split == other for group in self.groups if one in _splits(group) for member in group)

    def contradictions(self) -> list[Group]:
        """Return the groups whose images have different labels."""
        return [group for group in self.groups if contradicts(group)]

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield the pairs of splits that have images: train and val, train and test, val and test."""
        yield from itertools.combinations([name for name, size in self.sizes.items() if size], 2)


def find(data: ImageData) -> Duplicates:
    """Return the groups of equal images of a data set."""
    members: dict[int, Member] = {}
    duplicated = np.concatenate([np.zeros(0, np.int64), *data.copies])
    for name, split in data.splits().items():
        for place in np.flatnonzero(np.isin(split.indices, duplicated)):
            index = int(split.indices[place])
            members[index] = Member(name, str(split.ids[place]), int(split.labels[place]), index)
    groups = [[members[int(index)] for index in indices] for indices in data.copies]
    groups.sort(key=lambda group: (not contradicts(group), not {"train", "test"} <= _splits(group), group[0].index))
    return Duplicates(groups, {name: len(split) for name, split in data.splits().items()})


def contradicts(group: Group) -> bool:
    """Return whether equal images have different labels."""
    return len({member.label for member in group}) > 1


def _splits(group: Group) -> set[str]:
    return {member.split for member in group}


def warnings(found: Duplicates) -> list[str]:
    """Describe the duplicates that make a result unreliable."""
    sentences = []
    for one, other, effect in (
        ("train", "test", "the test accuracy includes images that the network was trained on"),
        ("val", "test", "the best epoch is chosen on images that are then tested"),
        ("train", "val", "the validation accuracy includes images that the network was trained on"),
    ):
        if count := found.shared(one, other):
            size = found.sizes[other]
            share = f"{count:,} of {size:,} {IMAGES[other]} ({share_of(count, size)} %)"
            verb = "is" if count == 1 else "are"
            sentences.append(f"Leak from {one} to {other}: {share} {verb} also in {one}, pixel for pixel; {effect}.")
    if groups := found.contradictions():
        verb, shown = "has" if len(groups) == 1 else "have", groups[0][0]
        differs = next(member for member in groups[0] if member.label != shown.label)
        sentences.append(
            f"Contradiction: {plural(len(groups), 'image')} {verb} more than one class "
            f"({sum(map(len, groups)):,} copies): no network can classify all of them correctly. "
            f"{'They are' if len(groups[0]) == sum(map(len, groups)) == 2 else 'Two are'} {shown.id} and {differs.id}."
        )
    return sentences


def share_of(count: int, size: int) -> str:
    """Return a share in percent, with at most two decimals: "100", "99.6", "0.05", "under 0.01", "over 99.99".

    Only 0 is "0", and only all are "100".
    """
    if 0 < count < size:
        if 20_000 * count < size:
            return "under 0.01"
        if 20_000 * (size - count) <= size:
            return "over 99.99"
    return f"{100 * count / size:.2f}".rstrip("0").rstrip(".")


def summary(found: Duplicates) -> str:
    """Return the number of duplicates, in one sentence."""
    total = sum(found.sizes.values())
    if not found.groups:
        return f"None of the {total:,} images has a duplicate (compared by their prepared pixels)."
    within = ", ".join(f"{found.within(name):,} within {name}" for name, size in found.sizes.items() if size)
    return (
        f"{sum(map(len, found.groups)):,} of {total:,} images are equal to another one in every prepared pixel, "
        f"in {plural(len(found.groups), 'group')}; repeats: {within}."
    )
