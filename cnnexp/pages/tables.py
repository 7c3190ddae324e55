"""A table is a list of columns over rows of any kind. One renderer per form: Markdown, LaTeX, CSV, HTML, a terminal."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Generic, Literal, TypeVar

from cnnexp import text

R = TypeVar("R")
Kind = Literal["number", "label", "words", "reason", "verdict"]
GAP = "  "  # as text.align leaves between columns
MIN_FIRST_WIDTH = 14  # characters of the first column of a table in a terminal
TERMINAL_WIDTH = 120  # characters


@dataclass(frozen=True)
class Column(Generic[R]):
    """One column of a table, in every form that it is written in.

    heading: for readers, "" if the column is not for them. csv: the name in the CSV file, "" if it is not there.
    value: of a row; for the CSV file a str, an int or a float (nan: an empty cell). format: the value for readers.
    kind: "number" is aligned right; "words" and "reason" may wrap. terminal: heading in a terminal, "" if not there.
    """

    heading: str
    csv: str
    value: Callable[[R], Any]
    format: Callable[[Any], str] = str
    kind: Kind = "number"
    terminal: str = ""

    def text(self, row: R) -> str:
        """Return the cell of a row for readers: harmless, but not escaped."""
        return self.format(self.value(row))

    def order(self, row: R) -> float | None:
        """Return the number that a page sorts the cell of a row by, such as a mean; None if it sorts by its text."""
        value = self.value(row)
        value = getattr(value, "mean", value)
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


@dataclass(frozen=True)
class Table(Generic[R]):
    """Columns and the rows that they are filled from. notes: what a reader must know, a sentence or more each."""

    columns: Sequence[Column[R]]
    rows: Sequence[R]
    notes: Sequence[str] = ()

    @property
    def shown(self) -> list[Column[R]]:
        """Return the columns for readers."""
        return [column for column in self.columns if column.heading]

    @property
    def cells(self) -> list[list[str]]:
        """Return the rows for readers."""
        return [[column.text(row) for column in self.shown] for row in self.rows]


def csv_columns(
    name: str,
    parts: Sequence[str],
    value: Callable[[R], Any],
    times: float = 1.0,
    heading: str = "",
    format: Callable[[Any], str] = str,
) -> list[Column[R]]:
    """Return a column of the CSV file for each attribute in `parts` of what `value` gives, multiplied by `times`.

    name: "{}" stands for the part; ends of intervals are called low95 and high95. None gives empty cells.
    heading: of one more column, for readers, with all of the value in a format.
    """

    def get(part: str) -> Callable[[R], float]:
        return lambda row: math.nan if (found := value(row)) is None else times * getattr(found, part)

    shown = [Column(heading, "", value, format)] if heading else []
    return [*shown, *(Column("", name.format(part + "95" * (part in ("low", "high"))), get(part)) for part in parts)]


def csv_fields(*names: str) -> list[Column[Any]]:
    """Return a column of the CSV file for each item of rows that are tuples."""
    return [Column("", name, itemgetter(place)) for place, name in enumerate(names)]


def to_markdown(table: Table[Any]) -> str:
    """Return the table as GitHub-flavoured Markdown, its notes below it."""
    rule = ["---:" if column.kind == "number" else "---" for column in table.shown]
    lines = [[text.markdown(column.heading) for column in table.shown], rule]
    lines += [[text.markdown(cell) or " " for cell in row] for row in table.cells]
    notes = "".join(f"{text.markdown(note)}  \n" for note in table.notes)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + (f"\n{notes}" if notes else "")


def to_latex(table: Table[Any]) -> str:
    """Return the table as a LaTeX tabular for the booktabs package, its notes as comments."""
    columns = "".join("r" if column.kind == "number" else "l" for column in table.shown)
    lines = [f"% {text.plain(note)}" for note in ("needs \\usepackage{booktabs}", *table.notes)]
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [" & ".join(text.latex(column.heading) for column in table.shown) + r" \\", r"\midrule"]
    lines += [" & ".join(text.latex(cell) for cell in row) + r" \\" for row in table.cells]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def to_terminal(table: Table[Any], width: int = TERMINAL_WIDTH) -> str:
    """Return the table in aligned columns of at most `width` characters, if shortening the first one can do that."""
    columns = [column for column in table.columns if column.terminal]
    lines = [[column.terminal for column in columns], *([c.text(row) for c in columns] for row in table.rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    widths[0] = min(widths[0], max(MIN_FIRST_WIDTH, width - sum(w + len(GAP) for w in widths[1:])))
    firsts = text.shorten_all([line[0] for line in lines], widths[0])
    widths[0] = max(map(len, firsts))
    lines = [[first, *line[1:]] for first, line in zip(firsts, lines, strict=True)]
    lines.insert(1, ["-" * w for w in widths])
    return text.align(lines, [i for i, column in enumerate(columns) if column.kind == "number"]) + "\n"


def to_csv(table: Table[Any]) -> str:
    """Return the names of the columns and the rows as CSV. Numbers are in full precision, nan is an empty cell."""
    columns = [column for column in table.columns if column.csv]
    rows = [[_empty_if_nan(column.value(row)) for column in columns] for row in table.rows]
    return text.csv_text([[column.csv for column in columns], *rows])


def _empty_if_nan(value: str | float | int) -> str | float | int:
    return "" if isinstance(value, float) and math.isnan(value) else value


FORMS: Mapping[str, Callable[[Table[Any]], str]] = {"md": to_markdown, "tex": to_latex, "csv": to_csv}


def to_texts(tables: Mapping[str, Table[Any]]) -> dict[str, str]:
    """Return {file name: content} of tables by file name, each in the form that the name's ending says."""
    return {name: FORMS[name.rpartition(".")[2]](table) for name, table in tables.items()}
