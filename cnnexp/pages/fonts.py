"""Letters of every script in figures: the system's fonts besides matplotlib's own, else a replacement."""

import functools
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

from cnnexp.pages.import_matplotlib import RC as _RC  # noqa: F401

# isort: split
from matplotlib import font_manager, ft2font

from cnnexp.text import shorten_all

OWN = "DejaVu Sans"
# Fonts with outlines that systems have for what OWN lacks: Chinese, Japanese, Korean, scripts of India, emoji, all.
FALLBACKS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "WenQuanYi Micro Hei"),
    *("WenQuanYi Zen Hei", "Droid Sans Fallback", "IPAGothic", "Hiragino Sans", "Hiragino Sans GB", "PingFang SC"),
    *("Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Noto Sans Arabic", "Noto Sans Hebrew"),
    *("Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai", "Lohit Devanagari"),
    *("Nirmala UI", "Noto Emoji", "Symbola", "Segoe UI Emoji", "Arial Unicode MS", "FreeSans", "Unifont"),
)


@functools.lru_cache(maxsize=1)
def families() -> list[str]:
    """Return the fonts of a figure, in the order in which a letter is looked for."""
    present = {font.name for font in font_manager.fontManager.ttflist}
    return [OWN, *(name for name in FALLBACKS if name in present)]


@functools.lru_cache(maxsize=1)
def _drawn() -> frozenset[int]:
    """Return the characters that the fonts have."""
    return frozenset[int]().union(*(_characters(_file(name)) for name in families()))


def _file(name: str) -> str:
    return str(font_manager.findfont(font_manager.FontProperties(family=name)))


@functools.lru_cache(maxsize=64)
def _characters(file: str) -> frozenset[int]:
    return frozenset(ft2font.FT2Font(file).get_charmap())


def in_one_font(text: str) -> tuple[str, str]:
    """Return text and the file of a font that has its characters, for a program that looks into one font only.

    If none has all of them, it is the text as `drawable` gives it, in matplotlib's own font.
    """
    characters = set(map(ord, unicodedata.normalize("NFC", text)))
    for file in map(_file, families()):
        if characters <= _characters(file):
            return unicodedata.normalize("NFC", text), file
    return drawable(text), _file(OWN)


def drawable(text: str) -> str:
    """Return text whose characters a figure can show: others become a name, as (cat face), or a code, as U+732B."""
    if text.isascii():
        return text
    parts = [part for character in unicodedata.normalize("NFC", text) if (part := _part(character))]
    separators = [" " if max(len(a), len(b)) > 1 and " " not in (a, b) else "" for a, b in pairwise(parts)]
    return "".join(space + part for space, part in zip(["", *separators], parts, strict=True))


def _part(character: str) -> str:
    if character == "\n" or ord(character) in _drawn():
        return character
    kind, name = unicodedata.category(character), unicodedata.name(character, "")
    if kind[0] == "M" or kind == "Cf":  # accents, joiners and variants of what is replaced
        return ""
    return f"({name.lower()})" if kind[0] == "S" and name else f"U+{ord(character):04X}"


def labels(texts: Sequence[str], width: int) -> list[str]:
    """Return labels of a figure: drawable, and cut to `width` characters where they still differ then."""
    return shorten_all([drawable(text) for text in texts], width)


def label(text: str, width: int) -> str:
    """Return one label of a figure: drawable, and cut to `width` characters."""
    return labels([text], width)[0]
