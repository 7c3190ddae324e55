"""Text from records, made harmless for where it is shown. HTML is escaped by the template engine, not here.

Names, commands and messages come from configs, folders and exceptions: they may hold anything.
"""

import re

from cnnexp.plain_text import plain, visible

__all__ = ["csv_cell", "latex", "markdown", "plain", "shorten"]

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
