"""docs/performance-growth.png: how cost grows with runs and with images, on logarithmic scales."""

from collections.abc import Mapping
from typing import Any

# The panels: the row, its title, the axes, and the lines {metric: label}.
PANELS = (
    (
        "growth-runs",
        "Time over the runs of a sweep",
        "runs",
        "seconds",
        {"sweep_seconds": "sweep", "plan_seconds": "plan", "report_seconds": "report"},
    ),
    (
        "growth-runs",
        "Memory over the runs of a sweep",
        "runs",
        "MiB",
        {"sweep_parent_mib": "the sweep's own process", "report_mib": "report"},
    ),
    (
        "growth-images",
        "Time over the images of a data set",
        "images",
        "seconds",
        {"prepare_seconds": "prepare, once", "start_seconds": "start of a run", "evaluate_seconds": "evaluate, once"},
    ),
    (
        "growth-images",
        "Memory over the images of a data set",
        "images",
        "MiB",
        {
            "prepare_mib": "prepare, once",
            "run_mib": "run, without mapped images",
            "run_with_data_mib": "run, with them",
        },
    ),
)


def growth(rows: Mapping[str, Any]) -> bytes | None:
    """Draw the panels whose rows have been measured, as PNG; None if there are none."""
    there = [panel for panel in PANELS if rows.get(panel[0], {}).get("summary")]
    if not there:
        return None
    from matplotlib.ticker import LogLocator

    from cnnexp.pages import style

    with style.style():
        figure, axes = style.canvas(7.4, 3.3 * (len(there) // 2), rows=len(there) // 2, columns=2)
        for axis, (row, title, across, up, metrics) in zip(axes, there, strict=True):
            for number, (metric, label) in enumerate(metrics.items()):
                line(axis, rows[row]["summary"], metric, label, style.COLOURS[number], style.MARKERS[number])
            axis.set(title=title, xlabel=across, ylabel=up, xscale="log", yscale="log")
            for scale in (axis.xaxis, axis.yaxis):
                scale.set_major_formatter(lambda value, _: f"{value:,.10g}")
                scale.set_minor_formatter(lambda value, _: "")
            axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
        return style.finish(figure, "performance-growth", "").png


def line(axis: Any, summary: Mapping[str, Any], metric: str, label: str, colour: str, marker: str) -> None:
    """Draw the medians of a metric over the number that names a case, with the range over the repeats."""
    points = [(int(case), values[metric]) for case, values in summary.items() if metric in values]
    middle = [value["median"] for _, value in points]
    low = [value["median"] - value["low"] for _, value in points]
    high = [value["high"] - value["median"] for _, value in points]
    look = {"label": label, "color": colour, "marker": marker, "markersize": 4, "capsize": 2}
    axis.errorbar([count for count, _ in points], middle, yerr=[low, high], **look)
