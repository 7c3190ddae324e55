"""`cnnexp report --watch`: written again when something has changed, until nothing is under way."""

import os
import signal
import subprocess
import sys
import time

import pytest
from fake_records import write_run, write_study
from fake_searches import made

from cnnexp import report, storage
from cnnexp.records import under_way
from cnnexp.report import watch as watching

pytestmark = pytest.mark.integration

TWO = {"baseline": (0.5, 0.3, 60.0), "dropout": (0.6, 0.1, 70.0)}


@pytest.fixture
def pages(tmp_path, monkeypatch):
    """Watch a folder without waiting. Return its lines and pages; `before` lists what happens before each look."""

    def watch(folder, before):
        written, said, steps = [], [], iter(before)
        monkeypatch.setattr(watching, "sleep", lambda seconds: next(steps)())

        def write():
            made = report.write(folder, figures=False)
            written.append(made.index.read_text())
            return made

        watching.watch(folder, write, lambda made, counts: said.append(counts))
        return said, written

    return watch


def test_a_finished_study_is_written_once(tmp_path, pages):
    said, (page,) = pages(write_study(tmp_path, TWO), [])
    assert said == ["6 done"] and "Better than baseline: dropout" in page


def test_it_is_written_when_a_run_goes_on_and_a_last_time_when_it_ends(tmp_path, pages):
    folder = write_study(tmp_path, TWO)
    run = write_run(tmp_path, "dropout", 3, 0.6, status="running")
    with storage.lock(run.folder / ".lock"):
        said, written = pages(
            folder,
            [
                lambda: None,
                lambda: run.append(kind="epoch", epoch=4, step=280, split="train", loss=1.0, accuracy=0.5),
                lambda: run.update(status="diverged", error={"message": "no"}),
            ],
        )
    assert said == ["6 done, 1 running", "6 done, 1 diverged"]
    assert "epoch 3 of 15" in written[0] and "epoch 4 of 15" in written[1]
    assert len(written) == 3, "nothing changed before the second look"


def test_between_two_runs_of_a_sweep_it_goes_on(tmp_path, pages, monkeypatch):
    folder = write_study(tmp_path, TWO)
    (folder / next(f.name for f in folder.iterdir() if f.name.startswith("dropout"))).rename(tmp_path / "to-come")
    assert under_way.is_under_way(folder), "a run is left, and files have just changed"
    monkeypatch.setattr(under_way, "QUIET_SECONDS", -1)
    assert not under_way.is_under_way(folder)


def test_the_retraining_of_a_search_is_watched_too(tmp_path, pages):
    folder = made(tmp_path / "s", 3).folder
    run = write_run(tmp_path, "best", 1, 0.7, study="s-best", status="running")
    with storage.lock(run.folder / ".lock"):
        said, written = pages(
            folder,
            [
                lambda: run.append(kind="epoch", epoch=4, step=280, split="train", loss=1.0, accuracy=0.5),
                lambda: run.update(status="diverged", error={"message": "no"}),
            ],
        )
    assert said == ["3 done, 1 running", "3 done, 1 diverged"]
    assert len(written) == 3


def test_ctrl_c_ends_it_with_130(tmp_path):
    run = write_run(tmp_path, "dropout", 3, 0.6, status="running")
    page = tmp_path / "demo" / "report" / "index.html"
    command = [sys.executable, "-m", "cnnexp", "report", str(tmp_path / "demo"), "--watch", "--no-figures"]
    with storage.lock(run.folder / ".lock"):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if "1 running" in line:
                break
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    assert "epoch 3 of 15" in page.read_text()
