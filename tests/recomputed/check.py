"""Compare run.json and the CSV tables of a report with the oracle's numbers, cell by cell."""

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cnnexp.report.read.collect import collect, find_groups
from cnnexp.report.read.study import Study
from cnnexp.text import csv_cell
from recomputed.of_runs import Number
from recomputed.of_tables import KNOWN, Tables
from recomputed.of_tests import Table

TWO_NAMES = ("per_class", "reported", "confusions", "mistakes", "per_class_difference")  # tables with two names a row


def check(folder: Path) -> list[Number]:
    """Return every number of the runs of the studies below a folder, and of their report in folder/report."""
    groups, found = find_groups(folder), []
    claims: Table = []
    for path, _ in groups:
        several = len(groups) > 1
        tables = folder / "report" / (path.relative_to(folder) if several else "") / "tables"
        expected = Tables(_collect(path, tables))
        for run in expected.runs.values():
            found += run.numbers() if run.run.status == "done" else []
        found += compare_tables(tables, expected.all()) if tables.exists() else []
        claims += [{"study": expected.study.name, **line} for line in expected.claims()]
    if len(groups) > 1:
        found += compare_tables(folder / "report" / "tables", {"claims.csv": claims} if claims else {})
    return found


def wrong(folder: Path) -> list[Number]:
    """Return the numbers that do not agree with the oracle's."""
    return [number for number in check(folder) if not number.agrees]


def _collect(path: Path, tables: Path) -> Study:
    """Collect a study, with the baseline of its report."""
    ((_, records),) = find_groups(path)
    study = collect(path, records)
    given = _read(tables / "comparison.csv") or []
    label = next((row["arm"] for row in given if row["is_baseline"] == "1"), None)
    return study if label in (None, study.baseline and study.baseline.label) else collect(path, records, label)


def compare_tables(folder: Path, expected: Mapping[str, Table]) -> Iterator[Number]:
    """Yield the cells of the tables of a report; one that the oracle does not have agrees with nothing."""
    for name, rows in expected.items():
        yield from _of_table(folder / name, rows)
    for name in KNOWN:
        if name not in expected and (folder / name).exists():
            yield Number(str(folder / name), "table", "one that is there", "none: not of these runs")


def _read(file: Path) -> list[dict[str, str]] | None:
    """Return the rows of a CSV file, None if it is not there."""
    if not file.exists():
        return None
    with open(file, encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _of_table(file: Path, expected: Table) -> Iterator[Number]:
    """Yield every cell that is expected, with the one that the file has in its place."""
    given = _read(file)
    if given is None or len(given) != len(expected):
        yield Number(str(file), "rows", "no such file" if given is None else len(given), len(expected))
    for written, row in zip(given or [], expected, strict=False):
        names = [value for value in row.values() if isinstance(value, str)]
        where = f"{file}, {names[0]}" + (f", {names[1]}" if file.stem in TWO_NAMES and len(names) > 1 else "")
        for column, value in row.items():
            found = csv_cell(value) if isinstance(value, str) else value
            yield Number(where, column, _value(written.get(column), value), found)


def _value(cell: str | None, like: Any) -> Any:
    """Read a cell as text or as a number, as the expected value is; an empty one is no number."""
    if cell is None or isinstance(like, str):
        return cell
    try:
        return float(cell) if cell else math.nan
    except ValueError:
        return cell
