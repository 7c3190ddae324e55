"""Text from records, made harmless for where it is shown. HTML is escaped by the template engine, not here.

Names, commands and messages come from configs, folders and exceptions: they may hold anything.
"""

import re
import unicodedata

_ESCAPES = re.compile(
    r"(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|$)"  # operating system commands, such as window titles
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # control sequences, such as colours
    r"|\x1b[ -/]*[0-~]?"
)
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

    With `lines`, line breaks and the spaces within a line stay.
    """
    kept = _ESCAPES.sub("", str(text)).replace("\r\n", "\n").replace("\t", "    ")
    kept = "".join(_harmless(c) for c in kept)
    return kept.strip("\n") if lines else " ".join(kept.split())


def _harmless(character: str) -> str:
    kind = unicodedata.category(character)
    if character == "\n" or kind not in ("Cc", "Cf", "Cs"):
        return character
    return " " if kind == "Cc" else "\ufffd" if kind == "Cs" else ""


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
    """Return `text` so that no spreadsheet takes it for a formula (OWASP, CSV injection)."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
