"""`cnnexp report`: compare the runs of a study. Its help imports nothing heavy."""

import shlex
import sys
from pathlib import Path

from cnnexp.commands import arguments
from cnnexp.errors import EXIT_DONE
from cnnexp.text import visible

EXAMPLES = """\
examples:
  cnnexp report outputs/ablation                       a study: report/index.html in its folder
  cnnexp report outputs                                every study below outputs
  cnnexp report outputs/ablation --baseline batchnorm  compare with another arm
  cnnexp report outputs/ablation --out docs/ablation --quiet
"""


def main(argv: list[str]) -> int:
    """Write a report; print the comparison and the path of the page. Raises UserError for what the user can fix."""
    parser = arguments.parser(
        "report", "Compare the runs of a study: tables, figures, a verdict per arm, and one page with all.", EXAMPLES
    )
    parser.add_argument("folder", metavar="DIR", help="a study or its folder, a run, or a folder of studies")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder of the report (default: DIR/report)")
    parser.add_argument("--baseline", metavar="ARM", help="the arm to compare with (default: the study's own)")
    parser.add_argument("--no-figures", action="store_true", help="tables and page only")
    parser.add_argument("--quiet", action="store_true", help="print the path of the page only")
    given = parser.parse_args(argv)
    from cnnexp import report
    from cnnexp.records.find import find_place

    def progress(line: str) -> None:
        if not given.quiet:
            print(line, file=sys.stderr)

    command = shlex.join(["cnnexp", "report", *argv])
    written = report.write(find_place(given.folder), given.out, given.baseline, not given.no_figures, command, progress)
    if not given.quiet:
        print(written.terminal)
    print(visible(written.index))
    return EXIT_DONE
