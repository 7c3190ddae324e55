"""Holding what is recomputed against the files: every number, one after the other."""

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnexp.errors import UserError
from cnnexp.records.run_record import RESULT_FILES, RunRecord
from cnnexp.report.read.collect import collect, find_groups
from cnnexp.report.read.runs import Run
from cnnexp.storage.untrusted import checked_file, checked_folder
from cnnexp.text import csv_cell
from cnnexp.verify.of_runs import Number
from cnnexp.verify.of_tables import KNOWN, Tables
from cnnexp.verify.of_tests import Table

TWO_NAMES = ("per_class", "reported", "confusions", "mistakes", "per_class_difference")  # that a row is known by


@dataclass
class Checked:
    """What was compared: the numbers, how many runs they are of, and in how many tables; where reports are missing."""

    numbers: list[Number]
    runs: int
    tables: int
    without_report: list[Path]

    @property
    def wrong(self) -> list[Number]:
        """Return the numbers that do not agree."""
        return [number for number in self.numbers if not number.agrees]


def check(folder: Path, report: Path) -> Checked:
    """Recompute the numbers of every study at or below a folder, and of their reports below `report`.

    What is malformed or damaged is a number that does not agree. Raises UserError if the folder holds no runs.
    """
    groups = find_groups(folder)
    done = Checked([], 0, 0, [])
    claims: Table = []
    for path, records in groups:
        name = path.relative_to(folder).as_posix() if path != folder else "runs-here"
        try:
            study = _check_group(path, records, (report if len(groups) == 1 else report / name) / "tables", done)
        except UserError as error:  # a file that nothing can be asked of, such as a link
            done.numbers.append(Number(str(path), "records", str(error), "readable"))
        else:
            claims += [{"study": study.study.name, **line} for line in study.claims()]
    if len(groups) > 1 and len(done.without_report) < len(groups):
        _check_tables(report / "tables", {"claims.csv": claims} if claims else {}, done)
    return done


def _check_group(path: Path, records: list[RunRecord], tables: Path, done: Checked) -> Tables:
    given = _read(tables / "comparison.csv")
    study = collect(path, records)
    named = next((row["arm"] for row in given or [] if row.get("is_baseline") == "1"), None)
    chosen = next((arm for arm in study.arms if csv_cell(arm.label) == named), None)
    if chosen is not None and chosen is not study.baseline:
        study = collect(path, records, chosen.label)
    expected = Tables(study)
    for run in expected.runs.values():
        done.numbers += _of_files(run.run)
        if run.run.status == "done":
            done.numbers += run.numbers()
            done.runs += 1
    if any((tables / name).exists() for name in KNOWN):
        _check_tables(tables, expected.all(), done)
    else:
        done.without_report.append(tables.parent)
    return expected


def _of_files(run: Run) -> Iterator[Number]:
    """Yield what of a run is not as it was left: its record, or a file that has another checksum there."""
    if run.status == "malformed":
        yield Number(f"{run.name}/run.json", "record", run.reason, "one that can be read")
        return
    for name in RESULT_FILES:
        try:
            run.record.check_file(name)
        except UserError as error:
            yield Number(f"{run.name}/{name}", "content", str(error), "what the run left there")


def _check_tables(folder: Path, expected: Mapping[str, Table], done: Checked) -> None:
    """Compare the tables of a report; one that a report of these runs does not have agrees with nothing."""
    for name, rows in expected.items():
        done.numbers += _compared(folder / name, rows)
        done.tables += 1
    for name in KNOWN:
        if name not in expected and (folder / name).exists():
            done.numbers.append(Number(str(folder / name), "table", "one that is there", "none: not of these runs"))


def _read(file: Path) -> list[dict[str, str]] | None:
    """Return the rows of a CSV file, None if it is not there. Raises UserError for a link, and for what is no table."""
    checked_file(checked_folder(file.parent.parent, file.parent.name), file.name)
    if not file.exists():
        return None
    try:
        with open(file, encoding="utf-8", errors="replace", newline="") as lines:
            return list(csv.DictReader(lines))
    except csv.Error as error:
        raise UserError(f"{file}: cannot be read ({error})") from error


def _compared(file: Path, expected: Table) -> Iterator[Number]:
    """Yield every cell that was expected, with what the file has in its place."""
    try:
        given = _read(file)
    except UserError as error:
        yield Number(str(file), "content", str(error), "a table")
        return
    if given is None or len(given) != len(expected):
        yield Number(str(file), "rows", "no such file" if given is None else len(given), len(expected))
    for written, row in zip(given or [], expected, strict=False):
        names = [value for value in row.values() if isinstance(value, str)]
        where = f"{file}, {names[0]}" + (f", {names[1]}" if file.stem in TWO_NAMES and len(names) > 1 else "")
        for column, value in row.items():
            found = csv_cell(value) if isinstance(value, str) else value
            yield Number(where, column, _value(written.get(column), value), found)


def _value(cell: str | None, like: Any) -> Any:
    """Read a cell as text or as a number, as what is expected of it; an empty one is no number."""
    if cell is None or isinstance(like, str):
        return cell
    try:
        return float(cell) if cell else math.nan
    except ValueError:
        return cell
