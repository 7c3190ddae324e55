"""`cnnexp report`: compare the runs of a study. Only the help is light; the rest is imported when it is needed."""

import argparse
import shlex
import sys
from pathlib import Path

from cnnexp.errors import EXIT_DONE, EXIT_REQUEST
from cnnexp.text import visible

EXAMPLES = """\
examples:
  cnnexp report outputs/ablation                       a study: report/index.html in its folder
  cnnexp report outputs                                every study below outputs
  cnnexp report outputs/ablation --baseline batchnorm  compare with another arm
  cnnexp report outputs/ablation --out docs/ablation --quiet
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    arguments = argparse.ArgumentParser(
        prog="cnnexp report",
        description="Compare the runs of a study: tables, figures, a verdict per arm, and one page that holds them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument("folder", type=Path, metavar="DIR", help="a study's folder, a run, or a folder of studies")
    arguments.add_argument("--out", type=Path, metavar="DIR", help="where the report goes (default: DIR/report)")
    arguments.add_argument("--baseline", metavar="ARM", help="the arm to compare with (default: the study's own)")
    arguments.add_argument("--no-figures", action="store_true", help="tables and page only")
    arguments.add_argument("--quiet", action="store_true", help="print the path of the page only")
    return arguments


def main(argv: list[str]) -> int:
    """Write a report; print the comparison and where the page is. Raises UserError for what a person can mend."""
    try:
        given = parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed the help, or one line that says what is wrong
        return EXIT_REQUEST if stop.code else EXIT_DONE
    from cnnexp import report

    def tell(line: str) -> None:
        if not given.quiet:
            print(line, file=sys.stderr)

    command = shlex.join(["cnnexp", "report", *argv])
    written = report.write(given.folder, given.out, given.baseline, not given.no_figures, command, tell)
    if not given.quiet:
        print(written.terminal)
    print(visible(written.index))
    return EXIT_DONE
