"""Checks before training: the outputs can be written, and the disk has space for the checkpoints."""

import errno
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.storage.disk import FIXES
from cnnexp.text import mib

if TYPE_CHECKING:
    from torch import nn

PROBE_BYTES = 2**16
MAX_AGE_SECONDS = 3600.0  # of a probe, which lives for less than a second
FIX = "free some space there, or choose another folder with outputs=DIR"


def check_writable(folder: Path) -> None:
    """Write a small file in a folder, created if it is missing, and delete it. Raises UserError if that fails."""
    probe = folder / f".probe-{secrets.token_hex(8)}"  # containers may share a host name, and process ids
    storage.make_folder(folder)
    try:
        try:
            storage.write_bytes(probe, bytes(PROBE_BYTES))
            now = probe.stat().st_mtime  # by the clock of the disk, which may be another machine's
        finally:
            storage.remove(probe)
        for left_over in [*folder.glob(".probe-*"), *folder.glob("..probe-*.tmp")]:  # of a process that was killed
            with suppress(FileNotFoundError):  # another process may remove it at the same time
                if now - left_over.lstat().st_mtime > MAX_AGE_SECONDS:
                    storage.remove(left_over)
    except OSError as error:
        fix = FIXES[error.errno] if error.errno in (errno.EIO, errno.ESTALE, errno.EFBIG) else FIX
        raise UserError(f"outputs: {folder} cannot be written ({error.strerror or error}); {fix}") from error


def save_bytes(model: "nn.Module", averaged: bool = False) -> int:
    """Estimate the bytes of one save: the best weights, and last.pt with the weights and the optimiser's state.

    averaged: last.pt has the moving average of the weights too. Assumes that the optimiser keeps two numbers per
    trainable parameter, as Adam does.
    """
    trainable: int = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    return (3 if averaged else 2) * _weights(model) + 2 * trainable


def checkpoint_bytes(model: "nn.Module", averaged: bool = False) -> int:
    """Return the largest size of a run's checkpoints: those kept, previous.pt too, and the next being written."""
    return 3 * save_bytes(model, averaged) - _weights(model)


def bytes_to_come(model: "nn.Module", checkpoints: Path, averaged: bool = False) -> int:
    """Return how much a run's checkpoints may still grow: less than `checkpoint_bytes` if it is resumed.

    checkpoints: the run's folder of them. One more save must fit in any case. Two names of a file count once, and
    drafts that a killed process left count, because the run deletes them.
    """
    left_over = [*checkpoints.glob("*.pt"), *checkpoints.glob(".*.tmp")]
    sizes = {status.st_ino: status.st_size for status in (file.lstat() for file in left_over)}
    return max(save_bytes(model, averaged), checkpoint_bytes(model, averaged) - sum(sizes.values()))


def _weights(model: "nn.Module") -> int:
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def check_free_space(folder: Path, needed: int) -> None:
    """Raise UserError if the disk of `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        has = f"{folder} has {mib(free)} free, and the checkpoints of this run need {mib(needed)}"
        raise UserError(f"outputs: {has}; {FIX}")
