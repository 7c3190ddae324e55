"""Read torch files of any origin: only tensors, numbers and text are unpickled."""

import errno
import re
from pathlib import Path
from typing import Any

import torch

from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.storage import Damaged

TRANSIENT = (  # errors of reading that say nothing about the content
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    *(errno.EACCES, errno.EPERM),
)


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
        if isinstance(error, OSError) and error.errno in TRANSIENT:
            raise UserError(f"{path}: cannot be read now ({error.strerror}); the same command tries again") from error
        reason = (str(error) or type(error).__name__).splitlines()[0].removeprefix(f"{path}: ")
        if found := re.search(r"Unsupported (?:global|class|operand)\W*(?:GLOBAL )?([\w.]+)", str(error)):
            reason = (
                f"it holds a {found[1]}, and loading that could run code; save weights: torch.save(net.state_dict())"
            )
        raise Damaged(f"{path}: cannot be read as a checkpoint ({reason})") from error
