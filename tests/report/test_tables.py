"""Tables in every form, and text made harmless for each."""

import csv
import io
import math

import pytest
from fake_records import write_run, write_study

from cnnexp import text
from cnnexp.pages import tables
from cnnexp.pages.tables import Table
from cnnexp.report.analysis.findings import analyse
from cnnexp.report.analysis.statistics import Summary, p_value
from cnnexp.report.read.collect import collect, find_groups
from cnnexp.report.render import columns

TABLE = Table(["Arm", "n"], [["a|b", "3"], ["*c*", "12"]])


def rows_of(folder):
    return analyse(collect(*find_groups(folder)[0])).rows


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x9b2Jx", "x"),
        ("a\nb\tc\x00d", "a b c d"),
        ("abc\u202edef\u200b", "abcdef"),
        ("\udcff", "\ufffd"),
        ("naïve 漢字 🙂", "naïve 漢字 🙂"),
        (None, "None"),
    ],
)
def test_plain(given, shown):
    assert text.plain(given) == shown


def test_shorten_keeps_both_ends():
    assert text.shorten("resnet18_batchnorm_frozen", 12) == "resnet18…zen"
    assert text.shorten("short", 12) == "short"


def test_latex_holds_no_command_of_the_user():
    assert text.latex(r"\input{x} 5% a_b $y$ #1 & ~^") == (
        r"\textbackslash{}input\{x\} 5\% a\_b \$y\$ \#1 \& \textasciitilde{}\textasciicircum{}"
    )
    assert text.latex("[2pt]") == "{}[2pt]"


def test_markdown_is_one_line_per_row_and_no_markup():
    assert tables.to_markdown(TABLE) == "| Arm | n |\n| --- | ---: |\n| a\\|b | 3 |\n| \\*c\\* | 12 |\n"
    assert text.markdown("<b>&`x`[y](z)") == r"&lt;b&gt;&amp;\`x\`\[y\](z)"


def test_latex_is_booktabs():
    lines = tables.to_latex(TABLE).splitlines()
    assert lines[1:4] == [r"\begin{tabular}{lr}", r"\toprule", r"Arm & n \\"]
    assert lines[5] == r"a|b & 3 \\" and lines[6] == r"{}*c* & 12 \\"


def test_terminal_columns_are_aligned():
    assert tables.to_terminal(TABLE) == "Arm   n\n---  --\na|b   3\n*c*  12\n"


def test_csv_guards_words_and_not_numbers():
    out = tables.to_csv(["a", "b"], [["=cmd", -1.5], ["+1", math.nan], ["-x", 3], ["@y", 0.1], ["fine", 1]])
    rows = list(csv.reader(io.StringIO(out)))[1:]
    assert rows == [["'=cmd", "-1.5"], ["'+1", ""], ["'-x", "3"], ["'@y", "0.1"], ["fine", "1"]]


def test_formats():
    assert columns.percent(Summary(3, 0.7567, 0.0034, 0.7, 0.8)) == "75.67 ± 0.34"
    assert columns.percent(Summary(1, 0.7567, math.nan, math.nan, math.nan)) == "75.67"
    assert columns.percent(Summary(0, math.nan, math.nan, math.nan, math.nan)) == "-"
    counts = (math.nan, 0, 999, 390_410, 999_600, 12_345_678, 1.82e9)
    assert [columns.large(x) for x in counts] == ["-", "0", "999", "390 k", "1000 k", "12.3 M", "1.82 G"]
    assert [p_value(p, True) for p in (0.034, 0.00043, 1e-9, math.nan)] == ["= 0.034", "= 0.0004", "< 0.0001", "-"]


def test_csv_holds_full_precision(tmp_path):
    folder = write_study(tmp_path, {"baseline": (0.5, 0.3, 60.0), "dropout": (0.6, 0.1, 70.0)})
    rows = rows_of(folder)
    (base, dropout) = csv.DictReader(io.StringIO(tables.to_csv(*columns.comparison_csv(rows))))
    assert float(dropout["difference_mean_points"]) == 100 * rows[1].difference.mean
    assert float(dropout["p_holm"]) == rows[1].p_holm
    assert (base["is_baseline"], base["p_holm"], base["seeds"]) == ("1", "", "0 1 2")


def test_terminal_fits(tmp_path):
    for seed in range(3):
        write_run(tmp_path, "baseline", seed + 1, 0.5)
        write_run(tmp_path, "an_arm_with_a_name_that_nobody_would_type_twice", seed, 0.61 + seed / 100, seconds=12345.6)
    printed = tables.to_terminal(columns.comparison_terminal(rows_of(tmp_path)))
    assert max(len(line) for line in printed.splitlines()) <= 120
    assert "…" in printed and ", 2 pairs" in printed
