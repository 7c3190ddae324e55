"""Test images for a report, out of the prepared data that the runs were tested on. Prepares and downloads nothing."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnexp.data import cache
from cnnexp.errors import UserError
from cnnexp.report.analysis.examples import Example, Examples
from cnnexp.report.read.collect import Arm
from cnnexp.report.read.runs import Run
from cnnexp.text import plain

LARGEST = 128  # pixels a side; more are averaged down, so that a page stays small
TEST = 2  # the number of the test split in cache.Prepared.parts


@dataclass(frozen=True)
class Pictures:
    """The test images of one data set, by sample id."""

    prepared: cache.Prepared
    rows: dict[str, int]

    def get(self, id: str, label: int) -> np.ndarray[Any, Any] | None:
        """Return an image (H, W, C) uint8; None if there is none of this id and label."""
        row = self.rows.get(id)
        if row is None or self.prepared.labels[row] != label:
            return None
        return shrink(np.asarray(self.prepared.images[row]))


class Missing(UserError):
    """The pictures are not to be had; the message is one line for the reader, with what to run."""


@dataclass
class Album:
    """The pictures of a report's examples. missing: a line for each data set whose pictures are not to be had."""

    images: dict[tuple[str, str], np.ndarray[Any, Any]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def get(self, arm: Arm, example: Example) -> np.ndarray[Any, Any] | None:
        """Return the picture (H, W, C) uint8 of an example of the arm; None if it is not to be had."""
        return self.images.get((_data(arm), example.id))


def _data(arm: Arm) -> str:
    return arm.first.text("data", "fingerprint")


def fetch(examples: Examples) -> Album:
    """Read the pictures of all examples from the prepared data, a data set at a time."""
    wanted: dict[str, tuple[Run, list[Example]]] = {}
    for arm, mistakes in examples.mistakes:
        wanted.setdefault(_data(arm), (arm.first, []))[1].extend(mistakes)
    for found, by_arm, by_base in examples.never_agreed:
        arm = found.base.arm
        wanted.setdefault(_data(arm), (arm.first, []))[1].extend([*by_arm, *by_base])
    album = Album()
    for fingerprint, (run, listed) in wanted.items():
        if not listed:
            continue
        try:
            pictures = open_pictures(run)
        except Missing as reason:
            album.missing.append(str(reason))
            continue
        got = {e.id: image for e in listed if (image := pictures.get(e.id, e.label)) is not None}
        album.images |= {(fingerprint, id): image for id, image in got.items()}
        if unknown := {e.id for e in listed} - got.keys():
            what = f"the prepared images have other names, or labels, than {plain(min(unknown))}"
            album.missing.append(f"{len(unknown)} pictures are left out: {what}.")
    return album


def open_pictures(run: Run) -> Pictures:
    """Open the images that a run was tested on. Raises Missing."""
    name, fingerprint = run.text("data", "name"), run.text("data", "fingerprint")
    try:
        folder = run.record.config().get("data", {}).get("cache")
    except (UserError, AttributeError):
        folder = None
    folder = folder if isinstance(folder, str) else None
    prepared = cache.find(folder, fingerprint) if fingerprint else None
    if prepared is None or prepared.images.ndim != 4 or prepared.images.dtype != np.uint8:
        raise Missing(_why(name, fingerprint, folder, run.text("repeat")))
    rows = np.flatnonzero(prepared.parts == TEST)
    return Pictures(prepared, {str(prepared.ids[row]): int(row) for row in rows})


def _why(name: str, fingerprint: str, folder: str | None, repeat: str) -> str:
    root = plain(cache.cache_root(folder))
    others = sorted({plain(found)[:8] for of, found in cache.fingerprints(folder).values() if of == name})
    there = f"; what is there of that name has another fingerprint ({', '.join(others)})" if others else ""
    words = repeat.split(maxsplit=2)
    known = words[:2] == ["cnnexp", "train"]
    command = " ".join(["cnnexp train --plan", *words[2:]]) if known else "cnnexp data NAME"
    return (
        f"Pictures are left out: {root} does not hold the prepared images of {name or 'these runs'} (fingerprint "
        f"{fingerprint[:8] or 'not recorded'}){there}. This prepares them, then make the report again: {command}"
    )


def shrink(image: np.ndarray[Any, Any], largest: int = LARGEST) -> np.ndarray[Any, Any]:
    """Return an image (H, W, C) uint8 of at most `largest` pixels a side: squares of pixels replaced by their mean."""
    step = -(-max(image.shape[:2]) // largest)
    if step < 2:
        return image
    height, width = (max(side // step, 1) for side in image.shape[:2])
    part = image[: height * step, : width * step].astype(np.float64)
    small: np.ndarray[Any, Any] = part.reshape(height, step, width, step, -1).mean((1, 3)).round().astype(np.uint8)
    return small
