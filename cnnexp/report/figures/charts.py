"""Test accuracy with its intervals and seeds, and accuracy against training time."""

import math
from collections.abc import Mapping, Sequence

from cnnexp.pages.style import Figure, canvas, finish, plain_numbers
from cnnexp.report.analysis.compare import Row
from cnnexp.report.analysis.units import in_words
from cnnexp.report.figures.looks import Look

DOT = 0.01  # the width of a seed's dot, as a share of the axis
MOST_LEVELS = 5  # of dots below each other; the line of the next arm follows


def accuracy(rows: Sequence[Row], looks: Mapping[str, Look]) -> Figure | None:
    """Draw each arm's mean, 95 % interval and single seeds; None if no arm has a finished run."""
    rows = [row for row in rows if row.test.n]
    if not rows:
        return None
    figure, (axis,) = canvas(7.2, 0.9 + 0.42 * len(rows))
    left, right = _limits(rows)
    for y, row in enumerate(rows):
        look, mean = looks[row.arm.key], 100 * row.test.mean
        values = [100 * v for v in row.arm.accuracies().values()]
        if row.test.n > 1:
            ends = [100 * max(0.0, row.test.low), 100 * min(1.0, row.test.high)]
            axis.plot(ends, [y, y], color=look.colour, linewidth=2.2, alpha=0.55, solid_capstyle="butt")
        below = [y + 0.24 + 0.11 * level for level in _levels(values, DOT * (right - left))]
        axis.plot(values, below, "o", color=look.colour, markersize=3.5, alpha=0.65, markeredgewidth=0)
        axis.plot(mean, y, look.marker, color=look.colour, markersize=6, zorder=3)
        if row.is_baseline:
            axis.axvline(mean, color=look.colour, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
    axis.set_yticks(range(len(rows)), [f"{looks[r.arm.key].label}  (n = {r.test.n})" for r in rows])
    axis.set_ylim(len(rows) - 0.45, -0.55)
    axis.set_xlim(left, right)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("test accuracy (%)")
    caption = (
        "Test accuracy: the mean (large marker), its 95 % interval {over} (bar, cut at 0 and 100; none at "
        "n = 1) and the single {runs} (dots below)."
    )
    if any(row.is_baseline for row in rows):
        caption += (
            " The dashed line is the baseline's mean. To compare arms, use the paired difference in the table; "
            "overlapping bars say little."
        )
    (caption,) = in_words([caption], max(row.arm.folds for row in rows))
    return finish(figure, "test_accuracy", caption)


def _levels(values: Sequence[float], near: float) -> list[int]:
    """Return how far down each dot is drawn, from 0: below those that it would cover, of values closer than `near`."""
    levels = list[int]()
    for place, value in enumerate(values):
        taken = {levels[before] for before in range(place) if abs(values[before] - value) < near}
        levels.append(next(level for level in range(len(values)) if level not in taken) % MOST_LEVELS)
    return levels


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    """Return limits that include every seed, and the intervals between 0 and 100."""
    ends = [x for r in rows for x in (r.test.low, r.test.high, *r.arm.accuracies().values()) if math.isfinite(x)]
    low, high = 100 * max(0.0, min(ends)), 100 * min(1.0, max(ends))
    margin = max(0.5, 0.05 * (high - low))
    return low - margin, high + margin


def cost(rows: Sequence[Row], looks: Mapping[str, Look]) -> Figure | None:
    """Draw test accuracy against training seconds, a point per seed and a marker per arm; None without times."""
    rows = [row for row in rows if row.test.n and row.train_seconds.n]
    if not rows:
        return None
    figure, (axis,) = canvas(7.2, 3.9)
    for row in rows:
        look = looks[row.arm.key]
        points = [(run.number("seconds", "train"), 100 * run.test_accuracy) for run in row.arm.runs]
        axis.plot(*zip(*points, strict=True), "o", color=look.colour, markersize=3.5, alpha=0.5, markeredgewidth=0)
        mean = row.train_seconds.mean, 100 * row.test.mean
        axis.plot(*mean, look.marker, color=look.colour, markersize=8, zorder=3, label=look.label)
    times = [row.train_seconds.mean for row in rows]
    if min(times) > 0 and max(times) / min(times) > 20:
        axis.set_xscale("log")
        plain_numbers(axis.xaxis)
    else:
        axis.set_xlim(left=0)
    axis.margins(0.08)
    axis.set_xlabel("training time (s)")
    axis.set_ylabel("test accuracy (%)")
    figure.legend(loc="outside right upper")
    caption = "Cost: test accuracy against training seconds, without evaluation and data preparation. Dots are {runs}."
    (caption,) = in_words([caption], max(row.arm.folds for row in rows))
    return finish(figure, "cost", caption)
