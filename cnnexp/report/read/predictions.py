"""What trained networks answered on the test images: of one run, and of an arm's seeds beside each other.

Shapes: N images, K classes, S seeds.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnexp import metrics
from cnnexp.report.read.collect import Arm
from cnnexp.report.read.runs import Run

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Predictions:
    """The answers of an arm's seeds to the same test images.

    ids: (N,) str. labels: (N,) int64. predicted: (S, N) int64, a row for each of `runs`. classes: K.
    """

    arm: Arm
    runs: list[Run]
    ids: Array
    labels: Array
    predicted: Array
    classes: int

    @property
    def right(self) -> Array:
        """Return (S, N) bool: which images each seed has right."""
        return np.asarray(self.predicted == self.labels)

    def probabilities(self) -> Array:
        """Return (N, K) float64: the softmax of the logits, its mean over the seeds. Reads the predictions again."""
        total = np.zeros((len(self.ids), self.classes))
        for run in self.runs:
            stored = run.record.predictions()
            rows = rows_of(self.ids, stored["ids"])
            assert rows is not None, f"{run.folder}: predictions.npz has changed while it was read"
            total += np.exp(metrics.log_softmax(stored["logits"]))[rows]
        return total / len(self.runs)


def predictions_of(arm: Arm) -> Predictions | None:
    """Return the answers of the arm's runs to the test images of the first that has any; None without predictions.

    A run with other images, other labels or numbers that are not finite is left out.
    """
    usable = [(run, a) for run in arm.runs if (a := run.answers) is not None and np.isfinite(a["confidence"]).all()]
    if not usable:
        return None
    first = usable[0][1]
    runs, predicted = [], []
    for run, answers in usable:
        rows = rows_of(first["ids"], answers["ids"])
        same = rows is not None and answers["classes"] == first["classes"]
        if same and np.array_equal(answers["labels"][rows], first["labels"]):
            runs.append(run)
            predicted.append(answers["predicted"][rows])
    return Predictions(arm, runs, first["ids"], first["labels"], np.stack(predicted), int(first["classes"]))


def rows_of(ids: Array, given: Array) -> Array | None:
    """Return the (N,) rows of `given` that hold `ids`, in the order of `ids`; None unless both hold the same N ids."""
    if len(ids) != len(given):
        return None
    if np.array_equal(ids, given):
        return np.arange(len(ids))
    order, other = ids.argsort(kind="stable"), given.argsort(kind="stable")
    if (ids[order] != given[other]).any():
        return None
    rows = np.empty(len(ids), np.int64)
    rows[order] = other
    return rows
