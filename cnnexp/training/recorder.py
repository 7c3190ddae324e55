"""What happens at the end of an epoch: metric rows, evaluation, the choice of the best epoch, early stopping."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from cnnexp.data.batches import Batch, DeviceImages, in_order
from cnnexp.data.images import ImageData, Split
from cnnexp.errors import Diverged
from cnnexp.metrics import accuracy, cross_entropy
from cnnexp.records.run_record import RunRecord
from cnnexp.training.checkpoint import copy_weights
from cnnexp.training.device import Device
from cnnexp.training.evaluation import consistency, logits_of, shifted
from cnnexp.training.features import Features
from cnnexp.training.loop import Settings, TrainState, check_finite, has_finite_weights
from cnnexp.training.progress import Progress, epoch_line


class Evaluation:
    """Clean passes over splits, each held on the device once.

    features: if they are kept, training and validation images go through the head alone; test images never do.
    """

    def __init__(
        self,
        data: ImageData,
        device: Device,
        batch_size: int | str,
        train: DeviceImages | None = None,
        check_stop: Callable[[], None] = lambda: None,
    ):
        """batch_size: images at once, or "auto", what suits the device.

        check_stop: called between batches, and raises if a signal has asked to stop; not while validating, which ends
        an epoch whose state is saved right after.
        """
        self.data, self.device, self.check_stop = data, device, check_stop
        self.batch_size = device.default_eval_batch_size if isinstance(batch_size, str) else batch_size
        self.images = {} if train is None else {id(data.train): train}
        self.features: Features | None = None

    def of(self, split: Split) -> DeviceImages:
        """Return a split's images on the device."""
        if id(split) not in self.images:
            self.images[id(split)] = DeviceImages(split, self.device.torch, self.device.data_on_device)
        return self.images[id(split)]

    def logits(self, model: torch.nn.Module, split: Split) -> Any:
        """Return (logits (N, K), labels (N,)) of a split, as numpy arrays in the split's order."""
        if self.features is not None and split is not self.data.test:
            kept = self.features.in_order(self.of(split), self.batch_size)
            return logits_of(self.features.head, kept, self.device, len(split))
        batches = self._in_order(split)
        return logits_of(
            model, batches if split is self.data.val else self._interruptible(batches), self.device, len(split)
        )

    def shift_consistency(self, model: torch.nn.Module, logits: Any, pixels: int) -> float:
        """Return the share of test images that keep their class when moved up, down, left or right by `pixels`.

        logits: (N, K), those of the test images as they are.
        """
        test, moves = self.data.test, ((-pixels, 0), (pixels, 0), (0, -pixels), (0, pixels))
        moved = (shifted(self._interruptible(self._in_order(test)), *move) for move in moves)
        return consistency(logits, (logits_of(model, images, self.device, len(test))[0] for images in moved))

    def _in_order(self, split: Split) -> Iterator[Batch]:
        return in_order(self.of(split), self.batch_size, self.data.mean, self.data.std, self.device.layout)

    def _interruptible(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self.check_stop()
            yield batch


class Recorder:
    """Writes the metric rows and keeps count of which epoch is the best."""

    def __init__(
        self, record: RunRecord, progress: Progress, settings: Settings, evaluation: Evaluation, config: dict[str, Any]
    ):
        self.record, self.progress, self.settings, self.evaluation = record, progress, settings, evaluation
        self.patience = config["early_stopping"]["patience"]
        self.keeps_last = config.get("keep_epoch") == "last"

    def row(self, state: TrainState, **fields: Any) -> dict[str, Any]:
        """Append a row for the state's step, and count it."""
        row = {"kind": "epoch", "epoch": self.settings.epoch(state.step), "step": state.step, **fields}
        self.record.append(**row)
        state.rows += 1
        return row

    def step_row(self, state: TrainState) -> None:
        """Write the last step's loss and accuracy, as measured while training."""
        state.wait_for_device(self.settings.device)
        last = self.settings.step_in_epoch(state.step) - 1
        self.row(
            state,
            kind="step",
            split="train",
            loss=float(state.losses[last]),
            accuracy=int(state.correct[last]) / state.batch_size,
            learning_rate=state.schedule.learning_rate,
        )

    def end_epoch(self, state: TrainState) -> None:
        """Write the epoch's rows, evaluate, step the schedule, and decide if this epoch is the best, or the last."""
        check_finite(state, self.settings)
        taken = self.settings.step_in_epoch(state.step)
        seen = taken * state.batch_size
        rows = {
            "train": self.row(
                state,
                split="train",
                loss=float(state.losses[:taken].cpu().double().mean()),
                accuracy=int(state.correct[:taken].sum()) / seen,
                learning_rate=state.schedule.learning_rate,
                seconds=state.epoch_seconds,
                images_per_second=seen / state.epoch_seconds,
            )
        }
        state.epoch_seconds = 0.0
        if len(self.evaluation.data.val.indices):
            rows["val"] = self.validate(state)
            state.schedule.after_epoch(rows["val"]["loss"])
        else:
            if not has_finite_weights(state):
                raise Diverged(f"the weights after step {state.step} are not finite; try a lower optimizer.lr")
            state.schedule.after_epoch(rows["train"]["loss"])
        best = self.choose(state, rows["train"]["epoch"], rows.get("val"))
        line = epoch_line(rows["train"]["epoch"], self.settings.epochs, rows, best)
        self.record.log(line)
        self.progress.epoch(line, state)

    def validate(self, state: TrainState) -> dict[str, Any]:
        """Evaluate the validation split and write its row. Raises Diverged if the loss is not finite."""
        before = state.seconds["evaluate"]
        with state.timed("evaluate", self.settings.device):
            logits, labels = self.evaluation.logits(state.model, self.evaluation.data.val)
        loss = cross_entropy(logits, labels)
        if not loss < float("inf"):
            raise Diverged(f"the validation loss after step {state.step} is not finite; try a lower optimizer.lr")
        seconds = state.seconds["evaluate"] - before
        return self.row(state, split="val", loss=loss, accuracy=accuracy(logits, labels), seconds=seconds)

    def choose(self, state: TrainState, epoch: int, val: dict[str, Any] | None) -> bool:
        """Keep the epoch's weights if its validation accuracy is the highest yet (ties to the earlier epoch).

        Without a validation split, and with `keep_epoch: last`, every epoch is kept, so the last one stays. Sets
        `stopped` when the patience is at its end. Returns whether the accuracy is the highest yet.
        """
        highest = state.best.get("highest", state.best.get("val_accuracy"))
        better = val is None or highest is None or val["accuracy"] > highest
        state.epochs_since_best = 0 if better else state.epochs_since_best + 1
        if better or self.keeps_last:
            state.best = {
                "epoch": epoch,
                "val_accuracy": val["accuracy"] if val else None,
                "val_loss": val["loss"] if val else None,
            }
            if val and self.keeps_last:
                state.best["highest"] = val["accuracy"] if better else highest
            state.best_weights = copy_weights(state.model)
        if self.patience is not None and state.epochs_since_best >= self.patience:
            state.stopped = "early"
        return better
