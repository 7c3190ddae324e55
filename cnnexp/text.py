"""Text for terminals, tables and files: untrusted text made harmless, numbers and durations formatted.

Class names, file names, commands and messages come from configs, folders and exceptions. They may contain terminal
escape sequences (colours, window titles, clipboard commands), backspaces and characters that reverse the direction of
the text after them. HTML is escaped by the template engine.
Every number and duration that a person reads is formatted by `number`, `percent`, `large`, `mib` and `duration`.
"""

import csv
import io
import math
import re
import shlex
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

DASH = "-"
MAX_CHARACTERS = 10_000  # of one text; the longest legitimate one is the traceback or command of a large sweep
_ESCAPES = re.compile(
    r"(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*+(?:\x07|\x1b\\|\x9c)?"  # commands: titles, clipboard
    r"|(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]"  # control sequences, such as colours
    r"|\x1b[ -/]*+[0-~]?"
)
_CONTROL_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")  # controls, surrogates, line and paragraph separators
_DIRECTION_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_NOT_IN_XML = frozenset("\ufffe\uffff")
# Where a cell may begin, the white space there (scanned once), and the characters that a formula begins with.
_FORMULA_START = re.compile(r"(^|;|(?<![\s;])(?=\s))(\s*+)([=+\-@＝＋－＠]?)")
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
    """Remove terminal escapes, control and direction characters from `text`; collapse white space to one space.

    lines: keep line breaks and the spaces within a line. A text of more than MAX_CHARACTERS is cut there.
    """
    kept = str(text)
    kept = kept if len(kept) <= MAX_CHARACTERS else f"{kept[:MAX_CHARACTERS]}…"
    if not kept.isprintable():  # most texts are, and a page has many
        kept = _ESCAPES.sub("", kept).replace("\r\n", "\n").replace("\t", "    ")
        kept = "".join(_harmless(c) for c in kept)
    return kept.strip("\n") if lines else " ".join(kept.split())


def _harmless(character: str) -> str:
    kind = unicodedata.category(character)
    if character in _NOT_IN_XML:
        return "\ufffd"
    if character == "\n" or kind not in ("Cc", "Cf", "Cs"):
        return character
    return " " if kind == "Cc" else "\ufffd" if kind == "Cs" else ""


def visible(text: object, lines: bool = False) -> str:
    r"""Replace each control and direction character of `text` by its escape sequence, such as \x1b.

    All other characters stay, so that a file name can be recognised. lines: keep line breaks and tabs.
    """
    kept = str(text)
    if kept.isprintable():
        return kept
    return "".join(c if lines and c in "\n\t" else _escaped(c) for c in kept)


def _escaped(character: str) -> str:
    if character in _DIRECTION_MARKS or unicodedata.category(character) in _CONTROL_CATEGORIES:
        return character.encode("unicode_escape").decode("ascii")
    return character


def at_home(path: str) -> str:
    """Return a path with the user's home folder for a `~` that begins it. `~name` stays: it may be a folder's name."""
    return str(Path(path).expanduser()) if path == "~" or path.startswith("~/") else path


def in_shell(words: Sequence[str]) -> str:
    """Return words as one types them in a shell; a word with single quotes is put in double ones, if that is safe."""
    return " ".join(f'"{w}"' if "'" in w and not set(w) & set('"$`\\!\n') else shlex.quote(w) for w in words)


def shell_words(command: str) -> list[str]:
    """Return the words of a recorded command; [] if its quotes do not close, as of one that was cut."""
    try:
        return shlex.split(command)
    except ValueError:
        return []


def shorten(text: str, width: int) -> str:
    """Cut `text` to at most `width` characters: an ellipsis replaces the middle, because names differ at their ends."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 3
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def shorten_all(texts: Sequence[str], width: int) -> list[str]:
    """Cut each text as `shorten` does, but so that texts that differ still do: to more than `width` if need be."""
    while len(set(cut := [shorten(text, width) for text in texts])) < len(set(texts)):
        width += 1
    return cut


def markdown(text: str) -> str:
    """Escape `text` for a cell of a Markdown table: it adds no markup, HTML or cell border."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|~$]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def latex(text: str) -> str:
    """Escape `text` for a cell of a LaTeX table. A leading [ or * would be an argument of the row before it."""
    return ("{}" if text[:1] in ("[", "*") else "") + "".join(_LATEX.get(c, c) for c in text)


def csv_cell(text: str) -> str:
    """Escape `text` so that no spreadsheet runs it, or a part of it, as a formula (OWASP, CSV injection).

    A spreadsheet may split a cell at semicolons or tabs if these separate columns in the reader's locale.
    """
    return visible(_FORMULA_START.sub(_guarded, text))


def _guarded(found: re.Match[str]) -> str:
    """Put an apostrophe where a cell may begin if its text starts with a formula character, a tab or a newline."""
    before, space, sign = found.groups()
    end = len(space) if sign else max(space.rfind("\t"), space.rfind("\r"))
    quoted = "".join(c + "'" * (c in "\t\r\n" and i < end) for i, c in enumerate(space))
    first = (before == ";" or not found.start()) and (sign or end >= 0)
    return f"{before}{chr(39) * bool(first)}{quoted}{sign}"


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV, each text guarded by `csv_cell`."""
    buffer = io.StringIO()
    guarded = ([csv_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    csv.writer(buffer, lineterminator="\n").writerows(guarded)
    return buffer.getvalue()


def align(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Return rows of text as lines of aligned columns. right: indices of the columns that are aligned to the right."""
    rows = [[visible(cell) for cell in row] for row in rows]
    columns: list[list[str]] = []
    for index, column in enumerate(zip(*rows, strict=True)):
        width = max(map(len, column))
        columns.append([cell.rjust(width) if index in right else cell.ljust(width) for cell in column])
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))


def number(value: float | None, digits: int = 0) -> str:
    """Format a number as "1,234.5"; a dash for None and nan."""
    return DASH if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def percent(fraction: float | None, digits: int = 2) -> str:
    """Format a fraction as "61.20%"; a dash for None and nan."""
    return DASH if fraction is None or math.isnan(fraction) else f"{fraction:.{digits}%}"


def large(value: float) -> str:
    """Format a count with a prefix, as "390 k", "12.3 M" or "1.82 G"; a dash for nan."""
    if math.isnan(value):
        return DASH
    for size, prefix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= 0.9995 * size:  # what rounds to 1,000 gets the next prefix
            return f"{value / size:.3g}{prefix}"
    return f"{value:.0f}"


def mib(size: float) -> str:
    """Format a number of bytes as "1,234.5 MiB"."""
    return f"{size / 2**20:,.1f} MiB"


def duration(seconds: float) -> str:
    """Format a time as "45 s", "12 min", "3 h 20 min" or "4 d 7 h"; a dash for what is not finite."""
    if not math.isfinite(seconds):
        return DASH
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 2880 else f"{minutes // 1440} d {minutes // 60 % 24} h"


def listed(names: Sequence[str], most: int) -> str:
    """Return "a, b and 3 more": at most `most` names, and how many others there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def plural(count: int, noun: str) -> str:
    """Return "1 run", "1,000 runs", "2 classes"."""
    return f"{count:,} {noun}{('es' if noun[-1] == 's' else 's') * (count != 1)}"
