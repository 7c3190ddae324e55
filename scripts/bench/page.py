"""docs/performance.md from docs/performance.json and the template that is written by hand."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.lab import BENCH
from bench.rows import ROWS, Row

UNITS = {"rate": "x", "seconds": "x", "share": "x", "limit": " s", "percent": " %"}


def number(value: float, digits: int = 3) -> str:
    """Return a number with three significant digits and no exponent: 0.0812, 4.56, 1,234."""
    if value and abs(value) < 10 ** (-digits):
        return f"{value:.1e}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    text = f"{value:.{digits}g}"
    return text if "e" not in text else f"{value:.{digits}f}"


def measured(check: Mapping[str, Any]) -> str:
    """Return the outcome of a check with its range: "2.13x (2.05 to 2.20)"."""
    outcome = check["outcome"]
    if outcome is None:
        return "-"
    span = f" ({number(outcome['low'])} to {number(outcome['high'])})" if outcome["n"] > 1 else " (once)"
    return number(outcome["value"]) + UNITS[check["kind"]] + span


def target(check: Mapping[str, Any]) -> str:
    """Return the target of a check in words."""
    if check["target"] is None:
        return "-"
    words = "at least" if check["kind"] in ("rate", "seconds") else "at most"
    return f"{words} {number(check['target'])}{UNITS[check['kind']]}"


def verdict(check: Mapping[str, Any], problems: Mapping[str, str]) -> str:
    """Return met, missed, told (no target), or why it was not measured."""
    if check["outcome"] is None:
        why = [problems[case] for case in (check["ours"], check["theirs"]) if case in problems]
        return f"not measured: {why[0]}" if why else "not measured"
    met = check["outcome"]["met"]
    return "told" if met is None else "met" if met else "missed"


def lines(row: Row, entry: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """Return the lines of the overview that a row has: a line for every check that has a target, but one at least."""
    if entry is None or entry.get("not_measured"):
        why = "not measured" + (f": {entry['not_measured']}" if entry else "")
        return [{"what": row.title, "target": row.target, "measured": "-", "verdict": why, "key": row.id}]
    checks = [check for check in entry["checks"] if check["target"] is not None]
    if not checks:
        return [{"what": row.title, "target": row.target, "measured": "see below", "verdict": "told", "key": row.id}]
    return [
        {
            "what": check["label"] if number else f"{row.title}: {check['label']}",
            "target": target(check),
            "measured": measured(check),
            "verdict": verdict(check, entry["problems"]),
            "key": f"{row.id}: {check['label']}",
        }
        for number, check in enumerate(checks)
    ]


def untargeted(entry: Mapping[str, Any]) -> list[str]:
    """Return what the checks without a target gave, in words."""
    checks = [check for check in entry["checks"] if check["target"] is None and check["outcome"] is not None]
    return [f"{check['label']}: {measured(check)}" for check in checks]


def details(row: Row, entry: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the table of absolute numbers: a row a case, a column a metric."""
    summary = entry["summary"]
    there = list(dict.fromkeys(metric for metrics in summary.values() for metric in metrics))
    shown = [metric for metric in row.metrics if metric in there] or there
    table = [
        [label(name), *(cell(metrics[metric]) if metric in metrics else "-" for metric in shown)]
        for name, metrics in summary.items()
    ]
    return ["", *(heading(metric) for metric in shown)], table


def label(case: str) -> str:
    """Return the name of a case; a bare number gets its commas."""
    return f"{int(case):,}" if case.isdigit() else case


def heading(metric: str) -> str:
    """Return the heading of a column, with its unit."""
    words = metric.replace("images_per_second", "images/s").replace("_", " ")
    for unit, short in (("seconds", "s"), ("mib", "MiB"), ("percent", "%")):
        if f" {unit}" in f" {words}":
            words = f"{f' {words} '.replace(f' {unit} ', ' ').strip()} ({short})"
    return words.strip()


def cell(values: Mapping[str, float]) -> str:
    """Return a median with its range."""
    if values["n"] == 1 or values["low"] == values["high"]:
        return number(values["median"])
    return f"{number(values['median'])} ({number(values['low'])} to {number(values['high'])})"


def made_on(entry: Mapping[str, Any]) -> str:
    """Return when, on what and with which versions an entry was made, in one line."""
    machine, versions = entry["machine"], entry["versions"]
    place = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB"
    if machine.get("gpu"):
        place = f"{machine['gpu']}; {place}"
    used = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{entry['date']}; {place}; load before {machine['load_before']}; {used}; commit {entry['commit']}"


def render(rows: Mapping[str, Any], template: Path | None = None) -> str:
    """Return the page of the rows of a performance.json."""
    template = template or BENCH / "performance.md.jinja"
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, of our own numbers
    )
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|").replace("\n", " ")
    page = environment.get_template(template.name)
    ways = {"lines": lines, "untargeted": untargeted, "details": details, "made_on": made_on, "value": fact}
    return page.render(rows=ROWS, entries=rows, **ways)


def fact(value: Any) -> str:
    """Return a fact as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value, 4) if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def write(folder: Path, rows: Mapping[str, Any]) -> None:
    """Write performance.json, performance.md and, if there is something to draw, performance-growth.png."""
    from bench import figures

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "performance.json").write_text(json.dumps({"rows": rows}, indent=1, ensure_ascii=False) + "\n")
    picture = figures.growth(rows)
    if picture:
        (folder / "performance-growth.png").write_bytes(picture)
    (folder / "performance.md").write_text(render(rows))


def read(folder: Path) -> dict[str, Any]:
    """Return the rows of a performance.json; none if there is no such file."""
    file = folder / "performance.json"
    rows: dict[str, Any] = json.loads(file.read_text())["rows"] if file.exists() else {}
    return rows
