"""How every file of torch is read, whoever wrote it: only tensors, numbers and text are ever unpickled."""

import errno
from pathlib import Path
from typing import Any

import torch

from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.storage import Damaged

PASSING = (  # errors of reading that say nothing of what is in the file
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    *(errno.EACCES, errno.EPERM),
)


def load(path: Path, foreign: bool = False) -> Any:
    """Return what a torch file holds, on the CPU. One of a run without a checksum is older than they are.

    foreign: it need not be a run's. Raises Damaged naming the file if it is not what was written, or would run code,
    and UserError if it cannot be read just now, which says nothing of what is in it.
    """
    return load_and_tell(path, foreign)[0]


def load_and_tell(path: Path, foreign: bool = False) -> tuple[Any, bool]:
    """Return what a torch file holds, as `load` does, and whether it has a checksum."""
    try:
        sealed = storage.check(path, foreign)
        if not sealed and not foreign:
            storage.tell_once(
                "old checkpoint", f"{path}: has no checksum, as older files have none; it is read unchecked"
            )
        return torch.load(path, map_location="cpu", weights_only=True), sealed
    except MemoryError:
        raise
    except Exception as error:  # torch, zipfile and pickle raise many kinds for a damaged file
        if isinstance(error, OSError) and error.errno in PASSING:
            raise UserError(f"{path}: cannot be read now ({error.strerror}); the same command tries again") from error
        reason = (str(error) or type(error).__name__).splitlines()[0].removeprefix(f"{path}: ")
        raise Damaged(f"{path}: cannot be read as a checkpoint ({reason})") from error
