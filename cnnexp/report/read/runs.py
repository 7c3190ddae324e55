"""One run as a report sees it: typed values out of run.json, curves, and the confusion matrix of its predictions."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cnnexp.errors import UserError
from cnnexp.metrics import probability_scores
from cnnexp.records.run_record import RunRecord
from cnnexp.text import plain

LARGEST = 1e30  # beyond it a number is no measurement: arithmetic on it would overflow
MOST_EPOCHS = 10**9
MOST_CLASSES = 4096  # in a confusion matrix: one of so many takes 128 MiB
WITHIN = 0.01  # of the best validation accuracy: one point below it, a run is on its plateau


@dataclass
class Run:
    """A run directory. `reason` says why it is not in the table ("" if it is); `doubts` are what to know beside it."""

    record: RunRecord
    status: str
    reason: str = ""
    arm: str = ""
    fingerprint: str = ""
    seed: int = 0
    doubts: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Return the run's folder."""
        return self.record.folder

    @property
    def name(self) -> str:
        """Return the folder's name as it can be shown."""
        return plain(self.folder.name)

    @property
    def label(self) -> str:
        """Return the arm's name as it can be shown."""
        return plain(self.record.info.get("arm", ""))

    @property
    def seed_text(self) -> str:
        """Return the seed as it was recorded."""
        return plain(self.record.info.get("seed", ""))

    @property
    def study(self) -> str:
        """Return the name of the study that the run says it belongs to."""
        return self.text("study")

    @property
    def test_accuracy(self) -> float:
        """Return the test accuracy, a fraction; nan if there is none."""
        return self.number("result", "test_accuracy")

    def get(self, *path: str) -> Any:
        """Return a field of run.json, None if it is missing or its parent is no mapping."""
        value: Any = self.record.info
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def number(self, *path: str) -> float:
        """Return a field of run.json as a number, nan if it is none, or beyond all measuring."""
        value = self.get(*path)
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST
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
        """Return the metric rows as {split: {epoch: row}}."""
        rows: dict[str, dict[int, dict[str, Any]]] = {}
        try:
            found = self.record.rows()
        except UserError:  # told among the doubts
            return rows
        for row in found:
            if type(row.get("epoch")) is int and 0 <= row["epoch"] < MOST_EPOCHS:
                rows.setdefault(str(row.get("split")), {})[row["epoch"]] = row
        return rows

    @cached_property
    def probe_rows(self) -> list[dict[str, Any]]:
        """Return what the probes saw, [] of a run without."""
        return self.record.probe_rows()

    def curve(self, split: str, metric: str) -> dict[int, float]:
        """Return {epoch: value} of a metric on a split, where it is a finite number."""
        values = {epoch: row.get(metric) for epoch, row in sorted(self.rows.get(split, {}).items())}
        return {e: float(v) for e, v in values.items() if isinstance(v, (int, float)) and abs(v) < LARGEST}

    def epochs_to_plateau(self) -> float:
        """Return the first epoch whose validation accuracy is within a point of the run's best; nan without curves."""
        curve = self.curve("val", "accuracy")
        return self.epochs_to(max(curve.values()) - WITHIN) if curve else math.nan

    def epochs_to(self, accuracy: float) -> float:
        """Return the first epoch whose validation accuracy, a fraction, is this high; nan if none is."""
        near = (epoch for epoch, value in self.curve("val", "accuracy").items() if value >= accuracy - 1e-9)
        return float(next(near, math.nan))

    def metric(self, name: str) -> float:
        """Return one of claims.metrics.METRICS as it is recorded: accuracies are fractions; nan where it is missing."""
        if name == "epochs_to_plateau":
            return self.epochs_to_plateau()
        return self.number("seconds", "train") if name == "train_seconds" else self.number("result", name)

    @cached_property
    def answers(self) -> dict[str, np.ndarray[Any, Any]] | None:
        """Return {labels, predicted: (N,) int64, ids: (N,) str, classes: ()} of the test split, None if unusable.

        And {confidence: (N,), nll, brier: ()} of metrics.probability_scores; nan where the logits are not finite.
        """
        try:
            stored = self.record.predictions()
        except UserError:
            return None
        logits, labels, ids = stored["logits"], stored["labels"], stored["ids"]
        good = logits.ndim == 2 and 0 < len(logits) == len(labels) == len(ids) and labels.ndim == ids.ndim == 1
        if not good or labels.dtype.kind not in "iu" or logits.dtype.kind not in "fiu" or ids.dtype.kind != "U":
            return None
        if labels.min() < 0 or labels.max() >= logits.shape[1]:
            return None
        answers = {"labels": labels, "predicted": logits.argmax(1), "ids": ids, "classes": np.array(logits.shape[1])}
        return answers | probability_scores(logits, labels)

    @cached_property
    def confusion(self) -> np.ndarray[Any, Any] | None:
        """Return the (K, K) counts of test images, true class by predicted class; None without predictions."""
        if self.answers is None or self.answers["classes"] > MOST_CLASSES:
            return None
        size = int(self.answers["classes"])
        counts = np.bincount(self.answers["labels"] * size + self.answers["predicted"], minlength=size * size)
        return counts.reshape(size, size)


def read_run(record: RunRecord) -> Run:
    """Read a run and judge whether it can be in the table: `done` or `diverged`, with what that needs."""
    if record.problem:
        return Run(record, "malformed", plain(record.problem))
    run = Run(record, record.status)
    arm, fingerprint, seed = (record.info.get(k) for k in ("arm", "fingerprint", "seed"))
    if not isinstance(arm, str) or not isinstance(fingerprint, str) or type(seed) is not int or abs(seed) >= 2**63:
        run.status, run.reason = "malformed", "run.json: arm, fingerprint or seed is missing or of the wrong type"
        return run
    run.arm, run.fingerprint, run.seed = arm, fingerprint, seed
    if run.status == "done" and not 0 <= run.test_accuracy <= 1:
        given = plain(run.get("result", "test_accuracy"))
        run.status, run.reason = "malformed", f"run.json: result.test_accuracy is {given}, not a number from 0 to 1"
    elif run.status not in ("done", "diverged"):
        message = ": ".join(t for t in (run.text("error", "type"), run.text("error", "message")) if t)
        run.reason = message or _UNFINISHED.get(run.status, "no reason is recorded")
    if run.status == "done":
        run.doubts = _doubts(run)
    return run


_UNFINISHED = {
    "running": "a process is working on it",
    "interrupted": "not finished; the same command goes on with it",
}


def _doubts(run: Run) -> list[str]:
    """Compare what run.json says with what the predictions say."""
    doubts = []
    try:
        run.record.check_file("metrics.jsonl")
    except UserError:
        doubts.append("its metric rows are damaged, so it is in no curve")
    if run.answers is None or run.confusion is None:
        return [*doubts, "its predictions are missing or malformed, so it is in no confusion matrix"]
    accuracy = float(np.trace(run.confusion) / run.confusion.sum())
    if abs(accuracy - run.test_accuracy) > 0.5 / run.confusion.sum():
        recorded = f"{100 * run.test_accuracy:.2f} %"
        doubts.append(
            f"the recorded test accuracy ({recorded}) is not that of its predictions ({100 * accuracy:.2f} %)"
        )
    return doubts
