"""Whether run.json and the tables of a report agree with the logits and metric rows that the runs stored."""

import csv
import io
import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnexp.errors import UserError
from cnnexp.pages.tables import to_texts
from cnnexp.records.fields import RESULT_FILES
from cnnexp.records.run_record import RunRecord
from cnnexp.report.analysis.decisions import ANYTIME
from cnnexp.report.analysis.findings import analyse, tests_with
from cnnexp.report.read.collect import collect, find_groups, without_reruns
from cnnexp.report.read.runs import Run
from cnnexp.report.read.study import Study
from cnnexp.report.render.tables import tables_of, tables_of_studies
from cnnexp.report.search.findings import read_found
from cnnexp.report.search.page import tables_of_search
from cnnexp.search.trials import is_search
from cnnexp.storage.untrusted import checked_file, checked_folder
from cnnexp.text import csv_cell

CLOSE, TINY = 1e-9, 1e-12  # relative difference that rounding may make on another machine; what counts as 0
SEPARATORS = {".csv": ",", ".md": " | ", ".tex": " & "}  # of cells, by the ending of a table's file


@dataclass(frozen=True)
class Value:
    """A number or words, as stored and as recomputed. where: the file and the line; name: the column or field."""

    where: str
    name: str
    stored: Any
    recomputed: Any

    @property
    def agrees(self) -> bool:
        """Tell whether the two are equal; numbers may differ by rounding."""
        a, b = _number(self.stored), _number(self.recomputed)
        if self.stored == self.recomputed or a is None or b is None:
            return bool(self.stored == self.recomputed)
        return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=CLOSE) or max(abs(a), abs(b)) < TINY


def _number(value: Any) -> float | None:
    """Return a number, or a text that is a float in full precision; nan for None, None for other words."""
    try:
        number = math.nan if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return None if isinstance(value, str) and repr(number) != value else number


@dataclass
class Checked:
    """The compared values, how many runs and tables they are from, and where a report is missing."""

    values: list[Value] = field(default_factory=list)
    runs: int = 0
    tables: int = 0
    without_report: list[Path] = field(default_factory=list)

    @property
    def wrong(self) -> list[Value]:
        """Return the values that do not agree."""
        return [value for value in self.values if not value.agrees]


def check(folder: Path, report: Path) -> Checked:
    """Recompute the result of every run at or below a folder, and every table of their reports below `report`.

    A damaged or malformed file is a value that does not agree. Raises UserError if the folder holds no runs.
    """
    groups, done, studies = find_groups(folder), Checked(), []
    reported = [path for path, _ in without_reruns(groups)]
    for path, records in groups:
        name = path.relative_to(folder).as_posix() if path != folder else "runs-here"
        tables = (report if reported == [path] else report / name) / "tables"
        try:
            study = _study(path, records, tables / "comparison.csv")
            for run in study.runs:
                done.values += _check_run(run)
                done.runs += run.status == "done"
            if path not in reported:
                continue
            done.values += _check_decided(study)
            if not is_search(path):
                studies.append(analyse(study))
            if _table_files(tables):
                made = tables_of_search(read_found(path)) if is_search(path) else tables_of(studies[-1])
                _check_tables(tables, to_texts(made), done)
            else:
                done.without_report.append(tables.parent)
        except UserError as error:  # a file that cannot be read at all, such as a link
            done.values.append(Value(str(path), "records", str(error), "readable"))
    if len(reported) > 1 and len(done.without_report) < len(reported):
        _check_tables(report / "tables", to_texts(tables_of_studies(studies)), done)
    return done


def _study(path: Path, records: list[RunRecord], comparison: Path) -> Study:
    """Collect a study, with the baseline of its report's comparison.csv."""
    study = collect(path, records)
    heading, *rows = _stored_rows(comparison) or [[]]
    lines = [dict(zip(heading, row, strict=False)) for row in rows]
    named = next((line.get("arm") for line in lines if line.get("is_baseline") == "1"), None)
    chosen = next((arm for arm in study.arms if csv_cell(arm.label) == named), study.baseline)
    return study if chosen is None or chosen is study.baseline else collect(path, records, chosen.label)


def _check_run(run: Run) -> Iterator[Value]:
    """Compare the files of a run with their checksums, and run.json with the numbers that follow from the files.

    A result that does not agree is replaced in memory, so that the tables are made again from the recomputed one.
    """
    where = f"{run.name}/run.json"
    if run.status == "malformed":
        yield Value(where, "record", run.reason, "a readable record")
        return
    for name in RESULT_FILES:
        try:
            run.record.check_file(name)
        except UserError as error:
            yield Value(f"{run.name}/{name}", "content", str(error), "the content that the run wrote")
    if run.status != "done":
        return
    for name, usable in (("predictions.npz", run.predictions), ("metrics.jsonl", run.rows.get("train"))):
        if not usable:
            yield Value(f"{run.name}/{name}", "content", "unusable", "the content that the run wrote")
    for name, number in _result(run).items():
        yield (value := Value(where, f"result.{name}", run.get("result", name), number))
        if not value.agrees:
            run.record.info["result"][name] = number
    if run.predictions is not None:
        yield Value(where, "data.test", run.get("data", "test"), len(run.predictions.labels))
    spent = run.get("seconds")
    if isinstance(spent, dict) and "total" in spent:
        total = sum(run.number("seconds", part) for part in spent if part != "total")
        yield Value(where, "seconds.total", spent["total"], total)


def _check_decided(study: Study) -> Iterator[Value]:
    """Compare what study.json says of decided tests with their p from the runs of the seeds that it names."""
    for name, crossing in study.schedule.decided.items():
        test = tests_with(study, crossing.seeds).get(name)
        if test and test.seeds == crossing.seeds:  # else some of these runs are not there any more
            p = test.anytime if crossing.rule == ANYTIME else test.p
            yield Value(f"{study.name}/study.json", name, crossing.p, p)
            yield Value(f"{study.name}/study.json", f"side of {name}", crossing.side, test.side)


def _result(run: Run) -> dict[str, float]:
    """Return the fields of `result` that can be recomputed; training accuracy, shifts and memory cannot."""
    found: dict[str, float] = {}
    if run.predictions is not None:
        found = {"test_accuracy": float(run.predictions.right.mean()), "test_loss": run.predictions.nll}
    if rows := run.rows.get("train"):
        accuracies, losses = run.curve("val", "accuracy"), run.curve("val", "loss")
        best = last = max(rows)
        values, sign = run.curve("val", run.monitor), -1 if run.monitor == "loss" else 1
        if values and run.text("protocol", "keep_epoch") != "last":
            best = max(values, key=lambda epoch: (sign * values[epoch], -losses.get(epoch, math.inf)))
        found |= {"epochs": last, "best_epoch": best, "val_accuracy": accuracies.get(best, math.nan)}
        found["val_loss"] = losses.get(best, math.nan)
        steps, seconds = max(run.curve("train", "step").values(), default=0.0), run.number("seconds", "train")
        with suppress(UserError):  # a config that cannot be read, which its checksum reports
            batch_size = run.record.config().get("batch_size")
            if steps and isinstance(batch_size, int) and seconds > 0:
                found["images_per_second"] = steps * batch_size / seconds
    return found


def _table_files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.glob("*")) if file.suffix in SEPARATORS]


def _check_tables(folder: Path, expected: Mapping[str, str], done: Checked) -> None:
    """Compare every table of a report with the rebuilt one; expected: {name: content}."""
    for name, content in expected.items():
        done.values += _compared(folder / name, _rows(name, content))
        done.tables += 1
    others = [file for file in _table_files(folder) if file.name not in expected]
    done.values += [Value(str(file), "table", "a file", "no table of these runs") for file in others]


def _compared(file: Path, expected: list[list[str]]) -> Iterator[Value]:
    """Yield every cell of a rebuilt table with the one that the file has in its place."""
    try:
        stored = _stored_rows(file)
    except UserError as error:
        yield Value(str(file), "content", str(error), "a table")
        return
    if stored is None or len(stored) != len(expected):
        yield Value(str(file), "rows", "no such file" if stored is None else len(stored), len(expected))
    heading = next(row for row in expected if len(row) > 1)
    for number, (line, row) in enumerate(zip(stored or [], expected, strict=False), start=1):
        where, names = f"{file}, line {number}", []
        if len(row) > 1:
            where, names = f"{where} ({row[0]})", heading
        for name, given, found in itertools.zip_longest(names, line, row):
            yield Value(where, name or "text", given, found)


def _stored_rows(file: Path) -> list[list[str]] | None:
    """Return the cells of a table's file, None if there is none. Raises UserError for a link, and for no table."""
    checked_file(checked_folder(file.parent.parent, file.parent.name), file.name)
    if not file.exists():
        return None
    try:
        with open(file, encoding="utf-8", errors="replace", newline="") as opened:
            return _rows(file.name, opened.read())
    except csv.Error as error:
        raise UserError(f"{file}: cannot be read ({error})") from error


def _rows(name: str, content: str) -> list[list[str]]:
    """Return the cells of each line of a table's file; a line outside the table is one cell."""
    if name.endswith(".csv"):
        return list(csv.reader(io.StringIO(content, newline="")))
    ends, separator = (r" \\", " & ") if name.endswith(".tex") else (" |", " | ")
    lines = [line.removeprefix("| ").removesuffix(ends) for line in content.split("\n")]
    return [[line] if line.startswith("%") else line.split(separator) for line in lines]
