"""How numbers, durations and tables are written for a person."""

import math
import shlex

import pytest

from cnnexp import text


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (-1, "0 s"), (0.4, "0 s"), (5, "5 s"), (89, "89 s"), (90, "2 min"), (100, "2 min"), (5369, "89 min"),
        (5370, "1 h 30 min"), (5399, "1 h 30 min"), (7260, "2 h 1 min"), (12_000, "3 h 20 min"),
        (172_769, "47 h 59 min"), (172_770, "2 d 0 h"), (370_000, "4 d 6 h"),
    ],
)  # fmt: skip
def test_durations_have_two_units_at_most(seconds: float, written: str) -> None:
    assert text.duration(seconds) == written


@pytest.mark.parametrize("seconds", [math.inf, -math.inf, math.nan])
def test_a_duration_that_is_not_finite_is_a_dash(seconds: float) -> None:
    assert text.duration(seconds) == "-"


def test_a_recorded_command_whose_quotes_do_not_close_has_no_words() -> None:
    assert text.shell_words("cnnexp train 'a b'") == ["cnnexp", "train", "a b"]
    assert text.shell_words("cnnexp train 'a…") == []


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"),
        (999, "999"),
        (999_400, "999 k"),
        (1000, "1 k"),
        (12_345_678, "12.3 M"),
        (999_600, "1 M"),
        (1_814_073_344, "1.81 G"),
    ],
)
def test_large_counts_get_a_prefix(value: float, written: str) -> None:
    assert text.large(value) == written


def test_numbers_and_what_is_missing() -> None:
    assert [text.number(1234.56, 1), text.percent(0.61204), text.mib(3 * 2**30), text.large(math.nan)] == [
        "1,234.6",
        "61.20%",
        "3,072.0 MiB",
        "-",
    ]
    assert [text.number(None), text.number(math.nan), text.percent(None), text.percent(math.nan)] == ["-"] * 4
    assert [text.plural(count, "run") for count in (0, 1, 1000)] == ["0 runs", "1 run", "1,000 runs"]


def test_columns_are_aligned_left_or_right() -> None:
    assert text.align([("arm", "n", ""), ("a", "12", "x\x1b")], right=[1]).splitlines() == [
        "arm   n",
        "a    12  x\\x1b",
    ]
    assert text.align([]) == ""


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
def test_plain(given: object, shown: str) -> None:
    assert text.plain(given) == shown


def test_shorten_keeps_both_ends() -> None:
    assert text.shorten("resnet18_batchnorm_frozen", 12) == "resnet18…zen"
    assert text.shorten("short", 12) == "short"


def test_latex_holds_no_command_of_the_user() -> None:
    assert text.latex(r"\input{x} 5% a_b $y$ #1 & ~^") == (
        r"\textbackslash{}input\{x\} 5\% a\_b \$y\$ \#1 \& \textasciitilde{}\textasciicircum{}"
    )
    assert text.latex("[2pt]") == "{}[2pt]"


def test_markdown_is_no_markup() -> None:
    assert text.markdown("<b>&`x`[y](z)") == r"&lt;b&gt;&amp;\`x\`\[y\](z)"


def test_a_count_and_its_noun() -> None:
    assert [text.plural(n, "class") for n in (0, 1, 2)] == ["0 classes", "1 class", "2 classes"]
    assert [text.plural(n, "run") for n in (1, 1000)] == ["1 run", "1,000 runs"]


def test_only_a_path_below_the_home_folder_is_moved_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    given = ["~", "~/x y", "~x", "x/~", "", "~root/x"]
    assert [text.at_home(path) for path in given] == ["/home/me", "/home/me/x y", *given[2:]]


def test_a_command_is_readable_and_reads_back() -> None:
    words = ["cnnexp", "train", "study.arm='epochs=1,model=resnet18'", "a b", "~model", "it's $5", 'say "it\'s"', "x"]
    line = text.in_shell(words)
    assert shlex.split(line) == words
    assert line.startswith("cnnexp train \"study.arm='epochs=1,model=resnet18'\" 'a b' '~model' ")


def test_a_list_says_how_many_others_there_are() -> None:
    assert text.listed(["a", "b"], 2) == "a, b" and text.listed([], 2) == ""
    assert text.listed(["a", "b", "c"], 2) == "a, b and 1 more"
    assert text.listed([str(number) for number in range(2000)], 1) == "0 and 1,999 more"


def test_text_in_a_csv_file_is_guarded_and_numbers_are_not() -> None:
    assert text.csv_text([["name", "=x"], ["=1+1", -0.5], [None, "-"]]) == "name,'=x\n'=1+1,-0.5\n,'-\n"
