"""Measure cnnexp side by side with a plain PyTorch loop, Lightning and fastai; write docs/performance.{jsonl,md}.

Run: python scripts/benchmark.py --data DIR              the rows that matter, in under 30 minutes on two free cores
     python scripts/benchmark.py C1 C3 --data DIR        these, with all their repeats; others keep their numbers
     python scripts/benchmark.py --page                  only render the page
     python scripts/benchmark.py --add gpu_check.json    add the rows that scripts/gpu_check.py measured
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

from bench import page, results
from bench.lab import REPOSITORY, Lab, say
from bench.measure import measure
from bench.table import ROWS


def checked_rows(file: Path) -> dict[str, Any]:
    """Return the rows that scripts/gpu_check.py measured on a GPU; none of a quick check."""
    found = json.loads(file.read_text(encoding="utf-8"))
    rows = {check["name"]: check["row"] for check in found["checks"] if "row" in check}
    return {name: row for name, row in rows.items() if not found["quick"] and not row["not_measured"]}


def main(argv: list[str]) -> int:
    """Measure the requested rows one after another, and write each as soon as it is measured."""
    listed = "\n".join(f"  {name:13} {row['title']}" for name, row in ROWS.items())
    parser = argparse.ArgumentParser(description=__doc__, epilog=f"rows:\n{listed}")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help="what to measure (default: the rows that matter, with fewer repeats)"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="holds imagenette2-160 and cifar10-jpeg")
    parser.add_argument("--work", type=Path, default=Lab.work, help="scratch folder")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the results are written (default: docs)")
    parser.add_argument("--repeats", type=int, metavar="N", help="in place of the row's own number, mostly 5")
    parser.add_argument("--epochs", type=int, metavar="N", help="in place of the row's own number")
    parser.add_argument("--all", action="store_true", help="measure every row with all its repeats: hours")
    parser.add_argument("--append", action="store_true", help="add the repeats to the earlier ones")
    parser.add_argument("--quick", action="store_true", help="tiny and once, to test this script; needs --out")
    parser.add_argument("--page", action="store_true", help="measure nothing, render the page")
    parser.add_argument("--add", type=Path, metavar="FILE", help="measure nothing, add the rows of gpu_check.json")
    given = parser.parse_args(argv)
    if wrong := [name for name in given.rows if name not in ROWS]:
        parser.error(f"no row {wrong[0]}; choose from {', '.join(ROWS)}")
    if given.quick and given.out is None:
        parser.error("--quick measures nothing worth keeping: add --out DIR")
    out = given.out or REPOSITORY / "docs"
    data = given.data and given.data.resolve()
    lab = Lab(given.work.resolve(), data, given.quick, given.repeats, given.epochs)
    if given.add:
        page.write(out, results.merged(results.read(out), checked_rows(given.add)))
    short = not given.rows and not given.all
    named = given.rows or [name for name, row in ROWS.items() if given.all or row["short"]]
    started = time.monotonic()
    for name in [] if given.page or given.add else named:
        say(f"{(time.monotonic() - started) / 60:.1f} min, {name}: {ROWS[name]['title']}")
        own = dataclasses.replace(lab, repeats=lab.repeats or (ROWS[name]["short"] if short else None))
        page.write(out, results.merged(results.read(out), {name: measure(ROWS[name], own)}, given.append))
    page.write(out, results.read(out))
    if not given.page and not given.add:
        say(f"measured in {(time.monotonic() - started) / 60:.1f} min")
    print(out / "performance.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
