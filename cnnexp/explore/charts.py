"""Figures of numbers: images per class and split, and how often each pixel value is there."""

from typing import Any

import numpy as np

from cnnexp.data.images import Integers
from cnnexp.pages.style import COLOURS, GREY, Figure, canvas, finish
from cnnexp.text import plain, shorten

NAMED = 40  # classes; more have no room for their names
LABEL = 26  # characters of a class's name
SPLIT_COLOURS = {"train": COLOURS[0], "val": COLOURS[4], "test": COLOURS[2]}
CHANNEL_COLOURS = {"red": COLOURS[1], "green": COLOURS[2], "blue": COLOURS[0], "gray": "#4d4d4d"}
BIN = 4  # pixel values in a bar
NUMBER: Any = {  # beside its bar, and over the dashed line
    "textcoords": "offset points",
    "va": "center",
    "fontsize": 7.5,
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.6},
}


def class_counts(counts: dict[str, Integers], classes: list[str]) -> Figure:
    """Draw images per class, a panel per split: bars with names, or for many classes a curve in order of size."""
    if len(classes) <= NAMED:
        return _bars(counts, [shorten(plain(name), LABEL) for name in classes])
    return _curves(counts, len(classes))


def _bars(counts: dict[str, Integers], labels: list[str]) -> Figure:
    figure, axes = canvas(7.4, 1.0 + 0.23 * max(len(labels), 3), 1, len(counts), sharey=True)
    for axis, (split, count) in zip(axes, counts.items(), strict=True):
        axis.barh(range(len(labels)), count, color=SPLIT_COLOURS[split], height=0.72)
        for place, number in enumerate(count):
            axis.annotate(f"{number:,}", (number, place), (3, 0), **NUMBER)
        axis.axvline(count.mean(), color="#4d4d4d", linewidth=0.9, linestyle=(0, (2, 2)), zorder=2.5)
        axis.set_xlim(0, 1.28 * count.max())
        axis.set_ylim(len(labels) - 0.4, -0.6)
        axis.locator_params(axis="x", nbins=3)
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", length=0)
        axis.set_title(f"{split} ({count.sum():,})")
        axis.set_xlabel("images")
    axes[0].set_yticks(range(len(labels)), labels)
    caption = "Images per class and split, each split on a scale of its own; the dashed line is the split's mean."
    return finish(figure, "classes", caption)


def _curves(counts: dict[str, Integers], classes: int) -> Figure:
    order = np.argsort(-next(iter(counts.values())), kind="stable")
    figure, axes = canvas(7.4, 2.7, 1, len(counts))
    for axis, (split, count) in zip(axes, counts.items(), strict=True):
        axis.stairs(count[order], np.arange(classes + 1), fill=True, color=SPLIT_COLOURS[split])
        axis.axhline(count.mean(), color="#4d4d4d", linewidth=0.9, linestyle=(0, (2, 2)))
        axis.set_xlim(0, classes)
        axis.set_ylim(0, 1.08 * count.max())
        axis.locator_params(axis="x", nbins=4)
        axis.set_title(f"{split} ({count.sum():,})")
        axis.set_xlabel("class, by its size")
    axes[0].set_ylabel("images")
    caption = (
        f"Images of the {classes:,} classes, in every panel from the one with the most training images to the one with "
        "the fewest; the dashed line is the split's mean. The table names them."
    )
    return finish(figure, "classes", caption)


def pixel_values(counts: Integers, names: list[str]) -> Figure:
    """Draw how often each value is there, a curve per channel. counts: (C, 256)."""
    figure, (axis,) = canvas(7.4, 2.9)
    shares = 100 * counts.reshape(len(counts), -1, BIN).sum(axis=2) / counts.sum(axis=1, keepdims=True)
    edges = np.arange(0, 257, BIN)
    for share, name in zip(shares, names, strict=True):
        axis.stairs(share, edges, color=CHANNEL_COLOURS[name], linewidth=1.5, label=name, baseline=None)
    if shares.max() > 25 * np.median(shares[shares > 0]):
        axis.set_yscale("log")
    else:
        axis.set_ylim(bottom=0)
    axis.set_xlim(0, 256)
    axis.set_xticks([0, 64, 128, 192, 255])
    axis.set_xlabel(f"pixel value as stored, {BIN} values a step")
    axis.set_ylabel("share of the pixels (%)")
    axis.axvline(255, color=GREY, linewidth=0.6)
    figure.legend(loc="outside upper center", ncols=3)
    caption = "Pixel values of the training images, per channel."
    if axis.get_yscale() == "log":
        caption += " The scale of the shares is logarithmic, for a few values are far more frequent than the rest."
    return finish(figure, "pixel_values", caption)
