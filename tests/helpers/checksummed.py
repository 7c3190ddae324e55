"""Valid checksums for content that a test writes by hand, so that a reader accepts it and looks at the content."""

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cnnexp.storage import checksums


def add_trailer(file: Path) -> None:
    """End a file with its checksum, as a run's checkpoints do."""
    content = file.read_bytes()
    file.write_bytes(content + checksums.trailer(zlib.crc32(content), len(content)))


def with_checksum(text: str) -> str:
    """Return the text of a JSON object, which need not be valid, with a checksum that matches; other text unchanged."""
    if not text.startswith("{"):
        return text
    begun = f'{{"checksum": "{checksums.ZEROS}", {text[1:]}'
    return begun.replace(checksums.ZEROS, f"crc32:{zlib.crc32(begun.encode()):08x}", 1)


def lines_of(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return rows as the lines of a file of metrics."""
    return b"".join(checksums.encode(dict(row)) for row in rows)
