"""Numbers from logits, against torch in float64 and by hand; seeds that depend on names alone."""

import numpy as np
import pytest
import torch

from cnnexp import metrics, rng
from cnnexp.data.batches import Batch
from cnnexp.training.evaluation import consistency, shifted


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


def test_seeds_depend_on_the_names_alone() -> None:
    # Frozen: another value would change the numbers of every run that was ever made.
    assert [rng.fold(0, "init"), rng.fold(0, "dropout", 7)] == [6767970929478544064, 3362524938893004185]
    assert rng.fold(1, "a", 2) == rng.fold(1, "a", 2)


def test_seeds_of_different_names_differ() -> None:
    seeds = {
        rng.fold(s, name, step) for s in range(5) for name in ("dropout", "augment", "order") for step in range(99)
    }
    assert len(seeds) == 5 * 3 * 99
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert rng.fold(1, 23) != rng.fold(12, 3), "numbers that are written side by side are kept apart"


def test_drawing_does_not_touch_the_global_generator() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = torch.rand(5, generator=rng.generator(0, "order", 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, torch.rand(5, generator=rng.generator(0, "order", 1)))


def test_a_shift_moves_whole_pixels_and_repeats_the_border() -> None:
    image = torch.arange(12.0).reshape(1, 1, 3, 4)
    batch = Batch(image, torch.zeros(1, dtype=torch.int64), 0, torch.zeros(1, dtype=torch.int64))

    def moved(down: int, right: int) -> list[list[float]]:
        (result,) = shifted([batch], down, right)
        return result.images[0, 0].tolist()

    assert moved(1, 0) == [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7]]
    assert moved(-1, 0) == [[4, 5, 6, 7], [8, 9, 10, 11], [8, 9, 10, 11]]
    assert moved(0, 2) == [[0, 0, 0, 1], [4, 4, 4, 5], [8, 8, 8, 9]]
    assert moved(0, -2) == [[2, 3, 3, 3], [6, 7, 7, 7], [10, 11, 11, 11]]


def test_consistency_is_the_share_of_classes_that_stay() -> None:
    logits = np.array([[1, 0], [0, 1], [3, 2], [2, 3]], np.float32)
    assert consistency(logits, [logits, -logits]) == 0.5
    assert consistency(logits, [np.array([[1, 0], [0, 1], [3, 2], [3, 2]], np.float32)]) == 0.75
