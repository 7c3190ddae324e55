"""`cnnexp runs`: list the runs below a folder and how they went. Reads records only: fast, without torch."""

import argparse
import csv
import datetime
import io
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from cnnexp.errors import EXIT_DONE, unknown
from cnnexp.text import visible

EXAMPLES = """\
examples:
  cnnexp runs                                    every run below outputs
  cnnexp runs outputs/ablation --newest          one study, the newest run first
  cnnexp runs --status failed --status oom       what went wrong
  cnnexp runs --csv > runs.csv                   every column; fractions, seconds
"""
WIDEST = 44  # characters of an arm's name


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    arguments = argparse.ArgumentParser(
        prog="cnnexp runs",
        description="List the runs below a folder: study, arm, seed, status, test accuracy, epochs, time, age.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument("folder", nargs="?", type=Path, default=Path("outputs"), metavar="FOLDER")
    arguments.add_argument("--status", action="append", metavar="STATUS", help="only runs of this status; repeatable")
    arguments.add_argument("--newest", action="store_true", help="the newest first, not by study, arm and seed")
    form = arguments.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="every column, as JSON")
    form.add_argument("--csv", action="store_true", help="every column, as CSV")
    return arguments


def main(argv: list[str]) -> int:
    """List the runs. Raises UserError if there is no such folder or status."""
    given = parser().parse_args(argv)
    from cnnexp.records.run_record import STATUSES, find_runs
    from cnnexp.records.table import row

    for status in given.status or []:
        if status not in (*STATUSES, "malformed"):
            raise unknown("--status", "status", status, (*STATUSES, "malformed"))
    found = [row(run) for run in find_runs(given.folder)]
    rows = [r for r in found if not given.status or r["status"] in given.status]
    rows.sort(key=lambda r: (r["study"] or "", r["arm"] or "", r["seed"] or 0, r["folder"]))
    if given.newest:
        rows.sort(key=lambda r: r["started"] or "", reverse=True)
    if given.json:
        print(json.dumps([{k: _finite(v) for k, v in r.items()} for r in rows], indent=1))
    elif given.csv:
        print(as_csv(rows), end="")
    else:
        print(table(rows) if rows else f"{visible(given.folder)}: {'no such' if found else 'holds no'} runs")
    return EXIT_DONE


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Return every column, with a header; text that a spreadsheet would take for a formula is quoted."""
    from cnnexp.records.table import COLUMNS
    from cnnexp.text import csv_cell

    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, "folder"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: csv_cell(v) if isinstance(v, str) else v for k, v in r.items()} for r in rows)
    return text.getvalue()


def table(rows: list[dict[str, Any]]) -> str:
    """Lay runs out for a terminal, with a line that counts them; of what is not done, the reason stands behind."""
    from cnnexp.text import align

    cells = [("study", "arm", "seed", "status", "test %", "epochs", "time", "age", ""), *map(_cells, rows)]
    columns = [list(column) for column in zip(*cells, strict=True)]
    for number in (2, 4, 5, 6, 7):
        columns[number] = [cell.rjust(max(map(len, columns[number]))) for cell in columns[number]]
    counts = Counter(r["status"] for r in rows)
    total = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    return f"{align(list(zip(*columns, strict=True)))}\n{len(rows)} run{'s' * (len(rows) != 1)}: {total}"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    from cnnexp.text import plain, shorten

    folder = Path(row["folder"])
    now = datetime.datetime.now(datetime.UTC)
    started, finished = _time(row["started"]), _time(row["finished"])
    seconds = row["total_seconds"]
    if row["status"] == "running" and started:
        seconds, finished = (now - started).total_seconds(), None
    last, accuracy = finished or started, row["test_accuracy"]
    return (
        shorten(plain(row["study"] or folder.parent.name), WIDEST),
        shorten(plain(row["arm"] or folder.name), WIDEST),
        "-" if row["seed"] is None else str(row["seed"]),
        row["status"],
        "-" if accuracy is None else f"{100 * accuracy:.2f}",
        str(row["epochs"] or _epochs_so_far(folder) or "-"),
        "-" if seconds is None else span(seconds),
        span((now - last).total_seconds()) if last else "-",
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


def span(seconds: float) -> str:
    """Return a time in its largest sensible unit: "45 s", "12 min", "5 h" or "3 d"."""
    for unit, size, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < most * size:
            return f"{max(seconds, 0) / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
