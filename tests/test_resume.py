"""However often a run is cut off, and wherever: the numbers are those of the run that was not, to the last bit."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cnnexp import checkpoint, storage
from cnnexp import run as runner
from cnnexp.checkpoint import Checkpoints
from cnnexp.errors import Interrupted
from cnnexp.job import Job
from cnnexp.loop import TrainState
from cnnexp.progress import Quiet
from cnnexp.record import TIMING, RunRecord

Train = Callable[..., int]
Jobs = Callable[..., Job]

# 3 epochs of 5 steps; all but the last have batch norm, dropout and augmentation.
KINDS = {
    "adam, plateau": ["augmentation=full", "scheduler=plateau", "scheduler.patience=0", "optimizer.lr=0.01"],
    "momentum, cosine": [
        *("optimizer=momentum", "optimizer.nesterov=true", "scheduler=cosine", "scheduler.warmup=3st", "clip_norm=0.5"),
        *("label_smoothing=0.1", "log.steps=2st", "device.precision=bf16", "early_stopping.patience=2"),
    ],
    "torch's own schedule": [
        *("optimizer=rmsprop", "~scheduler.warmup", "scheduler._target_=torch.optim.lr_scheduler.StepLR"),
        *("+scheduler.step_size=1", "+scheduler.gamma=0.3", "log.steps=1st", "data.val_fraction=0"),
    ],
    "features kept": ["model=resnet18", "model.freeze=backbone", "model.bn=frozen", "augmentation=flip"],
}
UNTIMED_RESULT = ("best_epoch", "epochs", "val_accuracy", "val_loss", "test_accuracy", "test_loss", "train_accuracy",
                  "train_loss", "stopped")  # fmt: skip


class Killed(BaseException):
    """Stands for a process that ends at once."""


class CutAt(Quiet):
    """Ends the run at a step: by a signal, which lets it save, or as if it had been killed."""

    def __init__(self, step: int, number: signal.Signals | None):
        self.at, self.number = step, number

    def step(self, state: TrainState) -> None:
        if state.step == self.at:
            if self.number is None:
                raise Killed
            os.kill(os.getpid(), self.number)


@pytest.fixture(autouse=True)
def keep_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep last.pt of runs that are done, so that the whole state at the end can be compared."""
    monkeypatch.setattr(Checkpoints, "finish", lambda self: None)


def everything(run: RunRecord) -> dict[str, Any]:
    """Return all that a run computed: state at the end, best weights, rows and result without times, predictions."""
    state = checkpoint.read(run.folder / "checkpoints" / "last.pt")
    rows = [*run.rows("epoch"), *run.rows("step")]
    return {
        "state": {key: value for key, value in state.items() if key not in ("seconds", "epoch_seconds")},
        "best": checkpoint.read(run.folder / "checkpoints" / "best.pt"),
        "rows": [{key: value for key, value in row.items() if key not in TIMING} for row in rows],
        "predictions": run.predictions(),
        "result": {key: run.info["result"][key] for key in UNTIMED_RESULT},
    }


def assert_same(mine: Any, theirs: Any, where: str = "") -> None:
    """Hold two nested structures to be equal, tensors and arrays bit for bit."""
    assert type(mine) is type(theirs), where
    if isinstance(mine, dict):
        assert list(mine) == list(theirs), where
        for key in mine:
            assert_same(mine[key], theirs[key], f"{where}.{key}")
    elif isinstance(mine, (list, tuple)):
        assert len(mine) == len(theirs), where
        for number, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            assert_same(a, b, f"{where}[{number}]")
    elif isinstance(mine, torch.Tensor):
        assert mine.dtype == theirs.dtype and torch.equal(mine, theirs), where
    elif isinstance(mine, np.ndarray):
        assert mine.dtype == theirs.dtype and np.array_equal(mine, theirs), where
    else:
        assert mine == theirs, where


@pytest.fixture(scope="module")
def uncut() -> dict[str, dict[str, Any]]:
    """Return a place for what the runs without a cut gave, so that each is made once."""
    return {}


@pytest.fixture
def expected(job: Jobs, outputs: Path, uncut: dict[str, dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Return a function that gives what a run computes when it is not cut."""

    def run(*more: str) -> dict[str, Any]:
        key = " ".join(more)
        if key not in uncut:
            uncut[key] = everything(runner.run(job(*more, f"outputs={outputs.parent / 'uncut'}"), Quiet()))
        return uncut[key]

    return run


def cut(job: Job, step: int, number: signal.Signals | None) -> None:
    """Run until a step and no further."""
    with pytest.raises(Killed if number is None else Interrupted):
        runner.run(job, CutAt(step, number))
    assert job.record().status == ("failed" if number is None else "interrupted")


@pytest.mark.parametrize(
    ("kind", "cuts"),
    [
        *(("adam, plateau", cuts) for cuts in ([1], [5], [7], [15], [1, 2, 3], [4, 9, 10, 13])),
        *(("momentum, cosine", cuts) for cuts in ([7], [4, 9, 10, 13])),
        *(("torch's own schedule", cuts) for cuts in ([7], [4, 9, 10, 13])),
        ("features kept", [4, 9]),
    ],
    ids=str,
)
def test_cut_by_signals(job: Jobs, expected: Callable[..., dict[str, Any]], kind: str, cuts: list[int]) -> None:
    more = KINDS[kind]
    own = job(*more)
    for step in cuts:
        cut(own, step, signal.SIGTERM)
        assert checkpoint.read(own.folder / "checkpoints" / "last.pt")["step"] == step
    run = runner.run(own, Quiet())
    assert run.info["resumed"] == len(cuts)
    assert_same(everything(run), expected(*more))


@pytest.mark.parametrize(("every", "cuts"), [("2st", [7, 9, 11]), ("auto", [3, 12]), ("100st", [8, 14]), ("1st", [15])])
def test_cut_without_a_warning(job: Jobs, expected: Callable[..., dict[str, Any]], every: str, cuts: list[int]) -> None:
    more = [*KINDS["adam, plateau"], "log.steps=1st"]
    own = job(*more, f"checkpoint.every={every}")
    for step in cuts:
        cut(own, step, None)
    assert_same(everything(runner.run(own, Quiet())), expected(*more))


def crash_after(monkeypatch: pytest.MonkeyPatch, count: int) -> list[str]:
    """Let so many writes through, and none after them; return the list of those that were asked for."""
    asked: list[str] = []

    def dying(name: str) -> Callable[..., Any]:
        original = getattr(storage, name)

        def write(*arguments: Any) -> Any:
            asked.append(name)
            if len(asked) > count:
                raise Killed(name)
            return original(*arguments)

        return write

    for name in ("draft", "publish", "copy", "append_row", "append_text", "sync_file", "remove"):
        monkeypatch.setattr(storage, name, dying(name))
    return asked


FAST = random.Random(0).sample(range(1, 70), 4)


@pytest.mark.parametrize("count", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in range(90)])
def test_a_crash_between_any_two_writes(
    job: Jobs, expected: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    more = [*KINDS["adam, plateau"], "checkpoint.every=3st", "log.steps=4st"]
    own = job(*more)
    with monkeypatch.context() as patch:
        asked = crash_after(patch, count)
        try:
            runner.run(own, Quiet())
        except Killed:
            pass
        else:
            assert len(asked) <= count
    assert_same(everything(runner.run(own, Quiet())), expected(*more))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)])
def test_exit_codes_of_signals(
    train: Train, outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    number: signal.Signals, code: int,
) -> None:  # fmt: skip
    handlers = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    with monkeypatch.context() as patch:
        patch.setattr("cnnexp.progress.for_terminal", lambda: CutAt(6, number))
        assert train() == code
    (folder,) = (outputs / "runs").iterdir()
    assert RunRecord.read(folder).status == "interrupted"
    assert capsys.readouterr().err.endswith("cnnexp: interrupted; the same command goes on from here\n")
    assert {one: signal.getsignal(one) for one in handlers} == handlers
    assert train() == 0
    assert RunRecord.read(folder).info["resumed"] == 1
    assert "resumed after step 6" in (folder / "train.log").read_text()


def started(run: Path) -> int:
    """Return how many rows a run has written."""
    file = next(iter(run.glob("*/*/metrics.jsonl")), None)
    return 0 if file is None else len(storage.read_rows(file))


def interrupt(command: list[str], outputs: Path, number: signal.Signals, delay: float) -> int:
    """Start a command, send it a signal a while after it has written another row, and return its exit code."""
    before = started(outputs)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while started(outputs) <= before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(delay)
    process.send_signal(number)
    return process.wait(60)


def compare_processes(tiny: list[str], job: Jobs, outputs: Path, signals: list[signal.Signals], seed: int) -> None:
    """Interrupt a command again and again, let the run end, and compare with one that was not interrupted."""
    draw = random.Random(seed)
    more = [*KINDS["adam, plateau"], f"epochs={40 * len(signals)}ep", "checkpoint.every=7st", "study.arm=cut"]
    command = [sys.executable, "-W", "error", "-m", "cnnexp", "train", *tiny, *more]
    codes = {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130, signal.SIGTERM: 75}
    for number in signals:
        assert interrupt(command, outputs, number, draw.random() * 0.3) == codes[number]
        (folder,) = (outputs / "runs").iterdir()
        assert RunRecord.read(folder).status == "interrupted"
    run = runner.run(job(*more), Quiet())
    assert run.folder == folder, "the same command names the same run"
    assert run.info["resumed"] >= len(signals) - 1, "the first may come before there is anything to go on from"
    assert_same(everything(run), everything(runner.run(job(*more, f"outputs={outputs.parent / 'uncut'}"), Quiet())))


def test_killed_and_interrupted(tiny: list[str], job: Jobs, outputs: Path) -> None:
    compare_processes(tiny, job, outputs, [signal.SIGKILL, signal.SIGINT], seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_killed_again_and_again(tiny: list[str], job: Jobs, outputs: Path, seed: int) -> None:
    compare_processes(tiny, job, outputs, [signal.SIGKILL] * 4 + [signal.SIGTERM], seed=seed)
