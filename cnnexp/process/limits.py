"""Checks of a process's limits before work starts, where libraries would abort. Imports no torch."""

import os
import resource
import subprocess
import sys

from cnnexp.errors import UserError

ENOUGH_BYTES = 8 * 2**30  # of address space; measured: torch 2 with CUDA needs 3 GiB to be imported
IMPORTS = "import numpy, torch; x = torch.ones(512, 512, requires_grad=True); (x @ x).sum().backward()"
FILES_OF_A_SWEEP = 12  # that are open at once while its server starts, or a worker
FILES_OF_A_SLOT = 4


def check_address_space() -> None:
    """Raise UserError if `ulimit -v` leaves too little to import torch, which may abort then: a child process tries.

    No effect without a limit below ENOUGH_BYTES.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or limit > ENOUGH_BYTES:
        return
    child = subprocess.run([sys.executable, "-P", "-c", IMPORTS], capture_output=True)
    if child.returncode:
        few = f"the limit of {limit // 2**20:,} MiB of address space is too low to import torch"
        raise UserError(f"ulimit -v: {few}; allow more: ulimit -v {ENOUGH_BYTES // 2**10}, or unlimited")


def check_open_files(slots: int = 0) -> None:
    """Raise UserError if this process may not open the files that a sweep on so many slots still needs."""
    opened = []
    try:
        for _ in range(FILES_OF_A_SWEEP + FILES_OF_A_SLOT * slots):
            opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        fix = "allow more (ulimit -n 1024), or give fewer slots"
        raise UserError(f"ulimit -n: the limit of {limit} open files is too low for this sweep; {fix}") from error
    finally:
        for descriptor in opened:
            os.close(descriptor)
