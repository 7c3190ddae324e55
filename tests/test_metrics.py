"""Numbers from logits, against torch in float64 and by hand."""

import math
from typing import get_args

import numpy as np
import pytest
import torch

from cnnexp import metrics
from cnnexp.claims.metrics import SCORES
from cnnexp.config.signature import Monitored


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
    np.testing.assert_array_equal(metrics.confusion(logits.argmax(1), labels, 3), [[1, 0, 0], [1, 1, 0], [0, 1, 0]])


def test_confusion_counts_every_image_once(logits: np.ndarray) -> None:
    matrix = metrics.confusion(logits.argmax(1), LABELS, 7)
    np.testing.assert_array_equal(matrix.sum(1), np.bincount(LABELS, minlength=7))
    assert np.trace(matrix) / 200 == metrics.accuracy(logits, LABELS)


def ece_by_loops(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Return the ECE as Guo et al. (2017) define it, image by image: no code shared with what is tested."""
    error = 0.0
    for m in range(1, bins + 1):
        inside = [(p.max(), p.argmax() == y) for p, y in zip(probabilities, labels, strict=True)]
        inside = [(c, r) for c, r in inside if (m - 1) / bins < c <= m / bins]
        if inside:
            confidence, accuracy = np.mean(inside, axis=0)
            error += len(inside) / len(labels) * abs(accuracy - confidence)
    return error


def drawn(
    generator: np.random.Generator, images: int, sharpness: float, classes: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits, and labels drawn from their softmax: calibrated at sharpness 1, too sure above."""
    logits = generator.normal(0, 2, (images, classes))
    labels = (metrics.log_softmax(logits) + generator.gumbel(size=logits.shape)).argmax(1)
    return sharpness * logits, labels


def bins_of(logits: np.ndarray, labels: np.ndarray) -> metrics.ReliabilityBins:
    return metrics.reliability_bins(metrics.probability_scores(logits, labels)[0], logits.argmax(1) == labels)


def test_scores_of_classes_by_hand() -> None:
    """Of classes a, b and c: a 2 of 3 right, b 1 of 1, and c, which has one image, is never predicted; d has none."""
    labels, told = np.array([0, 0, 0, 1, 2]), np.array([0, 0, 1, 1, 1])
    found = metrics.by_class(told, labels, 4)
    assert found["precision"].tolist()[:3] == pytest.approx([1, 1 / 3, 0])
    assert found["recall"].tolist()[:3] == pytest.approx([2 / 3, 1, 0])
    assert found["f1"].tolist()[:3] == pytest.approx([4 / 5, 1 / 2, 0])
    assert all(math.isnan(values[3]) for values in found.values())
    scores = metrics.class_scores(np.eye(4)[told], labels)
    assert scores["precision"] == pytest.approx(4 / 9) and scores["f1"] == pytest.approx(1.3 / 3)
    assert scores["balanced_accuracy"] == scores["recall"] == pytest.approx(5 / 9)


def test_every_score_can_be_monitored_and_claimed() -> None:
    scores = metrics.class_scores(np.eye(6), np.arange(6))
    assert set(scores) == set(SCORES) == set(get_args(Monitored)) - {"accuracy", "loss"}


def test_equal_logits_are_no_top_five() -> None:
    """A network that answers the same for all classes has each of the first five right, as accuracy has the first."""
    labels = np.arange(10)
    assert metrics.class_scores(np.zeros((10, 10)), labels)["top5"] == 0.5
    assert metrics.accuracy(np.zeros((10, 10)), labels) == 0.1
    assert metrics.class_scores(np.tile(np.arange(10.0), (10, 1)), labels)["top5"] == 0.5


def test_ece_by_hand() -> None:
    bins = metrics.reliability_bins(np.array([0.95, 0.95, 0.55, 0.25]), np.array([True, False, True, False]))
    # (0.933, 1]: |0.5 - 0.95| of 2 images; (0.533, 0.6]: |1 - 0.55| of 1; (0.2, 0.267]: |0 - 0.25| of 1
    assert bins.ece == pytest.approx((2 * 0.45 + 0.45 + 0.25) / 4)
    assert [(m, n) for m, n in enumerate(bins.count) if n] == [(3, 1), (8, 1), (14, 2)]
    assert bins.right.sum() == 2 and bins.confidence.sum() == pytest.approx(2.7)


def test_a_bin_holds_its_upper_edge_and_not_its_lower() -> None:
    bins = metrics.reliability_bins(np.array([1 / 15, 0.2, np.nextafter(0.2, 1), 1.0, 0.0]), np.zeros(5, bool))
    assert [int(n) for n in bins.count] == [2, 0, 1, 1, *[0] * 10, 1]


def test_scores_by_hand() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]])
    confidence, nll, brier = metrics.probability_scores(np.log(probabilities), np.array([0, 1]))
    assert confidence == pytest.approx([0.7, 0.4])
    assert nll == pytest.approx(-(math.log(0.7) + math.log(0.3)) / 2)
    assert brier == pytest.approx((0.3**2 + 0.2**2 + 0.1**2 + 0.3**2 + 0.7**2 + 0.4**2) / 2)


@pytest.mark.parametrize(("classes", "sharpness"), [(2, 1.0), (10, 0.3), (10, 4.0), (100, 2.0)])
def test_ece_is_that_of_another_implementation(classes: int, sharpness: float) -> None:
    logits, labels = drawn(np.random.default_rng(classes), 400, sharpness, classes)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert bins_of(logits, labels).ece == pytest.approx(ece_by_loops(probabilities, labels), abs=1e-12)
    _, nll, brier = metrics.probability_scores(logits, labels)
    onehot = np.eye(classes)[labels]
    assert brier == pytest.approx(((probabilities - onehot) ** 2).sum(1).mean())
    assert nll == pytest.approx(metrics.cross_entropy(logits, labels))


@pytest.mark.integration
@pytest.mark.parametrize("images", [200, 20_000])
def test_a_calibrated_network_has_the_ece_of_chance(images: int) -> None:
    generator = np.random.default_rng(0)
    bins = [bins_of(*drawn(generator, images, 1.0)) for _ in range(50)]
    eces = np.array([b.ece for b in bins])
    chance = np.mean([b.ece_by_chance for b in bins])
    error = eces.std(ddof=1) / math.sqrt(len(eces))  # Monte Carlo error of the mean of 50 draws
    assert abs(eces.mean() - chance) < 4 * error + 0.03 * chance  # 3 %: that bins of few images are not normal
    assert chance < 0.4 * math.sqrt(15 / images)  # sum_m sqrt(2 v_m / pi) / N, with sum_m v_m <= N / 4
    too_sure = bins_of(*drawn(generator, 20_000, 3.0))
    assert too_sure.ece > 10 * too_sure.ece_by_chance


def test_bins_are_averaged_over_seeds() -> None:
    first = metrics.reliability_bins(np.array([0.9, 0.5]), np.array([True, True]))
    bins = metrics.mean_bins([first, metrics.reliability_bins(np.array([0.9, 0.9]), np.zeros(2, bool))])
    assert bins.count.sum() == 2 and bins.count[13] == 1.5 and bins.right[13] == 0.5
