"""Calibration: against numbers worked by hand, an independent implementation, and networks calibrated by making."""

import csv
import math

import numpy as np
import pytest
from fake_records import write_run

from cnnexp import metrics, report
from cnnexp.metrics import mean_bins, probability_scores, reliability_bins
from cnnexp.report.analysis.calibration import calibrate, sentence
from cnnexp.report.analysis.findings import analyse
from cnnexp.report.read.collect import collect, find_groups
from cnnexp.report.render.prediction_tables import CALIBRATION_NOTES
from cnnexp.report.render.tables import tables_of


def ece_by_loops(probabilities, labels, bins=15):
    """Return the ECE as Guo et al. (2017) define it, image by image: no code shared with what is tested."""
    error = 0.0
    for m in range(1, bins + 1):
        inside = [(p.max(), p.argmax() == y) for p, y in zip(probabilities, labels, strict=True)]
        inside = [(c, r) for c, r in inside if (m - 1) / bins < c <= m / bins]
        if inside:
            confidence, accuracy = np.mean(inside, axis=0)
            error += len(inside) / len(labels) * abs(accuracy - confidence)
    return error


def drawn(generator, images, sharpness, classes=10):
    """Return logits, and labels drawn from their softmax: calibrated at sharpness 1, too sure above."""
    logits = generator.normal(0, 2, (images, classes))
    labels = (metrics.log_softmax(logits) + generator.gumbel(size=logits.shape)).argmax(1)
    return sharpness * logits, labels


def bins_of(logits, labels):
    return reliability_bins(probability_scores(logits, labels)[0], logits.argmax(1) == labels)


def test_ece_by_hand():
    bins = reliability_bins(np.array([0.95, 0.95, 0.55, 0.25]), np.array([True, False, True, False]))
    # (0.933, 1]: |0.5 - 0.95| of 2 images; (0.533, 0.6]: |1 - 0.55| of 1; (0.2, 0.267]: |0 - 0.25| of 1
    assert bins.ece == pytest.approx((2 * 0.45 + 0.45 + 0.25) / 4)
    assert [(m, n) for m, n in enumerate(bins.count) if n] == [(3, 1), (8, 1), (14, 2)]
    assert bins.right.sum() == 2 and bins.confidence.sum() == pytest.approx(2.7)


def test_a_bin_holds_its_upper_edge_and_not_its_lower():
    bins = reliability_bins(np.array([1 / 15, 0.2, np.nextafter(0.2, 1), 1.0, 0.0]), np.zeros(5, bool))
    assert [int(n) for n in bins.count] == [2, 0, 1, 1, *[0] * 10, 1]


def test_scores_by_hand():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]])
    confidence, nll, brier = probability_scores(np.log(probabilities), np.array([0, 1]))
    assert confidence == pytest.approx([0.7, 0.4])
    assert nll == pytest.approx(-(math.log(0.7) + math.log(0.3)) / 2)
    assert brier == pytest.approx((0.3**2 + 0.2**2 + 0.1**2 + 0.3**2 + 0.7**2 + 0.4**2) / 2)


@pytest.mark.parametrize(("classes", "sharpness"), [(2, 1.0), (10, 0.3), (10, 4.0), (100, 2.0)])
def test_ece_is_that_of_another_implementation(classes, sharpness):
    logits, labels = drawn(np.random.default_rng(classes), 400, sharpness, classes)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert bins_of(logits, labels).ece == pytest.approx(ece_by_loops(probabilities, labels), abs=1e-12)
    _, nll, brier = probability_scores(logits, labels)
    onehot = np.eye(classes)[labels]
    assert brier == pytest.approx(((probabilities - onehot) ** 2).sum(1).mean())
    assert nll == pytest.approx(metrics.cross_entropy(logits, labels))


@pytest.mark.parametrize("images", [200, 20_000])
def test_a_calibrated_network_has_the_ece_of_chance(images):
    generator = np.random.default_rng(0)
    bins = [bins_of(*drawn(generator, images, 1.0)) for _ in range(50)]
    eces = np.array([b.ece for b in bins])
    chance = np.mean([b.ece_by_chance for b in bins])
    error = eces.std(ddof=1) / math.sqrt(len(eces))  # Monte Carlo error of the mean of 50 draws
    assert abs(eces.mean() - chance) < 4 * error + 0.03 * chance  # 3 %: that bins of few images are not normal
    assert chance < 0.4 * math.sqrt(15 / images)  # sum_m sqrt(2 v_m / pi) / N, with sum_m v_m <= N / 4
    too_sure = bins_of(*drawn(generator, 20_000, 3.0))
    assert too_sure.ece > 10 * too_sure.ece_by_chance


def test_bins_are_averaged_over_seeds():
    first = reliability_bins(np.array([0.9, 0.5]), np.array([True, True]))
    bins = mean_bins([first, reliability_bins(np.array([0.9, 0.9]), np.zeros(2, bool))])
    assert bins.count.sum() == 2 and bins.count[13] == 1.5 and bins.right[13] == 0.5


def network(folder, seed, right, confidence, images=200):
    """Write a run that says class 0 of three with `confidence`, and is right on a share `right` of the images."""
    run = write_run(folder, "net", seed, right, classes=["a", "b", "c"], images=images)
    rest = (1 - confidence) / 2
    labels = (np.arange(images) >= round(right * images)).astype(int)
    logits = np.tile(np.log([confidence, rest, rest]), (images, 1))
    run.write_predictions(logits, labels, [f"{i}" for i in range(images)])
    return run


def rows_of(file):
    return list(csv.DictReader(file.read_text().splitlines()))


def study_of(folder):
    return collect(*find_groups(folder)[0])


@pytest.mark.parametrize(
    ("rights", "confidence", "said"),
    [
        (
            [0.60, 0.61, 0.62],
            0.9,
            "over-confident (mean confidence 90.00 %, accuracy 61.00 %; +29.00",
        ),
        ([0.80, 0.81, 0.82], 0.6, "under-confident (mean confidence 60.00 %, accuracy 81.00 %; -21.00 points"),
        ([0.50, 0.90], 0.8, "no detectable difference between confidence and accuracy"),
        ([0.60], 0.9, "at its one seed over-confident by 30.00 points"),
    ],
)
def test_confidence_in_words(tmp_path, rights, confidence, said):
    for seed, right in enumerate(rights):
        network(tmp_path, seed, right, confidence)
    (found,) = analyse(study_of(tmp_path / "demo")).calibrations
    assert said in sentence(found)
    assert found.ece.mean == pytest.approx(np.mean([abs(confidence - right) for right in rights]))


def test_logits_that_are_not_finite_are_left_out(tmp_path):
    network(tmp_path, 0, 0.6, 0.9)
    run = network(tmp_path, 1, 0.6, 0.9)
    logits = np.full((200, 3), np.inf)
    run.write_predictions(logits, np.zeros(200), [f"{i}" for i in range(200)])
    (arm,) = study_of(tmp_path / "demo").arms
    assert calibrate(arm).ece.n == 1
    arm.runs = arm.runs[1:]
    assert calibrate(arm) is None


def test_calibration_in_the_report(tmp_path):
    for seed, right in enumerate((0.6, 0.7)):
        network(tmp_path, seed, right, 0.9)
    written = report.write(tmp_path / "demo", figures=False)
    tables = written.index.parent / "tables"
    (row,) = rows_of(tables / "calibration.csv")
    assert float(row["ece_mean_percent"]) == pytest.approx(25)
    assert float(row["confidence_minus_accuracy_points"]) == pytest.approx(25)
    bins = rows_of(tables / "calibration_bins.csv")
    assert len(bins) == 15 and sum(float(b["images_per_seed"]) for b in bins) == 200
    assert [b["accuracy_percent"] for b in bins if float(b["images_per_seed"]) == 0] == [""] * 14
    page = written.index.read_text()
    assert 'id="calibration"' in page and CALIBRATION_NOTES[1] in page and "net: no detectable difference" in page
    (line,) = tables_of(analyse(study_of(tmp_path / "demo")))["calibration.md"].cells
    assert line[:3] == ["net", "2", "25.00 ± 7.07"] and line[-1].startswith("+25.00 [")
