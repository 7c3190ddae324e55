"""How far a network's confidence is from how often it is right: reliability bins, ECE, Brier score.

Confidence: the softmax probability of the class that is answered. Bins and expected calibration error: Guo et al. 2017,
"On Calibration of Modern Neural Networks", equations 2 to 4. Brier score: Brier 1950, summed over the classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnexp.metrics import log_softmax

Array = np.ndarray[Any, Any]
BINS = 15  # as in Guo et al. 2017
EDGES = np.linspace(0, 1, BINS + 1)


def measure(logits: Array, labels: Array) -> dict[str, Array]:
    """Return {confidence: (N,) float64, nll: (), brier: ()} of logits (N, K) and labels (N,); nan where they are nan.

    nll: the mean negative log-likelihood in nats. brier: the mean over images of sum_k (p_k - [k is true])^2, 0 to 2.
    """
    with np.errstate(invalid="ignore"):  # of infinite logits, which are told by what they give
        logs = log_softmax(logits)
    probabilities = np.exp(logs)
    true = np.arange(len(labels)), labels
    brier = (probabilities**2).sum(1) - 2 * probabilities[true] + 1
    return {"confidence": probabilities.max(1), "nll": -logs[true].mean(), "brier": brier.mean()}


@dataclass(frozen=True)
class Bins:
    """Images sorted by confidence p into ((m - 1) / 15, m / 15]: (15,) numbers of each bin, or their means over seeds.

    count: images; right: how many are right; confidence: the sum of p; variance: the sum of p (1 - p), which is the
    variance of `right` if the confidences are true.
    """

    count: Array
    right: Array
    confidence: Array
    variance: Array

    @property
    def ece(self) -> float:
        """Return the expected calibration error, a fraction: the gaps of the bins, weighted by their images."""
        return float(np.abs(self.right - self.confidence).sum() / self.count.sum())

    @property
    def ece_by_chance(self) -> float:
        """Return about what the ECE of so many images would be if every confidence were true: it is never 0.

        A bin's |right - confidence| is then sqrt(2 v / pi) on average (half-normal), and at most 2 v where v is small.
        """
        return float(np.minimum(np.sqrt(2 * self.variance / math.pi), 2 * self.variance).sum() / self.count.sum())


def fill(confidence: Array, right: Array) -> Bins:
    """Sort images into bins. confidence: (N,) in [0, 1]; right: (N,) bool."""
    place = np.clip(np.searchsorted(EDGES, confidence, side="left") - 1, 0, BINS - 1)

    def total(values: Array) -> Array:
        return np.bincount(place, values, minlength=BINS)

    return Bins(total(np.ones(len(place))), total(right), total(confidence), total(confidence * (1 - confidence)))


def average(seeds: Sequence[Bins]) -> Bins:
    """Return the mean over seeds of what is in the bins."""
    names = ("count", "right", "confidence", "variance")
    return Bins(*(np.mean([getattr(bins, name) for bins in seeds], axis=0) for name in names))
