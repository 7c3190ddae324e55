"""A table of text cells, and its forms: Markdown, LaTeX, CSV, aligned for a terminal."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnnexp import text

GAP = "  "
SHORTEST = 14  # characters of the first column of a table in a terminal


@dataclass(frozen=True)
class Table:
    """Headings and rows of text, harmless but not escaped; `left`: the number of columns that hold words."""

    headings: list[str]
    rows: list[list[str]]
    left: int = 1
    words: frozenset[str] = frozenset()

    def is_number(self, column: int) -> bool:
        """Tell whether a column holds numbers, which are aligned right."""
        return column >= self.left and self.headings[column] not in self.words


def to_markdown(table: Table) -> str:
    """Return the table as GitHub-flavoured Markdown."""
    rule = ["---:" if table.is_number(i) else "---" for i in range(len(table.headings))]
    lines = [[text.markdown(h) for h in table.headings], rule]
    lines += [[text.markdown(cell) or " " for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def to_latex(table: Table, notes: Sequence[str] = ()) -> str:
    """Return the table as a LaTeX tabular for the booktabs package, the notes as comments."""
    columns = "".join("r" if table.is_number(i) else "l" for i in range(len(table.headings)))
    lines = [f"% {text.plain(note)}" for note in ("needs \\usepackage{booktabs}", *notes)]
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [" & ".join(text.latex(h) for h in table.headings) + r" \\", r"\midrule"]
    lines += [" & ".join(text.latex(cell) for cell in row) + r" \\" for row in table.rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def to_terminal(table: Table, width: int = 116) -> str:
    """Return the table in aligned columns of at most `width` characters, if shortening the first one can do that."""
    lines = [table.headings, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.headings))]
    widths[0] = min(widths[0], max(SHORTEST, width - sum(w + len(GAP) for w in widths[1:])))
    lines = [[text.shorten(line[0], widths[0]), *line[1:]] for line in lines]
    lines.insert(1, ["-" * w for w in widths])
    return "".join(GAP.join(_aligned(table, line, widths)).rstrip() + "\n" for line in lines)


def _aligned(table: Table, line: list[str], widths: list[int]) -> list[str]:
    cells = enumerate(zip(line, widths, strict=True))
    return [cell.rjust(w) if table.is_number(i) else cell.ljust(w) for i, (cell, w) in cells]


def to_csv(headings: Sequence[str], rows: Sequence[Sequence[str | float | int]]) -> str:
    """Return CSV: numbers in full precision, empty where there is none (nan), words guarded against formulas."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(headings)
    for row in rows:
        writer.writerow([text.csv_cell(c) if isinstance(c, str) else "" if math.isnan(c) else repr(c) for c in row])
    return buffer.getvalue()
