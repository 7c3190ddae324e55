"""The disk, asked before anything is trained: whether the outputs can be written, and whether checkpoints will fit."""

import glob
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from cnnexp import storage
from cnnexp.errors import UserError

if TYPE_CHECKING:
    from torch import nn

PROBE_BYTES = 2**16


def check_writable(folder: Path) -> None:
    """Write a small file in a folder, made if need be, and delete it. Raises UserError if that cannot be done."""
    ours = f".probe-{socket.gethostname()}-"
    probe = folder / f"{ours}{os.getpid()}"
    storage.make_folder(folder)
    try:
        for left_over in [*folder.glob(f"{glob.escape(ours)}*"), *folder.glob(f".{glob.escape(ours)}*.tmp")]:
            if not _is_alive(left_over.name.removeprefix(".").removeprefix(ours).partition(".")[0]):
                storage.remove(left_over)
        storage.write_bytes(probe, bytes(PROBE_BYTES))
        storage.remove(probe)
    except OSError as error:
        mend = "make room there, or choose another folder with outputs=DIR"
        raise UserError(f"outputs: {folder} cannot be written ({error.strerror or error}); {mend}") from error


def _is_alive(pid: str) -> bool:
    """Tell whether a process of this machine has a number; of one that was killed a small file may be left."""
    return pid.isdigit() and Path(f"/proc/{pid}").exists() if Path("/proc/self").exists() else True


def bytes_of_a_save(model: "nn.Module") -> int:
    """Return about what a run writes when it saves: the best weights, and last.pt with the weights and the optimiser.

    An optimiser is taken to keep two numbers for every one that learns, as Adam does.
    """
    learning: int = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    return 2 * _weights(model) + 2 * learning


def checkpoint_bytes(model: "nn.Module") -> int:
    """Return the most that a run's checkpoints take: what is kept, previous.pt too, and the next ones being written."""
    return 3 * bytes_of_a_save(model) - _weights(model)


def _weights(model: "nn.Module") -> int:
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def check_room(folder: Path, needed: int) -> None:
    """Raise UserError if the disk of `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        has = f"{folder} has {free / 2**20:,.0f} MiB free, and the checkpoints of this run need {needed / 2**20:,.0f}"
        raise UserError(f"outputs: {has}; make room there, or choose another folder with outputs=DIR")
