"""Numbers from logits, in float64 with numpy, so that training and reports agree to the last digit.

Confidence: the softmax probability of the predicted class. Reliability bins and expected calibration error: Guo et al.
2017, "On Calibration of Modern Neural Networks", equations 2 to 4. Brier score: Brier 1950, summed over the classes.
Precision, recall and F1 as in scikit-learn: a class that is never predicted has a precision of 0; a class with neither
images nor predictions counts nowhere.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 15  # as in Guo et al. 2017
BIN_EDGES = np.linspace(0, 1, NUM_BINS + 1)


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return log-probabilities (N, K) of logits (N, K)."""
    shifted = np.asarray(logits, np.float64) - np.max(logits, axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def cross_entropy(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Return the mean negative log-likelihood (nats) of labels (N,) under logits (N, K)."""
    return float(0.0 - log_softmax(logits)[np.arange(len(labels)), labels].mean())  # not -0.0


def accuracy(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Return the fraction of labels (N,) that are the largest of their logits (N, K)."""
    return float((np.argmax(logits, axis=1) == labels).mean())


def confusion(predicted: NDArray[np.integer], labels: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Return counts (K, K): row the true class, column the predicted one. predicted, labels: (N,). classes: K."""
    pairs = labels * classes + predicted
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def by_class(
    predicted: NDArray[np.integer], labels: NDArray[np.integer], classes: int
) -> dict[str, NDArray[np.float64]]:
    """Return precision, recall and F1 of each class, (K,) fractions; nan for a class with no image and no prediction.

    predicted, labels: (N,) class of each image. classes: K.
    """
    right, images, guesses = (
        np.bincount(of, minlength=classes) for of in (labels[predicted == labels], labels, predicted)
    )
    seen = np.where(images + guesses > 0, 0.0, math.nan)
    return {
        "precision": seen + right / np.maximum(guesses, 1),
        "recall": seen + right / np.maximum(images, 1),
        "f1": seen + 2 * right / np.maximum(images + guesses, 1),
    }


def class_scores(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> dict[str, float]:
    """Return {name: value} of logits (N, K) and labels (N,), fractions.

    precision, recall, f1: means over the classes ("macro"). balanced_accuracy: the mean recall of the classes that have
    images. top5: the share of images whose label is among the five largest logits.
    """
    scores = by_class(np.argmax(logits, axis=1), labels, logits.shape[1])
    return {
        **{name: float(np.nanmean(values)) for name, values in scores.items()},
        "balanced_accuracy": float(scores["recall"][np.unique(labels)].mean()),
        "top5": float((_rank(logits, labels) < 5).mean()),
    }


def _rank(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return how many logits are before each label's (N,): larger ones, and of equal ones those of earlier classes."""
    own = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logits.shape[1]) < np.asarray(labels)[:, None]
    return np.asarray(((logits > own) | ((logits == own) & earlier)).sum(1))


def probability_scores(logits: NDArray[Any], labels: NDArray[np.integer]) -> tuple[NDArray[np.float64], float, float]:
    """Return confidence (N,), NLL and Brier score of logits (N, K) and labels (N,); nan where logits are not finite.

    NLL: the mean negative log-likelihood in nats. Brier: the mean over images of sum_k (p_k - [k is true])^2, 0 to 2.
    """
    with np.errstate(invalid="ignore"):  # infinite logits give nan, which says so
        log_probabilities = log_softmax(logits)
    probabilities = np.exp(log_probabilities)
    true = np.arange(len(labels)), labels
    brier = (probabilities**2).sum(1) - 2 * probabilities[true] + 1
    return probabilities.max(1), float(-log_probabilities[true].mean()), float(brier.mean())


@dataclass(frozen=True)
class ReliabilityBins:
    """Images sorted by confidence p into ((m - 1) / 15, m / 15]: (15,) numbers of each bin, or their means over seeds.

    count: images. right: correctly classified images. confidence: the sum of p. variance: the sum of p (1 - p), the
    variance of `right` if the confidences are true.
    """

    count: NDArray[np.float64]
    right: NDArray[np.float64]
    confidence: NDArray[np.float64]
    variance: NDArray[np.float64]

    @property
    def ece(self) -> float:
        """Return the expected calibration error, a fraction: the gaps of the bins, weighted by their images."""
        return float(np.abs(self.right - self.confidence).sum() / self.count.sum())

    @property
    def ece_by_chance(self) -> float:
        """Return the approximate ECE of so many images if every confidence were true: it is never 0.

        A bin's |right - confidence| is then sqrt(2 v / pi) on average (half-normal), and at most 2 v where v is small.
        """
        return float(np.minimum(np.sqrt(2 * self.variance / math.pi), 2 * self.variance).sum() / self.count.sum())


def reliability_bins(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> ReliabilityBins:
    """Sort images into bins. confidence: (N,) in [0, 1]. right: (N,), whether each is correctly classified."""
    place = np.clip(np.searchsorted(BIN_EDGES, confidence, side="left") - 1, 0, NUM_BINS - 1)

    def total(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(place, values, minlength=NUM_BINS).astype(np.float64, copy=False)

    ones, variance = np.ones(len(place)), confidence * (1 - confidence)
    return ReliabilityBins(total(ones), total(right), total(confidence), total(variance))


def mean_bins(seeds: Sequence[ReliabilityBins]) -> ReliabilityBins:
    """Return the mean of each number over the seeds."""
    names = ("count", "right", "confidence", "variance")
    return ReliabilityBins(*(np.mean([getattr(bins, name) for bins in seeds], axis=0) for name in names))
