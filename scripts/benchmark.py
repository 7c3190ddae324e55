"""Measure cnnexp side by side with a plain PyTorch loop, Lightning and fastai; write docs/performance.{json,md}.

Run: python scripts/benchmark.py C1 C3 --data DIR        rows are merged into what was measured before
     python scripts/benchmark.py --page                  only render the page
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from bench import machine, page
from bench.lab import REPOSITORY, Lab, tell
from bench.result import Failed, NotMeasured, Result, entry, merged
from bench.rows import ROWS, Row


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    listed = "\n".join(f"  {row.id:13} {row.title} ({row.target})" for row in ROWS.values())
    arguments = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        epilog=f"rows:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument("rows", nargs="*", metavar="ROW", help="what to measure (default: every row)")
    arguments.add_argument("--data", type=Path, metavar="DIR", help="holds imagenette2-160 and cifar10-jpeg")
    arguments.add_argument("--work", type=Path, default=REPOSITORY / "outputs" / "benchmark", help="scratch")
    arguments.add_argument("--out", type=Path, metavar="DIR", help="where the results go (default: docs)")
    arguments.add_argument("--repeats", type=int, metavar="N", help="in place of the row's own number, mostly 5")
    arguments.add_argument("--epochs", type=int, metavar="N", help="in place of the row's own number")
    arguments.add_argument("--weights", type=Path, metavar="FILE", help="of a ResNet-18, for G3 and G5")
    arguments.add_argument("--append", action="store_true", help="add the repeats to those that are there")
    arguments.add_argument("--quick", action="store_true", help="tiny and once, for a test of this script; needs --out")
    arguments.add_argument("--page", action="store_true", help="measure nothing, render the page")
    return arguments


def main(argv: list[str]) -> int:
    """Measure the rows that were asked for, one after another, and write each as soon as it is done."""
    arguments = parser()
    given = arguments.parse_args(argv)
    if wrong := [name for name in given.rows if name not in ROWS]:
        arguments.error(f"no row {wrong[0]}; choose from {', '.join(ROWS)}")
    if given.quick and given.out is None:
        arguments.error("--quick measures nothing that is worth keeping: say with --out DIR where it goes")
    out = given.out or REPOSITORY / "docs"
    lab = Lab(
        given.work.resolve(),
        given.data and given.data.resolve(),
        given.quick,
        given.repeats,
        given.epochs,
        given.weights and given.weights.resolve(),
    )
    lab.folder(".")
    for name in [] if given.page else given.rows or list(ROWS):
        tell(f"{name}: {ROWS[name].title}")
        new = {name: measured(ROWS[name], lab)}
        page.write(out, merged(page.read(out), new, given.append))
    if given.page:
        page.write(out, page.read(out))
    print(out / "performance.md")
    return 0


def measured(row: Row, lab: Lab) -> dict[str, Any]:
    """Measure a row and return its entry, which says why if it could not be measured."""
    about = {**machine.facts(row.gpu), "quick": lab.quick, "not_measured": None}
    try:
        result = row.measure(lab)
    except NotMeasured as missing:
        result, about["not_measured"] = Result({}), str(missing)
    except Failed as failure:
        result, about["not_measured"] = Result({}), f"failed: {failure}"
    if about["not_measured"]:
        tell(f"not measured: {about['not_measured']}")
    repeats = max((len(values) for case in result.series.values() for values in case.values()), default=0)
    return entry(result, repeats=repeats, **about)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
