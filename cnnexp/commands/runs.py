"""`cnnexp runs`: list the runs below a folder, with status and results. It reads records only: fast, without torch."""

import datetime
import json
import math
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cnnexp.commands import arguments
from cnnexp.errors import EXIT_DONE, UserError, unknown
from cnnexp.text import DASH, align, csv_text, duration, number, plain, plural, shorten, visible

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
        "runs", "List the runs below a folder, under names that commands take, with status and results.", EXAMPLES
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
    from cnnexp.records.table import row, settings

    for status in given.status or []:
        if status not in (*STATUSES, "malformed"):
            raise unknown("--status", "status", status, (*STATUSES, "malformed"))
    records = find_runs(find_place(given.folder))
    found = [row(run) for run in records]
    rows = [r for r in found if not given.status or r["status"] in given.status]
    rows.sort(key=lambda r: (r["study"] or "", r["arm"] or "", r["seed"] or 0, r["folder"]))
    if given.newest:
        rows.sort(key=lambda r: r["started"] or "", reverse=True)
    if given.json or given.csv:
        more = settings([record for record in records if str(record.folder) in {r["folder"] for r in rows}])
        rows = [{**r, **more.get(r["folder"], {})} for r in rows]
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

    columns = list(dict.fromkeys([*COLUMNS, "folder", *(key for r in rows for key in r)]))
    return csv_text([columns, *([r.get(name) for name in columns] for r in rows)])


def as_table(rows: list[dict[str, Any]], names: Mapping[str, str]) -> str:
    """Return a table for a terminal, and a line with the counts by status; the last column says why a run failed.

    names: of the runs by folder, as commands take them.
    """
    cells: list[tuple[str, ...]] = [("run", "status", "val %", "test %", "epochs", "time", "age", "")]
    cells += [(names[row["folder"]], *_cells(row)) for row in rows]
    counts = ", ".join(f"{count} {status}" for status, count in Counter(r["status"] for r in rows).most_common())
    return f"{align(cells, right=(2, 3, 4, 5, 6))}\n{plural(len(rows), 'run')}: {counts}{_advice(rows)}"


def _advice(rows: list[dict[str, Any]]) -> str:
    """Return a line on how to choose a setting, if one of the studies is there for that."""
    from cnnexp.records.study import ADVICE, is_choice, read_study

    arms: dict[Path, list[str]] = {}
    for row in rows:
        if row["status"] == "done" and not row["superseded"]:
            arms.setdefault(Path(row["folder"]).parent, []).append(row["arm"])
    with suppress(UserError):  # a study.json that cannot be read: `cnnexp report` says so
        return f"\n{ADVICE}" if any(is_choice(read_study(folder), names) for folder, names in arms.items()) else ""
    return ""


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    folder = Path(row["folder"])
    now = datetime.datetime.now(datetime.UTC)
    started, finished = _time(row["started"]), _time(row["finished"])
    seconds = row["total_seconds"]
    if row["status"] == "running" and started:
        seconds, finished = (now - started).total_seconds(), None
    last = finished or started
    epochs, accuracy = str(row["epochs"] or DASH), row["val_accuracy"]
    if row["status"] not in ("done", "malformed"):
        epochs, accuracy = _so_far(folder)
    return (
        row["status"],
        _percent(accuracy),
        _percent(row["test_accuracy"]),
        epochs,
        DASH if seconds is None else duration(seconds),
        duration((now - last).total_seconds()) if last else DASH,
        shorten(plain(row["error"] or ("superseded: the arm has another config now" if row["superseded"] else "")), 60),
    )


def _percent(fraction: float | None) -> str:
    return number(None if fraction is None else 100 * fraction, 2)


def _so_far(folder: Path) -> tuple[str, float | None]:
    """Return "4/10" and the last validation accuracy of a run that is not done."""
    from cnnexp.records.run_record import RunRecord

    run = RunRecord.read(folder)
    rows, schedule = run.rows(), run.info.get("schedule")
    planned = schedule.get("epochs") if isinstance(schedule, dict) else None
    last = max((epoch for row in rows if isinstance(epoch := row.get("epoch"), int)), default=0)
    values = [v for row in rows if row.get("split") == "val" and isinstance(v := row.get("accuracy"), float)]
    epochs = f"{last}/{planned}" if isinstance(planned, int) else str(last)
    return epochs if last else DASH, values[-1] if values else None


def _time(text: str | None) -> datetime.datetime | None:
    try:
        time = datetime.datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=datetime.UTC)
