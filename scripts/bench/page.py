"""docs/performance.md, its details and figure, from docs/performance.jsonl and templates that are written by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench import results
from bench.lab import BENCH, Lab
from bench.table import ROWS, Row, sets_of

# The figure: what grows, by row; what is drawn, by the end of a metric's name.
TITLES = {"growth-runs": ("the runs of a sweep", "runs"), "growth-images": ("the images of a data set", "images")}
AXES = {"_seconds": ("Time", "seconds"), "_mib": ("Memory", "MiB")}
PAGES = ("performance.md", "performance-details.md")
UNITS = {"seconds": "s", "mib": "MiB", "percent": "%"}


def number(value: float, digits: int = 3) -> str:
    """Return a number with three significant digits and no exponent: 0.0812, 4.56, 1,234."""
    if value and abs(value) < 10 ** (-digits):
        return f"{value:.1e}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    text = f"{value:.{digits}g}"
    return text if "e" not in text else f"{value:.{digits}f}"


def checked(row: Row, found: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """Return {what, target, measured, verdict} of every check of a row, as text; no target is "none"."""
    found = found or {"repeats": [], "problems": {}, "facts": {}, "not_measured": None}
    lines = []
    for check in [check for part in sets_of(row, Lab()) for check in part["checks"]]:
        _, unit, more_is_better = results.COMPARISONS[check["kind"]]
        why = found["problems"].get(check["ours"]) or found["problems"].get(check["theirs"]) or found["not_measured"]
        line = {"what": check["label"], "target": "none", "measured": "-"}
        line["verdict"] = f"not measured: {why}" if why else "not measured"
        if check["target"] is not None:
            line["target"] = f"at {'least' if more_is_better else 'most'} {number(check['target'])}{unit}"
        if outcome := results.outcome(check, results.series_of(found)):
            span = f"{number(outcome['low'])} to {number(outcome['high'])}" if outcome["n"] > 1 else "once"
            note = str(found["facts"].get("complete process", ""))  # of a row that scripts/gpu_check.py measured
            line["measured"] = f"{number(outcome['value'])}{unit} ({'; '.join(filter(None, (span, note)))})"
            line["verdict"] = "met" if outcome["met"] else "missed"
        lines.append(line)
    return lines


def table(row: Row, found: Mapping[str, Any]) -> list[list[str]]:
    """Return the table of medians, its header first: a line for each case, or for each metric if none are named."""
    series = results.series_of(found)
    if not row["shows"]:
        each = [(f"{case}: {m}", values) for case, metrics in series.items() for m, values in metrics.items()]
        return [["", "seconds"], *([heading(name).removesuffix(" (s)"), cell(values)] for name, values in each)]
    shown = [metric for metric in row["shows"] if any(metric in values for values in series.values())]
    cases = [
        [f"{int(case):,}" if case.isdigit() else case, *(cell(values[m]) if m in values else "-" for m in shown)]
        for case, values in series.items()
    ]
    return [["", *map(heading, shown)], *cases]


def heading(metric: str) -> str:
    """Return the heading of a metric, with its unit: "start_seconds_per_run" -> "start per run (s)"."""
    words = metric.replace("images_per_second", "images/s").replace("_", " ").split(" ")
    units = [UNITS[word] for word in words if word in UNITS]
    return " ".join([*(word for word in words if word not in UNITS), *(f"({unit})" for unit in units)])


def cell(values: Sequence[float]) -> str:
    """Return the median of the repeats with its range."""
    span = f" ({number(min(values))} to {number(max(values))})" if min(values) != max(values) else ""
    return number(median(values)) + span


def fact(value: Any) -> str:
    """Return a fact as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value, 4) if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def render(found: Mapping[str, Any], name: str = PAGES[0]) -> str:
    """Return one of PAGES. found: the rows of performance.jsonl."""
    options: Any = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    # Nothing is escaped: this is Markdown, of our own numbers.
    environment = Environment(loader=FileSystemLoader(BENCH), undefined=StrictUndefined, autoescape=False, **options)
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|").replace("\n", " ")
    ways = {"checked": checked, "table": table, "series": results.series_of, "median": median, "fact": fact}
    return environment.get_template(f"{name}.jinja").render(rows=ROWS, found=found, **ways)


def growth(rows: Mapping[str, Any]) -> bytes | None:
    """Draw the columns of the rows about growth, a panel for each unit, as PNG; None if none has been measured."""
    measured = [(name, unit) for name in TITLES for unit in AXES if rows.get(name, {}).get("repeats")]
    if not measured:
        return None
    from matplotlib.ticker import LogLocator

    from cnnexp.pages import style

    with style.style():
        figure, axes = style.canvas(7.4, 3.3 * (len(measured) // 2), rows=len(measured) // 2, columns=2)
        for axis, (name, unit) in zip(axes, measured, strict=True):
            cases = {int(case): values for case, values in results.series_of(rows[name]).items()}
            metrics = [metric for metric in ROWS[name]["shows"] if metric.endswith(unit)]
            for metric, colour, marker in zip(metrics, style.COLOURS, style.MARKERS, strict=False):
                points = {count: values[metric] for count, values in cases.items() if metric in values}
                middle = [median(repeats) for repeats in points.values()]
                spans = [[abs(median(v) - end(v)) for v in points.values()] for end in (min, max)]
                look: Any = {"color": colour, "marker": marker, "label": metric.removesuffix(unit).replace("_", " ")}
                axis.errorbar(list(points), middle, yerr=spans, markersize=4, capsize=2, **look)
            (over, across), (what, up) = TITLES[name], AXES[unit]
            axis.set(title=f"{what} over {over}", xlabel=across, ylabel=up, xscale="log", yscale="log")
            for scale in (axis.xaxis, axis.yaxis):
                scale.set_major_formatter(lambda value, _: f"{value:,.10g}")
                scale.set_minor_formatter(lambda value, _: "")
            axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
        return style.finish(figure, "performance-growth", "").png


def write(folder: Path, found: Mapping[str, Any]) -> None:
    """Write performance.jsonl, PAGES and, if there is something to draw, performance-growth.png."""
    folder.mkdir(parents=True, exist_ok=True)
    results.write(folder, found)
    if picture := growth(found):
        (folder / "performance-growth.png").write_bytes(picture)
    for name in PAGES:
        (folder / name).write_text(render(found, name))
