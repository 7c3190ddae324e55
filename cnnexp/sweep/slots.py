"""Where the runs of a sweep compute: one long-lived worker a slot, each with its share of the CPU's threads."""

import re
from dataclasses import dataclass

from cnnexp.errors import UserError


@dataclass(frozen=True)
class Slot:
    """device: cpu, cuda:0, ...; threads: CPU threads of its runs. processes: of a run, which share these threads."""

    device: str
    threads: int
    processes: int = 1


def resolve(slots: str | list[str], kind: str, processes: int = 1) -> list[Slot]:
    """Turn `slots` into a list: "auto", "cpu:2" (two on the CPU), "cuda:0", "cuda:0*8" (eight runs at a time on one
    device, each as it would be alone) or a list of these.

    kind: the config's `device.kind`. Auto is a slot a CUDA device, or on a CPU a slot a core up to four, and a slot for
    every two cores above; `processes` of a run need as many devices or cores.
    The number of threads depends on the machine and `slots` only, so that the same study gives the same numbers.
    """
    named = [] if slots == "auto" else [slots] if isinstance(slots, str) else slots
    devices = [device for entry in named for device in _expand(entry)]
    if not devices and slots != "auto":
        raise UserError("slots: given an empty list; allowed: auto, cpu:2, [cuda:0,cuda:1]")
    if devices and kind != "auto" and kind.split(":")[0] != devices[0].split(":")[0]:
        raise UserError(f"slots: given {slots} with device.kind={kind}; name the same kind of device, or leave one out")
    if len({device.split(":")[0] for device in devices}) > 1:
        raise UserError(f"slots: given {slots}; allowed: slots of one kind, since the kind of device changes numbers")
    import torch

    from cnnexp.process.limits import cores

    if slots == "auto":
        if kind in ("auto", "cuda") and torch.cuda.is_available():
            last = max(torch.cuda.device_count() - processes + 1, 1)
            devices = [f"cuda:{index}" for index in range(0, last, processes)]
        elif kind not in ("auto", "cpu"):
            devices = [kind]
        elif kind == "auto" and torch.backends.mps.is_available():
            devices = ["mps"]
        else:
            devices = ["cpu"] * max((cores() if cores() <= 4 else cores() // 2) // processes, 1)
    if processes > 1:
        _check_separate(devices, processes)
    return [Slot(device, max(cores() // len(devices), 1), processes) for device in devices]


def _check_separate(devices: list[str], processes: int) -> None:
    """Raise UserError if two runs would share a GPU, or one would lack some. `cuda:2` with 2 is cuda:2 and cuda:3."""
    import torch

    used = [int(device[5:] or 0) + n for device in devices if device.startswith("cuda") for n in range(processes)]
    there = torch.cuda.device_count() if used else 0
    if len(set(used)) < len(used) or any(index >= there for index in used):
        need = f"a slot is {processes} GPUs from the one it names"
        raise UserError(f"device.processes: given {processes} with slots={devices}; {need}; this machine has {there}")


def _expand(entry: str) -> list[str]:
    if found := re.fullmatch(r"cpu(?::([1-9]\d{0,3}))?", entry):
        return ["cpu"] * int(found.group(1) or 1)
    if found := re.fullmatch(r"(cuda:\d+|cuda|mps)(?:\*([1-9]\d{0,3}))?", entry):
        return [found.group(1)] * int(found.group(2) or 1)
    allowed = "auto, cpu:<number of slots>, cuda:<device>, cuda:<device>*<number of slots>, mps, or a list"
    raise UserError(f"slots: given '{entry}'; allowed: {allowed}")
