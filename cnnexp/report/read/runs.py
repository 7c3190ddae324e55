"""One run as a report uses it: typed values of run.json, curves, and the predictions on the test split."""

import hashlib
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cnnexp.claims.metrics import SCORES
from cnnexp.config.keys import flatten
from cnnexp.errors import UserError
from cnnexp.metrics import by_class, confusion
from cnnexp.records.convergence import at_chance
from cnnexp.records.run_record import RunRecord
from cnnexp.report.read import folds
from cnnexp.report.read.run_predictions import Array, RunPredictions, read_predictions
from cnnexp.text import plain

MAX_NUMBER = 1e30  # no measurement is larger, and arithmetic on larger numbers could overflow
MAX_EPOCH = 10**9
MAX_CLASSES = 4096  # of a confusion matrix, which then takes 128 MiB
PLATEAU_MARGIN = 0.01  # one point below its best validation accuracy, a run is on its plateau
DRAWN_BY = ("split_seed", "val_fraction", "group", "columns")  # settings of the data that draw its splits
UNFINISHED = {
    "running": "a process is working on it",
    "interrupted": "not finished; the same command goes on with it",
}


@dataclass(frozen=True)
class Fold:
    """One fold of cross-validation. number: from 0. of: how many there are."""

    number: int
    of: int


@dataclass
class Run:
    """A run directory. reason: why it is not in the table, "" if it is. warnings: what a reader must know about it.

    fold: of cross-validation, None of other runs. fingerprint: its own, or the one that all its folds share.
    """

    record: RunRecord
    status: str
    reason: str = ""
    arm: str = ""
    fingerprint: str = ""
    seed: int = 0
    fold: Fold | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Return the run's folder."""
        return self.record.folder

    @property
    def unit(self) -> int:
        """Return what runs of two arms are paired by: the seed; of cross-validation, fold and seed (`folds.unit`)."""
        return self.seed if self.fold is None else folds.unit(self.fold.of, self.fold.number, self.seed)

    @property
    def seed_name(self) -> str:
        """Return "0", or "0 (fold 3)"."""
        return str(self.seed) if self.fold is None else f"{self.seed} (fold {self.fold.number})"

    @property
    def name(self) -> str:
        """Return the folder's name as it can be shown."""
        return plain(self.folder.name)

    @property
    def label(self) -> str:
        """Return the arm's name as it can be shown."""
        return self.text("arm")

    @property
    def test_accuracy(self) -> float:
        """Return the test accuracy, a fraction; nan if there is none."""
        return self.number("result", "test_accuracy")

    @property
    def monitor(self) -> str:
        """Return the validation metric that the best epoch is best in."""
        return self.text("protocol", "monitor") or "accuracy"

    def get(self, *path: str) -> Any:
        """Return a field of run.json, None if it is missing or its parent is no mapping."""
        value: Any = self.record.info
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def number(self, *path: str) -> float:
        """Return a field of run.json as a number; nan if it is none, or too large for a measurement."""
        value = self.get(*path)
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < MAX_NUMBER
        return float(value) if number else math.nan

    def text(self, *path: str) -> str:
        """Return a field of run.json as text that can be shown, "" if it is missing."""
        value = self.get(*path)
        return "" if value is None else plain(value)

    def texts(self, *path: str) -> list[str]:
        """Return a field of run.json that is a list, as texts that can be shown; [] if it is none."""
        value = self.get(*path)
        return [plain(v) for v in value] if isinstance(value, list) else []

    @cached_property
    def rows(self) -> dict[str, dict[int, dict[str, Any]]]:
        """Return the metric rows as {split: {epoch: row}}; {} if they are damaged, which is among the warnings."""
        rows: dict[str, dict[int, dict[str, Any]]] = {}
        for row in self._rows or []:
            if type(row.get("epoch")) is int and 0 <= row["epoch"] < MAX_EPOCH:
                rows.setdefault(str(row.get("split")), {})[row["epoch"]] = row
        return rows

    @cached_property
    def _rows(self) -> list[dict[str, Any]] | None:
        """Return the metric rows as they are in the file; None if they are damaged."""
        try:
            return self.record.rows()
        except UserError:
            return None

    def curve(self, split: str, metric: str) -> dict[int, float]:
        """Return {epoch: value} of a metric on a split, where it is a finite number."""
        values = {epoch: row.get(metric) for epoch, row in sorted(self.rows.get(split, {}).items())}
        return {e: float(v) for e, v in values.items() if isinstance(v, (int, float)) and abs(v) < MAX_NUMBER}

    @property
    def progress(self) -> str:
        """Return "epoch 4 of 10": how far the metric rows go; "" before the first epoch has ended."""
        last, planned = max(self.rows.get("train", {}), default=0), self.number("schedule", "epochs")
        return f"epoch {last}" + ("" if math.isnan(planned) else f" of {planned:g}") if last else ""

    def epochs_to_plateau(self) -> float:
        """Return the first epoch whose validation accuracy is within a point of the run's best; nan without curves."""
        curve = self.curve("val", "accuracy")
        return self.epochs_to(max(curve.values()) - PLATEAU_MARGIN) if curve else math.nan

    def epochs_to(self, accuracy: float) -> float:
        """Return the first epoch whose validation accuracy, a fraction, is this high; nan if none is."""
        near = (epoch for epoch, value in self.curve("val", "accuracy").items() if value >= accuracy - 1e-9)
        return float(next(near, math.nan))

    def metric(self, name: str) -> float:
        """Return one of claims.metrics.METRICS as it is recorded: accuracies are fractions; nan where it is missing."""
        if name == "epochs_to_plateau":
            return self.epochs_to_plateau()
        score, _, of_class = name.removeprefix("test_").rstrip("]").partition("[")
        if of_class:
            return self.class_score(score, of_class)
        if score in SCORES:
            return self.predictions.scores[score] if self.predictions else math.nan
        return self.number("seconds", "train") if name == "train_seconds" else self.number("result", name)

    def class_score(self, score: str, of_class: str) -> float:
        """Return precision, recall or f1 of one class on the test images, a fraction; nan where there is none."""
        classes, found = self.get("data", "classes"), self.predictions
        if found is None or not isinstance(classes, list) or of_class not in classes[: found.classes]:
            return math.nan
        return float(by_class(found.predicted, found.labels, found.classes)[score][classes.index(of_class)])

    @cached_property
    def predictions(self) -> RunPredictions | None:
        """Return the predictions on the test split; None if there are none, or unusable ones."""
        return read_predictions(self.record)

    @cached_property
    def at_chance(self) -> bool:
        """Return whether the test accuracy is no better than one answer for all images; False without predictions."""
        found = self.predictions
        return found is not None and at_chance(int(found.right.sum()), found.labels, found.classes)

    @cached_property
    def tested(self) -> str:
        """Return a hash of the data's name, and the ids and labels of the test images; "" without predictions."""
        if (found := self.predictions) is None:
            return ""
        order = found.ids.argsort(kind="stable")
        content = hashlib.blake2b(self.text("data", "name").encode(), digest_size=16)
        content.update(found.ids[order].tobytes() + found.labels[order].astype("<i8").tobytes())
        return content.hexdigest()

    @cached_property
    def settings(self) -> dict[str, Any] | None:
        """Return the config by dotted key; None if it cannot be read."""
        try:
            return flatten(self.record.config())
        except (UserError, OSError):
            return None

    @cached_property
    def drawn_by(self) -> dict[str, Any]:
        """Return the settings that draw the validation images, those of DRAWN_BY; {} if not known."""
        try:
            data = self.record.config().get("data")
        except (UserError, OSError):
            return {}
        return {key: data.get(key) for key in DRAWN_BY} if isinstance(data, dict) else {}

    @cached_property
    def confusion(self) -> Array | None:
        """Return the (K, K) counts of test images, true class by predicted class; None without predictions."""
        found = self.predictions
        if found is None or found.classes > MAX_CLASSES:
            return None
        return confusion(found.predicted, found.labels, found.classes)


def read_run(record: RunRecord) -> Run:
    """Read a run and decide whether it can be in the table: it must be `done` or `diverged`, with what that needs."""
    if record.problem:
        return Run(record, "malformed", plain(record.problem))
    run = Run(record, record.status)
    arm, fingerprint, seed = (record.info.get(k) for k in ("arm", "fingerprint", "seed"))
    if not isinstance(arm, str) or not isinstance(fingerprint, str) or type(seed) is not int or abs(seed) >= 2**63:
        run.status, run.reason = "malformed", "run.json: arm, fingerprint or seed is missing or of the wrong type"
        return run
    run.arm, run.fingerprint, run.seed = arm, fingerprint, seed
    if record.info.get("fold") is not None:
        number, of, group = (run.get("fold", key) for key in ("fold", "of", "group"))
        counts = type(number) is int and type(of) is int and 0 <= number < of <= folds.MOST
        if not counts or not isinstance(group, str) or not 0 <= seed < folds.SEEDS:
            run.status, run.reason = "malformed", "run.json: fold is not {fold, of, group}"
            return run
        run.fold, run.fingerprint = Fold(number, of), group
    if run.status == "done" and not record.is_tested and 0 <= run.number("result", "val_accuracy") <= 1:
        run.status, run.reason = (
            "untested",
            "it was made with final_test=false, so only its validation accuracy is known",
        )
    elif run.status == "done" and not 0 <= run.test_accuracy <= 1:
        given = plain(run.get("result", "test_accuracy"))
        run.status, run.reason = "malformed", f"run.json: result.test_accuracy is {given}, not a number from 0 to 1"
    elif run.status not in ("done", "diverged"):
        message = ": ".join(t for t in (run.text("error", "type"), run.text("error", "message")) if t)
        run.reason = message or UNFINISHED.get(run.status, "no reason is recorded")
        run.reason += f" ({run.progress})" if run.progress and run.status != "skipped" else ""
    if run.status == "done":
        run.warnings = _warnings(run)
    return run


def _warnings(run: Run) -> list[str]:
    """Compare run.json with the metric rows and the predictions."""
    found = ["its metric rows are damaged, so it is in no curve"] if run._rows is None else []
    if run.predictions is None:
        return [*found, "its predictions are missing or malformed, so it is in no confusion matrix"]
    accuracy, images = float(run.predictions.right.mean()), len(run.predictions.labels)
    if abs(accuracy - run.test_accuracy) > 0.5 / images:
        recorded, predicted = f"{100 * run.test_accuracy:.2f} %", f"{100 * accuracy:.2f} %"
        found.append(f"the recorded test accuracy ({recorded}) is not that of its predictions ({predicted})")
    return found
