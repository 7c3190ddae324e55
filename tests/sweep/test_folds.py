"""Folds as an axis of a sweep: one arm, a run for each fold and seed, and a report over the folds."""

import json
from pathlib import Path

import pytest
from image_folders import picture

from cnnexp import cli
from cnnexp.records.run_record import find_runs
from cnnexp.records.study import read_study
from cnnexp.report.look import look

pytestmark = pytest.mark.integration

SMALL = ["data.size=8", "epochs=1", "batch_size=8", "device=cpu", "device.threads=1", "model=conv2_norm"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for k, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(30):
            picture(100 * k + i, size=(24, 24)).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


def train(outputs: Path, *words: str) -> int:
    return cli.main(["train", "-m", *words, *SMALL, f"outputs={outputs}", "study.name=folds"])


def test_every_image_of_a_folder_is_tested_once(photos: Path, outputs: Path) -> None:
    words = ["data=folder", f"data.root={photos}", "data.folds=3", "optimizer=sgd,adam"]
    assert train(outputs, *words, "data.fold=0,1") == 0
    assert train(outputs, *words, "data.fold=2") == 0, "a fold that comes later is of the same arms"
    runs = find_runs(outputs)
    assert {run.info["arm"] for run in runs} == {"optimizer=sgd", "optimizer=adam"} and len(runs) == 6
    for arm in ("optimizer=sgd", "optimizer=adam"):
        mine = sorted((r for r in runs if r.info["arm"] == arm), key=lambda run: run.info["fold"]["fold"])
        assert [run.info["fold"]["fold"] for run in mine] == [0, 1, 2]
        assert len({run.info["fold"]["group"] for run in mine}) == 1 and len({r.info["fingerprint"] for r in mine}) == 3
        tested = [str(name) for run in mine for name in run.predictions()["ids"]]
        assert len(tested) == len(set(tested)) == 60
    study = read_study(outputs / "folds")
    assert study is not None and len(study["runs"]) == 6 and study["plan"]["seeds"] == [0]
    found = look(outputs / "folds", baseline="optimizer=sgd")
    (row,) = [row for row in found.rows if not row.is_baseline]
    assert row.test.n == 3 and row.test.folds == 3 and not row.verdict.startswith("provisional")
    assert not [left for left in found.study.left_out if left.status == "superseded"]


def test_a_limit_leaves_the_folds_one_arm_with_one_set_of_prepared_images(photos: Path, outputs: Path) -> None:
    words = ["data=folder", f"data.root={photos}", "data.folds=3", "data.train_limit=20", "optimizer=sgd,adam"]
    assert train(outputs, *words, "data.fold=0,1,2") == 0
    runs = find_runs(outputs)
    assert {run.info["data"]["train"] for run in runs} == {20} and len(runs) == 6
    assert len({run.info["fold"]["group"] for run in runs}) == 2  # an arm each
    assert len({run.info["data"]["fingerprint"] for run in runs}) == 1
    tested = [str(name) for run in runs if run.info["arm"] == "optimizer=sgd" for name in run.predictions()["ids"]]
    assert len(tested) == len(set(tested)) == 60
    found = look(outputs / "folds", baseline="optimizer=sgd")
    assert [row.test.n for row in found.rows if not row.is_baseline] == [3]


def test_a_run_of_a_fold_is_resumed_and_not_made_again(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data.num_train=80", "data.num_test=40", "data.folds=4", "data.fold=0,3"]
    assert train(outputs, *words) == 0 == train(outputs, *words)
    assert len(runs := find_runs(outputs)) == 2 and {run.info["data"]["val"] for run in runs} == {20}
    assert "fold 3" in capsys.readouterr().out
    assert json.loads((runs[0].folder / "run.json").read_text())["fold"]["of"] == 4


def test_until_decided_is_refused(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data.folds=3", "data.fold=0,1,2", "optimizer=sgd,adam", "study.baseline=optimizer=sgd", "--until-decided"]
    assert train(outputs, *words, "data.num_train=60", "--max-seeds", "4") == 2
    assert "--until-decided: given with data.folds, whose results are not independent" in capsys.readouterr().err
