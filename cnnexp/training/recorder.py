"""What a run writes while it trains: metric rows, the best epoch, the end by early stopping, and the result."""

import math
from typing import Any

from cnnexp.claims.metrics import SCORES
from cnnexp.errors import Diverged
from cnnexp.metrics import accuracy, class_scores, cross_entropy
from cnnexp.training.checkpoint import copy_weights
from cnnexp.training.device import peak_memory_mib
from cnnexp.training.loop import TrainState, check_finite, has_finite_weights
from cnnexp.training.progress import Progress, epoch_line
from cnnexp.training.setup import Setup


class Recorder:
    """Writes the metric rows, chooses the best epoch, and shows progress."""

    def __init__(self, setup: Setup, progress: Progress):
        self.setup, self.record, self.settings = setup, setup.record, setup.settings
        self.evaluation, self.progress = setup.evaluation, progress
        self.patience = setup.config["early_stopping"]["patience"]
        self.pruner = None
        if (of_search := setup.config.get("search")) and of_search["prune"]:
            from cnnexp.search.pruner import pruner_of

            self.pruner = pruner_of(setup.record, setup.settings.epochs, of_search)
        self.keeps_last, self.monitor = setup.config["keep_epoch"] == "last", setup.config["monitor"]

    def row(self, state: TrainState, **fields: Any) -> dict[str, Any]:
        """Append a metric row for the state's step, and return it."""
        row = {"kind": "epoch", "epoch": self.settings.epoch(state.step), "step": state.step, **fields}
        self.record.append(**row)
        state.rows += 1
        return row

    def step_row(self, state: TrainState) -> None:
        """Append a row of the last step: loss and accuracy of its batch, in training mode."""
        state.wait_for_device(self.settings.device)
        last = self.settings.step_in_epoch(state.step) - 1
        self.row(
            state,
            kind="step",
            split="train",
            loss=float(state.shown_losses[last]),
            accuracy=int(state.correct[last]) / state.batch_size,
            learning_rate=state.schedule.learning_rate,
        )

    def end_epoch(self, state: TrainState) -> None:
        """Append the epoch's rows, evaluate, step the schedule, and decide if the epoch is the best, or the last."""
        check_finite(state, self.settings)
        steps = self.settings.step_in_epoch(state.step)
        images = steps * state.batch_size
        train = self.row(
            state,
            split="train",
            loss=float(state.shown_losses[:steps].cpu().double().mean()),
            accuracy=int(state.correct[:steps].sum()) / images,
            learning_rate=state.schedule.learning_rate,
            seconds=state.epoch_seconds,
            images_per_second=images / state.epoch_seconds,
        )
        state.epoch_seconds = 0.0
        val = self.validate(state) if len(self.evaluation.data.val) else None
        if val is None and not has_finite_weights(state):
            raise Diverged(f"the weights after step {state.step} are not finite; try a lower optimizer.lr")
        state.schedule.after_epoch((val or train)[state.schedule.monitor])
        best = self.choose(state, train["epoch"], val)
        line = epoch_line(self.settings.epochs, train, val, best)
        self.record.log(line)
        self.progress.epoch(line, state)

    def validate(self, state: TrainState) -> dict[str, Any]:
        """Evaluate the validation split and append its row. Raises Diverged if the loss is not finite."""
        before = state.seconds["evaluate"]
        with state.timed("evaluate", self.settings.device):
            logits, labels = self.evaluation.logits(state.evaluated, self.evaluation.data.val)
        loss = cross_entropy(logits, labels)
        if not loss < float("inf"):
            raise Diverged(f"the validation loss after step {state.step} is not finite; try a lower optimizer.lr")
        monitored = [name for name in SCORES if name in (self.monitor, state.schedule.monitor)]
        scores = {name: class_scores(logits, labels)[name] for name in monitored}
        seconds = state.seconds["evaluate"] - before
        return self.row(state, split="val", loss=loss, accuracy=accuracy(logits, labels), **scores, seconds=seconds)

    def choose(self, state: TrainState, epoch: int, val: dict[str, Any] | None) -> bool:
        """Keep the epoch's weights if its validation `monitor` is the best so far; ties go to the lower loss.

        Without a validation split, and with `keep_epoch: last`, every epoch is kept, so the last one stays. Sets
        `stopped` when `monitor` has not improved for the patience, or a search prunes the run. Returns whether the
        epoch is the best so far.
        """
        highest, lowest = state.best.get("highest") or (state.best.get("val_accuracy"), state.best.get("val_loss"))
        value = val and (-val["loss"] if self.monitor == "loss" else val[self.monitor])
        higher = value is None or highest is None or value > highest
        better = higher or (val is not None and value == highest and val["loss"] < lowest)
        state.epochs_since_best = 0 if higher else state.epochs_since_best + 1
        if better or self.keeps_last:
            state.best = {
                "epoch": epoch,
                "val_accuracy": val["accuracy"] if val else None,
                "val_loss": val["loss"] if val else None,
            }
            if val and (self.keeps_last or self.monitor != "accuracy"):
                state.best["highest"] = (value, val["loss"]) if better else (highest, lowest)
            state.best_weights = copy_weights(state.evaluated)
        if self.patience is not None and state.epochs_since_best >= self.patience:
            state.stopped = "early"
        elif self.pruner and state.step < self.settings.total_steps and self.setup.ranks.decide(self.pruner.stops):
            state.stopped = "pruned"
        return better

    def evaluate_best(self, state: TrainState) -> dict[str, Any]:
        """Evaluate the best weights on the training images and, once, on the test images; write best.pt.

        Returns the result; without `final_test` it says nothing of the test images. Raises Diverged as `test` does.
        """
        evaluation, data = self.evaluation, self.evaluation.data
        state.model.load_state_dict(state.best_weights)
        with state.timed("evaluate", self.settings.device):
            tested = self.test(state) if self.setup.config["final_test"] else {}
            train_logits, train_labels = evaluation.logits(state.model, data.train)
        self.setup.checkpoints.keep_best(state)
        self.record.sync()
        seconds = {"prepare": data.prepare_seconds, **state.seconds}
        self.record.info["seconds"] = {**seconds, "total": sum(seconds.values())}  # written with the result
        return {
            "best_epoch": state.best["epoch"],
            "epochs": self.settings.epoch(state.step),
            "val_accuracy": state.best["val_accuracy"],
            "val_loss": state.best["val_loss"],
            **tested,
            "train_accuracy": accuracy(train_logits, train_labels),
            "train_loss": cross_entropy(train_logits, train_labels),
            "images_per_second": state.step * state.batch_size / state.seconds["train"],
            "peak_memory_mib": peak_memory_mib(self.settings.device),
            "stopped": state.stopped or "completed",
        }

    def test(self, state: TrainState) -> dict[str, float]:
        """Evaluate the test images, and write predictions; returns a part of the result.

        Raises Diverged if the loss is not finite.
        """
        test, shift_pixels = self.evaluation.data.test, self.setup.config["shift_pixels"]
        logits, labels = self.evaluation.logits(state.model, test)
        if not math.isfinite(cross_entropy(logits, labels)):
            raise Diverged("the test loss is not finite; try a lower optimizer.lr")
        self.record.write_predictions(logits, labels, test.ids)
        found = {"test_accuracy": accuracy(logits, labels), "test_loss": cross_entropy(logits, labels)}
        if shift_pixels:
            found["shift_consistency"] = self.evaluation.shift_consistency(state.model, logits, shift_pixels)
        return found
