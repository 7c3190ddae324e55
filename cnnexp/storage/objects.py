"""JSON files: objects with a checksum, replaced as a whole."""

import json
from pathlib import Path
from typing import Any

from cnnexp.errors import UserError
from cnnexp.storage.checksums import Damaged, is_sealed, seal, unseal
from cnnexp.storage.files import write_bytes, write_text


def write_json(path: Path, content: Any) -> None:
    """Replace `path` by indented JSON, atomically and durably; an object gets a checksum.

    Non-finite numbers are written as NaN or Infinity.
    """
    if isinstance(content, dict):
        write_bytes(path, seal(content, indent=2))
    else:
        write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file, without its checksum if it has one.

    Raises UserError naming the file if it is missing or malformed, Damaged if it does not match its checksum.
    """
    try:
        return unseal(path.read_bytes())
    except Damaged as error:
        raise Damaged(f"{path}: {error}; it was damaged, or changed by hand") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


def has_checksum(path: Path) -> bool:
    """Tell whether a JSON file that can be read has a checksum; older ones have none."""
    return is_sealed(path.read_bytes())
