"""The figures of a search: history, importances, each setting alone, parallel coordinates, and the trials' curves."""

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from cnnexp.config.words import as_word
from cnnexp.pages.fonts import labels
from cnnexp.pages.style import COLOURS, GREY, INK, Figure, canvas, colour_bar, finish, grid_of, plain_numbers, style
from cnnexp.records.names import short_keys
from cnnexp.report.search.findings import Found
from cnnexp.search.space import Dimension, Numbers
from cnnexp.search.trials import Trial

BEST, PRUNED = COLOURS[1], COLOURS[4]
MAX_LABELS = 8  # options of a choice that are named at their axis


def draw(found: Found) -> list[Figure]:
    """Draw every figure that there are trials for."""
    with style():
        return [figure for figure in _all(found) if figure is not None]


def _all(found: Found) -> Iterator[Figure | None]:
    if not found.complete:
        return
    yield history(found)
    yield importance(found)
    yield settings(found)
    yield parallel(found)
    yield curves(found)


def scaled(found: Found, value: float) -> float:
    """Return a value in per cent, a loss as it is."""
    return value if found.search.monitor == "loss" else 100 * value


def name_of(found: Found) -> str:
    """Return what trials are compared by, as an axis is labelled."""
    return f"{found.search.metric}{'' if found.search.monitor == 'loss' else ' (%)'}"


def history(found: Found) -> Figure:
    """Draw the value of each trial in the order of their proposal, and the best so far."""
    figure, (axis,) = canvas(7.2, 3.4)
    pruned = [trial for trial in found.trials if trial.state == "pruned"]
    complete = sorted(found.complete, key=lambda trial: trial.number)
    numbers, values = [trial.number for trial in complete], [scaled(found, trial.value or 0.0) for trial in complete]
    axis.plot(numbers, values, "o", color=COLOURS[0], label="complete")
    if pruned:
        lasts = [scaled(found, trial.curve[trial.epochs]) for trial in pruned]
        axis.plot([trial.number for trial in pruned], lasts, "x", color=PRUNED, label="pruned: its last value")
    for trial in found.trials:
        if trial.state in ("unfit", "failed"):
            axis.axvline(trial.number, ymax=0.03, color=BEST, linewidth=2)
    best = list(accumulate(values, max if found.search.sign > 0 else min))
    axis.step(numbers, best, where="post", color=INK, linewidth=1, label="best so far")
    name_axes(axis, "trial", found)
    caption = (
        "History: the value of each trial. Marks at the bottom: trials that diverged, ran out of memory or failed."
    )
    return finish(figure, "history", caption)


def importance(found: Found) -> Figure | None:
    """Draw the importance of each setting with its interval; None for too few trials or a single setting."""
    shown = found.importances
    if len(shown) < 2:
        return None
    figure, (axis,) = canvas(7.2, 0.9 + 0.36 * len(shown))
    for y, one in enumerate(shown):
        axis.barh(y, 100 * one.share, color=COLOURS[0], alpha=0.8, height=0.55)
        axis.plot([100 * one.low, 100 * one.high], [y, y], color=INK, linewidth=1.6)
    axis.set_yticks(range(len(shown)), labels([one.key for one in shown], 40))
    axis.set_ylim(len(shown) - 0.5, -0.5)
    axis.set_xlim(0, 100)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("importance (%)")
    caption = (
        "Importance of each setting within this space (PED-ANOVA): in what the best trials differ from all complete "
        "ones. Lines: 95 % intervals over trials drawn with replacement. Wide ones mean that these trials do not say "
        "which setting matters."
    )
    return finish(figure, "importances", caption)


def place(dimension: Dimension, value: Any) -> float:
    """Return where a value is on its axis: in the logarithm for numbers by ratio, by position for a choice."""
    if isinstance(dimension, Numbers):
        return math.log10(value) if dimension.log else float(value)
    return float([as_word(option) for option in dimension.options].index(as_word(value)))


def settings(found: Found) -> Figure:
    """Draw the values of complete trials against each setting."""
    space = found.search.space
    rows, columns = grid_of(len(space))
    figure, axes = canvas(2.3 * max(columns, 3), 2.5 * rows, rows, columns, sharey=True)
    short = short_keys(space)
    for axis, (key, dimension) in zip(axes, space.items(), strict=False):
        values = [scaled(found, trial.value or 0.0) for trial in found.complete]
        given = [trial.params[key] for trial in found.complete]
        at = given if isinstance(dimension, Numbers) else [place(dimension, value) for value in given]
        axis.plot(at, values, "o", color=COLOURS[0], alpha=0.6, markeredgewidth=0)
        axis.plot(at[0], values[0], "o", color=BEST, zorder=3)
        name_values(axis, dimension)
        axis.set_xlabel(short[key])
    for axis in axes[::columns]:
        axis.set_ylabel(name_of(found))
    for axis in axes[len(space) :]:
        axis.set_visible(False)
    caption = "Each setting alone: complete trials, the best in orange. The other settings vary too."
    return finish(figure, "settings", caption, wide=columns > 3)


def name_values(axis: Axes, dimension: Dimension) -> None:
    """Label the horizontal axis of a setting."""
    if isinstance(dimension, Numbers):
        if dimension.log:
            axis.set_xscale("log")
            plain_numbers(axis.xaxis)
        return
    words = labels([as_word(option) for option in dimension.options], 12)
    axis.set_xticks(range(len(words)), words, rotation=30 if len(words) > 2 else 0)
    axis.set_xlim(-0.5, len(words) - 0.5)


def parallel(found: Found) -> Figure | None:
    """Draw a line for each complete trial over all settings to its value; None for a single setting."""
    space = found.search.space
    if len(space) < 2 or len(found.complete) < 2:
        return None
    figure, (axis,) = canvas(max(7.2, 1.5 * (len(space) + 1)), 3.8)
    values = [scaled(found, trial.value or 0.0) for trial in found.complete]
    low, high = min(values), max(values)
    colours, norm = colormaps["viridis"], Normalize(*colour_ends(found, values), clip=True)
    for trial, value in reversed(list(zip(found.complete, values, strict=True))):
        heights = [height(dimension, trial.params[key]) for key, dimension in space.items()]
        colour, width, alpha = (BEST, 2.2, 1.0) if trial is found.complete[0] else (colours(norm(value)), 1.0, 0.7)
        axis.plot([*heights, fraction(value, low, high)], color=colour, linewidth=width, alpha=alpha)
    short = short_keys(space)
    axis.set_xticks(
        range(len(space) + 1), [*labels([short[key] for key in space], 18), name_of(found).replace(" (", "\n(")]
    )
    for x, dimension in enumerate(space.values()):
        write_values(axis, x, ticks(dimension))
    write_values(axis, len(space), [(fraction(v, low, high), f"{v:.4g}") for v in (low, high)])
    axis.set_yticks([])
    axis.set_ylim(-0.08, 1.08)
    axis.set_xlim(-0.25, len(space) + 0.45)
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    colour_bar(figure, ScalarMappable(norm, colours), axis, name_of(found))
    caption = "Parallel coordinates: a line for each complete trial, coloured by its value; the best in orange."
    return finish(figure, "parallel_coordinates", caption, wide=len(space) > 4)


def colour_ends(found: Found, values: Sequence[float]) -> tuple[float, float]:
    """Return the values of the first and last colour: those of the worst tenth of trials have the same colour."""
    ordered = sorted(values, reverse=found.search.sign < 0)
    worst, best = ordered[len(ordered) // 10], ordered[-1]
    return min(worst, best), max(worst, best)


def fraction(value: float, low: float, high: float) -> float:
    """Return where a value is between two others, in [0, 1]."""
    return (value - low) / (high - low) if high > low else 0.5


def ends(dimension: Dimension) -> tuple[float, float]:
    """Return the lowest and highest place on the axis of a setting."""
    if isinstance(dimension, Numbers):
        return place(dimension, dimension.low), place(dimension, dimension.high)
    return 0.0, float(len(dimension) - 1)


def height(dimension: Dimension, value: Any) -> float:
    """Return where a value is on an axis from 0 to 1."""
    return fraction(place(dimension, value), *ends(dimension))


def ticks(dimension: Dimension) -> list[tuple[float, str]]:
    """Return what is written at the axis of a setting: (height, text)."""
    if isinstance(dimension, Numbers):
        return [(0.0, f"{dimension.low:g}"), (1.0, f"{dimension.high:g}")]
    named = list(enumerate(labels([as_word(option) for option in dimension.options], 14)))
    shown = named if len(named) <= MAX_LABELS else [named[0], named[-1]]
    return [(at / (len(named) - 1), word) for at, word in shown]


def write_values(axis: Axes, x: int, texts: Sequence[tuple[float, str]]) -> None:
    """Draw an upright axis at x, and write values to the right of it."""
    axis.plot([x, x], [0, 1], color=INK, linewidth=0.9, zorder=3)
    for y, text in texts:
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}
        axis.annotate(text, (x, y), (4, 0), textcoords="offset points", va="center", fontsize=8, bbox=box, zorder=4)


def curves(found: Found) -> Figure | None:
    """Draw the value after each epoch; None if no trial has two epochs."""
    shown = [trial for trial in found.trials if len(trial.curve) > 1 and trial.state in ("complete", "pruned", "unfit")]
    if not shown:
        return None
    figure, (axis,) = canvas(7.2, 3.4)
    done = dict[str, bool]()
    for trial in sorted(shown, key=lambda trial: trial is found.best):
        colour, name = line_of(trial, found)
        label = None if done.setdefault(name, False) else name
        done[name] = True
        values = [scaled(found, trial.curve[epoch]) for epoch in sorted(trial.curve)]
        width = 2.0 if trial is found.best else 0.9
        axis.plot(sorted(trial.curve), values, color=colour, linewidth=width, label=label)
        if trial.state == "pruned":
            axis.plot(trial.epochs, values[-1], "x", color=colour)
    name_axes(axis, "epoch", found)
    caption = (
        "Curves of all trials. A pruned one ends at its cross: look for complete trials that were lower there and "
        "ended high."
    )
    return finish(figure, "curves", caption)


def name_axes(axis: Axes, counted: str, found: Found) -> None:
    """Name the axes of a value against an integer, and add the legend."""
    axis.set_xlabel(counted)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axis.set_ylabel(name_of(found))
    axis.legend()


def line_of(trial: Trial, found: Found) -> tuple[str, str]:
    """Return the colour and the legend's word for a trial's curve."""
    if trial is found.best:
        return BEST, "best"
    return {"complete": (GREY, "complete"), "pruned": (PRUNED, "pruned")}.get(
        trial.state, (COLOURS[6], trial.shown_state)
    )
