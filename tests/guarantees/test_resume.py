"""However often a run is cut off, and wherever: the numbers are those of the run that was not, to the last bit."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cuts import CutAt, Killed
from lives import difference, everything

from cnnexp import storage
from cnnexp.errors import Interrupted
from cnnexp.records.run_record import RunRecord
from cnnexp.training import checkpoint
from cnnexp.training import run as runner
from cnnexp.training.plan import Plan
from cnnexp.training.progress import Progress

pytestmark = pytest.mark.integration

Train = Callable[..., int]
Plans = Callable[..., Plan]

PLATEAU = ["augmentation=full", "scheduler=plateau", "scheduler.patience=0", "optimizer.lr=0.01"]
KEPT = ["model=resnet18", "model.freeze=backbone", "model.bn=frozen", "augmentation=flip"]


@pytest.fixture(autouse=True)
def keep_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep last.pt of runs that are done, so that the whole state at the end can be compared."""
    monkeypatch.setattr(RunRecord, "drop_resume_files", lambda self: None)


@pytest.fixture(scope="module")
def uncut() -> dict[str, dict[str, Any]]:
    """Return a place for what the runs without a cut gave, so that each is made once."""
    return {}


@pytest.fixture
def expected(plan: Plans, outputs: Path, uncut: dict[str, dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Return a function that gives what a run computes when it is not cut."""

    def run(*more: str) -> dict[str, Any]:
        key = " ".join(more)
        if key not in uncut:
            uncut[key] = everything(runner.run(plan(*more, f"outputs={outputs.parent / 'uncut'}"), Progress()).folder)
        return uncut[key]

    return run


def cut(plan: Plan, step: int, number: signal.Signals | None) -> None:
    """Run until a step and no further."""
    with pytest.raises(Killed if number is None else Interrupted):
        runner.run(plan, CutAt(step, number))
    assert plan.record().status == ("failed" if number is None else "interrupted")


def test_kept_features_cut_by_signals(plan: Plans, expected: Callable[..., dict[str, Any]]) -> None:
    own, cuts = plan(*KEPT), [4, 9]
    for step in cuts:
        cut(own, step, signal.SIGTERM)
        assert checkpoint.read(own.folder / "checkpoints" / "last.pt")["step"] == step
    run = runner.run(own, Progress())
    assert run.info["resumed"] == len(cuts)
    assert difference(everything(run.folder), expected(*KEPT)) is None


@pytest.mark.parametrize(("every", "cuts"), [("2st", [7, 9, 11]), ("auto", [3, 12]), ("100st", [8, 14]), ("1st", [15])])
def test_cut_without_a_warning(
    plan: Plans, expected: Callable[..., dict[str, Any]], every: str, cuts: list[int]
) -> None:
    more = [*PLATEAU, "log.steps=1st"]
    own = plan(*more, f"checkpoint.every={every}")
    for step in cuts:
        cut(own, step, None)
    assert difference(everything(runner.run(own, Progress()).folder), expected(*more)) is None


def crash_after(monkeypatch: pytest.MonkeyPatch, count: int) -> list[str]:
    """Let so many writes through, and none after them; return the list of those that were asked for."""
    asked: list[str] = []

    def dying(name: str) -> Callable[..., Any]:
        original = getattr(storage, name)

        def write(*arguments: Any, **named: Any) -> Any:
            asked.append(name)
            if len(asked) > count:
                raise Killed(name)
            return original(*arguments, **named)

        return write

    for name in ("draft", "publish", "copy", "append_row", "append_text", "sync_file", "remove"):
        monkeypatch.setattr(storage, name, dying(name))
    return asked


FAST = random.Random(0).sample(range(1, 70), 4)


@pytest.mark.parametrize("count", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in range(90)])
def test_a_crash_between_any_two_writes(
    plan: Plans, expected: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    more = [*PLATEAU, "checkpoint.every=3st", "log.steps=4st"]
    own = plan(*more)
    with monkeypatch.context() as patch:
        asked = crash_after(patch, count)
        try:
            runner.run(own, Progress())
        except Killed:
            pass
        else:
            assert len(asked) <= count
    assert difference(everything(runner.run(own, Progress()).folder), expected(*more)) is None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)])
def test_exit_codes_of_signals(
    train: Train, outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    number: signal.Signals, code: int,
) -> None:  # fmt: skip
    handlers = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    with monkeypatch.context() as patch:
        patch.setattr("cnnexp.training.progress.for_terminal", lambda: CutAt(6, number))
        assert train() == code
    (folder,) = (outputs / "runs").iterdir()
    assert RunRecord.read(folder).status == "interrupted"
    assert capsys.readouterr().err.endswith("cnnexp: interrupted; the same command continues from here\n")
    assert {one: signal.getsignal(one) for one in handlers} == handlers
    assert train() == 0
    assert "\ncontinues after step 1 of epoch 2 of 3\nepoch 2/3" in capsys.readouterr().out
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


def compare_processes(tiny: list[str], plan: Plans, outputs: Path, signals: list[signal.Signals], seed: int) -> None:
    """Interrupt a command again and again, let the run end, and compare with one that was not interrupted."""
    draw = random.Random(seed)
    more = [*PLATEAU, f"epochs={40 * len(signals)}ep", "checkpoint.every=7st", "study.arm=cut"]
    command = [sys.executable, "-W", "error", "-m", "cnnexp", "train", *tiny, *more]
    codes = {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130, signal.SIGTERM: 75}
    for number in signals:
        assert interrupt(command, outputs, number, draw.random() * 0.3) == codes[number]
        (folder,) = (outputs / "runs").iterdir()
        assert RunRecord.read(folder).status == "interrupted"
    run = runner.run(plan(*more), Progress())
    assert run.folder == folder, "the same command names the same run"
    assert run.info["resumed"] >= len(signals) - 1, "the first may come before there is anything to go on from"
    uncut = runner.run(plan(*more, f"outputs={outputs.parent / 'uncut'}"), Progress())
    assert difference(everything(run.folder), everything(uncut.folder)) is None


def test_killed_and_interrupted(tiny: list[str], plan: Plans, outputs: Path) -> None:
    compare_processes(tiny, plan, outputs, [signal.SIGKILL, signal.SIGINT], seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_killed_again_and_again(tiny: list[str], plan: Plans, outputs: Path, seed: int) -> None:
    compare_processes(tiny, plan, outputs, [signal.SIGKILL] * 4 + [signal.SIGTERM], seed=seed)
