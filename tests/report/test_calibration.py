"""The calibration of an arm: its numbers, its sentence, and the tables of a report."""

import csv

import numpy as np
import pytest
from fake_records import write_run

from cnnexp import report
from cnnexp.report.analysis.calibration import calibrate, sentence
from cnnexp.report.analysis.findings import analyse
from cnnexp.report.read.collect import collect, find_groups
from cnnexp.report.render.prediction_tables import CALIBRATION_NOTES
from cnnexp.report.render.tables import tables_of


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
