"""`cnnexp report`: compare the runs of a study. Its help imports nothing heavy."""

import datetime
import sys
from pathlib import Path

from cnnexp.commands import arguments
from cnnexp.errors import EXIT_DONE, UserError
from cnnexp.text import in_shell, visible

EXAMPLES = """\
examples:
  cnnexp report outputs/ablation                       a study: report/index.html in its folder
  cnnexp report outputs                                every study below outputs
  cnnexp report outputs/ablation --baseline batchnorm  compare with another arm
  cnnexp report outputs/ablation --out docs/ablation --quiet
  cnnexp report outputs/ablation --serve               while it runs: a page in the browser that follows
"""


def main(argv: list[str]) -> int:
    """Write a report; print the comparison and the path of the page. Raises UserError for what the user can fix."""
    parser = arguments.parser(
        "report", "Compare the runs of a study: tables, figures, a verdict per arm, and one page with all.", EXAMPLES
    )
    parser.add_argument("folder", metavar="DIR", help="a study or its folder, a run, or a folder of studies")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder of the report (default: DIR/report)")
    parser.add_argument(
        "--baseline",
        metavar="ARM",
        help="the arm to compare with (default: the study's own, also of studies that have no such arm)",
    )
    parser.add_argument("--no-figures", action="store_true", help="tables and page only")
    parser.add_argument("--quiet", action="store_true", help="print the path of the page only")
    parser.add_argument("--all-pages", action="store_true", help="of many studies, make every page that is out of date")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--watch", action="store_true", help="write it again while runs are under way; Ctrl-C ends")
    again.add_argument(
        "--serve", action="store_true", help="show it in the browser of this machine, and follow the runs"
    )
    port = arguments.whole(0, 65535)
    parser.add_argument("--port", type=port, metavar="N", help="the port of --serve (default: 8750, or a free one)")
    given = parser.parse_args(argv)
    if given.port is not None and not given.serve:
        raise UserError("--port: has an effect with --serve only")
    from cnnexp.records.find import find_place
    from cnnexp.report import Report
    from cnnexp.report import write as write_report
    from cnnexp.report.watch import watch
    from cnnexp.storage.untrusted import checked_folder

    def progress(line: str) -> None:
        if not given.quiet:
            print(line, file=sys.stderr)

    def write() -> Report:
        shown = progress if not (given.watch or given.serve) else lambda line: None
        options = (given.out, given.baseline, not given.no_figures, command, shown, given.all_pages)
        return write_report(folder, *options)

    def watched(written: Report, line: str) -> None:
        progress(f"{datetime.datetime.now():%H:%M:%S}  {line}; {visible(written.index)}")

    folder, command = find_place(given.folder), in_shell(["cnnexp", "report", *argv])
    if given.serve:
        from cnnexp.report.serve import serve

        serve(folder, given.out or checked_folder(folder, "report"), given.port, write, watched)
    written = watch(folder, write, watched) if given.watch else write()
    if not given.quiet:
        print(written.terminal)
    print(visible(written.index))
    return EXIT_DONE
