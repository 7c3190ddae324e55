"""The device of a run: what `auto` means, what is refused, and that peaks of memory are a run's own."""

import ast
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cnnexp.errors import UserError
from cnnexp.sweep import slots
from cnnexp.training import cpu, device

NODE = {
    "kind": "auto",
    "precision": "auto",
    "threads": 1,
    "channels_last": True,
    "deterministic": False,
    "data_on_device": "auto",
}


def resolve(**settings: Any) -> device.Device:
    return device.resolve({**NODE, **settings})


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda which: f"GPU {which.index}")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)


def test_a_gpu_always_has_its_number(two_gpus: None) -> None:
    for kind, index in (("auto", 0), ("cuda", 0), ("cuda:1", 1)):
        found = resolve(kind=kind)
        assert (found.torch, found.kind, found.name) == (torch.device("cuda", index), "cuda", f"GPU {index}")
        assert found.precision == "bf16"
    with pytest.raises(UserError, match="has 2 CUDA device"):
        resolve(kind="cuda:2")


def test_a_gpu_that_has_bf16_by_emulation_alone_takes_fp32(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert resolve(kind="cuda").precision == "fp32"
    assert resolve(kind="cuda", precision="bf16").precision == "bf16", "who asks for it gets it"


def test_evaluation_on_a_gpu_chooses_kernels_by_rule(two_gpus: None) -> None:
    """A network that was loaded in Python computes with the precision of its run, whatever torch's defaults are."""

    def flags() -> tuple[bool, bool, bool]:
        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        return cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark

    before = flags()
    try:
        torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = True
        for precision, tf32 in (("fp32", False), ("tf32", True), ("bf16", False)):
            with pytest.raises(ZeroDivisionError), device.for_evaluation(resolve(kind="cuda", precision=precision)):
                assert flags() == (tf32, tf32, False)
                raise ZeroDivisionError
            assert flags() == (True, before[1], True)
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.benchmark = before


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


@pytest.mark.integration
def test_a_cpu_is_recorded_with_what_chooses_its_kernels() -> None:
    code = f"from cnnexp.training import device; print(device.resolve({ {**NODE, 'kind': 'cpu'} }).record())"
    found = []
    for variables in ({}, {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}):
        environment = {k: v for k, v in os.environ.items() if k not in cpu.KERNEL_VARIABLES} | variables
        out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
        found.append(ast.literal_eval(out.stdout))
    assert "kernel_variables" not in found[0]
    assert found[1]["kernel_variables"] == variables and found[1]["instructions"] == "DEFAULT"
    assert found[0]["processor"] == found[1]["processor"] != ""
    if platform.machine() == "x86_64":
        assert re.fullmatch(r"vendor_id \w+, cpu family \d+, model \d+, stepping \d+", found[0]["processor"])


@pytest.mark.integration
@pytest.mark.skipif(not hasattr(device.os, "sched_getaffinity"), reason="Linux alone counts anew")
def test_a_runs_peak_of_memory_is_its_own() -> None:
    code = (
        "import numpy as np; from cnnexp.training import device\n"
        f"cpu = device.resolve({ {**NODE, 'kind': 'cpu'} })\n"
        "large = np.ones(200 * 2**17)  # 200 MiB\n"
        "print(device.peak_memory_mib(cpu)); del large; device.set_up(cpu); print(device.peak_memory_mib(cpu))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    before, after = map(float, done.stdout.split())
    assert after < before - 100


@pytest.mark.integration
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
@pytest.mark.parametrize(("keep", "low", "high"), [(True, 200, 300), (False, 0, 50)])
def test_freed_memory_is_kept_or_given_back(keep: bool, low: int, high: int) -> None:
    """How many MiB are left of 64 blocks of 4 MiB after they are freed, in a process of its own."""
    script = (
        "import torch; from cnnexp.training import cpu\n"
        "def resident():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) // 256\n"
        f"cpu.keep_freed_memory({keep}); before = resident()\n"
        "blocks = [torch.ones(2**20) for _ in range(64)]; del blocks\n"
        "print(resident() - before)\n"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert low <= int(out) <= high


@pytest.mark.parametrize(
    ("variable", "wrong", "right"),
    [("OMP_THREAD_LIMIT", "1", "2"), ("OMP_DYNAMIC", "TRUE", "false"), ("OMP_MAX_ACTIVE_LEVELS", "0", "1")],
)
def test_openmp_must_not_start_fewer_threads(
    monkeypatch: pytest.MonkeyPatch, variable: str, wrong: str, right: str
) -> None:
    """Fewer threads than torch divides its work among make the gradients of convolutions wrong, without an error."""
    monkeypatch.setenv(variable, wrong)
    with pytest.raises(UserError, match=rf"{variable}: given {wrong} in the environment; .*give device.threads=1"):
        cpu.check_openmp(2)
    cpu.check_openmp(1)
    monkeypatch.setenv(variable, right)
    cpu.check_openmp(2)


@pytest.mark.integration
def test_a_sweep_with_limited_openmp_makes_no_run(
    monkeypatch: pytest.MonkeyPatch, train: Callable[..., int], outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_DYNAMIC", "true")
    for words in (["-m", "seed=0,1", "slots=cpu:1"], ["seed=0"]):
        assert train("device.threads=2", *words) == 2
        assert "OMP_DYNAMIC: given true in the environment; with 2 threads" in capsys.readouterr().err
    assert not outputs.exists()


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"in_channels": 4, "stride": 2}, True),
        ({"in_channels": 2, "stride": (1, 2)}, True),
        ({"in_channels": 8, "stride": 2}, False),
        ({"in_channels": 4, "stride": 1}, False),
        ({"in_channels": 4, "stride": 2, "kernel_size": 3}, False),
        ({"in_channels": 4, "stride": 2, "groups": 2}, False),
        ({"in_channels": 4, "stride": 2, "padding": 1}, False),
    ],
)
def test_a_convolution_that_torch_computes_outside_its_memory_is_refused(
    settings: dict[str, Any], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(**{"out_channels": 8, "kernel_size": 1, **settings}))
    for instructions, here in (("AVX2", refused), ("AVX512", False)):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda found=instructions: found)
        if here:
            with pytest.raises(UserError, match=r"torch computes 0, a 1x1 .*; give device\.channels_last=false"):
                cpu.check_convolutions(model)
        else:
            cpu.check_convolutions(model)


def test_the_threads_of_auto_keep_to_openmps_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_THREAD_LIMIT", "1")
    assert resolve(kind="cpu", threads="auto").threads == 1
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    monkeypatch.setenv("OMP_THREAD_LIMIT", "0")  # libgomp ignores it
    assert resolve(kind="cpu", threads="auto").threads == (2 if free > 1 else 1)
