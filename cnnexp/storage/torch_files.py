"""Read torch files of any origin: only tensors, numbers and text are unpickled."""

import errno
import re
from pathlib import Path
from typing import Any

import torch

from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.storage import Damaged

UNREAD = {*storage.TRANSIENT, errno.EACCES, errno.EPERM}  # errors of reading that say nothing about the content

WRITTEN_BY_TORCH = (b"PK", b"\x80")  # the beginnings of a zip archive, and of a pickle in the older format


def load(path: Path, foreign: bool = False) -> Any:
    """Return the content of a torch file, on the CPU.

    foreign: the file is not one of a run, so it needs no checksum. Raises Damaged naming the file if it is not what was
    written, or would run code, and UserError if it cannot be read just now, which says nothing about its content.
    """
    try:
        storage.verify_checksum(path, foreign)
        return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch, zipfile and pickle raise many kinds for a damaged file
        if isinstance(error, OSError) and error.errno in UNREAD:
            raise UserError(f"{path}: cannot be read now ({error.strerror}); the same command tries again") from error
        reason = (str(error) or type(error).__name__).splitlines()[0].removeprefix(f"{path}: ")
        if foreign and (other := _other_kind(path)):
            reason = other
        elif found := re.search(r"Unsupported (?:global|class|operand)\W*(?:GLOBAL )?([\w.]+)", str(error)):
            reason = (
                f"it holds a {found[1]}, and loading that could run code; save weights: torch.save(net.state_dict())"
            )
        raise Damaged(f"{path}: cannot be read as a checkpoint ({reason})") from error


def _other_kind(path: Path) -> str:
    """Say what a file is that torch.save did not write, as far as its first bytes tell; "" for one of torch.save."""
    try:
        with open(path, "rb") as file:
            first = file.read(64)
    except OSError:
        return ""
    if first.startswith(WRITTEN_BY_TORCH):
        return ""
    if first.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS; git lfs pull fetches the file"
    if first[8:10] == b'{"':
        return "it is a file of safetensors; convert it: torch.save(safetensors.torch.load_file(FILE), 'weights.pt')"
    return f"it is not a file of torch.save: it begins with {first[:12]!r}" if first else "it is empty"
