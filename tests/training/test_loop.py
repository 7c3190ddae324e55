"""Training as it runs: what a step does, which epoch is the best, when it stops, what is written down."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cuts import prepared

from cnnexp.errors import UserError
from cnnexp.records.run_record import RunRecord
from cnnexp.rng import fold
from cnnexp.storage import read_json
from cnnexp.training import build, checkpoint, device
from cnnexp.training import run as runner
from cnnexp.training import setup as start
from cnnexp.training.checkpoint import Checkpoints
from cnnexp.training.evaluation import Evaluation
from cnnexp.training.loop import train_step
from cnnexp.training.plan import Plan
from cnnexp.training.progress import Bars, Progress
from cnnexp.training.recorder import Recorder

Train = Callable[..., int]
Only = Callable[[], RunRecord]


def test_it_learns_a_few_images_by_heart(plan: Callable[..., Plan]) -> None:
    easy = [
        "data.num_train=32",
        "data.val_fraction=0",
        "data.size=16",
        "augmentation=none",
        "model.blocks.0.conv.out=16",
    ]
    more = [*easy, "model.dropout={pool:0,fc:0}", "optimizer.lr=0.01", "epochs=40ep"]
    run = runner.run(plan(*more), Progress())
    assert run.info["result"]["train_accuracy"] == 1.0
    assert run.info["result"]["train_loss"] < 0.1


def total_norm(model: torch.nn.Module) -> float:
    """Return the norm of all gradients together, in float64."""
    return float(sum((p.grad.double() ** 2).sum() for p in model.parameters() if p.grad is not None) ** 0.5)


def test_gradients_are_clipped(plan: Callable[..., Plan]) -> None:
    free, batches, settings = prepared(plan("clip_norm=null"))
    clipped, _, bounded = prepared(plan("clip_norm=0.05"))
    for state, own in ((free, settings), (clipped, bounded)):
        train_step(state, batches.at(0), own)
    assert total_norm(free.model) > 0.5
    assert total_norm(clipped.model) == pytest.approx(0.05, rel=1e-4)
    ratio = 0.05 / total_norm(free.model)
    for a, b in zip(free.model.parameters(), clipped.model.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        torch.testing.assert_close(a.grad * ratio, b.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_loss_is_the_smoothed_cross_entropy(plan: Callable[..., Plan], smoothing: float) -> None:
    state, batches, settings = prepared(plan(f"label_smoothing={smoothing}"))
    batch = batches.at(0)
    torch.manual_seed(fold(0, "dropout", 0))
    state.model.train()
    with torch.no_grad():
        log = torch.log_softmax(state.model(batch.images).double(), 1)
    fresh, _, _ = prepared(plan(f"label_smoothing={smoothing}"))
    train_step(fresh, batch, settings)
    target = torch.full_like(log, smoothing / 10)  # Szegedy et al. 2016, section 7
    target[torch.arange(len(log)), batch.labels] += 1 - smoothing
    assert float(fresh.losses[0]) == pytest.approx(float(-(target * log).sum(1).mean()), rel=1e-5)
    assert int(fresh.correct[0]) == int((log.argmax(1) == batch.labels).sum())


def test_first_weights_depend_on_the_seed_alone(plan: Callable[..., Plan]) -> None:
    def weights(*more: str) -> dict[str, Any]:
        return prepared(plan(*more))[0].model.state_dict()

    first, other = weights(), weights("seed=1")
    again = weights("optimizer=sgd", "augmentation=full", "model.dropout.fc=0.5", "batch_size=4")
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


DIVERGE = ("scheduler=step", "scheduler.every=1ep", "scheduler.gamma=1e30", "optimizer=sgd", "model.norm=none")


def test_a_loss_that_is_not_finite(train: Train, only: Only, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(*DIVERGE) == 3
    run = only()
    told = capsys.readouterr().err
    assert told.startswith("cnnexp: ") and "diverged: the loss of step 7 (epoch 2) is not finite" in told
    assert told.count("\n") == 1 and "optimizer.lr" in told
    assert run.status == "diverged" and run.info["error"]["type"] == "Diverged"
    assert "step 7" in (run.folder / "train.log").read_text()
    assert [row["epoch"] for row in run.rows(split="val")] == [1]
    for name, step in (("last.pt", 5), ("best.pt", None)):  # what was good is kept
        content = checkpoint.read(run.folder / "checkpoints" / name)
        assert content.get("step") == step
        assert all(torch.isfinite(tensor).all() for tensor in content["model"].values())
    assert content["epoch"] == 1

    before = read_json(run.folder / "run.json")
    assert train(*DIVERGE) == 3, "it is left alone, and still told"
    assert "diverged before" in capsys.readouterr().err
    assert read_json(run.folder / "run.json") == before


@pytest.mark.parametrize(("gamma", "told"), [("1e38", "the test loss"), ("1e45", "the weights after step 6")])
def test_no_run_is_done_with_what_is_not_finite(
    train: Train, only: Only, capsys: pytest.CaptureFixture[str], gamma: str, told: str
) -> None:
    words = [word for word in DIVERGE if "gamma" not in word]
    assert train(*words, f"scheduler.gamma={gamma}", "data.val_fraction=0", "batch_size=10", "epochs=6st") == 3
    run = only()
    assert f"diverged: {told} " in capsys.readouterr().err
    assert run.status == "diverged" and not run.info.get("result")
    best = run.folder / "checkpoints" / "best.pt"
    assert all(torch.isfinite(tensor).all() for tensor in checkpoint.read(best)["model"].values())


def test_the_batch_without_a_finite_loss_is_recorded(train: Train, only: Only, plan: Callable[..., Plan]) -> None:
    assert train(*DIVERGE, "checkpoint.every=1st") == 3
    error = only().info["error"]
    data = build.build_data(plan(*DIVERGE).config)
    _, batches, _ = prepared(plan(*DIVERGE))
    _, rows = batches.positions(6)
    assert error["step"] == 7
    assert error["samples"] == data.train.ids[rows].tolist() and len(set(error["samples"])) == 8
    last = checkpoint.read(only().folder / "checkpoints" / "last.pt")  # saved after every step, while it was finite
    assert all(torch.isfinite(tensor).all() for tensor in last["model"].values())


def test_weights_that_are_not_finite_are_never_saved(train: Train, only: Only, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(state: Any, batch: Any, settings: Any) -> None:
        train_step(state, batch, settings)
        if state.step == 2:
            next(state.model.parameters()).data[0] = float("inf")

    monkeypatch.setattr("cnnexp.training.loop.train_step", spoil)
    assert train("checkpoint.every=1st") == 3
    assert only().info["error"]["step"] == 4
    last = checkpoint.read(only().folder / "checkpoints" / "last.pt")
    assert last["step"] == 2 and all(torch.isfinite(tensor).all() for tensor in last["model"].values())


def test_running_out_of_memory_is_told(
    train: Train, only: Only, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with monkeypatch.context() as patch:
        patch.setattr("cnnexp.training.loop.train_step", full)
        assert train() == 3
    assert only().status == "oom"
    assert capsys.readouterr().err.endswith("out of memory with batch_size=8; try batch_size=4\n")
    assert "Traceback" in (only().folder / "train.log").read_text()
    assert only().config()["batch_size"] == 8, "which is a person's to change"
    assert train("epochs=3ep") == 0, "the same command repeats it"
    assert (only().status, only().info["error"]) == ("done", None)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "128 images at once; try eval_batch_size=64"),
        (["eval_batch_size=20"], "20 images at once; try eval_batch_size=10"),
    ],
)
def test_running_out_of_memory_in_an_evaluation(
    train: Train, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    def full(self: object, *_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def forward(self: torch.nn.Sequential, x: torch.Tensor) -> torch.Tensor:
        if not self.training and len(x) > 1:
            full(self)
        return before(self, x)  # type: ignore[no-any-return]

    before = torch.nn.Sequential.forward
    monkeypatch.setattr(torch.nn.Sequential, "forward", forward)
    assert train(*words) == 3
    assert capsys.readouterr().err.endswith(f"out of memory in an evaluation of {told}\n")


def test_an_operation_without_a_deterministic_form_is_told_in_a_line(
    train: Train, only: Only, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("pool_backward_cuda does not have a deterministic implementation, but you set ...")

    monkeypatch.setattr("cnnexp.training.loop.train_step", refuse)
    train()
    told = capsys.readouterr().err
    assert "device.deterministic: pool_backward_cuda has no deterministic form here; give false" in told
    assert "Traceback" not in told and only().status == "failed"


def recorder(patience: int | None = None) -> tuple[Recorder, Any]:
    """Return a Recorder and a state that has all that `choose` looks at."""
    model = torch.nn.Linear(1, 1)
    state = SimpleNamespace(model=model, best={}, best_weights={}, epochs_since_best=0, stopped=None)
    own: Any = Recorder.__new__(Recorder)
    own.patience, own.keeps_last = patience, False
    return own, state


def test_the_best_epoch_is_the_first_of_the_highest() -> None:
    own, state = recorder()
    accuracies = [0.1, 0.5, 0.5, 0.3, 0.6, 0.6]
    chosen = []
    for epoch, accuracy in enumerate(accuracies, 1):
        state.model.weight.data.fill_(epoch)
        chosen.append(own.choose(state, epoch, {"accuracy": accuracy, "loss": 1 / epoch}))
    assert chosen == [True, True, False, False, True, False]
    assert state.best == {"epoch": 5, "val_accuracy": 0.6, "val_loss": 1 / 5}
    assert float(state.best_weights["weight"]) == 5.0, "a copy, which later steps leave alone"
    assert state.stopped is None


@pytest.mark.parametrize(("patience", "last"), [(1, 3), (2, 4), (3, 8), (4, None), (None, None)])
def test_patience_counts_epochs_since_the_best(patience: int | None, last: int | None) -> None:
    own, state = recorder(patience)
    stopped_at = None
    for epoch, accuracy in enumerate([0.1, 0.5, 0.5, 0.3, 0.6, 0.2, 0.6, 0.1], 1):
        own.choose(state, epoch, {"accuracy": accuracy, "loss": 1.0})
        if state.stopped and stopped_at is None:
            stopped_at = epoch
    assert stopped_at == last
    assert state.stopped == (None if last is None else "early")


def test_early_stopping(train: Train, only: Only) -> None:
    assert (
        train("early_stopping.patience=2", "epochs=50ep", "optimizer=sgd", "optimizer.lr=1e-30", "model.norm=none") == 0
    )
    result = only().info["result"]
    assert (result["stopped"], result["epochs"], result["best_epoch"]) == ("early", 3, 1)
    assert [row["epoch"] for row in only().rows(split="val")] == [1, 2, 3]
    assert only().info["schedule"]["epochs"] == 50


def test_rows_of_single_steps(train: Train, only: Only) -> None:
    assert train("log.steps=1st", "scheduler=cosine", "optimizer.lr=0.01") == 0
    steps, epochs = only().rows("step"), only().rows("epoch", "train")
    assert [row["step"] for row in steps] == list(range(1, 16))
    assert [row["epoch"] for row in steps] == [1] * 5 + [2] * 5 + [3] * 5
    for number, epoch in enumerate(epochs):
        own = steps[5 * number : 5 * number + 5]
        assert epoch["loss"] == pytest.approx(np.mean([row["loss"] for row in own]), rel=1e-12)
        assert epoch["accuracy"] == pytest.approx(np.mean([row["accuracy"] for row in own]), rel=1e-12)
        assert epoch["learning_rate"] == own[-1]["learning_rate"]
    rates = [row["learning_rate"] for row in steps]
    assert rates == pytest.approx([0.005 * (1 + np.cos(np.pi * step / 15)) for step in range(15)])


@pytest.mark.parametrize(("asked", "found"), [("2st", [2, 4, 6]), ("1ep", [5]), ("null", [])])
def test_rows_of_some_steps(train: Train, only: Only, asked: str, found: list[int]) -> None:
    assert train(f"log.steps={asked}", "epochs=7st") == 0
    assert [row["step"] for row in only().rows("step")] == found
    assert [(row["epoch"], row["step"]) for row in only().rows(split="val")] == [(1, 5), (2, 7)], "a part of an epoch"
    assert only().info["result"]["epochs"] == 2


def test_without_a_validation_split_the_last_epoch_is_kept(train: Train, only: Only) -> None:
    assert train("data.val_fraction=0") == 0
    run = only()
    assert {row["split"] for row in run.rows()} == {"train"}
    assert run.info["result"]["best_epoch"] == 3 and run.info["result"]["val_accuracy"] is None
    assert run.info["data"]["train"] == 50 and run.info["data"]["val"] == 0


@pytest.mark.parametrize("more", [["scheduler=plateau"], ["early_stopping.patience=2"]], ids=" ".join)
def test_what_watches_the_validation_split_needs_one(
    train: Train, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("data.val_fraction=0", *more) == 2
    assert "set data.val_fraction above 0" in capsys.readouterr().err


def test_bfloat16_on_a_cpu(plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    # layers as small as these are as slow in either precision: let none stay in fp32 for it
    monkeypatch.setattr(start, "unfit", lambda *given: [])
    half, full = (runner.run(plan(f"device.precision={p}"), Progress()) for p in ("bf16", "fp32"))
    assert (half.info["device"]["precision"], full.info["device"]["precision"]) == ("bf16", "fp32")
    assert half.folder != full.folder
    logits = [run.predictions()["logits"] for run in (half, full)]
    assert np.isfinite(logits[0]).all() and not np.array_equal(*logits)
    np.testing.assert_allclose(*logits, atol=0.3)
    weights = checkpoint.read(half.folder / "checkpoints" / "best.pt")["model"]
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32, torch.int64}


def test_what_is_written_down_of_a_run(train: Train, only: Only, plan: Callable[..., Plan]) -> None:
    assert train("data.num_train=53", "seed=3") == 0  # 42 or 43 images: the last few of an epoch are left out
    run = only()
    info, found = run.info, run.predictions()
    assert info["data"]["train"] // 8 == info["schedule"]["steps_per_epoch"] == 5
    assert info["data"]["train"] % 8 > 0
    assert len(found["ids"]) == len(set(found["ids"])) == info["data"]["test"] == 20, "none is left out of a test"
    assert info["result"]["test_accuracy"] == (found["logits"].argmax(1) == found["labels"]).mean()
    best = max(run.rows(split="val"), key=lambda row: (row["accuracy"], -row["epoch"]))
    assert (info["result"]["best_epoch"], info["result"]["val_accuracy"]) == (best["epoch"], best["accuracy"])
    assert sorted(file.name for file in (run.folder / "checkpoints").iterdir()) == ["best.pt"]
    assert info["seconds"]["total"] == pytest.approx(sum(v for k, v in info["seconds"].items() if k != "total"))
    assert json.dumps(run.config()["study"]) == json.dumps(plan("seed=3").config["study"] | {"arm": info["arm"]})

    # The predictions are those of the checkpoint's weights, which are those of the best epoch.
    again = build.build_model(run.config(), (3, 8, 8), 10)
    again.load_state_dict(checkpoint.read(run.folder / "checkpoints" / "best.pt")["model"])
    data = build.build_data(run.config())
    pixels = torch.from_numpy(np.stack([data.test.images[row] for row in data.test.indices])).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (data.mean, data.std))
    with torch.no_grad():
        logits = again.eval()((pixels - mean) / std)
    np.testing.assert_allclose(logits.numpy(), found["logits"], rtol=1e-4, atol=1e-5)


def test_a_run_that_is_done_is_left_alone(train: Train, only: Only, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("epochs=2st") == 0
    before = {
        file: file.stat().st_mtime_ns for file in only().folder.rglob("*") if file.is_file() and file.name != ".lock"
    }
    left_over = only().folder / "checkpoints" / "last.pt"  # as if a kill had come just before it was dropped
    left_over.touch()
    assert train("epochs=2st") == 0
    assert not left_over.exists()
    assert "it was done already" in capsys.readouterr().out
    assert before == {file: file.stat().st_mtime_ns for file in before}


def test_a_run_that_another_process_holds(train: Train, only: Only, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("epochs=2st") == 0
    only().update(status="interrupted")
    with only().held():
        assert train("epochs=2st") == 2
    assert "is in use by pid" in capsys.readouterr().err


class Clock:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Put a clock in the place of the checkpoints'."""
    clock = Clock()
    monkeypatch.setattr(checkpoint, "perf_counter", clock)
    return clock


def test_automatic_checkpoints_cost_little_and_come_each_minute_if_they_do(clock: Clock, tmp_path: Path) -> None:
    own = Checkpoints(tmp_path, None, steps_per_epoch=10)
    assert own.due(10), "the end of an epoch, and nothing is known to be dear"
    assert not own.due(11)
    own.cost = 0.33  # 1 % of 33 seconds
    clock.now += 32.9
    assert not own.due(20)
    clock.now += 0.2
    assert own.due(20) and not own.due(21)
    clock.now += 26.8
    assert own.due(30) and not own.due(31)
    clock.now += 0.2
    assert own.due(31), "a minute is over"
    own.cost = 1.0
    assert not own.due(31) and not own.due(40), "it would be 1.7 % of the time"
    clock.now += 40.0
    assert own.due(41)
    own.cost = 30.0
    clock.now += 499.8
    assert not own.due(50) and not own.due(51)
    clock.now += 0.2
    assert own.due(51), "ten minutes are over, at whatever cost"


def test_the_first_automatic_checkpoint_waits_for_what_its_size_lets_expect(clock: Clock, tmp_path: Path) -> None:
    own = Checkpoints(tmp_path, None, steps_per_epoch=10, size=10**9)  # 1 s, which is 1 % of 100 s
    clock.now += 99.0
    assert not own.due(10) and not own.due(11)
    clock.now += 1.1
    assert own.due(10) and own.due(11)


def test_checkpoints_at_an_interval(clock: Clock, tmp_path: Path) -> None:
    own = Checkpoints(tmp_path, 4, steps_per_epoch=10)
    clock.now += 1000
    assert [step for step in range(1, 21) if own.due(step)] == [4, 8, 12, 16, 20]


def test_a_damaged_checkpoint_is_named(train: Train, only: Only, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(*DIVERGE) == 3
    last = only().folder / "checkpoints" / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    last.with_name("previous.pt").unlink(missing_ok=True)
    only().update(status="interrupted")
    capsys.readouterr()
    assert train(*DIVERGE) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"cnnexp: all checkpoints of this run are damaged: {last}: cannot be read")
    assert told.count("\n") == 1


def test_bars_show_what_is_recorded(plan: Callable[..., Plan], capsys: pytest.CaptureFixture[str]) -> None:
    bars = Bars()
    bars.REFRESH_SECONDS = 0.0
    record = runner.run(plan(), bars)
    told = capsys.readouterr()
    for row in record.rows(split="val"):
        assert f"epoch {row['epoch']}/3" in told.out and f"val loss {row['loss']:.3f}" in told.out
    assert "3/3" in told.err, "the bar of the epochs ends full"
    assert bars.epochs.disable and bars.steps.disable, "closed"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_an_epoch_never_waits_for_the_device(plan: Callable[..., Plan]) -> None:
    state, batches, settings = prepared(plan("device=cuda", "device.precision=bf16", "device.data_on_device=true"))
    for step in range(2):  # kernels are loaded, which waits
        train_step(state, batches.at(step), settings)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(2, 4):
            train_step(state, batches.at(step), settings)
    finally:
        torch.cuda.set_sync_debug_mode(before)


def epochs_kept(run: RunRecord) -> tuple[list[float], dict[str, Any]]:
    """Return the validation accuracies, an epoch after another, and the result."""
    return [row["accuracy"] for row in run.rows(split="val")], run.info["result"]


def test_the_last_epoch_can_count_instead_of_the_best(plan: Callable[..., Plan]) -> None:
    shared = ["epochs=6ep", "optimizer.lr=0.05"]
    seen, best = epochs_kept(runner.run(plan(*shared), Progress()))
    again, last = epochs_kept(runner.run(plan(*shared, "keep_epoch=last"), Progress()))
    assert seen == again
    assert best["best_epoch"] == seen.index(max(seen)) + 1 < 6, (
        "the best epoch is not the last, else this tests nothing"
    )
    assert (last["best_epoch"], last["val_accuracy"]) == (6, seen[-1])
    assert last["test_accuracy"] != best["test_accuracy"] or last["test_loss"] != best["test_loss"]


def test_patience_counts_from_the_highest_accuracy_when_the_last_epoch_is_kept(plan: Callable[..., Plan]) -> None:
    shared = ["epochs=9ep", "optimizer.lr=0.05", "early_stopping.patience=2"]
    seen, best = epochs_kept(runner.run(plan(*shared), Progress()))
    again, last = epochs_kept(runner.run(plan(*shared, "keep_epoch=last"), Progress()))
    assert (seen, best["stopped"], last["stopped"]) == (again, "early", "early")
    assert last["best_epoch"] == len(seen) == best["best_epoch"] + 2


def test_as_published_the_test_images_are_watched(plan: Callable[..., Plan]) -> None:
    run = runner.run(plan("+preset=as_published", "data.val_fraction=0"), Progress())
    seen, result = epochs_kept(run)
    assert (run.info["data"]["train"], run.info["data"]["val"]) == (50, run.info["data"]["test"])
    assert result["test_accuracy"] == seen[-1] == result["val_accuracy"]
    assert run.info["protocol"] == {"validate_on": "test", "keep_epoch": "last"}


def test_watching_test_images_beside_validation_images_is_refused(plan: Callable[..., Plan]) -> None:
    with pytest.raises(UserError, match=r"validate_on: given test; .* set data.val_fraction=0"):
        plan("validate_on=test")


class Corner(torch.nn.Module):
    """A network that reads its class off the brightness of one corner: it does not survive a shift."""

    def __init__(self, pixel: int) -> None:
        super().__init__()
        self.pixel = pixel
        self.own = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        value = images[:, 0, self.pixel, self.pixel]
        return torch.stack([value, -value], dim=1)


def test_shift_consistency_counts_what_a_shift_changes(plan: Callable[..., Plan]) -> None:
    run = runner.run(plan("shift_pixels=2"), Progress())
    assert 0 < run.info["result"]["shift_consistency"] <= 1
    assert "shift_consistency" not in runner.run(plan(), Progress()).info["result"]
    data = build.build_data(plan().config)
    evaluation = Evaluation(data, device.resolve(plan().config["device"]), "auto")
    pixels = data.test.images[data.test.indices][..., 0].astype(float) / 255
    bright = (pixels - data.mean[0]) / data.std[0] > 0
    logits, _ = evaluation.logits(Corner(3), data.test)
    stays = [(bright[:, 3, 3] == bright[:, 3 + a, 3 + b]).mean() for a, b in ((2, 0), (-2, 0), (0, 2), (0, -2))]
    assert evaluation.shift_consistency(Corner(3), logits, 2) == pytest.approx(np.mean(stays))
    assert np.mean(stays) < 1, "else this tests nothing"
