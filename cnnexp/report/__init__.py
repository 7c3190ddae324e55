"""From run directories to tables, figures and a verdict. Reads records only: never imports torch."""

import html
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Report", "write"]


@dataclass(frozen=True)
class Report:
    """A written report: its page, and its comparison and notes as text for a terminal."""

    index: Path
    terminal: str

    def __str__(self) -> str:
        return f"{self.terminal}\n{self.index}"

    def _repr_html_(self) -> str:
        """Show a notebook the comparison, and a link to the page."""
        link = f"<a href='{html.escape(str(self.index))}'>{html.escape(str(self.index))}</a>"
        return f"<pre>{html.escape(self.terminal)}</pre>{link}"


def write(
    folder: Path,
    out: Path | None = None,
    baseline: str | None = None,
    figures: bool = True,
    command: str = "",
    progress: Callable[[str], None] = lambda line: None,
    all_pages: bool = False,
) -> Report:
    """Write the report of a study folder, of one run, or of every group below a folder.

    It goes to `out`, by default <folder>/report: index.html, figures/ (PNG, SVG, PDF), tables/ (Markdown, CSV, LaTeX).
    Of several groups, index.html is an overview, and the pages of those that have changed go to a folder each; if many
    have, that is done only with all_pages. baseline: the arm to compare with, in place of the study's own. command:
    what the page gives as the command that made it. progress: called with each line of progress.
    Raises UserError if there are no runs, if there is no such baseline, or if a file cannot be written.
    """
    from cnnexp.report.render.write import Options, write_groups  # numpy, scipy, jinja2: when a report is made
    from cnnexp.storage.untrusted import checked_folder

    options = Options(baseline, figures, command, progress, all_pages)
    return write_groups(folder, out or checked_folder(folder, "report"), options)
