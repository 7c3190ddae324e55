"""Confusion matrices: one per arm with its counts, and all arms side by side."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from cnnexp.pages.style import Figure, canvas, finish, turn_off
from cnnexp.report.analysis.classes import MATRIX, ClassResults
from cnnexp.report.figures.looks import Look
from cnnexp.text import shorten

WITH_COUNTS = 20  # classes; more have no room for a number in each cell
CLASS_LABEL = 16


def _draw(axis: Axes, counts: np.ndarray[Any, Any], names: list[str], size: float) -> Any:
    """Draw counts (K, K), coloured by the share of the true class; `size`: of the class names, in points."""
    totals = counts.sum(1, keepdims=True)
    shares = 100 * counts / np.maximum(totals, 1)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    axis.grid(visible=False)
    axis.spines[:].set(visible=True, color="#d0d0d0")
    axis.tick_params(length=0, labelsize=size)
    labels = [shorten(n, CLASS_LABEL) for n in names]
    axis.set_xticks(range(len(names)), labels, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(names)), labels)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("true class")
    return image


def one(results: ClassResults) -> Figure | None:
    """Draw an arm's confusion matrix, counts summed over its seeds; None of many classes."""
    if len(results.counts) > MATRIX:
        return None
    arm, counts, seeds = results.arm, results.counts, results.seeds
    classes = len(counts)
    side = min(7.5, max(3.6, 1.4 + 0.42 * classes))
    figure, (axis,) = canvas(side + 1.2, side + 0.2, square=True)
    image = _draw(axis, counts, results.names, 8.5 if classes <= WITH_COUNTS else 5.5)
    if classes <= WITH_COUNTS:
        half = 0.5 * np.maximum(counts.sum(1), 1)
        size = 7.5 if classes <= 12 else 5.5
        for (t, p), count in np.ndenumerate(counts):
            if count:
                colour = "white" if count > half[t] else "#303030"
                text = axis.text(p, t, f"{count}", ha="center", va="center", fontsize=size, color=colour)
                text.set_in_layout(False)  # it lies within its cell, and measuring hundreds of them takes seconds
    bar = figure.colorbar(image, ax=axis, shrink=0.8, pad=0.02, aspect=30)
    bar.set_label("share of the true class (%)")
    bar.outline.set_visible(False)
    caption = f"Confusion matrix of {arm.label}: test images summed over n = {seeds} seed{'s' * (seeds != 1)}."
    return finish(figure, f"confusion_{arm.key}", caption)


def side_by_side(results: Sequence[ClassResults], looks: Mapping[str, Look]) -> Figure | None:
    """Draw the matrices of arms beside each other; None unless two arms or more have one, of at most MATRIX classes."""
    found = [of_arm for of_arm in results if len(of_arm.counts) <= MATRIX]
    if len(found) < 2:
        return None
    columns = min(4, len(found)) if len(found) != 5 else 3
    rows = math.ceil(len(found) / columns)
    figure, axes = canvas(2.6 * columns + 1.6, 2.75 * rows + 1.1, rows, columns, square=True)
    image = None
    for i, (axis, of_arm) in enumerate(zip(axes, found, strict=False)):
        counts, look = of_arm.counts, looks[of_arm.arm.key]
        image = _draw(axis, counts, of_arm.names, 6.5 if len(counts) <= 12 else 4.5)
        axis.set_title(f"{look.label} (n = {of_arm.seeds})", color=look.colour)
        if len(counts) <= 12:
            _diagonal(axis, counts)
        _outer(axis, i, columns, len(found), all(other.names == of_arm.names for other in found))
    turn_off(axes[len(found) :])
    if image is not None:
        bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.01, aspect=40)
        bar.set_label("share of the true class (%)")
        bar.outline.set_visible(False)
    caption = (
        f"Confusion matrices of {len(found)} arms on one scale, summed over their seeds; on the diagonal: the share of "
        "the class that is recognised, in %."
    )
    return finish(figure, "confusion_all", caption, wide=True)


def _diagonal(axis: Axes, counts: np.ndarray[Any, Any]) -> None:
    for k, share in enumerate(100 * np.diag(counts) / np.maximum(counts.sum(1), 1)):
        axis.text(
            k, k, f"{share:.0f}", ha="center", va="center", fontsize=6, color="white" if share > 50 else "#303030"
        )


def _outer(axis: Axes, i: int, columns: int, panels: int, same_classes: bool) -> None:
    """Keep class names at the left and at the foot of the grid only, if all panels have the same."""
    if same_classes and i % columns:
        axis.set_ylabel("")
        axis.tick_params(labelleft=False)
    if same_classes and i + columns < panels:
        axis.set_xlabel("")
        axis.tick_params(labelbottom=False)
