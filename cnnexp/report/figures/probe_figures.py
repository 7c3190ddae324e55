"""Figures of an arm's probes: histograms over the epochs, gradients, updates, dead units, batch norm."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from cnnexp.pages import fonts
from cnnexp.pages.style import (
    GREY,
    INK,
    Figure,
    canvas,
    colour_bar,
    finish,
    grid_of,
    label_lowest,
    plain_numbers,
    row_by_row,
    turn_off,
)
from cnnexp.report.analysis.diagnostics import FACTOR, SHIFT, USUAL_UPDATE
from cnnexp.report.read.probes import MIN_EXPONENT, Probes, Series
from cnnexp.text import plural

MAX_PANELS = 12  # of a figure of histograms; of more layers some are left out, evenly
MAX_IN_LEGEND = 10  # lines; of more, five are named
LABEL = 24  # characters of a layer's name
MIN_SHARE = 1e-2  # of a layer's numbers: bins of less are left out at the ends of a figure
KINDS = {
    "gradient": "Gradients of {}: their magnitude in one training step at each look, before clipping.",
    "activation": "Activations of {}: their magnitude on the first clean validation images (after the pooling, where "
    "it comes before the ReLU).",
}


def draw(probes: Probes) -> Iterator[Figure | None]:
    """Draw every figure that there are rows for."""
    yield histograms(probes, "gradient")
    yield gradients_and_updates(probes)
    yield histograms(probes, "activation")
    yield dead_units(probes)
    yield batch_norm(probes)


def _finish(figure: Canvas, probes: Probes, name: str, caption: str, wide: bool = False) -> Figure:
    return finish(
        figure,
        f"probes_{name}_{probes.arm.key}",
        f"{caption} n = {plural(probes.seeds, 'run' if probes.arm.folds else 'seed')}.",
        wide,
    )


def histograms(probes: Probes, kind: str) -> Figure | None:
    """Draw the magnitudes of each layer's numbers, look by look: a panel a layer; None without rows."""
    every = probes.histograms(kind)
    found = {layer: h for layer, h in every.items() if kind != "gradient" or "Norm" not in probes.type(layer)}
    if not found:
        return None
    shown = spread(list(found), MAX_PANELS)
    used = np.flatnonzero(np.max([found[layer][1].max(1) for layer in shown], 0) >= MIN_SHARE)
    bins = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(-MIN_EXPONENT - 4, -MIN_EXPONENT)
    top = max(float(found[layer][1].max()) for layer in shown)
    rows, columns = grid_of(len(shown))
    figure, axes = canvas(max(4.4, 2.4 * columns + 0.7), 2.0 * rows + 0.5, rows, columns, sharex=True, sharey=True)
    for i, (axis, layer) in enumerate(zip(axes, shown, strict=False)):
        steps, shares = found[layer]
        image = _heat(axis, [probes.epoch(s) for s in steps], shares, bins, top)
        axis.set_title(fonts.label(probes.label(layer) if kind == "activation" else layer, LABEL))
        if not i % columns:
            axis.set_ylabel(f"|{kind}|")
    label_lowest(axes, columns, len(shown), "epoch")
    turn_off(axes[len(shown) :])
    colour_bar(figure, image, axes, "share (%)", shrink=0.8, pad=0.01, aspect=30)
    left_out = f" {len(shown)} of {len(found)} layers are shown." if len(shown) < len(found) else ""
    caption = (
        f"{KINDS[kind].format(probes.arm.label)} Shares are of the layer's numbers; a bin is a factor of two; the rest "
        f"to 100 % is zero.{left_out}"
    )
    return _finish(figure, probes, f"{kind}s", caption, wide=columns > 2)


def _heat(axis: Axes, epochs: list[float], shares: np.ndarray[Any, Any], bins: slice, top: float) -> Any:
    """Draw the shares (bins, looks) of one layer: a column a look, powers of ten upwards."""
    powers = (np.arange(bins.start, bins.stop + 1) + MIN_EXPONENT) * math.log10(2)
    drawn = 100 * shares[bins]
    image = axis.pcolormesh(_edges(epochs), powers, drawn, cmap="Blues", vmin=0, vmax=100 * top, rasterized=True)
    axis.grid(visible=False)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda power, _: f"1e{power:.0f}"))
    _epochs(axis)
    return image


def gradients_and_updates(probes: Probes) -> Figure | None:
    """Draw the gradients per weight and the updates of each layer, one beside the other; None without either."""
    gradients, updates = probes.per_weight(), probes.updates()
    both = ((gradients, "gradient per weight"), (updates, "update / weight"))
    drawn = [(series, label) for series, label in both if series]
    if not drawn:
        return None
    layers = max((list(series) for series, _ in drawn), key=len)
    figure, axes = canvas(4.8 * len(drawn), 3.4 + _legend_height(layers), 1, len(drawn))
    for axis, (series, label) in zip(axes, drawn, strict=True):
        _lines(axis, probes, series, layers, label)
        if values := [value for steps in series.values() for value in steps.values() if value > 0]:
            narrow = max(values) < 30 * min(values)  # powers of ten alone would leave the axis without ticks
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,)))
            plain_numbers(axis.yaxis)
        if series is updates:
            _threshold(axis, USUAL_UPDATE)
    _legend(figure, axes, layers)
    caption = f"Training of {probes.arm.label}, by layer."
    if gradients:
        caption += " Gradient: the root mean square over a layer's weights, of one step, before clipping."
        if norm := list(probes.total_norm().values()):
            caption += f" The norm of the whole gradient is {norm[0]:.3g} at first and {norm[-1]:.3g} at the end."
    if updates:
        caption += (
            " Update: the norm of the change in one step over the norm of the weights; dashed: 1e-3, about the usual "
            "value (Stanford's CS231n notes, Neural Networks Part 3)."
        )
    return _finish(figure, probes, "steps", caption, wide=len(drawn) > 1)


def dead_units(probes: Probes) -> Figure | None:
    """Draw the share of dead units, a row a layer and a column a look; None without rows."""
    series = probes.series("dead_units", "dead", per="units")
    if not series:
        return None
    steps = sorted({step for s in series.values() for step in s})
    shares = np.array([[100 * s.get(step, math.nan) for step in steps] for s in series.values()])
    figure, (axis,) = canvas(7.2, 1.3 + 0.3 * len(series))
    edges = _edges([probes.epoch(s) for s in steps])
    image = axis.pcolormesh(edges, np.arange(len(series) + 1), shares, cmap="Reds", vmin=0, vmax=100, rasterized=True)
    axis.set_yticks(np.arange(len(series)) + 0.5, fonts.labels([probes.label(layer) for layer in series], LABEL))
    axis.set_ylim(len(series), 0)
    axis.tick_params(length=0)
    axis.grid(visible=False)
    _epochs(axis)
    axis.set_xlabel("epoch")
    for (row, column), share in np.ndenumerate(shares):
        if math.isfinite(share) and len(steps) <= 16:
            x, colour = (edges[column] + edges[column + 1]) / 2, "white" if share > 60 else INK
            axis.text(x, row + 0.5, f"{share:.0f}", ha="center", va="center", fontsize=7.5, color=colour)
    colour_bar(figure, image, axis, "dead units (%)", pad=0.01, aspect=max(8, 2 * len(series)))
    count = probes.arm.first.number("data", "val")
    images = f"all {count:,.0f} validation images" if math.isfinite(count) else "all validation images"
    caption = (
        f"Dead units of {probes.arm.label}: the share of a layer's units that are zero for {images}, in %. Each row is "
        "named by the layer with weights before the activation."
    )
    return _finish(figure, probes, "dead_units", caption)


def batch_norm(probes: Probes) -> Figure | None:
    """Draw the distance of the running statistics from those of the validation split; None without rows."""
    shift, factor = probes.series("batch_norm", "mean_shift"), probes.series("batch_norm", "variance_ratio")
    if not shift or not factor:
        return None
    figure, (means, variances) = canvas(9.6, 3.4 + _legend_height(list(shift)), 1, 2)
    _lines(means, probes, shift, list(shift), "distance of means (running std)")
    _lines(variances, probes, factor, list(shift), "factor between variances")
    _threshold(means, SHIFT)
    _threshold(variances, FACTOR)
    means.set_ylim(bottom=0)
    variances.set_yscale("log", base=2)
    plain_numbers(variances.yaxis)
    variances.set_ylim(bottom=1)
    _legend(figure, (means, variances), list(shift))
    caption = (
        f"Batch norm of {probes.arm.label}: statistics of its input on the validation split against the running "
        "statistics that it predicts with. Means: root mean square over channels. Variances: geometric mean, the "
        "larger over the smaller. Dashed: the threshold for a sentence in the text."
    )
    return _finish(figure, probes, "batch_norm", caption, wide=True)


def spread(layers: Sequence[str], most: int) -> list[str]:
    """Return at most so many of the layers, evenly spaced, the first and the last among them."""
    if len(layers) <= most:
        return list(layers)
    return [layers[round(i * (len(layers) - 1) / (most - 1))] for i in range(most)]


def _edges(places: Sequence[float]) -> np.ndarray[Any, Any]:
    """Return the borders of columns around rising places: half-way between them."""
    if len(places) == 1:
        return np.array([places[0] - 0.5, places[0] + 0.5])
    middle = [(a + b) / 2 for a, b in itertools.pairwise(places)]
    return np.array([2 * places[0] - middle[0], *middle, 2 * places[-1] - middle[-1]])


def _epochs(axis: Axes) -> None:
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def _lines(axis: Axes, probes: Probes, series: Series, layers: Sequence[str], label: str) -> None:
    """Draw a line a layer, from dark (the first) to light (the last)."""
    colours = colormaps["viridis"](np.linspace(0, 0.88, len(layers)))
    for layer, colour in zip(layers, colours, strict=True):
        steps = series.get(layer, {})
        axis.plot(
            [probes.epoch(s) for s in steps], list(steps.values()), color=colour, label=fonts.label(layer, LABEL),
            marker="o" if len(steps) < 3 else None, markersize=3, linewidth=1.4,
        )  # fmt: skip
    _epochs(axis)
    axis.set_xlabel("epoch")
    axis.set_ylabel(label)
    axis.margins(x=0.02)


def _threshold(axis: Axes, value: float) -> None:
    axis.axhline(value, color=GREY, linestyle=(0, (4, 2)), linewidth=1.2, zorder=1)


def _legend_height(layers: Sequence[str]) -> float:
    return 0.2 * math.ceil(min(len(layers), MAX_IN_LEGEND) / 5)


def _legend(figure: Canvas, axes: Sequence[Axes], layers: Sequence[str]) -> None:
    """Name the lines below the panels; of many, some from the first to the last."""
    handles, labels = max((axis.get_legend_handles_labels() for axis in axes), key=lambda found: len(found[0]))
    if len(layers) > MAX_IN_LEGEND:
        kept = [int(i) for i in spread([str(i) for i in range(len(handles))], 5)]
        handles, labels = ([items[i] for i in kept] for items in (handles, labels))
    columns = min(5, len(handles))
    ordered = (row_by_row(items, columns) for items in (handles, labels))
    figure.legend(*ordered, loc="outside lower center", ncols=columns)
