"""Figures of images: samples of every class as stored, normalised and augmented, and equal images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cnnexp.data.images import ImageData, Integers, Pixels
from cnnexp.explore.duplicates import Group, contradicts
from cnnexp.pages.fonts import label, labels
from cnnexp.pages.style import COLOURS, Figure, canvas, finish
from cnnexp.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_CLASSES = 12  # rows of samples
MAX_GROUPS = 12  # rows of equal images
MIN_SIDE, MAX_SIDE = 32, 96  # pixels of an image's longer side in a figure
GAP = 2  # pixels between images
SHOWN_STD = 2.5  # normalised values from -2.5 to 2.5 are shown from black to full colour
SEED = 0
CELL = 0.58  # inches


@dataclass(frozen=True)
class Augmented:
    """An augmentation to show. name: in words; apply: ((N, C, H, W) float32 in [0, 1], generator) -> the same."""

    name: str
    apply: Callable[..., Any]


def samples(data: ImageData, augmented: Augmented | None) -> Figure:
    """Draw a row of training images for each of up to MAX_CLASSES classes: as stored, normalised, and augmented."""
    shown = _spread(np.arange(len(data.classes)), MAX_CLASSES)
    places = [_spread(np.flatnonzero(data.train.labels == label), 3 if augmented else 5) for label in shown]
    raw = [[data.train.images[data.train.indices[i]] for i in row] for row in places]
    panels = {"as stored": raw, "normalised": [[normalised(image, data) for image in row] for row in raw]}
    if augmented:
        panels["augmented: 4 draws of the first"] = _draws([row[0] for row in raw], 4, augmented)
    columns = [max(map(len, rows)) for rows in panels.values()]
    size = 1.9 + CELL * sum(columns), 0.55 + CELL * len(shown)
    figure, axes = canvas(*size, 1, len(panels), square=True, gridspec_kw={"width_ratios": columns})
    for axis, (title, rows), count in zip(axes, panels.items(), columns, strict=True):
        _mosaic(axis, rows, count)
        axis.set_title(title, fontsize=8.5)
    height, _ = _shown_size(raw[0][0])
    names = labels([plain(data.classes[label]) for label in shown], 22)
    axes[0].set_yticks([(height + GAP) * i + height / 2 for i in range(len(shown))], names)
    return finish(figure, "samples", _caption(len(data.classes), len(shown), augmented), wide=True)


def _caption(classes: int, shown: int, augmented: Augmented | None) -> str:
    rows = f"{shown} of {classes:,} classes, evenly spread" if classes > shown else "every class"
    words = (
        f"Training images of {rows}: as stored, and after normalising, where the values from -{SHOWN_STD} to "
        f"{SHOWN_STD} are shown from black to full colour and others are clipped"
    )
    return f"{words}; augmented by {augmented.name}, before normalising (seed {SEED})." if augmented else f"{words}."


def _spread(places: Integers, count: int) -> Integers:
    """Return up to `count` of `places`, evenly spread: neighbours in a folder are often similar."""
    spread: Integers = places[np.unique(np.linspace(0, len(places) - 1, count).astype(int))]
    return spread


def normalised(image: Pixels, data: ImageData) -> Pixels:
    """Return an image (H, W, C) with its normalised values, -SHOWN_STD to SHOWN_STD, mapped to 0 to 255."""
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


def _mosaic(axis: "Axes", rows: Sequence[Sequence[Pixels]], columns: int) -> None:
    """Draw images as one picture with white gaps; a row may have fewer than `columns`."""
    height, width = _shown_size(rows[0][0])
    picture = np.full((len(rows) * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            drawn = Image.fromarray(image.squeeze(axis=2) if image.shape[2] == 1 else image).convert("RGB")
            place = picture[i * (height + GAP) :, j * (width + GAP) :]
            place[:height, :width] = np.asarray(drawn.resize((width, height), Image.Resampling.BOX))
    axis.imshow(picture, interpolation="none", extent=(0, picture.shape[1], picture.shape[0], 0))
    axis.grid(visible=False)
    axis.spines[:].set(visible=False)
    axis.tick_params(length=0)
    axis.set_xticks([])
    axis.set_yticks([])


def _shown_size(image: Pixels) -> tuple[int, int]:
    """Return the height and width at which an image is drawn; small images are enlarged by an integer factor."""
    longer = max(image.shape[:2])
    scale = MAX_SIDE / longer if longer > MAX_SIDE else max(1, MIN_SIDE // longer)
    return max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))


def equal_images(data: ImageData, groups: Sequence[Group]) -> Figure | None:
    """Draw the first groups of equal images, two of each, with their splits, classes and names; None without any."""
    if not groups:
        return None
    shown = groups[:MAX_GROUPS]
    figure, (axis,) = canvas(7.4, 0.4 + 0.62 * len(shown))
    images = [[data.train.images[member.index] for member in group[:2]] for group in shown]
    height, width = _shown_size(images[0][0])
    _mosaic(axis, images, 2)
    axis.set_aspect("equal")
    for number, group in enumerate(shown):
        for line, member in enumerate(group[:2]):
            more = f"  (+{len(group) - 2} more)" if line and len(group) > 2 else ""
            name = f"{member.split}, {label(plain(data.classes[member.label]), 24)}: {label(plain(member.id), 48)}"
            place = (2.1 * (width + GAP), number * (height + GAP) + height * (0.3 + 0.4 * line))
            colour = COLOURS[1] if contradicts(group) else "#303030"
            axis.text(*place, name + more, va="center", fontsize=7.5, color=colour)
    axis.set_xlim(0, 11.4 * (height + GAP))
    more = f"; {len(groups) - len(shown):,} more are in tables/duplicates.csv" if len(groups) > len(shown) else ""
    caption = (
        f"Images that are equal in every prepared pixel, two of each group{more}. Groups with different classes come "
        "first, in orange; then training images that are test images too."
    )
    return finish(figure, "duplicates", caption, wide=True)
