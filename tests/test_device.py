"""The device of a run: what `auto` means, what is refused, and that peaks of memory are a run's own."""

import subprocess
import sys
from typing import Any

import pytest
import torch

from cnnexp import device
from cnnexp.errors import UserError
from cnnexp.sweep import slots

NODE = {
    "kind": "auto",
    "precision": "auto",
    "threads": 1,
    "channels_last": True,
    "deterministic": False,
    "resident": "auto",
}


def resolve(**settings: Any) -> device.Device:
    return device.resolve({**NODE, **settings})


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda which: f"GPU {which.index}")


def test_a_gpu_always_has_its_number(two_gpus: None) -> None:
    for kind, index in (("auto", 0), ("cuda", 0), ("cuda:1", 1)):
        found = resolve(kind=kind)
        assert (found.torch, found.kind, found.name) == (torch.device("cuda", index), "cuda", f"GPU {index}")
        assert found.precision == "bf16"
    with pytest.raises(UserError, match="has 2 CUDA device"):
        resolve(kind="cuda:2")


def test_precisions_are_told_apart(two_gpus: None) -> None:
    assert resolve(precision="tf32").precision == "tf32"
    for precision in ("fp16", "tf32"):
        with pytest.raises(UserError, match=f"device.precision: given '{precision}'; allowed on cpu"):
            resolve(kind="cpu", precision=precision)


def test_a_sweep_has_a_slot_for_every_gpu(two_gpus: None) -> None:
    assert [slot.device for slot in slots.resolve("auto", "auto")] == ["cuda:0", "cuda:1"]
    assert [slot.device for slot in slots.resolve("cpu:3", "cpu")] == ["cpu"] * 3
    with pytest.raises(UserError, match="given cpu:2 with"):
        slots.resolve("cpu:2", "cuda")


@pytest.mark.skipif(not hasattr(device.os, "sched_getaffinity"), reason="Linux alone counts anew")
def test_a_runs_peak_of_memory_is_its_own() -> None:
    code = (
        "import numpy as np; from cnnexp import device\n"
        f"cpu = device.resolve({ {**NODE, 'kind': 'cpu'} })\n"
        "large = np.ones(200 * 2**17)  # 200 MiB\n"
        "print(device.peak_memory_mib(cpu)); del large; device.set_up(cpu); print(device.peak_memory_mib(cpu))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    before, after = map(float, done.stdout.split())
    assert after < before - 100
