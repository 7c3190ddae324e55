"""Curves over epochs: every arm's validation in one figure, and training against validation, a panel per arm."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from cnnexp.pages.style import GREY, Figure, canvas, finish, label_lowest, row_by_row, turn_off
from cnnexp.report.figures.looks import Look
from cnnexp.report.read.collect import Arm

METRICS = {"accuracy": ("accuracy (%)", 100.0), "loss": ("loss (nats)", 1.0)}
BAND = "mean of the seeds; band: ± 1 standard deviation (of two seeds: both); thin: seeds that trained on"


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


def _draw(axis: Axes, arm: Arm, split: str, metric: str, colour: str, dashed: bool = False) -> None:
    """Draw one arm's mean and band; seeds that trained longer than the shortest go on as thin lines."""
    scale = METRICS[metric][1]
    curves = [c for c in (run.curve(split, metric) for run in arm.runs) if c]
    epochs, mean, low, high = band(curves)
    line = (0, (3, 1.5)) if dashed else "solid"
    marker = "o" if len(epochs) == 1 else None
    axis.plot(epochs, scale * mean, color=colour, linestyle=line, marker=marker, markersize=3, zorder=3)
    if len(curves) > 1:
        axis.fill_between(epochs, scale * low, scale * high, color=colour, alpha=0.18, linewidth=0, zorder=2)
    for curve in curves:
        rest = {e: v for e, v in curve.items() if not len(epochs) or e >= epochs[-1]}
        if len(rest) > 1:
            axis.plot(list(rest), [scale * v for v in rest.values()], color=colour, linewidth=0.8, alpha=0.6)


def _axes(axis: Axes, metric: str) -> None:
    axis.set_xlabel("epoch")
    axis.set_ylabel(f"{METRICS[metric][0]}")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axis.margins(x=0.02)


def validation(arms: Sequence[Arm], looks: Mapping[str, Look]) -> Figure | None:
    """Draw validation accuracy and loss of all arms, one beside the other; None without curves."""
    arms = [a for a in arms if any(r.curve("val", "accuracy") for r in a.runs)]
    if not arms:
        return None
    figure, axes = canvas(9.6, 3.4 + 0.2 * math.ceil(len(arms) / 4), 1, 2)
    for axis, metric in zip(axes, METRICS, strict=True):
        for arm in arms:
            _draw(axis, arm, "val", metric, looks[arm.key].colour)
        _axes(axis, metric)
        axis.set_ylabel(f"validation {METRICS[metric][0]}")
    handles = [Line2D([], [], color=looks[a.key].colour, linewidth=2.5, label=looks[a.key].label) for a in arms]
    columns = min(4, len(handles))
    figure.legend(handles=row_by_row(handles, columns), loc="outside lower center", ncols=columns)
    return finish(figure, "validation_curves", f"Validation accuracy and loss: {BAND}.", wide=True)


def panels(arms: Sequence[Arm], looks: Mapping[str, Look], metric: str) -> Figure | None:
    """Draw training (dashed) against validation (solid), a panel per arm on shared axes; None without curves."""
    arms = [a for a in arms if any(r.rows for r in a.runs)]
    if not arms:
        return None
    columns = min(4, len(arms)) if len(arms) != 5 else 3
    rows = math.ceil(len(arms) / columns)
    figure, axes = canvas(max(4.4, 2.55 * columns), 2.3 * rows + 0.5, rows, columns, sharex=True, sharey=True)
    for i, (axis, arm) in enumerate(zip(axes, arms, strict=False)):
        for other in arms:
            if other is not arm:
                _ghost(axis, other, metric)
        _draw(axis, arm, "train", metric, looks[arm.key].colour, dashed=True)
        _draw(axis, arm, "val", metric, looks[arm.key].colour)
        _axes(axis, metric)
        axis.set_title(looks[arm.key].label, color=looks[arm.key].colour)
        if i % columns:
            axis.set_ylabel("")
    label_lowest(axes, columns, len(arms), "epoch")
    turn_off(axes[len(arms) :])
    handles = [
        Line2D([], [], color="#404040", linestyle=(0, (3, 1.5)), label="training (running)"),
        Line2D([], [], color="#404040", label="validation"),
    ]
    if len(arms) > 1:
        handles.append(Line2D([], [], color=GREY, label="validation, other arms"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    running = "Training values are running ones, with augmentation and dropout."
    caption = f"{metric.capitalize()} in training and validation: {BAND}. {running}"
    return finish(figure, f"{metric}_curves", caption, wide=columns > 2)


def _ghost(axis: Axes, arm: Arm, metric: str) -> None:
    epochs, mean, _, _ = band([c for c in (run.curve("val", metric) for run in arm.runs) if c])
    axis.plot(epochs, METRICS[metric][1] * mean, color=GREY, linewidth=0.7, zorder=1)
