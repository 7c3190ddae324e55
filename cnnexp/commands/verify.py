"""`cnnexp verify`: recompute the numbers of a report from the stored logits and rows, and compare. Imports no torch."""

import sys
from pathlib import Path

from cnnexp.commands import arguments
from cnnexp.errors import EXIT_DONE, EXIT_SOME_FAILED, UserError
from cnnexp.text import plain, plural, visible

EXAMPLES = """\
examples:
  cnnexp verify outputs/ablation                       run.json, and the tables of outputs/ablation/report
  cnnexp verify outputs/ablation --report docs/ablation
  cnnexp verify outputs                                every study below it

Checked: the checksums of the files of each run; accuracy and loss of the test images from the logits, validation and
the best epoch from the metric rows; then every cell of every table (CSV, Markdown, LaTeX), which are made again from
these. Training accuracy, accuracy of moved images, memory and seconds are compared as run.json has them.
exit codes: 0 all agree, 3 not (the first that differ are named)
"""
SHOWN = 10
SCOPE = "compared: run.json and the tables (CSV, Markdown, LaTeX); a report's page and figures are not read"


def main(argv: list[str]) -> int:
    """Compare, and print how many values agree. Raises UserError if there is nothing to compare."""
    parser = arguments.parser(
        "verify", "Recompute run.json and the tables of a report from what the runs stored, and compare.", EXAMPLES
    )
    parser.add_argument("folder", metavar="DIR", help="a study or its folder, a run, or a folder of studies")
    parser.add_argument("--report", type=Path, metavar="DIR", help="the folder of the report (default: DIR/report)")
    given = parser.parse_args(argv)
    from cnnexp.records.find import find_place
    from cnnexp.report.verify import check
    from cnnexp.storage.untrusted import checked_folder

    folder = find_place(given.folder)
    done = check(folder, given.report or checked_folder(folder, "report"))
    for folder in done.without_report:
        print(f"cnnexp: no report in {visible(folder)}: run.json alone is compared", file=sys.stderr)
    if not done.values:
        raise UserError(f"{given.folder}: holds no number to recompute: no run is done, and there is no report")
    places = f"{plural(done.runs, 'run')} and {plural(done.tables, 'table')}"
    if not done.wrong:
        print(f"{len(done.values)} values in {places} agree with the stored logits and rows")
        print(SCOPE)
        return EXIT_DONE
    of_other_runs = [value for value in done.wrong if value.name in ("rows", "seeds")]
    if of_other_runs:  # then each line is compared with that of another run, and what else differs is of little use
        print("runs were added or removed since the report was made? `cnnexp report` makes it again")
    for value in [*of_other_runs, *(value for value in done.wrong if value not in of_other_runs)][:SHOWN]:
        stored, recomputed = ("nothing" if v is None or v == "" else v for v in (value.stored, value.recomputed))
        print(plain(f"{value.where}, {value.name}: stored {stored}, recomputed {recomputed}"))
    more = len(done.wrong) - SHOWN
    print(f"... and {more} more\n" * (more > 0), end="")
    print(f"{len(done.wrong)} of {plural(len(done.values), 'value')} in {places} do not agree")
    return EXIT_SOME_FAILED
