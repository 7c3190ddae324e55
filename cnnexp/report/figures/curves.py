"""Curves over epochs: every arm's validation in one figure, and training against validation, a panel per arm."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from cnnexp.pages.style import COLOURS, GREY, Figure, canvas, finish, grid_of, label_lowest, row_by_row, turn_off
from cnnexp.report.analysis.units import in_words
from cnnexp.report.figures.looks import Look
from cnnexp.report.read.study import Arm

METRICS = {"accuracy": ("accuracy (%)", 100.0), "loss": ("loss (nats)", 1.0)}
BAND = (
    "mean over the {runs}; band: ± 1 standard deviation (of two {runs}: both); thin lines: {runs} that trained longer"
)
MARKERS_ON_A_CURVE = 8
DASHED, DOTTED = (0, (3, 1.5)), (0, (1, 1.2))


def band(curves: Sequence[Mapping[int, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return epochs, mean, low, high over the epochs that all of `curves` ({epoch: value}) reached.

    The band is mean ± sample standard deviation, smallest to largest for two curves, and empty for one.
    """
    shared = sorted(set.intersection(*(set(c) for c in curves))) if curves else []
    values = np.array([[c[e] for e in shared] for c in curves], float).reshape(len(curves), len(shared))
    if not len(curves) or not shared:
        return (np.empty(0),) * 4
    mean = values.mean(0)
    if len(curves) < 3:
        return np.array(shared), mean, values.min(0), values.max(0)
    std = values.std(0, ddof=1)
    return np.array(shared), mean, mean - std, mean + std


def _curves(arm: Arm, split: str, metric: str, finished: bool = True) -> list[dict[int, float]]:
    """Return the curves of the arm's finished runs, or of the others, that have one, in the unit of the figure."""
    scale, runs = METRICS[metric][1], arm.runs if finished else arm.unfinished
    found = [{epoch: scale * value for epoch, value in run.curve(split, metric).items()} for run in runs]
    return [curve for curve in found if curve]


def draw_curve(
    axis: Axes, arm: Arm, split: str, metric: str, colour: str, dashed: bool = False, marker: str | None = None
) -> None:
    """Draw one arm's mean and band; seeds that trained longer go on as thin lines, unfinished runs are dotted."""
    curves = _curves(arm, split, metric)
    epochs, mean, low, high = band(curves)
    line, point = DASHED if dashed else "solid", marker or ("o" if len(epochs) == 1 else None)
    every = max(1, len(epochs) // MARKERS_ON_A_CURVE)
    axis.plot(epochs, mean, color=colour, linestyle=line, marker=point, markersize=3, markevery=every, zorder=3)
    if len(curves) > 1:
        axis.fill_between(epochs, low, high, color=colour, alpha=0.18, linewidth=0, zorder=2)
    for curve in curves:
        rest = {e: v for e, v in curve.items() if not len(epochs) or e >= epochs[-1]}
        if len(rest) > 1:
            axis.plot(list(rest), list(rest.values()), color=colour, linewidth=0.8, alpha=0.6)
    for curve in _curves(arm, split, metric, finished=False):
        point, alpha = marker or ("o" if len(curve) == 1 else None), 0.5 if dashed else 1.0
        x, y = list(curve), list(curve.values())
        axis.plot(x, y, color=colour, linestyle=DOTTED, alpha=alpha, marker=point, markersize=3)


def _band(arms: Sequence[Arm]) -> str:
    """Say what the lines and bands of these arms are."""
    return in_words([BAND], max((arm.folds for arm in arms), default=0))[0]


def draw_axes(axis: Axes, label: str) -> None:
    """Name the axes of a curve over epochs."""
    axis.set_xlabel("epoch")
    axis.set_ylabel(label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axis.margins(x=0.02)


def validation(arms: Sequence[Arm], looks: Mapping[str, Look]) -> Figure | None:
    """Draw validation accuracy and loss of all arms, one beside the other; None without curves."""
    arms = [arm for arm in arms if _curves(arm, "val", "accuracy") or _curves(arm, "val", "accuracy", finished=False)]
    if not arms:
        return None
    figure, axes = canvas(9.6, 3.4 + 0.2 * math.ceil(len(arms) / 4), 1, 2)
    many = len(arms) > len(COLOURS)  # then two arms may have the same colour
    markers = {arm.key: looks[arm.key].marker if many else None for arm in arms}
    for axis, metric in zip(axes, METRICS, strict=True):
        for arm in arms:
            draw_curve(axis, arm, "val", metric, looks[arm.key].colour, marker=markers[arm.key])
        draw_axes(axis, f"validation {METRICS[metric][0]}")
    handles = [
        Line2D([], [], color=looks[a.key].colour, marker=markers[a.key], linewidth=2.5, label=looks[a.key].label)
        for a in arms
    ]
    columns = min(4, len(handles))
    figure.legend(handles=row_by_row(handles, columns), loc="outside lower center", ncols=columns)
    return finish(
        figure, "validation_curves", f"Validation accuracy and loss: {_band(arms)}.{_dotted(arms)}", wide=True
    )


def panels(arms: Sequence[Arm], looks: Mapping[str, Look], metric: str) -> Figure | None:
    """Draw training (dashed) against validation (solid), a panel per arm on shared axes; None without curves."""
    arms = [arm for arm in arms if any(run.rows for run in (*arm.runs, *arm.unfinished))]
    if not arms:
        return None
    rows, columns = grid_of(len(arms))
    figure, axes = canvas(max(4.4, 2.55 * columns), 2.3 * rows + 0.5, rows, columns, sharex=True, sharey=True)
    means = {arm.key: band(_curves(arm, "val", metric))[:2] for arm in arms}
    for i, (axis, arm) in enumerate(zip(axes, arms, strict=False)):
        for key, (epochs, mean) in means.items():
            if key != arm.key:
                axis.plot(epochs, mean, color=GREY, linewidth=0.7, zorder=1)
        look = looks[arm.key]
        draw_curve(axis, arm, "train", metric, look.colour, dashed=True)
        draw_curve(axis, arm, "val", metric, look.colour)
        draw_axes(axis, "" if i % columns else METRICS[metric][0])
        axis.set_title(look.label, color=look.colour)
    label_lowest(axes, columns, len(arms), "epoch")
    turn_off(axes[len(arms) :])
    handles = [
        Line2D([], [], color="#404040", linestyle=DASHED, label="training (running)"),
        Line2D([], [], color="#404040", label="validation"),
        Line2D([], [], color=GREY, label="validation, other arms"),
    ]
    figure.legend(handles=handles[: 3 if len(arms) > 1 else 2], loc="outside lower center", ncols=3)
    caption = (
        f"{metric.capitalize()} in training and validation: {_band(arms)}. Training values are running means over the "
        f"epoch, with augmentation and dropout.{_dotted(arms)}"
    )
    return finish(figure, f"{metric}_curves", caption, wide=columns > 2)


def _dotted(arms: Sequence[Arm]) -> str:
    return " Dotted: runs that are not finished." if any(arm.unfinished for arm in arms) else ""
