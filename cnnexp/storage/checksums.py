"""Checksums of what is written, so that a file that was damaged is told from one that is whole.

Rows and JSON objects hold theirs as a first entry, `"checksum": "crc32:1a2b3c4d"`, of the text with zeros in its place.
A large file ends with a line of its own (`trailer`), which the readers of a torch file pass over. What was written
before checksums were kept has none and is taken as it is; a mark that is there in part is damage, not age.

CRC-32 finds every error burst of up to 32 bits and all but one in 2^32 of the others. It keeps out no forger.
"""

import json
import re
import sys
import zlib
from pathlib import Path
from typing import Any

from cnnexp.errors import UserError
from cnnexp.storage.trusted import own_file

BLOCK = 1 << 22
ZEROS = "crc32:00000000"
MARK = re.compile(rb'\{\s*"checksum": "crc32:([0-9a-f]{8})"')
BEGINNINGS = (b'{"checksum": "crc32:', b'{\n  "checksum": "crc32:')
TRAILER = re.compile(rb"cnnexp crc32 ([0-9a-f]{8}) of ([0-9a-f]{16})\n")
TRAILER_SIZE = 42
ZIP_END, ZIP_END_SIZE = b"PK\x05\x06", 22
_told: set[str] = set()


class Damaged(UserError):
    """A file is not what was written: it was cut short, changed, or put in the place of another."""


def seal(content: dict[str, Any], indent: int | None = None) -> bytes:
    """Return a JSON object as lines of UTF-8 that begin with their checksum. Non-finite numbers are NaN or Infinity."""
    text = json.dumps({"checksum": ZEROS, **content}, indent=indent, ensure_ascii=indent is None) + "\n"
    encoded = text.encode("utf-8", errors="surrogateescape")
    return encoded.replace(ZEROS.encode(), f"crc32:{zlib.crc32(encoded):08x}".encode(), 1)


def is_sealed(text: bytes) -> bool:
    """Tell whether a JSON object has a checksum."""
    return MARK.match(text) is not None


def unseal(text: bytes) -> Any:
    """Read JSON, without its checksum if it has one. Raises Damaged if that does not match, ValueError if not JSON."""
    mark = MARK.match(text)
    if mark is None:
        if any(2 * sum(a == b for a, b in zip(text, whole, strict=False)) > len(whole) for whole in BEGINNINGS):
            raise Damaged("its checksum is damaged")
        return json.loads(text.decode("utf-8", errors="surrogateescape"))
    if zlib.crc32(text[: mark.start(1)] + b"00000000" + text[mark.end(1) :]) != int(mark[1], 16):
        raise Damaged("it does not match its checksum")
    content = json.loads(text.decode("utf-8", errors="surrogateescape"))
    del content["checksum"]
    return content


def trailer(crc32: int, size: int) -> bytes:
    """Return the line that ends a file whose first `size` bytes have this checksum."""
    return b"cnnexp crc32 %08x of %016x\n" % (crc32, size)


def crc32_of(path: Path, size: int | None = None) -> int:
    """Return the checksum of a file, or of its first `size` bytes."""
    crc32, left = 0, path.stat().st_size if size is None else size
    with open(path, "rb") as file:
        while left and (block := file.read(min(BLOCK, left))):
            crc32, left = zlib.crc32(block, crc32), left - len(block)
    return crc32


def check(path: Path, foreign: bool = False) -> bool:
    """Hold a zip file with a trailer to its checksum; False if it has none, for it is older than they are.

    foreign: it may be any file, if it has no trailer, and behind a link. Raises Damaged, which names the file, OSError,
    and UserError for what is no file, such as a pipe.
    """
    if not foreign:
        own_file(path.parent, path.name)
    elif not path.is_file():
        raise UserError(f"{path}: is not a file")
    size = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(max(size - TRAILER_SIZE, 0))
        end = file.read()
    mark = TRAILER.fullmatch(end)
    if mark is None:
        if foreign or end[-ZIP_END_SIZE:].startswith(ZIP_END):
            return False
        raise Damaged(f"{path}: is cut short or damaged")
    if int(mark[2], 16) != size - TRAILER_SIZE or crc32_of(path, size - TRAILER_SIZE) != int(mark[1], 16):
        raise Damaged(f"{path}: does not match its checksum")
    return True


def tell_once(kind: str, line: str) -> None:
    """Print a line to standard error, the first time that a line of its kind comes."""
    if kind not in _told:
        _told.add(kind)
        print(line, file=sys.stderr, flush=True)
