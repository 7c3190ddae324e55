"""scripts/gpu_check.py, tried on the CPU, and its way into docs/performance.md."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import benchmark
import gpu_check
from bench import page, results
from bench.lab import REPOSITORY
from gpu import numbers
from gpu.commands import SMALL, Bench, Failed, NoTime, end, finish, living, logits_of, started
from gpu.rows import extrapolated, judged

import cnnexp
from cnnexp.training import loop, setup

pytestmark = pytest.mark.integration


def check(out: Path, *words: str, timeout: float = 900) -> tuple[int, str]:
    command = [sys.executable, str(REPOSITORY / "scripts" / "gpu_check.py"), "--out", str(out), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=os.environ)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_every_check_passes_on_the_cpu(tmp_path: Path) -> None:
    code, printed = check(tmp_path, "--device", "cpu", "--quick", "--minutes", "15")
    assert code == 0, printed
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert [c["name"] for c in found["checks"]] == list(gpu_check.CHECKS)
    statuses = {c["name"]: c["status"] for c in found["checks"]}
    assert {statuses[name] for name in gpu_check.GROUPS["checks"]} == {"passed"}
    assert {statuses[name] for name in gpu_check.GROUPS["rows"]} == {"not run: no data (give --data)"}
    assert benchmark.checked_rows(tmp_path / "gpu_check.json") == {}  # quick: nothing worth keeping


def test_a_failed_check_is_named_and_the_others_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(bench: gpu_check.Bench) -> dict:
        """Always fails."""
        raise gpu_check.Failed("expected 1, found 2")

    monkeypatch.setattr(gpu_check, "CHECKS", {"broken": broken, "fine": lambda bench: {}})
    assert gpu_check.main(["--device", "cpu", "--out", str(tmp_path)]) == 3
    first, second = json.loads((tmp_path / "gpu_check.json").read_text())["checks"]
    assert (first["status"], first["why"], second["status"]) == ("failed", "expected 1, found 2", "passed")


def test_no_check_starts_after_its_time(tmp_path: Path) -> None:
    assert gpu_check.main(["--device", "cpu", "--out", str(tmp_path), "--minutes", "-1", "resume"]) == 0
    (found,) = json.loads((tmp_path / "gpu_check.json").read_text())["checks"]
    assert found["status"] == "not run: no time left"


def test_rows_of_few_epochs_are_extrapolated_and_say_so(tmp_path: Path) -> None:
    about = {"date": "2026-01-01", "machine": {"processor": "x", "cores": 16, "memory_gib": 128, "gpu": "H100"}}
    about |= {"versions": {}, "commit": "a", "quick": False, "not_measured": None, "commands": {}, "problems": {}}
    about["machine"]["load_before"] = 0.1
    # The first epoch, which loads kernels, takes 4 of 6 seconds of training; a later one takes 1, and 0.5 to validate.
    one = {"repeat": 1, "train_seconds": 6.0, "later_epoch_seconds": 1.5}
    lines = [
        {**one, "case": "cnnexp", "wall_seconds": 10, "recorded_seconds": 8, "start_seconds": 2},
        {**one, "case": "plain", "wall_seconds": 40, "recorded_seconds": 38},
        # Eight runs at a time: 16 s are recorded in 2 s; the next epoch of each takes 0.5 s, which is 4 s together.
        {**one, "case": "sweep", "wall_seconds": 5, "recorded_seconds": 16, "start_seconds": 3}
        | {"train_seconds": 12.0, "later_epoch_seconds": 4.0},
    ]
    row = extrapolated({**about, "facts": {}, "repeats": lines}, epochs=50)
    assert [line["wall_seconds"] for line in row["repeats"]] == [10 + 1.5 * 47, 40 + 1.5 * 47, 5 + 0.5 * 47]
    assert [line["measured_seconds"] for line in row["repeats"]] == [10, 40, 5]
    file = tmp_path / "gpu_check.json"
    file.write_text(json.dumps({"quick": False, "checks": [{"name": "G1", "row": row}, {"name": "resume"}]}))
    assert benchmark.main(["--add", str(file), "--out", str(tmp_path / "docs")]) == 0
    assert list(results.read(tmp_path / "docs")) == ["G1"]
    assert "extrapolated from 3 to 50 epochs" in page.render(results.read(tmp_path / "docs"))


class Here(Bench):
    """Trains in this process, run by run. `breaks`: words added to a command that has the key's word."""

    breaks: Mapping[str, str] = MappingProxyType({})

    def cnnexp(self, *words: str, code: int = 0) -> str:
        added = [more for word, more in self.breaks.items() if word in words]
        cnnexp.train(*words[1:], *added, "device.threads=1", f"outputs={self.work / 'outputs'}", progress=False)
        return ""

    def sweep(self, study: str, *words: str) -> list[Path]:
        pairs = [word.partition("=") for word in words]
        for each in itertools.product(*([f"{key}={value}" for value in values.split(",")] for key, _, values in pairs)):
            self.cnnexp("train", *SMALL, *each, "device=cpu", f"study.name={study}")
        return self.runs(study)


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here("cpu", tmp_path, quick=True, data=None, deadline=time.monotonic() + 600)


NOTHING_LEARNED, DOUBLED = "optimizer.lr=1e-12", "optimizer.lr=0.04"  # twice the step: as of doubled gradients


def test_a_device_that_trains_like_the_cpu_is_the_same(here: Here) -> None:
    found = numbers.same_as_cpu(here)
    assert found["relative difference of a step's loss"] < 1e-6


@pytest.mark.parametrize("wrong", [NOTHING_LEARNED, DOUBLED])
def test_a_device_that_trains_otherwise_is_not_the_same_as_the_cpu(here: Here, wrong: str) -> None:
    here.breaks = {"study.name=same-here": wrong}
    with pytest.raises(Failed, match=r"same-here, fp32: .*losses of the steps"):
        numbers.same_as_cpu(here)


def test_a_wrong_logit_is_not_the_same_as_the_cpu(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(folder: Path) -> np.ndarray:
        logits = logits_of(folder).copy()
        logits[7, 3] += 0.01 * ("same-here" in str(folder))
        return logits

    monkeypatch.setattr(numbers, "logits_of", wrong)
    with pytest.raises(Failed, match=r"'difference of a test logit': 0.0(1|099)"):
        numbers.same_as_cpu(here)


def test_bf16_is_near_fp32(here: Here) -> None:
    assert set(numbers.precisions(here)) == {
        f"{precision}, channels_last={layout}" for precision in ("fp32", "bf16") for layout in (True, False)
    }


@pytest.mark.parametrize("wrong", [NOTHING_LEARNED, DOUBLED])
@pytest.mark.parametrize("where", ["device.precision=bf16", "device.channels_last=false"])
def test_a_precision_or_layout_that_trains_otherwise_is_far_from_fp32(here: Here, where: str, wrong: str) -> None:
    here.breaks = {where: wrong}
    with pytest.raises(Failed, match="losses of the steps"):
        numbers.precisions(here)


class Scaled(torch.autograd.Function):
    """Returns its input; multiplies its gradient."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, factor: float) -> torch.Tensor:
        context.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> Any:
        return gradient * context.factor, None


def compiled_with(factor: float) -> Callable[..., Any]:
    """Return a compiler after whose work gradients are multiplied by `factor`."""
    return lambda state, *_: lambda x: Scaled.apply(state.learner(x), factor)


def test_compiled_steps_are_those_of_the_network(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "compiled", compiled_with(1.0))
    assert list(numbers.compiled(here)) == ["fp32, True"]


@pytest.mark.parametrize("factor", [0.0, 2.0])
def test_compiled_steps_with_other_gradients_are_found(
    here: Here, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    monkeypatch.setattr(setup, "compiled", compiled_with(factor))
    with pytest.raises(Failed, match=r"compiled, fp32: .*losses of the steps"):
        numbers.compiled(here)


def test_a_run_without_rows_of_its_steps_is_not_compared(here: Here) -> None:
    (folder,) = here.train("few", *numbers.LEARNS, "log.steps=2st")
    with pytest.raises(Failed, match="rows of steps, expected"):
        numbers.near(folder, folder, "fp32")


def test_a_step_that_waits_for_the_device_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    modes = ["default"]

    def step(state: Any, batch: Any, settings: Any) -> None:
        if modes[-1] == "error" and state.step == waits_at:
            raise RuntimeError("called a synchronizing CUDA operation")

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    monkeypatch.setattr(loop, "train_step", step)
    for words in ([], *(words for name, words in numbers.STEPS_LIKE.items() if name != "fp16")):
        waits_at = 0  # a first step may wait
        assert numbers.steps_without_waiting([*words, "device=cpu"], cuda=True) == 9
        waits_at = numbers.WARM_UP
        with pytest.raises(RuntimeError, match="synchronizing"):
            numbers.steps_without_waiting([*words, "device=cpu"], cuda=True)
    assert modes[-1] == "default"


def test_a_command_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    script = "trap '' TERM; (sleep 60 & sleep 60) & echo started; trap 'exit 75' TERM; while :; do sleep 0.1; done"
    pipes = {"stdout": subprocess.PIPE}
    with started(["/bin/sh", "-c", script], tmp_path, os.environ, pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        assert len(living(process.pid)) >= 2
        with pytest.raises(NoTime):
            finish(process, time.monotonic())
        end(process, grace=1.0)
        assert process.returncode == 75  # the first, by SIGTERM
        assert living(process.pid) == []  # the others ignored it


def test_a_check_that_the_deadline_ends_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(bench: Bench) -> dict:
        """Takes too long."""
        bench.deadline = time.monotonic()
        bench.cnnexp("train", *SMALL, "epochs=1000")
        return {}

    monkeypatch.setattr(gpu_check, "CHECKS", {"slow": slow})
    assert gpu_check.main(["--device", "cpu", "--out", str(tmp_path)]) == 0
    (found,) = json.loads((tmp_path / "gpu_check.json").read_text())["checks"]
    assert (found["status"], "why" in found) == ("not run: no time left", False)


def test_rows_alone_without_data_are_not_run(tmp_path: Path) -> None:
    assert gpu_check.main(["rows", "--device", "cpu", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "gpu_check.json").read_text())["checks"]
    assert [check["name"] for check in found] == ["G1", "G4", "G3", "G2", "G5"]
    assert {check["status"] for check in found} == {"not run: no data (give --data)"}


def test_checks_and_rows_are_all_there_is() -> None:
    assert [*gpu_check.GROUPS["checks"], *gpu_check.GROUPS["rows"]] == list(gpu_check.CHECKS)
    assert gpu_check.GROUPS["rows"] == ["G1", "G4", "G3", "G2", "G5"]


NO_DATA = "no data: there is no imagenette2-160 in --data"
WEIGHTS = "needs ImageNet weights, which are not on this machine"


@pytest.mark.parametrize(
    ("problems", "not_measured", "status", "keeps_row"),
    [
        ({}, None, None, True),
        ({"two": WEIGHTS}, None, None, True),
        ({"two": "it went wrong"}, None, "failed", True),
        ({"one": "it went wrong", "two": WEIGHTS}, "it went wrong", "failed", False),
        (
            {"all cases": "no data: there is no x in --data"},
            "no data: there is no x in --data",
            "not run: no data: ",
            False,
        ),
        ({"two": WEIGHTS}, WEIGHTS, "not run: needs ImageNet weights", False),
    ],
)
def test_what_a_machine_lacks_is_no_failure(
    problems: dict[str, str], not_measured: str | None, status: str | None, keeps_row: bool
) -> None:
    row = {"problems": problems, "not_measured": not_measured, "facts": {}, "repeats": []}
    found = judged(row, epochs=50)
    assert found.get("status", "") == (status or "") or found["status"].startswith(str(status))
    assert ("row" in found) == keeps_row
    assert ("cases not run" in found) == any(why.startswith(("no data", WEIGHTS)) for why in problems.values())


@pytest.mark.slow
def test_a_row_is_measured_as_far_as_the_machine_can(tmp_path: Path) -> None:
    code, printed = check(tmp_path, "G1", "--device", "cpu", "--quick", "--data", str(tmp_path))
    assert (code, "not run: no CUDA device" in printed) == (0, True), printed
