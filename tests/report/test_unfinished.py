"""Runs under way: listed with their state and epoch, drawn dotted, in no number and no verdict."""

import csv

import pytest
from fake_records import write_run, write_study
from pages import Page

from cnnexp import report, storage
from cnnexp.records.run_record import find_runs
from cnnexp.report.figures import curves
from cnnexp.report.figures.looks import looks
from cnnexp.report.read.collect import collect

pytestmark = pytest.mark.integration

TWO = {"baseline": (0.5, 0.3, 60.0), "dropout": (0.6, 0.1, 70.0)}


def started(folder, arm, seed, status="running", **fields):
    """Write a run of three epochs, of 15, that is not finished."""
    return write_run(folder, arm, seed, 0.99, status=status, **fields)


def test_they_are_listed_with_their_epoch_and_change_no_number(tmp_path):
    folder = write_study(tmp_path, TWO)
    before = report.write(folder, tmp_path / "before", figures=False)
    running = started(tmp_path, "dropout", 3)
    started(tmp_path, "augmentation", 0, "interrupted")
    started(tmp_path, "shift", 0, "failed", error={"type": "ValueError", "message": "no"})
    with storage.lock(running.folder / ".lock"):
        after = report.write(folder, figures=False)
    line = (
        "Not finished, and in no verdict: dropout, seed 3 (running, epoch 3 of 15); "
        "augmentation, seed 0 (interrupted, epoch 3 of 15)."
    )
    text = Page(after.index.read_text()).text
    assert line in after.terminal and line in text
    for reason in ("a process is working on it (epoch 3 of 15)", "ValueError: no (epoch 3 of 15)"):
        assert reason in text
    first, second = ((r.index.parent / "tables" / "comparison.csv").read_text() for r in (before, after))
    assert first == second and len(list(csv.reader(first.splitlines()))) == 3


def test_their_curves_are_drawn_dotted(tmp_path):
    folder = write_study(tmp_path, TWO)
    started(tmp_path, "dropout", 3, "interrupted")
    started(tmp_path, "augmentation", 0, "interrupted")
    study = collect(folder, find_runs(folder))
    arms = [*study.arms, *study.under_way]
    assert [(arm.label, len(arm.runs), len(arm.unfinished)) for arm in arms] == [
        ("baseline", 3, 0),
        ("dropout", 3, 1),
        ("augmentation", 0, 1),
    ]
    look = looks(arms, study.baseline)
    figure = curves.validation(arms, look)
    assert "Dotted: runs that are not finished." in figure.caption
    assert "Dotted" not in curves.validation(arms[:1], look).caption
    page = report.write(folder).index.read_text()
    assert "augmentation" in (folder / "report" / "figures" / "validation_curves.svg").read_text()
    assert "Dotted: runs that are not finished." in Page(page).text


def test_a_study_of_which_no_run_is_done_shows_its_curves(tmp_path):
    started(tmp_path, "baseline", 0, "interrupted")
    written = report.write(tmp_path / "demo")
    assert "No run is done yet" in written.terminal and "epoch 3 of 15" in written.terminal
    assert (tmp_path / "demo" / "report" / "figures" / "validation_curves.png").exists()


def test_superseded_runs_are_not_drawn(tmp_path):
    folder = write_study(tmp_path, TWO)
    started(tmp_path, "dropout", 3, "interrupted", fingerprint="0123456789")
    study = collect(folder, find_runs(folder))
    assert study.under_way == [] and not any(arm.unfinished for arm in study.arms)
