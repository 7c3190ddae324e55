"""Checks of a process's limits before work starts, where libraries would abort. Imports no torch."""

import math
import os
import re
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from cnnexp.errors import UserError

ENOUGH_BYTES = 8 * 2**30  # of address space; measured: torch 2 with CUDA needs 3 GiB to be imported
TORCH = "import numpy, torch; x = torch.ones(512, 512, requires_grad=True); (x @ x).sum().backward()"
IMPORTS = {"runs": "", "gc": "", "report": "import numpy, pandas, matplotlib.pyplot", "verify": "import numpy, pandas"}
SECONDS = 60  # for these imports; without memory, a library of numpy's tries for ever to start its threads
FILES_OF_A_SWEEP = 12  # that are open at once while its server starts, or a worker
FILES_OF_A_SLOT = 4


def check_address_space(command: str) -> None:
    """Raise UserError if `ulimit -v` leaves too little for what a command imports, which may abort or never end then.

    A child process tries. No effect without a limit below ENOUGH_BYTES.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    imports = IMPORTS.get(command, TORCH)
    if limit == resource.RLIM_INFINITY or limit > ENOUGH_BYTES or not imports:
        return
    try:
        failed = subprocess.run([sys.executable, "-P", "-c", imports], capture_output=True, timeout=SECONDS).returncode
    except subprocess.TimeoutExpired:
        failed = 1
    if failed:
        what = "torch" if imports is TORCH else "numpy"
        few = f"the limit of {limit // 2**20:,} MiB of address space is too low to import {what}"
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


def cores() -> int:
    """Return the number of CPU cores that this process may use.

    A container's quota (docker --cpus) is one limit, OMP_THREAD_LIMIT of the environment another; of 0 it is ignored.
    OMP_NUM_THREADS is none: torchrun sets it to 1, and of another number of threads a run would be another run.
    """
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(max(1, min(found, cpu_quota(), openmp_number("OMP_THREAD_LIMIT", 0) or math.inf)))


def openmp_number(variable: str, default: float) -> float:
    """Return the number that a variable of OpenMP has in the environment; `default` if it has none."""
    text = os.environ.get(variable, "").strip()
    return int(text) if re.fullmatch("[0-9]+", text) else default


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float:
    """Return how many cores the control group of a container allows; infinity without a limit."""
    with suppress(OSError, ValueError, ZeroDivisionError):  # version 2
        quota, period = (root / "cpu.max").read_text().split()
        return int(quota) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):  # version 1
        quota, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    return math.inf
