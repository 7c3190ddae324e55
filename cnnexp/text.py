"""Text that comes from elsewhere (configs, folders, files, exceptions), made harmless for who reads it.

Class names, file names, commands and messages may hold anything: sequences that a terminal obeys (colours, titles, its
clipboard), backspaces, characters that turn the direction of what follows. HTML is escaped by the template engine.
"""

import re
import unicodedata
from collections.abc import Sequence

LONGEST = 10_000  # characters of one text; the longest honest one is the traceback or the command of a large sweep
_ESCAPES = re.compile(
    r"(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*+(?:\x07|\x1b\\|\x9c)?"  # commands: titles, clipboard
    r"|(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]"  # control sequences, such as colours
    r"|\x1b[ -/]*+[0-~]?"
)
_OBEYED = ("Cc", "Cs", "Zl", "Zp")  # controls, halves of characters, breaks of lines
_TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # of direction
_NO_CHARACTERS = frozenset("\ufffe\uffff")  # XML has no way to write them
# Where a cell may begin, the white space there (each run is looked at once), and what a formula begins with.
_BEGINNING = re.compile(r"(^|;|(?<![\s;])(?=\s))(\s*+)([=+\-@＝＋－＠]?)")
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
}


def plain(text: object, lines: bool = False) -> str:
    """Return `text` without terminal escapes, control and direction characters; white space becomes one space.

    With `lines`, line breaks and the spaces within a line stay. Of a very long text the beginning is returned.
    """
    kept = str(text)
    kept = kept if len(kept) <= LONGEST else f"{kept[:LONGEST]}…"
    kept = _ESCAPES.sub("", kept).replace("\r\n", "\n").replace("\t", "    ")
    kept = "".join(_harmless(c) for c in kept)
    return kept.strip("\n") if lines else " ".join(kept.split())


def _harmless(character: str) -> str:
    kind = unicodedata.category(character)
    if character in _NO_CHARACTERS:
        return "\ufffd"
    if character == "\n" or kind not in ("Cc", "Cf", "Cs"):
        return character
    return " " if kind == "Cc" else "\ufffd" if kind == "Cs" else ""


def visible(text: object, lines: bool = False) -> str:
    r"""Return `text` with each character that a terminal would obey written out: an escape as \x1b.

    All else stays as it is, so that a file's name can be recognised. With `lines`, line breaks and tabs stay.
    """
    kept = str(text)
    if kept.isprintable():
        return kept
    return "".join(c if lines and c in "\n\t" else _written_out(c) for c in kept)


def _written_out(character: str) -> str:
    if character in _TURNS or unicodedata.category(character) in _OBEYED:
        return character.encode("unicode_escape").decode("ascii")
    return character


def shorten(text: str, width: int) -> str:
    """Return `text` in at most `width` characters, its middle replaced by an ellipsis: ends tell arms apart."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 3
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def markdown(text: str) -> str:
    """Return `text` for a cell of a Markdown table: no markup, HTML or cell border of its own."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|~$]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def latex(text: str) -> str:
    """Return `text` for a cell of a LaTeX table. A leading [ or * would be read as an argument of the row before."""
    return ("{}" if text[:1] in ("[", "*") else "") + "".join(_LATEX.get(c, c) for c in text)


def csv_cell(text: str) -> str:
    """Return `text` so that no spreadsheet takes it, or a part of it, for a formula (OWASP, CSV injection).

    A spreadsheet may split a cell at semicolons or tabs, where these separate columns in the reader's language.
    """
    return visible(_BEGINNING.sub(_guarded, text))


def _guarded(found: re.Match[str]) -> str:
    """Put an apostrophe where a cell may begin, before the cell's text, if that is a formula, a tab or a return."""
    before, space, sign = found.groups()
    end = len(space) if sign else max(space.rfind("\t"), space.rfind("\r"))
    quoted = "".join(c + "'" * (c in "\t\r\n" and i < end) for i, c in enumerate(space))
    first = (before == ";" or not found.start()) and (sign or end >= 0)
    return f"{before}{chr(39) * bool(first)}{quoted}{sign}"


def align(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text with their columns aligned to the left, the last one ragged."""
    rows = [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
