"""A run from its plan to its record: how it ends, what is recorded, and what is left alone."""

import errno
import json
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from cuts import prepared
from tiny import DIVERGE

from cnnexp.records.run_record import RunRecord
from cnnexp.storage import read_json
from cnnexp.training import build, checkpoint
from cnnexp.training.loop import train_step
from cnnexp.training.plan import Plan

pytestmark = pytest.mark.integration

Train = Callable[..., int]
Only = Callable[[], RunRecord]


def test_a_loss_that_is_not_finite(
    train: Train, only: Only, plan: Callable[..., Plan], capsys: pytest.CaptureFixture[str]
) -> None:
    plan()  # prepares the data, which is said once
    capsys.readouterr()
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
    assert "diverged before" in capsys.readouterr().out
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


def test_what_is_written_down_of_a_run(train: Train, only: Only, plan: Callable[..., Plan]) -> None:
    assert train("data.num_train=53", "seed=3") == 0  # 42 or 43 images: the last few of an epoch are left out
    run = only()
    info, found = run.info, run.predictions()
    assert info["data"]["train"] // 8 == info["schedule"]["steps_per_epoch"] == 5
    assert info["data"]["train"] % 8 > 0
    assert len(found["ids"]) == len(set(found["ids"])) == info["data"]["test"] == 20, "none is left out of a test"
    assert info["result"]["test_accuracy"] == (found["logits"].argmax(1) == found["labels"]).mean()
    best = max(run.rows(split="val"), key=lambda row: (row["accuracy"], -row["loss"]))
    assert (info["result"]["best_epoch"], info["result"]["val_accuracy"]) == (best["epoch"], best["accuracy"])
    assert sorted(file.name for file in (run.folder / "checkpoints").iterdir()) == ["best.pt", "final.pt"]
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


def test_an_error_of_the_disk_is_recorded_with_its_file_and_a_fix(
    train: Train, only: Only, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail = Mock(side_effect=OSError(errno.EIO, "Input/output error", "rows"))  # no function of this file: user code
    with monkeypatch.context() as patch:
        patch.setattr("cnnexp.storage.space.shutil.disk_usage", fail)
        assert train() == 3
    message = "rows: cannot be used (Input/output error); the disk or the network folder fails; the same command"
    assert message in capsys.readouterr().err
    error = only().info["error"]
    assert error["type"] == "StorageError" and error["message"].startswith(message)
    assert "Traceback" not in (only().folder / "train.log").read_text()
    assert train() == 0


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


def test_a_run_whose_curve_is_too_short_says_so_at_its_end(
    train: Train, only: Only, capsys: pytest.CaptureFixture[str]
) -> None:
    train("epochs=1ep", "data.num_test=200", "optimizer.lr=1e-9")
    name = f"{only().info['arm']}, seed 0"
    assert f"\n{name}: at chance: not significantly better than one answer for all images\n" in capsys.readouterr().out
