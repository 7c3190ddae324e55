"""Reliability diagrams: accuracy against confidence, a panel per arm, with the share of images in each bin."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cnnexp.metrics import BIN_EDGES, NUM_BINS
from cnnexp.pages.style import GREY, INK, Figure, canvas, finish, grid_of, label_lowest, turn_off
from cnnexp.report.analysis.calibration import Calibration
from cnnexp.report.figures.looks import Look

FEW = 10  # images over all seeds; a bin of fewer is drawn pale
GAP = "#d62728"
CENTRES = 100 * (BIN_EDGES[:-1] + BIN_EDGES[1:]) / 2  # %
WIDTH = 100 / NUM_BINS


def diagrams(found: Sequence[Calibration], looks: Mapping[str, Look]) -> Figure | None:
    """Draw the reliability diagrams; None without any."""
    if not found:
        return None
    rows, columns = grid_of(len(found))
    figure, axes = canvas(
        max(5.0, 2.5 * columns), 3.3 * rows + 0.4, 2 * rows, columns, sharex=True, height_ratios=[3, 1] * rows
    )
    pairs = np.array(axes).reshape(rows, 2, columns).transpose(0, 2, 1).reshape(-1, 2)  # a panel: upper, lower
    for i, (calibration, (upper, lower)) in enumerate(zip(found, pairs, strict=False)):
        look = looks[calibration.arm.key]
        _accuracy(upper, calibration, look)
        _counts(lower, calibration, look)
        if i % columns:
            for axis in (upper, lower):
                axis.set_ylabel("")
                axis.tick_params(labelleft=axis is lower)
    label_lowest(list(pairs[:, 1]), columns, len(found), "confidence (%)")
    turn_off(list(pairs[len(found) :].flat))
    figure.legend(handles=_handles(), loc="outside lower center", ncols=3 if columns > 2 else 2)
    caption = (
        f"Reliability: test images in {NUM_BINS} bins of confidence, means over the runs. Bars: the accuracy of each "
        f"bin (pale: fewer than {FEW} images). Hatched: the gap to the bin's mean confidence. A calibrated network's "
        "bars end on the dashed line. Below: the share of the images in each bin, with the mean confidence (dashed) "
        "and the accuracy (solid). ECE: mean over the runs."
    )
    return finish(figure, "calibration", caption, wide=columns > 2)


def _accuracy(axis: Axes, calibration: Calibration, look: Look) -> None:
    bins = calibration.bins
    filled = bins.count > 0
    centres = CENTRES[filled]
    right, sure = (100 * part[filled] / bins.count[filled] for part in (bins.right, bins.confidence))
    many = bins.count[filled] * calibration.ece.n >= FEW
    for shown, alpha in ((many, 0.85), (~many, 0.3)):
        axis.bar(centres[shown], right[shown], WIDTH, color=look.colour, alpha=alpha, edgecolor="white", lw=0.6)
    axis.bar(centres, sure - right, WIDTH, right, facecolor="none", edgecolor=GAP, hatch="////", lw=0.5, alpha=0.55)
    axis.plot([0, 100], [0, 100], color="#707070", linestyle=(0, (3, 2)), linewidth=1)
    axis.set_xlim(0, 100)
    axis.set_ylim(0, 100)
    axis.set_ylabel("accuracy (%)")
    axis.set_title(look.label, color=look.colour)
    axis.text(4, 93, f"ECE {100 * calibration.ece.mean:.1f} %", va="top", fontsize=8.5)


def _counts(axis: Axes, calibration: Calibration, look: Look) -> None:
    shares = 100 * calibration.bins.count / calibration.bins.count.sum()
    axis.bar(CENTRES, shares, WIDTH, color=GREY, edgecolor="white", lw=0.6)
    axis.axvline(100 * calibration.confidence.mean, color=INK, linestyle=(0, (3, 2)), linewidth=1)
    axis.axvline(100 * calibration.accuracy.mean, color=look.colour, linewidth=1.4)
    axis.set_ylim(0, 1.1 * max(shares.max(), 1))
    axis.set_ylabel("images (%)")


def _handles() -> list[Line2D | Patch]:
    return [
        Line2D([], [], color="#707070", linestyle=(0, (3, 2)), label="calibrated; mean confidence"),
        Line2D([], [], color="#404040", linewidth=1.4, label="accuracy"),
        Patch(facecolor="none", edgecolor=GAP, hatch="////", alpha=0.55, label="gap to the confidence"),
    ]
