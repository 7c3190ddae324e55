"""Metric rows, the choice of the best epoch, and early stopping."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cnnexp.errors import UserError
from cnnexp.records.run_record import RunRecord
from cnnexp.training import run as runner
from cnnexp.training.check_data import check_data
from cnnexp.training.plan import Plan
from cnnexp.training.progress import Progress
from cnnexp.training.recorder import Recorder

pytestmark = pytest.mark.integration

Train = Callable[..., int]
Only = Callable[[], RunRecord]


def recorder(patience: int | None = None, monitor: str = "accuracy") -> tuple[Recorder, Any]:
    """Return a Recorder and a state that has all that `choose` looks at."""
    model = torch.nn.Linear(1, 1)
    state = SimpleNamespace(model=model, evaluated=model, best={}, best_weights={}, epochs_since_best=0, stopped=None)
    own: Any = Recorder.__new__(Recorder)
    own.patience, own.keeps_last, own.monitor, own.pruner = patience, False, monitor, None
    return own, state


def test_the_best_epoch_has_the_highest_accuracy_and_of_equals_the_lowest_loss() -> None:
    own, state = recorder()
    seen = [(0.1, 0.9), (0.5, 0.8), (0.5, 0.8), (0.3, 0.1), (0.6, 0.7), (0.6, 0.5), (0.6, 0.6)]
    chosen = []
    for epoch, (accuracy, loss) in enumerate(seen, 1):
        state.model.weight.data.fill_(epoch)
        chosen.append(own.choose(state, epoch, {"accuracy": accuracy, "loss": loss}))
    assert chosen == [True, True, False, False, True, True, False]
    assert state.best == {"epoch": 6, "val_accuracy": 0.6, "val_loss": 0.5}
    assert float(state.best_weights["weight"]) == 6.0, "a copy, which later steps leave alone"
    assert state.epochs_since_best == 2, "patience counts from the accuracy alone"
    assert state.stopped is None


def test_the_best_epoch_by_another_metric() -> None:
    """By F1 and by loss, other epochs are the best; ties still go to the lower loss."""
    seen = [(0.6, 0.9, 0.1), (0.5, 0.8, 0.4), (0.4, 0.7, 0.4), (0.3, 0.75, 0.2)]
    for monitor, wanted, since in (("accuracy", 1, 3), ("f1", 3, 2), ("loss", 3, 1)):
        own, state = recorder(monitor=monitor)
        for epoch, (accuracy, loss, f1) in enumerate(seen, 1):
            own.choose(state, epoch, {"accuracy": accuracy, "loss": loss, "f1": f1})
        assert (state.best["epoch"], state.epochs_since_best) == (wanted, since)


def test_a_run_records_what_it_monitors(plan: Callable[..., Plan]) -> None:
    run = runner.run(plan("epochs=4ep", "monitor=f1", "scheduler=plateau", "scheduler.monitor=top5"), Progress())
    rows = run.rows(split="val")
    assert all({"f1", "top5"} < set(row) and "recall" not in row for row in rows)
    best = max(rows, key=lambda row: (row["f1"], -row["loss"]))
    assert run.info["result"]["best_epoch"] == best["epoch"]
    assert run.info["protocol"]["monitor"] == "f1"


@pytest.mark.parametrize("words", [["monitor=top5"], ["scheduler=plateau", "scheduler.monitor=top5"]])
def test_top_five_of_few_classes_tells_nothing(plan: Callable[..., Plan], words: list[str]) -> None:
    few: Any = SimpleNamespace(train=range(40), val=range(10), classes=["a", "b"])
    with pytest.raises(UserError, match="monitor: top5 is always 100 % of 2 classes; give another metric"):
        check_data(plan(*words).config, few)


def test_what_is_monitored_needs_a_validation_split(plan: Callable[..., Plan]) -> None:
    with pytest.raises(UserError, match=r"monitor: there is no validation split.*data.val_fraction above 0"):
        runner.run(plan("monitor=f1", "data.val_fraction=0"), Progress())


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


def epochs_kept(run: RunRecord) -> tuple[list[float], dict[str, Any]]:
    """Return the validation accuracies, an epoch after another, and the result."""
    return [row["accuracy"] for row in run.rows(split="val")], run.info["result"]


def test_the_last_epoch_can_count_instead_of_the_best(plan: Callable[..., Plan]) -> None:
    shared = ["epochs=6ep", "optimizer.lr=0.05", "data.num_train=150", "seed=1"]
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
    highest = seen.index(max(seen)) + 1
    assert last["best_epoch"] == len(seen) == highest + 2
    assert seen[best["best_epoch"] - 1] == max(seen), "an equal one with a lower loss may follow"


def test_as_published_the_test_images_are_watched(plan: Callable[..., Plan]) -> None:
    run = runner.run(plan("+preset=as_published", "data.val_fraction=0"), Progress())
    seen, result = epochs_kept(run)
    assert (run.info["data"]["train"], run.info["data"]["val"]) == (50, run.info["data"]["test"])
    assert result["test_accuracy"] == seen[-1] == result["val_accuracy"]
    assert run.info["protocol"] == {"validate_on": "test", "keep_epoch": "last", "monitor": "accuracy"}
