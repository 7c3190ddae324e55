"""The machine and the versions that made a number."""

import datetime
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.lab import REPOSITORY

GPU = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "cnnexp")  # cnnexp may be there without being installed


def facts(gpu: bool) -> dict[str, Any]:
    """Return what an entry says of where and when it was measured. gpu: whether the row uses one."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "gpu": gpu_name() if gpu else None,
            "load_before": round(os.getloadavg()[0], 2),
        },
        "versions": {"python": platform.python_version()} | {name: version_of(name) for name in PACKAGES},
        "commit": commit(),
    }


def version_of(package: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def gpu_name() -> str | None:
    """Return the name of the CUDA device, or None. Asks another process, since this one need not import torch."""
    done = subprocess.run([sys.executable, "-c", GPU], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def commit() -> str | None:
    """Return the commit of the working tree, with -dirty if it was changed since; None if git does not tell."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
    except OSError:
        return None
