"""Plain tables for a terminal."""

from collections.abc import Sequence

from cnnexp.plain_text import visible


def align(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text with their columns aligned to the left, the last one ragged."""
    rows = [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
