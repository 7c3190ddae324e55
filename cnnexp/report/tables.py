"""A table of text cells, and its forms: Markdown, LaTeX, CSV, aligned for a terminal."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnnexp.report import text


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


def to_terminal(table: Table, width: int = 24) -> str:
    """Return the table in aligned columns; cells of the first column are shortened to `width` characters."""
    rows = [[text.shorten(row[0], width), *row[1:]] for row in table.rows]
    lines = [table.headings, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.headings))]
    printed = [
        "  ".join(
            c.rjust(w) if table.is_number(i) else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    printed.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(line.rstrip() for line in printed) + "\n"


def to_csv(headings: Sequence[str], rows: Sequence[Sequence[str | float | int]]) -> str:
    """Return CSV: numbers in full precision, empty where there is none (nan), words guarded against formulas."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(headings)
    for row in rows:
        writer.writerow([text.csv_cell(c) if isinstance(c, str) else "" if math.isnan(c) else repr(c) for c in row])
    return buffer.getvalue()
