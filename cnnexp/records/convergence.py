"""Whether a run has converged: at chance, or still improving at its last epoch. Imports no torch.

A run still improves if three things hold over its last quarter of epochs, at least MIN_WINDOW of them:
- a straight line through the validation accuracies rises significantly: a one-sided t-test of its slope against the
  scatter around it. A flat curve whose best epoch is the last one by luck is not significant;
- the last quarter of these epochs is on average MIN_RISE above the quarter before: the curve has not just flattened, as
  at the end of a cosine schedule;
- the best epoch is in that last quarter.
With fewer than MIN_FOR_SCATTER epochs there is no scatter to compare with. Then the last epoch must have the highest
accuracy, above that of the first one, and a validation loss at least MIN_FALL below all earlier ones.
A run that has reached an accuracy of 1 cannot improve.
A run is at chance if its number of correct test images is not significantly above what one answer for all would get.
The thresholds were compared with what training twice as long gained (docs/architecture.md, Convergence).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnexp.errors import UserError
from cnnexp.records.run_record import RunRecord

MIN_WINDOW = 8  # epochs: of fewer, a line's slope is mostly noise
MIN_FOR_SCATTER = 5  # epochs
MIN_RISE = 0.005  # half a point
MIN_FALL = 0.05  # of the loss
SLOPE_LEVEL, CHANCE_LEVEL = 0.025, 0.01  # of one-sided tests
AT_CHANCE = "at chance: not significantly better than one answer for all images"
ONE_EPOCH = "one epoch cannot show whether it still improves; train longer"
IMPROVING = "still improving at the last epoch; train longer"


def still_improving(accuracies: Sequence[float], losses: Sequence[float]) -> bool:
    """Return whether a curve still improves at its end: validation accuracy (a fraction) and loss of each epoch."""
    length = len(accuracies)
    if max(accuracies, default=0.0) >= 1:
        return False
    if length < MIN_FOR_SCATTER:
        best = length > 1 and accuracies[-1] >= max(accuracies) and accuracies[-1] > accuracies[0]
        return best and len(losses) == length and losses[-1] <= (1 - MIN_FALL) * min(losses[:-1])
    window = min(length, max(MIN_WINDOW, math.ceil(length / 4)))
    end = math.ceil(window / 4)
    values, epochs = np.asarray(accuracies[-window:], float), np.arange(window) - (window - 1) / 2
    if values[-end:].mean() - values[-2 * end : -end].mean() < MIN_RISE or np.argmax(values) < window - end:
        return False
    spread = float(epochs @ epochs)
    slope = float(epochs @ values) / spread
    residuals = values - values.mean() - slope * epochs

    from scipy import special  # 0.1 s, which most short runs do not need

    error = math.sqrt(float(residuals @ residuals) / (window - 2) / spread)
    return bool(slope > special.stdtrit(window - 2, 1 - SLOPE_LEVEL) * error)


def at_chance(right: int, labels: NDArray[Any], classes: int) -> bool:
    """Return whether `right` of the test images are no more than one answer for all images could get.

    labels: (N,) int. False if all images have the same class: nothing is known then.
    """
    counts = np.bincount(labels, minlength=classes)
    share = max(1 / classes, counts.max() / len(labels))
    return bool(share < 1 and right < len(labels) and at_least(right, len(labels), share) > CHANCE_LEVEL)


def at_least(right: int, count: int, share: float) -> float:
    """Return the probability of at least `right` successes of `count`, where a success has the probability `share`.

    share: above 0 and below 1. Exact to about 1e-10, as scipy.special.bdtrc, whose import would take 0.1 s of each run.
    """
    if right <= count * share:  # a sum over the larger tail would have to go through its middle
        return 1.0 if right == 0 else 1.0 - at_least(count - right + 1, count, 1 - share)
    ways = math.lgamma(count + 1) - math.lgamma(right + 1) - math.lgamma(count - right + 1)
    term = total = math.exp(ways + right * math.log(share) + (count - right) * math.log1p(-share))
    for successes in range(right, count):
        term *= (count - successes) / (successes + 1) * share / (1 - share)
        total += term
        if term < 1e-17 * total:
            break
    return total


def sentence(record: RunRecord) -> str:
    """Return AT_CHANCE, ONE_EPOCH or IMPROVING for a finished run; "" if it seems converged, or cannot be read."""
    try:
        stored, rows = record.predictions(), record.rows(split="val")
    except UserError:
        return ""
    right = int((stored["logits"].argmax(1) == stored["labels"]).sum())
    if at_chance(right, stored["labels"], stored["logits"].shape[1]):
        return AT_CHANCE
    if record.info["result"]["stopped"] == "early":
        return ""
    return of_curve([row["accuracy"] for row in rows], [row["loss"] for row in rows])


def of_curve(accuracies: Sequence[float], losses: Sequence[float]) -> str:
    """Return ONE_EPOCH, IMPROVING or ""; see still_improving. Not for runs that early stopping has ended."""
    if len(accuracies) == 1 and accuracies[0] < 1:
        return ONE_EPOCH
    return IMPROVING if still_improving(accuracies, losses) else ""
