"""The device of a run: resolved once, recorded, and set up for speed. Imports torch."""

import ctypes
import os
import platform
import resource
import sys
import traceback
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch

from cnnexp.errors import UserError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")  # of the system, CUDA, its libraries


@dataclass(frozen=True)
class Device:
    """Where a run computes. name: the hardware's; precision: fp32, tf32, bf16 or fp16; threads: CPU threads."""

    torch: torch.device
    name: str
    precision: str
    threads: int
    channels_last: bool
    deterministic: bool
    data_on_device: bool | None
    keep_memory: bool = True
    compile: bool | str = False

    @property
    def kind(self) -> str:
        """Return cpu, cuda or mps."""
        return self.torch.type

    @property
    def layout(self) -> Any:
        """Return how images and weights lie in memory, a torch.memory_format."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def default_eval_batch_size(self) -> int:
        """Return how many images an evaluation takes at once.

        Measured on 2 cores: 512 are no faster than 128 at 32 and 64 px, and 40 % slower at 160 px in 4 times the room.
        """
        return 128 if self.kind == "cpu" else 512

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which forward passes run: mixed precision, or nothing for fp32 and tf32."""
        if self.precision not in DTYPES:
            return nullcontext()
        return torch.autocast(self.kind, dtype=DTYPES[self.precision])

    def record(self) -> dict[str, Any]:
        """Return what run.json says of the device."""
        told = {"kind": self.kind, "name": self.name, "precision": self.precision, "threads": self.threads}
        return told | ({"compile": self.compile} if self.compile else {})


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resolve(config: dict[str, Any]) -> Device:
    """Turn the `device` node into a Device. Raises UserError if the device or precision is not to be had here."""
    kind = config["kind"]
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if kind == "auto":
        kind = next(k for k in ("cuda", "mps", "cpu") if available[k])
    if not available[kind.split(":")[0]]:
        here = ", ".join(k for k, there in available.items() if there)
        raise UserError(f"device.kind: given '{kind}'; this machine and this torch {torch.__version__} have {here}")
    device = torch.device(kind)
    if device.type == "cuda":
        device = torch.device("cuda", device.index or 0)
        if device.index >= torch.cuda.device_count():
            raise UserError(f"device.kind: given '{kind}'; this machine has {torch.cuda.device_count()} CUDA device(s)")
    precision = config["precision"]
    if precision == "auto":  # older GPUs have bf16 by emulation alone, which is slower than fp32
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16" if native else "fp32"
    if precision == "fp16" and device.type == "cpu":
        raise UserError("device.precision: given 'fp16'; allowed on cpu: fp32, bf16")
    if precision == "tf32" and device.type != "cuda":
        allowed = "fp32, bf16" if device.type == "cpu" else "fp32, bf16, fp16"
        raise UserError(f"device.precision: given 'tf32'; allowed on {device.type}: {allowed}")
    return Device(
        device,
        torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        precision,
        cores() if config["threads"] == "auto" else config["threads"],
        config["channels_last"],
        config["deterministic"],
        None if config["data_on_device"] == "auto" else config["data_on_device"],
        config.get("keep_memory", True),  # older runs have neither
        config.get("compile", False),
    )


def set_up(device: Device) -> None:
    """Set threads, the allocator and the kernels' choices for this process."""
    torch.set_num_threads(device.threads)
    keep_freed_memory(device.keep_memory)
    if device.kind == "cuda":
        torch.cuda.set_device(device.torch)
        torch.cuda.reset_peak_memory_stats(device.torch)
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = device.precision == "tf32"
        torch.backends.cudnn.benchmark = not device.deterministic
        torch.backends.cudnn.deterministic = device.deterministic
        if device.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    wanted = device.deterministic and device.kind == "cuda"
    if wanted != torch.are_deterministic_algorithms_enabled():  # setting it, even to the same, imports a compiler
        torch.use_deterministic_algorithms(wanted)
    _reset_peak_memory()


def keep_freed_memory(keep: bool) -> None:
    """Tell glibc to keep freed blocks, or to give each large one back to the kernel, as it does untold.

    Every activation is a large block; returning it costs a page fault per 4 KiB at the next step. What is kept has
    holes that aligned blocks do not always fit (glibc before 2.38), so that it takes more memory: docs/performance.md,
    rows tried and C10. No effect elsewhere than on Linux with glibc. The numbers are those of malloc.h:
    M_TRIM_THRESHOLD -1, M_TOP_PAD -2, M_MMAP_THRESHOLD -3, M_MMAP_MAX -4.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        kept, untold = (
            ((-4, 0), (-1, 2**31 - 1), (-2, 64 * 2**20)),
            ((-4, 65536), (-3, 2**20), (-1, 2**17), (-2, 2**17)),
        )
        for parameter, value in kept if keep else untold:
            mallopt(parameter, value)


def cpu_name() -> str:
    """Return the processor's name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        return names[0] if names else platform.processor() or platform.machine()
    except OSError:
        return platform.processor() or platform.machine()


def _reset_peak_memory() -> None:
    """Let Linux count this process's peak memory anew, so that a worker's next run does not inherit the last one's."""
    with suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def peak_memory_mib(device: Device) -> float:
    """Return the most memory used since `set_up`: by tensors on a CUDA device, else by this process, in MiB."""
    if device.kind == "cuda":
        return float(torch.cuda.max_memory_allocated(device.torch) / 2**20)
    with suppress(OSError), open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) / 2**10 for line in file if line.startswith("VmHWM"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def synchronize(device: Device) -> None:
    """Wait for the device, so that a clock read next tells the truth."""
    if device.kind == "cuda":
        torch.cuda.synchronize(device.torch)
    elif device.kind == "mps":
        torch.mps.synchronize()


def explained(error: BaseException) -> BaseException:
    """Return torch's error for a missing deterministic kernel as a UserError that names the setting; others as is."""
    what, found, _ = str(error).partition(" does not have a deterministic implementation")
    if isinstance(error, RuntimeError) and found:
        return UserError(f"device.deterministic: {what} has no deterministic form here; give false")
    return error


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, of the machine or of an accelerator."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def less_memory(error: BaseException, config: dict[str, Any]) -> str:
    """Say what a run had no memory for, and which setting to make smaller. Only the user changes a batch size."""
    functions = {frame.name for frame in traceback.extract_tb(error.__traceback__)}
    if "logits_of" in functions:
        given = config["eval_batch_size"]
        size = given if isinstance(given, int) else resolve(config["device"]).default_eval_batch_size
        return f"out of memory in an evaluation of {size} images at once; try eval_batch_size={max(1, size // 2)}"
    if "keep_features" in functions:
        return "out of memory while the features of a frozen backbone were computed; try cache_features=false"
    size = config["batch_size"]
    smaller = f"batch_size={size // 2}" if size > 1 else "a smaller network, or a smaller data.size"
    return f"out of memory with batch_size={size}; try {smaller}"
