"""Numbers from logits, in float64 with numpy, so that training and reports agree to the last digit."""

import numpy as np
from numpy.typing import NDArray


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return log-probabilities (N, K) of logits (N, K)."""
    shifted = np.asarray(logits, np.float64) - np.max(logits, axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def cross_entropy(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Return the mean negative log-likelihood (nats) of labels (N,) under logits (N, K)."""
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def accuracy(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Return the fraction of labels (N,) that are the largest of their logits (N, K)."""
    return float((np.argmax(logits, axis=1) == labels).mean())


def confusion(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return counts (K, K): row the true class, column the predicted one."""
    num_classes = logits.shape[1]
    pairs = np.asarray(labels) * num_classes + np.argmax(logits, axis=1)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)
