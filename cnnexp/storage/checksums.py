"""Checksums of what is written, so that a reader finds out if a file was damaged.

Rows and JSON objects start with theirs, `"checksum": "crc32:1a2b3c4d"`, computed over the text with zeros in its place.
A large file ends with a trailer, which the readers of a torch file ignore.

CRC-32 detects every error burst of up to 32 bits and all but one in 2^32 of the others. It does not stop a forger.
"""

import json
import re
import zlib
from pathlib import Path
from typing import Any

from cnnexp.errors import UserError
from cnnexp.storage.disk import reading
from cnnexp.storage.untrusted import checked_file

BLOCK = 1 << 22  # bytes read at a time
ZEROS = "crc32:00000000"
MARK = re.compile(rb'\{\s*"checksum": "crc32:([0-9a-f]{8})"')
TRAILER = re.compile(rb"cnnexp crc32 ([0-9a-f]{8}) of ([0-9a-f]{16})\n")
TRAILER_SIZE = 42


class Damaged(UserError):
    """A file differs from what was written: it was cut short, changed, or replaced by another."""


def encode(content: dict[str, Any], indent: int | None = None) -> bytes:
    """Return a JSON object as UTF-8 that starts with its checksum. Non-finite numbers are NaN or Infinity."""
    text = json.dumps({"checksum": ZEROS, **content}, indent=indent, ensure_ascii=indent is None) + "\n"
    encoded = text.encode("utf-8", errors="surrogateescape")
    return encoded.replace(ZEROS.encode(), f"crc32:{zlib.crc32(encoded):08x}".encode(), 1)


def decode(text: bytes) -> Any:
    """Read JSON; an object must have a checksum, which is removed.

    Raises Damaged if the checksum is missing or does not match, ValueError if the text is not JSON.
    """
    mark = MARK.match(text)
    if mark and zlib.crc32(text[: mark.start(1)] + b"00000000" + text[mark.end(1) :]) != int(mark[1], 16):
        raise Damaged("it does not match its checksum")
    content = json.loads(text.decode("utf-8", errors="surrogateescape"))
    if isinstance(content, dict):
        if not mark:
            raise Damaged("it has no checksum")
        del content["checksum"]
    return content


def trailer(crc32: int, size: int) -> bytes:
    """Return the line that ends a file whose first `size` bytes have this checksum."""
    return b"cnnexp crc32 %08x of %016x\n" % (crc32, size)


def crc32_of(path: Path, size: int | None = None) -> int:
    """Return the checksum of a file, or of its first `size` bytes."""
    with reading(path), open(path, "rb") as file:
        crc32, left = 0, path.stat().st_size if size is None else size
        while left and (block := file.read(min(BLOCK, left))):
            crc32, left = zlib.crc32(block, crc32), left - len(block)
    return crc32


def verify_checksum(path: Path, foreign: bool = False) -> None:
    """Compare a file with the checksum in its trailer.

    foreign: the file is not one of ours; it may have no trailer, and may be a link.
    Raises Damaged, which names the file, OSError, and UserError for what is not a file, such as a pipe.
    """
    if not foreign:
        checked_file(path.parent, path.name)
    elif not path.is_file():
        raise UserError(f"{path}: is not a file")
    with reading(path), open(path, "rb") as file:
        size = path.stat().st_size - TRAILER_SIZE
        file.seek(max(size, 0))
        mark = TRAILER.fullmatch(file.read())
    if mark is None and not foreign:
        raise Damaged(f"{path}: is cut short or damaged")
    if mark and (int(mark[2], 16) != size or crc32_of(path, size) != int(mark[1], 16)):
        raise Damaged(f"{path}: does not match its checksum")
