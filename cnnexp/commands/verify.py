"""`cnnexp verify`: recompute every number of a report from the stored logits, and compare. Imports no torch."""

import argparse
import sys
from pathlib import Path

from cnnexp.errors import EXIT_DONE, EXIT_SOME_FAILED, UserError

EXAMPLES = """\
examples:
  cnnexp verify outputs/ablation                       run.json, and the tables of outputs/ablation/report
  cnnexp verify outputs/ablation --report docs/ablation
  cnnexp verify outputs                                every study below it

Recomputed: accuracy and loss of the test images from their logits, validation and the best epoch from the metric
rows, means, intervals, differences, tests, classes, claims, effects, calibration, mistakes and where arms disagree
from these. Training accuracy, memory and seconds are compared as recorded. What is held against this is run.json and
the CSV tables; the .md, .tex and .html files beside them are not read.
exit codes: 0 all agree, 3 not (the first that differ are named)
"""
SHOWN = 10
SCOPE = "compared: run.json and the CSV tables; a report's .md, .tex and .html files are not read"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    arguments = argparse.ArgumentParser(
        prog="cnnexp verify",
        description="Recompute the numbers of run.json and of a report's CSV files from what the runs stored.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument("folder", type=Path, metavar="DIR", help="a study's folder, a run, or a folder of studies")
    arguments.add_argument("--report", type=Path, metavar="DIR", help="where the report is (default: DIR/report)")
    return arguments


def main(argv: list[str]) -> int:
    """Compare, and say how many numbers agree. Raises UserError if there are no runs, or no numbers."""
    given = parser().parse_args(argv)
    from cnnexp.storage.untrusted import checked_folder
    from cnnexp.text import plain, visible
    from cnnexp.verify.check import check

    done = check(given.folder, given.report or checked_folder(given.folder, "report"))
    for folder in done.without_report:
        print(f"cnnexp: no report in {visible(folder)}: run.json alone is compared", file=sys.stderr)
    if not done.numbers:
        raise UserError(f"{given.folder}: holds no number to recompute: no run is done, and there is no report")
    places = f"{done.runs} run{'s' * (done.runs != 1)} and {done.tables} table{'s' * (done.tables != 1)}"
    if not done.wrong:
        print(f"{len(done.numbers)} numbers in {places} agree with the stored logits and rows")
        print(SCOPE)
        return EXIT_DONE
    of_other_runs = [number for number in done.wrong if number.name in ("rows", "seeds")]
    if of_other_runs:  # then lines stand beside those of other runs, and what else they say is of little use
        print("runs have come or gone since the report was made? `cnnexp report` makes it anew")
    for number in [*of_other_runs, *(number for number in done.wrong if number not in of_other_runs)][:SHOWN]:
        print(plain(number))
    more = len(done.wrong) - SHOWN
    print(f"... and {more} more\n" * (more > 0), end="")
    print(f"{len(done.wrong)} of {len(done.numbers)} numbers in {places} do not agree")
    return EXIT_SOME_FAILED
