"""The processor of a run: what chooses its kernels, and the memory of this process. Imports torch."""

import ctypes
import functools
import os
import platform
import resource
import sys
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from cnnexp.errors import UserError
from cnnexp.process.limits import openmp_number

# Environment variables with which torch, oneDNN and MKL choose kernels for another processor.
KERNEL_VARIABLES = (
    *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS"),
)


def name() -> str:
    """Return the processor's name."""
    return _cpu_facts().get("model name") or platform.processor() or platform.machine()


def kernels() -> dict[str, Any]:
    """Return what chooses the CPU's kernels: torch's instruction set, the processor's model, variables that are set.

    Kernels for other instructions or caches add the same numbers in another order, so that the last bits differ.
    """
    facts = _cpu_facts()
    keys = ("vendor_id", "cpu family", "model", "stepping", "CPU implementer", "CPU part", "CPU variant")
    chosen = {name: os.environ[name] for name in KERNEL_VARIABLES if name in os.environ}
    return {
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "processor": ", ".join(f"{key} {facts[key]}" for key in keys if key in facts) or name(),
    } | ({"kernel_variables": chosen} if chosen else {})


@functools.lru_cache(maxsize=1)
def _cpu_facts() -> dict[str, str]:
    """Return what Linux says of the first processor; {} elsewhere."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = file.read().partition("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def check_openmp(threads: int) -> None:
    """Raise UserError if the environment lets OpenMP start fewer threads than `threads`.

    Torch's gradients of convolutions are then sums of memory that was never written, without an error.
    """
    if threads == 1:
        return
    fewer = {
        "OMP_THREAD_LIMIT": (openmp_number("OMP_THREAD_LIMIT", 0) or threads) < threads,
        "OMP_DYNAMIC": os.environ.get("OMP_DYNAMIC", "").strip().lower() in ("true", "1"),
        "OMP_MAX_ACTIVE_LEVELS": openmp_number("OMP_MAX_ACTIVE_LEVELS", 1) == 0,
    }
    if found := [name for name, is_so in fewer.items() if is_so]:
        raise UserError(
            f"{found[0]}: given {os.environ[found[0]].strip()} in the environment; with {threads} threads torch would "
            f"then compute wrong gradients; unset {found[0]}, or give device.threads=1"
        )


def check_convolutions(model: nn.Module) -> None:
    """Raise UserError for a convolution that makes torch write outside its memory on this processor, channels last.

    Measured with torch 2.15 and kernels for AVX2: the gradient of the weights of a 1x1 convolution with a stride, of 2
    to 6 input channels, ends the process or changes other numbers.
    """
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        return
    for name, layer in model.named_modules():
        if not isinstance(layer, nn.Conv2d) or layer.groups > 1 or not 1 < layer.in_channels < 8:
            continue
        if set(layer.kernel_size) == {1} and max(layer.stride) > 1 and layer.padding in (0, (0, 0), "valid"):
            raise UserError(
                f"device.channels_last: given true; torch computes {name}, a 1x1 convolution of {layer.in_channels} "
                "channels with a stride, outside its memory on this processor; give device.channels_last=false"
            )


def keep_freed_memory(keep: bool) -> None:
    """Let glibc keep freed blocks, or return each large one to the kernel, as it does by default.

    Every activation is a large block; returning it costs a page fault per 4 KiB at the next step. Kept memory has holes
    that aligned blocks do not always fit (glibc before 2.38), so that the process needs more: docs/performance.md, rows
    tried and C10. No effect except on Linux with glibc.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        trim_threshold, top_pad, mmap_threshold, mmap_max = -1, -2, -3, -4  # of malloc.h
        kept = {mmap_max: 0, trim_threshold: 2**31 - 1, top_pad: 64 * 2**20}
        default = {mmap_max: 65536, mmap_threshold: 2**20, trim_threshold: 2**17, top_pad: 2**17}
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in (kept if keep else default).items():
            mallopt(parameter, value)


def release_freed_memory() -> None:
    """Undo `keep_freed_memory`, for a program that goes on after a run; return what is free to the kernel."""
    keep_freed_memory(False)
    with suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak_memory() -> None:
    """Let Linux restart its count of this process's peak memory, so that a worker's next run does not inherit it."""
    with suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def peak_memory_mib() -> float:
    """Return the peak memory of this process in MiB, since `reset_peak_memory` where the system can restart it."""
    with suppress(OSError), open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) / 2**10 for line in file if line.startswith("VmHWM"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
