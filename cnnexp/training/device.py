"""The device of a run: resolved once, recorded, and set up for speed; and its errors explained. Imports torch."""

import gc
import os
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from cnnexp.errors import UserError
from cnnexp.process.limits import cores
from cnnexp.training import cpu

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Device:
    """Where a run computes.

    name: of the hardware. precision: fp32, tf32, bf16 or fp16. threads: CPU threads. data_on_device: None decides by
    the free memory. keep_memory: see cpu.keep_freed_memory. compile: True, or a mode of torch.compile. processes: that
    share the run, its CPU threads, or so many GPUs. sync_bn: batch norm is of all their images.
    """

    torch: torch.device
    name: str
    precision: str
    threads: int
    channels_last: bool
    deterministic: bool
    data_on_device: bool | None
    keep_memory: bool = True
    compile: bool | str = False
    processes: int = 1
    sync_bn: bool = True

    @property
    def kind(self) -> str:
        """Return cpu, cuda or mps."""
        return self.torch.type

    @property
    def layout(self) -> Any:
        """Return the torch.memory_format of images and weights."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def default_eval_batch_size(self) -> int:
        """Return the batch size of evaluations.

        Measured on 2 cores: 512 is no faster than 128 at 32 and 64 px; at 160 px it is 40 % slower, and takes 4 times
        the memory.
        """
        return 128 if self.kind == "cpu" else 512

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context for forward passes: mixed precision, or none for fp32 and tf32."""
        if self.precision not in DTYPES:
            return nullcontext()
        return torch.autocast(self.kind, dtype=DTYPES[self.precision])

    def record(self) -> dict[str, Any]:
        """Return what run.json says of the device."""
        facts = {"kind": self.kind, "name": self.name, "precision": self.precision, "threads": self.threads}
        facts |= cpu.kernels() if self.kind == "cpu" else {}
        facts |= {"compile": self.compile} if self.compile else {}
        return facts | ({"processes": self.processes} if self.processes > 1 else {})


@dataclass(frozen=True)
class Target:
    """The machine that a run is planned for. kind: of its device. precision: what `auto` is there.

    threads: what `auto` is there; None if it is unknown, and changes no number.
    """

    kind: str
    name: str
    precision: str
    threads: int | None


def probe(kind: str, threads: int | None = None) -> Target:
    """Return this machine as a target. threads: all cores if None. Raises UserError if it has no such device."""
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
    # Older GPUs only emulate bf16, which is slower than fp32.
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu.name()
    return Target(str(device), name, "bf16" if native else "fp32", threads or cores())


def stated(config: dict[str, Any], where: str) -> Target:
    """Return the target that the `device` node states. where: the word that asks for another machine.

    Raises UserError, which says what to type, if what can change a number is left to that machine.
    """
    kind = config["kind"].split(":")[0]
    missing = ["device.kind=cuda"] if kind == "auto" else []
    missing += ["device.precision=bf16"] if kind in ("auto", "cuda") and config["precision"] == "auto" else []
    missing += ["device.threads=8"] if kind in ("auto", "cpu") and config["threads"] == "auto" else []
    if missing:
        lacks = " ".join(missing)
        raise UserError(
            f"{where}: say for which device to plan, such as {lacks}; `cnnexp work --probe` prints it there"
        )
    threads = None if config["threads"] == "auto" else config["threads"]
    return Target(kind, kind, "fp32" if config["precision"] == "auto" else config["precision"], threads)


def resolve(config: dict[str, Any], target: Target | None = None) -> Device:
    """Turn the `device` node into a Device of a target, this machine if None.

    Raises UserError if the device is not available here, or has no such precision.
    """
    target = target or probe(config["kind"])
    device = torch.device(target.kind)
    precision = target.precision if config["precision"] == "auto" else config["precision"]
    if precision == "fp16" and device.type == "cpu":
        raise UserError("device.precision: given 'fp16'; allowed on cpu: fp32, bf16")
    if precision == "tf32" and device.type != "cuda":
        allowed = "fp32, bf16" if device.type == "cpu" else "fp32, bf16, fp16"
        raise UserError(f"device.precision: given 'tf32'; allowed on {device.type}: {allowed}")
    return Device(
        device,
        target.name,
        precision,
        (target.threads or cores()) if config["threads"] == "auto" else config["threads"],
        config["channels_last"],
        config["deterministic"],
        None if config["data_on_device"] == "auto" else config["data_on_device"],
        config.get("keep_memory", True),  # these have a default in the schema
        config.get("compile", False),
        config.get("processes", 1),
        config.get("sync_bn", True),
    )


def set_up(device: Device) -> None:
    """Set threads, the allocator and the choice of kernels for this process."""
    torch.set_num_threads(device.threads)
    cpu.keep_freed_memory(device.keep_memory)
    if device.kind == "cuda":
        torch.cuda.set_device(device.torch)
        gc.collect()  # of what an earlier run of this process left, nothing counts as this one's
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device.torch)
        _choose_kernels(tf32=device.precision == "tf32", benchmark=not device.deterministic)
        torch.backends.cudnn.deterministic = device.deterministic
        if device.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    wanted = device.deterministic and device.kind == "cuda"
    if wanted != torch.are_deterministic_algorithms_enabled():  # setting it imports a compiler, even if nothing changes
        torch.use_deterministic_algorithms(wanted)
    cpu.reset_peak_memory()


@contextmanager
def for_evaluation(device: Device) -> Iterator[None]:
    """Set, during the block, what the logits of a network depend on with CUDA: TF32, and a choice of kernels by rule.

    Kernels chosen by their measured speed, as for training, may differ between processes, and the logits with them.
    """
    if device.kind != "cuda":
        yield
        return
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.benchmark
    _choose_kernels(tf32=device.precision == "tf32", benchmark=False)
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.benchmark = before


def _choose_kernels(*, tf32: bool, benchmark: bool) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = benchmark


def peak_memory_mib(device: Device) -> float:
    """Return the peak memory since `set_up` in MiB: of tensors on a CUDA device, else of this process."""
    if device.kind == "cuda":
        return float(torch.cuda.max_memory_allocated(device.torch) / 2**20)
    return cpu.peak_memory_mib()


def synchronize(device: Device) -> None:
    """Wait for the device to finish its work, as measuring time requires."""
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
