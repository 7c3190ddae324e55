"""The arithmetic of repeats, and docs/performance.jsonl, which holds every repeat.

A row is {date, machine, versions, commit, quick, not_measured, commands, facts, problems, repeats}.
note: only where the row has changed since it was measured; a new measurement drops it.
commands: {case: what was run}; problems: {case: why it is missing}; facts: {name: what else to know};
repeats: [{case, repeat, metric: value, ...}]. In the file, a row is one line of all but `repeats`, then one line each.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

Numbers = dict[str, Any]  # metric -> number; texts and truth values are facts about the case
Series = dict[str, dict[str, list[float]]]  # case -> metric -> one value per repeat
Check = dict[str, Any]  # {label, kind: see COMPARISONS, target: None if there is none, metric, ours, theirs: cases}
FILE = "performance.jsonl"

# How a check compares two values, (ours, theirs); its unit; whether more is better. limit compares one case with its
# target; difference also compares all metrics whose names end with _`metric`.
COMPARISONS: dict[str, tuple[Callable[[float, float], float], str, bool]] = {
    "rate": (lambda ours, theirs: ours / theirs, "x", True),
    "seconds": (lambda ours, theirs: theirs / ours, "x", True),
    "share": (lambda ours, theirs: ours / theirs, "x", False),
    "percent": (lambda ours, theirs: 100 * (ours / theirs - 1), " %", False),
    "limit": (lambda ours, theirs: ours, " s", False),
    "difference": (lambda ours, theirs: abs(ours - theirs), "", False),
}


def outcome(check: Check, series: Series) -> dict[str, Any] | None:
    """Return {value, low, high, n, met} of a check; None if a case is missing. low, high: over single repeats.

    The value is that of the medians. For `percent` it is the median of the single repeats, because a machine drifts by
    more than a few percent; for `difference` it is the largest.
    """
    compare, _, more_is_better = COMPARISONS[check["kind"]]
    ours, theirs = series.get(check["ours"], {}), series.get(check["theirs"], {})
    parts = check["kind"] == "difference"
    metrics = [name for name in ours if name == check["metric"] or (parts and name.endswith(f"_{check['metric']}"))]
    each = [compare(a, b) for name in metrics for a, b in zip(ours[name], theirs.get(name, []), strict=False)]
    if not each:
        return None
    of_each: Any = {"percent": median, "difference": max}.get(check["kind"])
    value = of_each(each) if of_each else compare(median(ours[check["metric"]]), median(theirs[check["metric"]]))
    target = check["target"]
    met = None if target is None else bool(value >= target if more_is_better else value <= target)
    return {"value": value, "low": min(each), "high": max(each), "n": len(each), "met": met}


def series_of(row: Mapping[str, Any]) -> Series:
    """Return the values of each metric of each case of a row."""
    found: Series = {}
    for line in row["repeats"]:
        for name, value in line.items():
            if name not in ("case", "repeat"):
                found.setdefault(line["case"], {}).setdefault(name, []).append(value)
    return found


def combined(parts: Sequence[Numbers]) -> Numbers:
    """Combine runs: add seconds, take the largest of memory, the mean of other numbers, the last of texts."""
    found: Numbers = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        values = [part[name] for part in parts if name in part]
        way = sum if name.endswith("_seconds") else max if name.endswith("_mib") else mean
        found[name] = values[-1] if isinstance(values[0], str | bool) else way(values)
    return found


def add(row: dict[str, Any], case: str, repeat: int, numbers: Numbers) -> None:
    """Add the numbers of a repeat to a row, and its texts to the facts."""
    texts = {name: value for name, value in numbers.items() if isinstance(value, str | bool)}
    row["facts"] |= {f"{case}: {name}": value for name, value in texts.items()}
    values = {name: value for name, value in numbers.items() if name not in texts}
    row["repeats"] += [{"case": case, "repeat": repeat, **values}] if values else []


def merged(old: Mapping[str, Any], new: Mapping[str, Any], append: bool = False) -> dict[str, Any]:
    """Return all rows, with new ones in place of old ones of the same name.

    An old row stays if the new one could not be measured. append: if both have the same commands, keep the old repeats
    before the new ones.
    """
    rows = {**old}
    for name, row in new.items():
        before = old.get(name)
        if before and row["not_measured"] and not before["not_measured"]:
            continue
        earlier = before["repeats"] if append and before and before["commands"] == row["commands"] else []
        last = max((line["repeat"] for line in earlier), default=0)
        rows[name] = {
            **row,
            "repeats": earlier + [{**line, "repeat": last + line["repeat"]} for line in row["repeats"]],
        }
    return rows


def write(folder: Path, rows: Mapping[str, Any]) -> None:
    """Write the file of all repeats."""
    lines: list[dict[str, Any]] = []
    for name, row in rows.items():
        about = {key: value for key, value in row.items() if key != "repeats"}
        lines += [{"row": name, **about}, *({"row": name, **line} for line in row["repeats"])]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / FILE).write_text(text, encoding="utf-8")


def read(folder: Path) -> dict[str, Any]:
    """Return the rows of the file of all repeats; none if there is no such file."""
    rows: dict[str, Any] = {}
    file = folder / FILE
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        found = json.loads(line)
        name = found.pop("row")
        rows.setdefault(name, {**found, "repeats": []})["repeats"] += [found] if "case" in found else []
    return rows
