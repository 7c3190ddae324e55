"""`cnnexp mistakes`: every test image that a run has wrong, as CSV, and as a page with their pictures."""

import sys
from pathlib import Path

from cnnexp.commands import arguments
from cnnexp.errors import EXIT_DONE, UserError, warn_once
from cnnexp.text import in_shell, visible

EXAMPLES = """\
examples:
  cnnexp mistakes latest > mistakes.csv          file, label, predicted class, probabilities; the most confident first
  cnnexp mistakes latest --class dog --limit 20
  cnnexp mistakes latest --to mistakes           a page with the pictures, Grad-CAM and the first filters
"""


def main(argv: list[str]) -> int:
    """Print the wrong test images, or write them into a folder. Raises UserError if the run has no predictions."""
    parser = arguments.parser("mistakes", "List every test image that a run has wrong.", EXAMPLES)
    parser.add_argument("run", metavar="RUN", help=arguments.RUN)
    parser.add_argument("--class", dest="of_class", metavar="NAME", help="only images of this class")
    parser.add_argument("--limit", type=arguments.whole(1), metavar="N", help="only the N most confident")
    parser.add_argument("--to", type=Path, metavar="DIR", help="write index.html, mistakes.csv and figures there")
    arguments.add_allow(parser)
    given = parser.parse_args(argv)
    from cnnexp.records.find import find_run
    from cnnexp.report.analysis.mistakes import find_mistakes
    from cnnexp.report.read.runs import read_run
    from cnnexp.report.render import mistakes as page

    run = read_run(find_run(given.run))
    found, images = find_mistakes(run, given.of_class)
    said = page.summary(len(found), images, given.of_class)
    found = found[: given.limit]
    if given.to is None:
        print(page.as_csv(found), end="")
        print(f"cnnexp: {visible(said)}", file=sys.stderr)
        return EXIT_DONE
    from cnnexp.explain import figures as of_network
    from cnnexp.pages.style import style

    figures = []
    with style():
        for kind in of_network.KINDS:
            try:
                figures.append(of_network.finished(kind, run.record, given.allow))
            except UserError as error:
                warn_once(f"{run.folder} {error}", f"cnnexp: without {kind}: {error}")
    written = page.write(given.to, run, found, said, figures, in_shell(["cnnexp", "mistakes", *argv]))
    print(f"{visible(said)}: {written}")
    return EXIT_DONE
