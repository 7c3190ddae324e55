"""Numbers from logits, against torch in float64 and by hand."""

import numpy as np
import pytest
import torch

from cnnexp import metrics


@pytest.fixture
def logits() -> np.ndarray:
    """Return logits (200, 7) float32, some of them extreme."""
    drawn = np.random.default_rng(0).normal(size=(200, 7)) * np.logspace(-3, 3, 200)[:, None]
    return drawn.astype(np.float32)


LABELS = np.arange(200) % 7


def test_cross_entropy_is_torchs(logits: np.ndarray) -> None:
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(LABELS))
    assert metrics.cross_entropy(logits, LABELS) == pytest.approx(float(expected), rel=1e-12)
    log_softmax = torch.from_numpy(logits).double().log_softmax(1).numpy()
    np.testing.assert_allclose(metrics.log_softmax(logits), log_softmax, rtol=1e-12, atol=1e-12)


def test_cross_entropy_does_not_overflow() -> None:
    assert metrics.cross_entropy(np.array([[1e30, 0.0]], np.float32), np.array([0])) == 0.0
    assert metrics.cross_entropy(np.array([[3000.0, 0.0]], np.float32), np.array([1])) == 3000.0


def test_accuracy_and_confusion_by_hand() -> None:
    logits = np.array([[3, 1, 2], [0, 5, 1], [1, 2, 0], [9, 8, 7]], np.float32)
    labels = np.array([0, 1, 2, 1])
    assert metrics.accuracy(logits, labels) == 0.5
    np.testing.assert_array_equal(metrics.confusion(logits, labels), [[1, 0, 0], [1, 1, 0], [0, 1, 0]])


def test_confusion_counts_every_image_once(logits: np.ndarray) -> None:
    matrix = metrics.confusion(logits, LABELS)
    np.testing.assert_array_equal(matrix.sum(1), np.bincount(LABELS, minlength=7))
    assert np.trace(matrix) / 200 == metrics.accuracy(logits, LABELS)
