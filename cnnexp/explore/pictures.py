"""Figures of images: samples of every class as they are stored, normalised and augmented, and images that are equal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from cnnexp.data.images import ImageData, Integers, Pixels
from cnnexp.explore.copies import Copy, contradicts
from cnnexp.pages.style import COLOURS, Figure, canvas, finish
from cnnexp.text import plain, shorten

CLASSES = 12  # rows of samples
GROUPS = 12  # rows of equal images
SMALLEST, LARGEST = 32, 96  # pixels of an image's longer side in a figure
GAP = 2  # pixels between images
SHOWN_STD = 2.5  # normalised values from -2.5 to 2.5 are shown from black to full colour
SEED = 0
CELL = 0.58  # inches


@dataclass(frozen=True)
class Augmented:
    """What augments the samples. name: in words; apply: ((N, C, H, W) float32 in [0, 1], generator) -> the same."""

    name: str
    apply: Callable[..., Any]


def samples(data: ImageData, augmented: Augmented | None) -> Figure:
    """Draw a row of training images for each of up to CLASSES classes: as stored, normalised, and augmented draws."""
    shown = np.unique(np.linspace(0, len(data.classes) - 1, min(CLASSES, len(data.classes))).astype(int))
    width = 3 if augmented else 5
    places = [_spread(np.flatnonzero(data.train.labels == label), width) for label in shown]
    raw = [[data.train.images[data.train.indices[i]] for i in row] for row in places]
    panels = {"as stored": raw, "normalised": [[normalised(image, data) for image in row] for row in raw]}
    if augmented:
        panels["augmented: 4 draws of the first"] = _draws([row[0] for row in raw], 4, augmented)
    columns = [max(map(len, rows)) for rows in panels.values()]
    labels = [shorten(plain(data.classes[label]), 22) for label in shown]
    figure, axes = canvas(
        1.9 + CELL * sum(columns),
        0.55 + CELL * len(shown),
        1,
        len(panels),
        square=True,
        gridspec_kw={"width_ratios": columns},
    )
    for axis, (title, rows), count in zip(axes, panels.items(), columns, strict=True):
        _mosaic(axis, rows, count)
        axis.set_title(title, fontsize=8.5)
    height, _ = _shown_size(raw[0][0])
    axes[0].set_yticks([(height + GAP) * i + height / 2 for i in range(len(shown))], labels)
    return finish(figure, "samples", _caption(data, len(shown), augmented), wide=True)


def _caption(data: ImageData, shown: int, augmented: Augmented | None) -> str:
    left = len(data.classes) - shown
    rows = f"{shown} of {len(data.classes):,} classes, evenly spread; {left:,} are left out" if left else "every class"
    words = (
        f"Training images of {rows}: as stored, and as the network sees them after normalising, the values from "
        f"-{SHOWN_STD} to {SHOWN_STD} shown from black to full colour and what lies beyond cut off"
    )
    return f"{words}; augmented by {augmented.name}, before normalising (seed {SEED})." if augmented else f"{words}."


def _spread(places: Integers, count: int) -> Integers:
    """Return up to `count` of `places`, evenly spread: neighbours in a folder are often alike."""
    spread: Integers = places[np.unique(np.linspace(0, len(places) - 1, count).astype(int))]
    return spread


def normalised(image: Pixels, data: ImageData) -> Pixels:
    """Return an image (H, W, C) as its normalised values are shown: -SHOWN_STD to SHOWN_STD as 0 to 255."""
    values = (image / 255 - np.array(data.mean)) / np.array(data.std)
    shown: Pixels = ((values / SHOWN_STD + 1) / 2 * 255).round().clip(0, 255).astype(np.uint8)
    return shown


def _draws(images: list[Pixels], count: int, augmented: Augmented) -> list[list[Pixels]]:
    """Return `count` draws of each image's augmentation."""
    import torch

    from cnnexp import rng
    from cnnexp.data.batches import as_float

    batch = torch.from_numpy(np.stack([image for image in images for _ in range(count)])).permute(0, 3, 1, 2)
    changed = augmented.apply(as_float(batch), rng.generator(SEED, "explore"))
    pixels = (changed.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [list(pixels[start : start + count]) for start in range(0, len(pixels), count)]


def _mosaic(axis: Axes, rows: Sequence[Sequence[Pixels]], columns: int) -> None:
    """Lay images out as one picture with white gaps; a row may have fewer than `columns`."""
    height, width = _shown_size(rows[0][0])
    whole = np.full((len(rows) * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            whole[i * (height + GAP) :, j * (width + GAP) :][:height, :width] = _scaled(image, height, width)
    axis.imshow(whole, interpolation="none", extent=(0, whole.shape[1], whole.shape[0], 0))
    axis.grid(visible=False)
    axis.spines[:].set(visible=False)
    axis.tick_params(length=0)
    axis.set_xticks([])
    axis.set_yticks([])


def _shown_size(image: Pixels) -> tuple[int, int]:
    """Return the height and width at which an image is drawn: small ones a whole number of times as large."""
    longer = max(image.shape[:2])
    scale = LARGEST / longer if longer > LARGEST else max(1, SMALLEST // longer)
    return max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))


def _scaled(image: Pixels, height: int, width: int) -> Pixels:
    """Return an image as (height, width, 3)."""
    picture = Image.fromarray(image.squeeze(axis=2) if image.shape[2] == 1 else image).convert("RGB")
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX))


def equal_images(data: ImageData, groups: Sequence[Sequence[Copy]]) -> Figure | None:
    """Draw the first groups of equal images, two of each, with their splits, classes and names; None without any."""
    if not groups:
        return None
    shown = groups[:GROUPS]
    figure, (axis,) = canvas(7.4, 0.4 + 0.62 * len(shown))
    images = [[data.train.images[copy.row] for copy in group[:2]] for group in shown]
    height, width = _shown_size(images[0][0])
    _mosaic(axis, images, 2)
    axis.set_aspect("equal")
    for number, group in enumerate(shown):
        for line, copy in enumerate(group[:2]):
            more = f"  (+{len(group) - 2} more)" if line and len(group) > 2 else ""
            words = f"{copy.split}, {shorten(plain(data.classes[copy.label]), 24)}: {shorten(plain(copy.id), 48)}{more}"
            colour = COLOURS[1] if contradicts(list(group)) else "#303030"
            place = (2.1 * (width + GAP), number * (height + GAP) + height * (0.3 + 0.4 * line))
            axis.text(*place, words, va="center", fontsize=7.5, color=colour)
    axis.set_xlim(0, 11.4 * (height + GAP))
    left = (
        f"; {len(groups) - len(shown):,} more groups are in tables/duplicates.csv" if len(groups) > len(shown) else ""
    )
    caption = (
        f"Images that are equal in every prepared pixel, two of each group{left}. Those that stand under different "
        "classes come first, in orange; then training images that are test images too."
    )
    return finish(figure, "duplicates", caption, wide=True)
