"""Test images for a report, read from the prepared data that the runs were tested on. Prepares, downloads nothing."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnexp.data import cache
from cnnexp.errors import UserError
from cnnexp.report.analysis.examples import Example, Examples
from cnnexp.report.read.runs import Run
from cnnexp.report.read.study import Arm
from cnnexp.text import plain

MAX_SIDE_PIXELS = 128  # larger images are averaged down, so that a page stays small
TEST = 2  # the number of the test split in cache.Prepared.parts
Image = np.ndarray[Any, Any]  # (H, W, C) uint8


@dataclass(frozen=True)
class PreparedTestSplit:
    """The test images of one prepared data set. indices: by sample id."""

    prepared: cache.Prepared
    indices: dict[str, int]

    def get(self, id: str, label: int) -> Image | None:
        """Return the image with this id and label, made small; None if there is none."""
        full = self.full(id, label)
        return None if full is None else shrink(full)

    def full(self, id: str, label: int) -> Image | None:
        """Return the image as the network gets it."""
        index = self.indices.get(id)
        if index is None or self.prepared.labels[index] != label:
            return None
        return np.asarray(self.prepared.images[index])


class Missing(UserError):
    """The images are not available. The message is one line for the reader and says what to run."""


@dataclass
class TestImages:
    """The images of a report's examples. missing: one line for each data set without available images."""

    images: dict[tuple[str, str], Image] = field(default_factory=dict)  # by (data fingerprint, sample id)
    missing: list[str] = field(default_factory=list)

    def get(self, arm: Arm, example: Example) -> Image | None:
        """Return the image of an arm's example, None if it is not available."""
        return self.images.get((_data(arm), example.id))


def _data(arm: Arm) -> str:
    return arm.first.text("data", "fingerprint")


def fetch(examples: Examples) -> TestImages:
    """Read the images of all examples from the prepared data, one data set at a time."""
    wanted: dict[str, tuple[Run, list[Example]]] = {}
    for arm, mistakes in examples.mistakes:
        wanted.setdefault(_data(arm), (arm.first, []))[1].extend(mistakes)
    for arm, cells in examples.confused:
        wanted.setdefault(_data(arm), (arm.first, []))[1].extend(e for of_cell in cells.values() for e in of_cell)
    for found, by_arm, by_base in examples.never_agreed:
        arm = found.base.arm
        wanted.setdefault(_data(arm), (arm.first, []))[1].extend([*by_arm, *by_base])
    fetched = TestImages()
    for fingerprint, (run, listed) in wanted.items():
        if not listed:
            continue
        try:
            split = open_test_split(run)
        except Missing as reason:
            fetched.missing.append(str(reason))
            continue
        images = {e.id: image for e in listed if (image := split.get(e.id, e.label)) is not None}
        fetched.images |= {(fingerprint, id): image for id, image in images.items()}
        if unknown := {e.id for e in listed} - images.keys():
            what = f"the prepared images have other names, or labels, than {plain(min(unknown))}"
            fetched.missing.append(f"{len(unknown)} pictures are left out: {what}.")
    return fetched


def open_test_split(run: Run) -> PreparedTestSplit:
    """Open the images that a run was tested on. Raises Missing."""
    name, fingerprint = run.text("data", "name"), run.text("data", "fingerprint")
    try:
        node = dict(run.record.config()["data"])
    except (UserError, KeyError, TypeError, ValueError):
        node = {}
    folder = found if isinstance(found := node.get("cache"), str) else None
    if not str(target := node.get("_target_", "cnnexp.")).startswith("cnnexp."):
        own = f"{plain(target)} is a data set of your own, whose images are not kept on disk"
        raise Missing(f"Pictures are left out: {own}. Files in class folders (data=folder) are shown.")
    prepared = cache.find(folder, name, fingerprint) if fingerprint else None
    if prepared is None or prepared.images.ndim != 4 or prepared.images.dtype != np.uint8:
        raise Missing(_why_missing(name, fingerprint, folder, run.text("repeat")))
    indices = np.flatnonzero(prepared.parts == TEST)
    if not len(indices):  # a flat tree, of which the run drew its test images
        indices = np.arange(len(prepared.ids))
    return PreparedTestSplit(prepared, {str(prepared.ids[index]): int(index) for index in indices})


def _why_missing(name: str, fingerprint: str, folder: str | None, repeat: str) -> str:
    root = plain(cache.cache_root(folder))
    found = {plain(other) for of, other in cache.fingerprints(folder).values() if of == name}
    others = ", ".join(sorted(other[:8] for other in found))
    there = f"; images of that name have another fingerprint there ({others})" if others else ""
    if fingerprint in found:
        there = "; what is there was prepared by another version of cnnexp"
    words = repeat.split(maxsplit=2)
    known = words[:2] == ["cnnexp", "train"]
    command = " ".join(["cnnexp train --plan", *words[2:]]) if known else "cnnexp data NAME"
    return (
        f"Pictures are left out: {root} does not hold the prepared images of {name or 'these runs'} (fingerprint "
        f"{fingerprint[:8] or 'not recorded'}){there}. To prepare them, run this and make the report again: {command}"
    )


def shrink(image: Image, side: int = MAX_SIDE_PIXELS) -> Image:
    """Return an image (H, W, C) uint8 of at most `side` pixels a side: squares of pixels replaced by their mean."""
    step = -(-max(image.shape[:2]) // side)
    if step < 2:
        return image
    height, width = (max(length // step, 1) for length in image.shape[:2])
    part = image[: height * step, : width * step].astype(np.float64)
    small: Image = part.reshape(height, step, width, step, -1).mean((1, 3)).round().astype(np.uint8)
    return small
