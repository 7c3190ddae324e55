"""The predictions of one run on the test split, as they are stored, and the scores of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnexp.errors import UserError
from cnnexp.metrics import class_scores, probability_scores
from cnnexp.records.run_record import RunRecord

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class RunPredictions:
    """A run's predictions on the test split: N images, K classes.

    ids: (N,) str. labels, predicted: (N,) int64. classes: K. confidence: (N,) float64, and nll, brier: see
    metrics.probability_scores. scores: see metrics.class_scores.
    """

    ids: Array
    labels: Array
    predicted: Array
    classes: int
    confidence: Array
    nll: float
    brier: float
    scores: dict[str, float]

    @property
    def right(self) -> Array:
        """Return (N,) bool: which images are classified correctly."""
        return np.asarray(self.predicted == self.labels)

    @property
    def is_finite(self) -> bool:
        """Tell whether all logits give finite probabilities."""
        return bool(np.isfinite(self.confidence).all())


def read_predictions(record: RunRecord) -> RunPredictions | None:
    """Return a run's predictions; None if there are none, or unusable ones."""
    try:
        stored = record.predictions()
    except UserError:
        return None
    logits, labels, ids = stored["logits"], stored["labels"], stored["ids"]
    good = logits.ndim == 2 and 0 < len(logits) == len(labels) == len(ids) and labels.ndim == ids.ndim == 1
    if not good or labels.dtype.kind not in "iu" or logits.dtype.kind not in "fiu" or ids.dtype.kind != "U":
        return None
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        return None
    of_probabilities, scores = probability_scores(logits, labels), class_scores(logits, labels)
    return RunPredictions(ids, labels, logits.argmax(1), logits.shape[1], *of_probabilities, scores)
