"""A table in every form: the columns named for it, escaped and guarded, numbers in full precision in CSV files."""

import csv
import io
import math
from dataclasses import dataclass

from cnnexp.pages import tables
from cnnexp.pages.tables import Column, Table, csv_columns, csv_fields
from cnnexp.pages.template import engine

COLUMNS: list[Column[tuple[str, int]]] = [
    Column("Arm", "", lambda row: row[0], kind="label", terminal="Arm"),
    Column("n", "seeds", lambda row: row[1], "{:,}".format, terminal="n"),
]
TABLE = Table(COLUMNS, [("a|b", 3), ("*c*", 1200)], ("*note*",))


@dataclass
class Summary:
    """What csv_columns reads."""

    mean: float
    low: float


def test_markdown_is_one_line_per_row_with_the_notes_below() -> None:
    assert tables.to_markdown(TABLE) == (
        "| Arm | n |\n| --- | ---: |\n| a\\|b | 3 |\n| \\*c\\* | 1,200 |\n\n\\*note\\*  \n"
    )


def test_latex_is_booktabs() -> None:
    lines = tables.to_latex(TABLE).splitlines()
    assert lines[1:5] == ["% *note*", r"\begin{tabular}{lr}", r"\toprule", r"Arm & n \\"]
    assert lines[6] == r"a|b & 3 \\" and lines[7] == r"{}*c* & 1,200 \\"


def test_terminal_columns_are_aligned_and_the_first_is_shortened() -> None:
    assert tables.to_terminal(TABLE) == "Arm      n\n---  -----\na|b      3\n*c*  1,200\n"
    long = Table(COLUMNS, [("a long name of an arm", 3)])
    assert tables.to_terminal(long, 20).splitlines()[2] == "a long name…n arm  3"
    assert [len(line) for line in tables.to_terminal(long, 5).splitlines()] == [17] * 3, "no shorter than 14"


def test_html_is_escaped_and_says_what_a_cell_is() -> None:
    template = engine().from_string('{% from "parts.html.j2" import table %}{{ table(t) }}')
    kinds: list[Column[str]] = [
        Column("<b>", "", str, kind="words"),
        Column("Verdict", "", lambda _: "better", kind="verdict"),
        Column("n", "", len),
    ]
    html = template.render(t=Table(kinds, ["<i>"], ("<u>",)))
    for part in (
        '<th scope="col">&lt;b&gt;</th>',
        '<th scope="col" class="number">n</th>',
        '<th scope="row" class="words">&lt;i&gt;</th><td class="better">better</td>',
        '<td class="number" data-sort="3.0">3</td>',
        '<ul class="notes"><li>&lt;u&gt;</li></ul>',
    ):
        assert part in html


def test_csv_guards_words_and_not_numbers() -> None:
    rows = [("=cmd", -1.5), ("+1", math.nan), ("-x", 3), ("@y", 0.1), ("fine", 1)]
    out = tables.to_csv(Table(csv_fields("a", "b"), rows))
    assert list(csv.reader(io.StringIO(out)))[1:] == [
        ["'=cmd", "-1.5"],
        ["'+1", ""],
        ["'-x", "3"],
        ["'@y", "0.1"],
        ["fine", "1"],
    ]


def test_a_form_has_the_columns_that_are_named_for_it() -> None:
    only_csv = Table(csv_fields("a"), [(1,)])
    assert (only_csv.shown, only_csv.cells) == ([], [[]])
    texts = tables.to_texts({"x.md": TABLE, "x.csv": TABLE})
    assert texts == {"x.md": tables.to_markdown(TABLE), "x.csv": "seeds\n3\n1200\n"}


def test_the_parts_of_a_summary_are_columns_of_the_csv_file() -> None:
    columns: list[Column[Summary | None]] = csv_columns("x_{}_percent", ("mean", "low"), lambda row: row, 100)
    out = tables.to_csv(Table(columns, [Summary(0.5, 0.125), None]))
    assert out == "x_mean_percent,x_low95_percent\n50.0,12.5\n,\n"


def test_a_cell_is_sorted_by_its_value_and_not_by_its_text() -> None:
    def order(value: object) -> float | None:
        return Column[None]("x", "", lambda _: value, str).order(None)

    values = (45.0, Summary(0.5, 0.1), 7, math.nan, Summary(math.nan, 0.1), math.inf, "9 of 10", None)
    assert [order(value) for value in values] == [45.0, 0.5, 7.0, None, None, None, None, None]
