"""Labels of figures: every script is legible, none is a formula, and no two are cut to the same."""

import warnings

import pytest

from cnnexp.pages import fonts
from cnnexp.pages.style import LABEL, canvas, finish, style
from cnnexp.report.figures.looks import looks
from cnnexp.report.read.study import Arm
from cnnexp.text import shorten_all


@pytest.fixture
def without_system_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "families", lambda: [fonts.OWN])
    monkeypatch.setattr(fonts, "_drawn", fonts._drawn.__wrapped__)


@pytest.mark.usefixtures("without_system_fonts")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("lr=0.1", "lr=0.1"),
        ("é", "é"),
        ("猫犬 a", "U+732B U+72AC a"),
        ("a猫", "a U+732B"),
        ("मा", "U+092E"),
        ("\U0001f9ff", "(nazar amulet)"),
    ],
)
def test_what_no_font_has_is_replaced_legibly(text: str, shown: str) -> None:
    assert fonts.drawable(text) == shown


@pytest.mark.usefixtures("without_system_fonts")
def test_one_font_has_all_characters_of_a_text() -> None:
    for text, shown in {"a\u0308pfel": "äpfel", "Ünï Ω": "Ünï Ω", "猫": "U+732B"}.items():
        found, file = fonts.in_one_font(text)
        assert found == shown and {*map(ord, found)} <= {*fonts.ft2font.FT2Font(file).get_charmap()}


def test_a_font_of_the_system_is_used_if_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class Font:
        name = "Noto Sans CJK JP"

    monkeypatch.setattr(fonts.font_manager.fontManager, "ttflist", [*fonts.font_manager.fontManager.ttflist, Font()])
    assert fonts.families.__wrapped__()[:2] == ["DejaVu Sans", "Noto Sans CJK JP"]


@pytest.mark.parametrize("name", ["$x_1^2$ $", "猫 สวัสดี مرحبا हिन्दी 🐱", "a_b^c \\frac{", "한국어"])
def test_every_name_is_drawn_without_a_warning_and_not_as_a_formula(name: str) -> None:
    with warnings.catch_warnings(), style():
        warnings.simplefilter("error")
        figure, (axis,) = canvas(6, 3)
        axis.set_yticks([0], fonts.labels([name], LABEL))
        axis.set_title(fonts.label(name, LABEL))
        drawn = finish(figure, "name", "")
    shown = fonts.label(name, LABEL)
    assert shown.replace("&", "&amp;").replace("<", "&lt;") in drawn.svg.decode()


def test_labels_that_differ_are_not_cut_to_the_same() -> None:
    texts = [f"{'x' * 30}{n}{'y' * 30}" for n in (1, 2)]
    cut = shorten_all([*texts, "short"], 20)
    assert (
        len(set(cut)) == 3 and cut[2] == "short" and shorten_all(["a" * 50], 20) == shorten_all(["a" * 50] * 2, 20)[:1]
    )


def test_forty_arms_look_different() -> None:
    arms = [Arm(f"optimizer.lr={n}", str(n), label=f"{'long ' * 9}lr={n} {'more ' * 9}", key=str(n)) for n in range(40)]
    found = looks(arms, arms[0]).values()
    assert len({(look.colour, look.marker) for look in found}) == len({look.label for look in found}) == 40
