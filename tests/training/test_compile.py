"""Training steps through torch's compiler: the same training up to rounding, and the same to the bit when cut."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cuts import CutAt, gone, prepared
from lives import difference, everything
from torch import Tensor, nn

from cnnexp.errors import Interrupted, UserError
from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.training import run as runner
from cnnexp.training import setup as start
from cnnexp.training.compile import compiled
from cnnexp.training.plan import Plan
from cnnexp.training.progress import Progress

pytestmark = pytest.mark.integration

Plans = Callable[..., Plan]
ON = "device.compile=true"


@pytest.fixture(autouse=True)
def compiler_cache(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what is compiled for these tests alone, beside this session's cache."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # so that it is put back
    monkeypatch.setattr("cnnexp.training.compile.GIVEN", str(session_cache.parent / "torch"))


def made(plan: Plans, *more: str) -> RunRecord:
    """Make the tiny run, which has batch norm and dropout, by SGD, whose steps are no larger than its gradients."""
    return runner.run(plan("optimizer=sgd", "log.steps=1st", *more), Progress())


@pytest.mark.slow
def test_a_compiled_run_is_the_same_up_to_rounding(
    plan: Plans, session_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def noted(*given: Any) -> Callable[[Tensor], Tensor]:
        step = compiled(*given)
        assert given[3] == session_cache.resolve() / "compiled"
        return lambda images: (sizes.append(len(images)), step(images))[1]

    monkeypatch.setattr(start, "compiled", noted)
    plain, through = made(plan), made(plan, ON)
    assert sizes == [8] * 15, "every step, and nothing else, goes through what was compiled"
    assert through.info["fingerprint"] != plain.info["fingerprint"]
    assert through.info["device"]["compile"] is True and "compile" not in plain.info["device"]
    assert through.info["seconds"]["compile"] > 0 and "compile" not in plain.info["seconds"]
    assert "functions, with 0 breaks" in (through.folder / "train.log").read_text()
    weights = [torch.load(run.folder / "checkpoints" / "best.pt")["model"] for run in (through, plain)]
    assert weights[0].keys() == weights[1].keys()
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-4, atol=1e-5)
    losses = [[row["loss"] for row in run.rows("step")] for run in (through, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and len(losses[0]) == 15


@pytest.mark.slow
def test_a_compiled_run_that_is_cut_is_the_same_to_the_bit(
    kind_plan: Plans, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunRecord, "drop_resume_files", lambda self: None)
    own = kind_plan("residual", ON)
    for step in (4, 9):
        with pytest.raises(Interrupted):
            runner.run(own, CutAt(step, signal.SIGTERM))
    run = runner.run(own, Progress())
    assert run.info["resumed"] == 2
    uncut = runner.run(kind_plan("residual", ON, f"outputs={outputs.parent / 'uncut'}"), Progress())
    assert difference(everything(run.folder), everything(uncut.folder)) is None


@pytest.mark.slow
def test_each_run_of_a_process_is_compiled(plan: Plans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo import config, utils

    monkeypatch.setattr("cnnexp.training.compile.GIVEN", None)
    with config.patch(recompile_limit=1):  # 8 by default: from then on torch takes a function as it is
        for size in (4, 5, 6):
            state, batches, settings = prepared(plan(f"batch_size={size}"))
            before = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
            device = replace(settings.device, compile=True)
            step = compiled(state, batches.at(0), device, tmp_path, print)
            assert all(parameter.grad is None for parameter in state.model.parameters())
            after = state.model.state_dict()
            assert not [name for name, tensor in after.items() if not torch.equal(tensor, before[name])]
            seen = utils.counters["frames"]["total"]
            assert utils.counters["frames"]["ok"] == seen > 0
            step(batches.at(1).images)
            assert utils.counters["frames"]["total"] == seen, "the first step need not compile"
    assert list(tmp_path.rglob("*.so")), "what was compiled is kept where it is said to be"


class Restless(nn.Module):
    """Changes its weights when it is called."""

    def __init__(self, compilable: bool):
        super().__init__()
        self.fc = nn.Linear(3 * 8 * 8, 10)
        self.forward = self.changing if compilable else torch.compiler.disable(self.changing)  # type: ignore[method-assign]

    def changing(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.fc.weight.add_(1)
        return self.fc(x.flatten(1))


@pytest.mark.slow
def test_weights_that_change_are_put_back(plan: Plans, tmp_path: Path) -> None:
    state, batches, settings = prepared(plan())
    state.learner, device = Restless(compilable=True), replace(settings.device, compile=True)
    before = state.learner.fc.weight.clone()
    compiled(state, batches.at(0), device, tmp_path, print)
    assert torch.equal(state.learner.fc.weight, before)


@pytest.mark.slow
def test_what_is_not_compiled_at_all_is_said(plan: Plans, tmp_path: Path) -> None:
    state, batches, settings = prepared(plan())
    state.learner, device = Restless(compilable=False), replace(settings.device, compile=True)
    with pytest.raises(UserError, match="no part of the network"):
        compiled(state, batches.at(0), device, tmp_path, print)


@pytest.mark.slow
def test_what_cannot_be_compiled_is_said(plan: Plans, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torch._inductor import config

    monkeypatch.setattr("cnnexp.training.compile.GIVEN", str(tmp_path / "compiled"))
    own, told = plan(ON), r"device.compile: torch could not compile .*C\+\+ .*try device.compile=false"
    with config.patch({"cpp.cxx": (None, "nonesuch")}), pytest.raises(UserError, match=told):
        runner.run(own, Progress())
    assert own.record().status == "failed" and own.record().info["error"]["type"] == "UserError"
    assert "nonesuch" in (own.folder / "train.log").read_text()


@pytest.mark.slow
def test_memory_that_runs_out_in_the_compiler_is_told_as_such(plan: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def full(images: Tensor) -> Tensor:
        error = TorchDynamoException("DefaultCPUAllocator: no room")
        error.inner_exception = torch.OutOfMemoryError("no room")  # type: ignore[attr-defined]
        raise error

    monkeypatch.setattr(torch, "compile", lambda learner, mode: full)
    own = plan(ON)
    with pytest.raises(torch.OutOfMemoryError):
        runner.run(own, Progress())
    assert own.record().status == "oom" and "try batch_size=4" in own.record().info["error"]["message"]


SLOW_COMPILER = """#!/bin/sh
case "$*" in *-o*) sleep 100 & echo $! > {there}.part; mv {there}.part {there}; wait;; *) exec g++ "$@";; esac
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_ends_the_compiler(tiny: list[str], outputs: Path, tmp_path: Path, number: int, code: int) -> None:
    slow, there = tmp_path / "slow++", tmp_path / "there"
    slow.write_text(SLOW_COMPILER.format(there=there))
    slow.chmod(0o755)
    environment = {**os.environ, "CXX": str(slow), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiled")}
    command = [sys.executable, "-m", "cnnexp", "train", *tiny, ON]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not there.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, told = process.communicate(timeout=10)
    assert process.returncode == code and told.endswith("interrupted; the same command continues from here\n")
    assert gone(int(there.read_text()))
    (run,) = find_runs(outputs)
    assert run.status == "interrupted"


def test_what_is_not_compiled_keeps_its_name(plan: Plans) -> None:
    names = [plan(word).fingerprint for word in ("device.compile=false", ON, "device.compile=reduce-overhead")]
    assert names[0] == plan().fingerprint and len(set(names)) == 3


def test_cuda_graphs_are_refused_with_parts_of_a_batch(plan: Plans) -> None:
    for mode in ("reduce-overhead", "max-autotune"):
        with pytest.raises(UserError, match=f"given {mode} with accumulate=2.*allowed: device.compile=true"):
            plan(f"device.compile={mode}", "accumulate=2")
    plan(ON, "accumulate=2")
