"""Confusion matrices: one per arm with its counts, and all arms side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text

from cnnexp.pages.fonts import labels
from cnnexp.pages.style import INK, Canvas, Figure, canvas, colour_bar, finish, grid_of, turn_off
from cnnexp.report.analysis.classes import MAX_MATRIX_CLASSES, ClassResults
from cnnexp.report.figures.looks import Look
from cnnexp.text import plural

WITH_COUNTS = 20  # classes; more leave no space for a number in each cell
FEW = 12  # classes whose names and numbers are written larger
WRITTEN = 10  # %: mistakes whose share is written into a small matrix
CLASS_LABEL = 16  # characters
SHARE = "share of the true class (%)"


def _draw(axis: Axes, results: ClassResults, size: float) -> Any:
    """Draw a matrix coloured by the share of the true class; `size`: of the class names, in points."""
    image = axis.imshow(_shares(results), cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    axis.grid(visible=False)
    axis.spines[:].set(visible=True, color="#d0d0d0")
    axis.tick_params(length=0, labelsize=size)
    names = labels(results.names, CLASS_LABEL)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("true class")
    return image


def _shares(results: ClassResults) -> np.ndarray[Any, Any]:
    """Return (K, K): the share of the true class, in %."""
    return np.asarray(100 * results.counts / np.maximum(results.counts.sum(1, keepdims=True), 1))


def _write(axis: Axes, true: int, predicted: int, words: str, share: float, size: float) -> Text:
    """Write into a cell, in a colour that its share in % leaves readable."""
    colour = "white" if share > 50 else INK
    return axis.text(predicted, true, words, ha="center", va="center", fontsize=size, color=colour)


def one(results: ClassResults) -> Figure | None:
    """Draw and save an arm's confusion matrix; None if there are too many classes."""
    arm = results.arm
    if (figure := matrix(results)) is None:
        return None
    summed = plural(results.seeds, "run" if arm.folds else "seed")
    caption = f"Confusion matrix of {arm.label}: test images summed over {summed}."
    return finish(figure, f"confusion_{arm.key}", caption)


def matrix(results: ClassResults) -> Canvas | None:
    """Draw an arm's confusion matrix, counts summed over its seeds; None if there are too many classes."""
    classes = len(results.counts)
    if classes > MAX_MATRIX_CLASSES:
        return None
    side = min(7.5, max(3.6, 1.4 + 0.42 * classes))
    figure, (axis,) = canvas(side + 1.2, side + 0.2, square=True)
    image = _draw(axis, results, 8.5 if classes <= WITH_COUNTS else 5.5)
    if classes <= WITH_COUNTS:
        shares, size = _shares(results), 7.5 if classes <= FEW else 5.5
        for (true, predicted), count in np.ndenumerate(results.counts):
            if count:
                text = _write(axis, true, predicted, f"{count}", float(shares[true, predicted]), size)
                text.set_in_layout(False)  # it lies within its cell, and measuring hundreds of them takes seconds
    colour_bar(figure, image, axis, SHARE, shrink=0.8, pad=0.02, aspect=30)
    return figure


def side_by_side(results: Sequence[ClassResults], looks: Mapping[str, Look]) -> Figure | None:
    """Draw the matrices of all arms; None unless at least two arms have one of at most MAX_MATRIX_CLASSES classes."""
    found = [of_arm for of_arm in results if len(of_arm.counts) <= MAX_MATRIX_CLASSES]
    if len(found) < 2:
        return None
    rows, columns = grid_of(len(found))
    figure, axes = canvas(2.6 * columns + 1.6, 2.75 * rows + 1.1, rows, columns, square=True)
    for i, (axis, of_arm) in enumerate(zip(axes, found, strict=False)):
        few, look = len(of_arm.counts) <= FEW, looks[of_arm.arm.key]
        image = _draw(axis, of_arm, 6.5 if few else 4.5)
        axis.set_title(f"{look.label} (n = {of_arm.seeds})", color=look.colour)
        for (true, predicted), share in np.ndenumerate(_shares(of_arm)) if few else ():
            if true == predicted or share >= WRITTEN:
                _write(axis, true, predicted, f"{share:.0f}", share, 6).set_in_layout(False)
        if all(other.names == of_arm.names for other in found):
            _keep_outer_names(axis, i, columns, len(found))
    turn_off(axes[len(found) :])
    colour_bar(figure, image, axes, SHARE, shrink=0.6, pad=0.01, aspect=40)
    caption = (
        f"Confusion matrices of {len(found)} arms on one scale, summed over their runs. On the diagonal: the accuracy "
        f"of the class, in %; beside it, shares of {WRITTEN} % or more."
    )
    return finish(figure, "confusion_all", caption, wide=True)


def _keep_outer_names(axis: Axes, i: int, columns: int, panels: int) -> None:
    """Keep class names only at the left and at the bottom of the grid."""
    if i % columns:
        axis.set_ylabel("")
        axis.tick_params(labelleft=False)
    if i + columns < panels:
        axis.set_xlabel("")
        axis.tick_params(labelbottom=False)
