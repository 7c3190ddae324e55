"""Figures of counts: images per class and split, and how often each pixel value occurs."""

from typing import Any

import numpy as np

from cnnexp.data.images import Integers
from cnnexp.pages.fonts import labels
from cnnexp.pages.style import COLOURS, GREY, Figure, canvas, finish
from cnnexp.text import plain

MAX_NAMES = 40  # classes; with more there is no space for their names
MAX_LABEL = 26  # characters of a class's name
MAX_HEIGHT = 5.5  # inches of the figure of many classes
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
    """Draw images per class, a panel per split: bars with names, or for many classes bars sorted by size."""
    named = len(classes) <= MAX_NAMES
    order = np.argsort(-next(iter(counts.values())), kind="stable")  # by the first split, which is train
    height = min(1.0 + 0.23 * max(len(classes), 3), 100 if named else MAX_HEIGHT)
    figure, axes = canvas(7.4, height, 1, len(counts), sharey=True)
    for axis, (split, count) in zip(axes, counts.items(), strict=True):
        if named:
            axis.barh(range(len(classes)), count, color=SPLIT_COLOURS[split], height=0.72)
            for place, number in enumerate(count):
                axis.annotate(f"{number:,}", (number, place), (3, 0), **NUMBER)
        else:  # one shape for all
            edges = np.arange(len(classes) + 1) - 0.5
            axis.stairs(count[order], edges, orientation="horizontal", fill=True, color=SPLIT_COLOURS[split])
        axis.axvline(count.mean(), color="#4d4d4d", linewidth=0.9, linestyle=(0, (2, 2)), zorder=2.5)
        axis.set_xlim(0, 1.28 * count.max())
        axis.set_ylim(len(classes) - 0.4, -0.6)
        axis.locator_params(axis="x", nbins=3)
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", length=0)
        axis.set_title(f"{split} ({count.sum():,})")
        axis.set_xlabel("images")
    caption = "Images per class and split, each split on its own scale; the dashed line is the split's mean."
    if named:
        axes[0].set_yticks(range(len(classes)), labels([plain(name) for name in classes], MAX_LABEL))
    else:
        axes[0].set_ylabel("class, by its size")
        caption += (
            f" The {len(classes):,} classes are sorted by their training images in every panel; the table names them."
        )
    return finish(figure, "classes", caption)


def pixel_values(counts: Integers, names: list[str]) -> Figure:
    """Draw how often each value occurs, a curve per channel. counts: (C, 256)."""
    figure, (axis,) = canvas(7.4, 2.9)
    shares = pixel_shares(counts)
    for share, name in zip(shares, names, strict=True):
        axis.stairs(
            share, np.arange(0, 257, BIN), color=CHANNEL_COLOURS[name], linewidth=1.5, label=name, baseline=None
        )
    caption = "Pixel values of the training images, per channel."
    if is_skewed(shares):
        axis.set_yscale("log")
        caption += " The scale is logarithmic, because a few values are far more frequent than the rest."
    else:
        axis.set_ylim(bottom=0)
    axis.set_xlim(0, 256)
    axis.set_xticks([0, 64, 128, 192, 255])
    axis.set_xlabel(f"pixel value as stored, {BIN} values a step")
    axis.set_ylabel("share of the pixels (%)")
    axis.axvline(255, color=GREY, linewidth=0.6)
    figure.legend(loc="outside upper center", ncols=3)
    return finish(figure, "pixel_values", caption)


def pixel_shares(counts: Integers) -> np.ndarray[Any, Any]:
    """Return (C, 256 / BIN): the share of each channel's pixels that have a value of each bin, in per cent."""
    shares: np.ndarray[Any, Any] = (
        100 * counts.reshape(len(counts), -1, BIN).sum(axis=2) / counts.sum(axis=1, keepdims=True)
    )
    return shares


def is_skewed(shares: np.ndarray[Any, Any]) -> bool:
    """Return whether a few values are so much more frequent that only a logarithmic scale shows the others."""
    return bool(shares.max() > 25 * np.median(shares[shares > 0]))
