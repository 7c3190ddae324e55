"""`cnnexp runs`: list the runs below a folder, with status and results. It reads records only: fast, without torch."""

import csv
import datetime
import io
import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnexp.commands import arguments
from cnnexp.errors import EXIT_DONE, unknown
from cnnexp.text import DASH, align, csv_cell, duration, number, plain, plural, shorten, visible

EXAMPLES = """\
examples:
  cnnexp runs                                    every run below outputs
  cnnexp runs outputs/ablation --newest          one study, the newest run first
  cnnexp runs --status failed --status oom       failed runs, with the reason
  cnnexp runs --csv > runs.csv                   every column; fractions, seconds
"""


def main(argv: list[str]) -> int:
    """List the runs. Raises UserError if there is no such folder or status."""
    parser = arguments.parser(
        "runs",
        "List the runs below a folder, under names that commands take, with status and results.",
        EXAMPLES,
    )
    parser.add_argument("folder", nargs="?", default="outputs", metavar="FOLDER")
    parser.add_argument("--status", action="append", metavar="STATUS", help="only runs with this status; repeatable")
    parser.add_argument("--newest", action="store_true", help="sort by start, newest first")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="every column, as JSON")
    form.add_argument("--csv", action="store_true", help="every column, as CSV")
    given = parser.parse_args(argv)
    from cnnexp.records.fields import STATUSES
    from cnnexp.records.find import find_place, typed_names
    from cnnexp.records.run_record import find_runs
    from cnnexp.records.table import row

    for status in given.status or []:
        if status not in (*STATUSES, "malformed"):
            raise unknown("--status", "status", status, (*STATUSES, "malformed"))
    records = find_runs(find_place(given.folder))
    found = [row(run) for run in records]
    rows = [r for r in found if not given.status or r["status"] in given.status]
    rows.sort(key=lambda r: (r["study"] or "", r["arm"] or "", r["seed"] or 0, r["folder"]))
    if given.newest:
        rows.sort(key=lambda r: r["started"] or "", reverse=True)
    if given.json:
        print(json.dumps([{k: _finite(v) for k, v in r.items()} for r in rows], indent=1))
    elif given.csv:
        print(as_csv(rows), end="")
    else:
        none = f"{visible(given.folder)}: {'no such' if found else 'holds no'} runs"
        print(as_table(rows, typed_names(records)) if rows else none)
    return EXIT_DONE


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Return every column, with a header; text that a spreadsheet could run as a formula is escaped."""
    from cnnexp.records.table import COLUMNS

    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, "folder"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: csv_cell(v) if isinstance(v, str) else v for k, v in r.items()} for r in rows)
    return text.getvalue()


def as_table(rows: list[dict[str, Any]], names: Mapping[str, str]) -> str:
    """Return a table for a terminal, and a line with the counts by status; the last column says why a run failed.

    names: of the runs by folder, as commands take them.
    """
    cells: list[tuple[str, ...]] = [("run", "status", "test %", "epochs", "time", "age", "")]
    cells += [(names[row["folder"]], *_cells(row)) for row in rows]
    counts = ", ".join(f"{count} {status}" for status, count in Counter(r["status"] for r in rows).most_common())
    return f"{align(cells, right=(2, 3, 4, 5))}\n{plural(len(rows), 'run')}: {counts}"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    folder = Path(row["folder"])
    now = datetime.datetime.now(datetime.UTC)
    started, finished = _time(row["started"]), _time(row["finished"])
    seconds = row["total_seconds"]
    if row["status"] == "running" and started:
        seconds, finished = (now - started).total_seconds(), None
    last, accuracy = finished or started, row["test_accuracy"]
    return (
        row["status"],
        number(None if accuracy is None else 100 * accuracy, 2),
        str(row["epochs"] or _epochs_so_far(folder) or DASH),
        DASH if seconds is None else duration(seconds),
        duration((now - last).total_seconds()) if last else DASH,
        shorten(plain(row["error"] or ("superseded: the arm has another config now" if row["superseded"] else "")), 60),
    )


def _epochs_so_far(folder: Path) -> int:
    from cnnexp.records.run_record import RunRecord

    epochs = [r.get("epoch") for r in RunRecord(folder).rows()]
    return max((epoch for epoch in epochs if isinstance(epoch, int)), default=0)


def _time(text: str | None) -> datetime.datetime | None:
    try:
        time = datetime.datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=datetime.UTC)
