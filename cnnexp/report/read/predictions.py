"""The predictions of an arm's seeds on the same test images. Shapes: N images, K classes, S seeds."""

from dataclasses import dataclass

import numpy as np

from cnnexp import metrics
from cnnexp.report.read.run_predictions import Array
from cnnexp.report.read.runs import Run
from cnnexp.report.read.study import Arm


@dataclass(frozen=True)
class Predictions:
    """The predictions of an arm's seeds.

    ids: (N,) str. labels: (N,) int64. predicted: (S, N) int64, a row for each of `runs`. names: of the K classes.
    """

    arm: Arm
    runs: list[Run]
    ids: Array
    labels: Array
    predicted: Array
    names: list[str]

    @property
    def right(self) -> Array:
        """Return (S, N) bool: which images each seed classifies correctly."""
        return np.asarray(self.predicted == self.labels)

    @property
    def fold(self) -> int | None:
        """Return the fold that these images are of, where every fold has its own; None where they are of all runs."""
        return self.runs[0].fold.number if self.runs[0].fold and self.arm.fold_is_test else None

    def probabilities(self) -> Array:
        """Return (N, K) float64: the softmax of the logits, its mean over the seeds. Reads the predictions again."""
        total = np.zeros((len(self.ids), len(self.names)))
        for run in self.runs:
            stored = run.record.predictions()
            rows = rows_of(self.ids, stored["ids"])
            assert rows is not None, f"{run.folder}: predictions.npz has changed while it was read"
            total += np.exp(metrics.log_softmax(stored["logits"]))[rows]
        return total / len(self.runs)


def predictions_of(arm: Arm) -> Predictions | None:
    """Return the arm's predictions on the test images of its first run that has any; None without predictions.

    A run with other images, other labels or numbers that are not finite is left out.
    """
    usable = [(run, found) for run in arm.runs if (found := run.predictions) is not None and found.is_finite]
    if not usable:
        return None
    first = usable[0][1]
    runs, predicted = [], []
    for run, found in usable:
        rows = rows_of(first.ids, found.ids)
        if rows is not None and found.classes == first.classes and np.array_equal(found.labels[rows], first.labels):
            runs.append(run)
            predicted.append(found.predicted[rows])
    return Predictions(arm, runs, first.ids, first.labels, np.stack(predicted), arm.class_names(first.classes))


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
