"""`cnnexp.runs`: runs as a table."""

import pytest
from fake_records import write_run, write_study

import cnnexp
from cnnexp import storage
from cnnexp.errors import UserError


def test_runs_are_a_table(tmp_path):
    write_run(tmp_path, "baseline", 0, 0.61)
    write_run(tmp_path, "dropout", 1, status="failed", error={"type": "ValueError", "message": "no"})
    storage.make_folder(tmp_path / "demo" / "torn")
    storage.write_text(tmp_path / "demo" / "torn" / "run.json", "{")
    frame = cnnexp.runs(tmp_path)
    assert frame["status"].tolist() == ["done", "failed", "malformed"]
    assert frame["test_accuracy"].tolist()[0] == 0.61 and frame["test_accuracy"].isna().tolist() == [False, True, True]
    assert frame["seed"].dtype == "Int64" and frame["seed"].tolist()[:2] == [0, 1]
    assert frame.loc[1, "error"] == "no" and "run.json" in frame.loc[2, "error"]
    assert str(frame["started"].dtype).endswith("UTC]")
    assert frame.groupby("arm")["test_accuracy"].mean()["baseline"] == 0.61
    with pytest.raises(UserError, match="no such folder"):
        cnnexp.runs(tmp_path / "gone")


def test_large_numbers_are_exact_beside_runs_without_them(tmp_path):
    write_run(tmp_path, "a", 2**60 + 1)
    storage.make_folder(tmp_path / "demo" / "torn")
    storage.write_text(tmp_path / "demo" / "torn" / "run.json", "{")
    assert cnnexp.runs(tmp_path)["seed"].tolist()[0] == 2**60 + 1


def test_a_table_of_no_runs_has_its_columns(tmp_path):
    frame = cnnexp.runs(tmp_path)
    assert len(frame) == 0 and {"study", "test_accuracy", "train_seconds", "folder"} <= set(frame.columns)


def test_there_is_a_column_for_every_setting_that_differs(tmp_path):
    configs = (
        {"optimizer": {"lr": 0.1}, "epochs": "3ep", "model": {"fc": [8], "norm": "none"}, "study": {"name": "a"}},
        {"optimizer": {"lr": 0.01}, "epochs": "5ep", "model": {"fc": [8, 4], "norm": "none"}, "study": {"name": "b"}},
    )
    for seed, config in enumerate(configs):
        run = write_run(tmp_path, f"arm{seed}", seed)
        run.write_config({"seed": seed, **config})
        run.update(files=run.seal())
    torn = write_run(tmp_path, "torn", 2)
    storage.write_text(torn.folder / "config.yaml", "{")
    frame = cnnexp.runs(tmp_path)
    assert frame.columns[-3:].tolist() == ["optimizer.lr", "config.epochs", "model.fc"]
    assert frame["optimizer.lr"].tolist()[:2] == [0.1, 0.01] and frame["optimizer.lr"].isna().tolist()[2]
    assert frame["config.epochs"].tolist()[:2] == ["3ep", "5ep"] and frame["epochs"].tolist() == [15, 15, 15]
    assert frame.groupby("model.fc")["test_accuracy"].count().to_dict() == {"[8]": 1, "[8, 4]": 1}


def test_superseded_runs_are_left_out_unless_asked_for(tmp_path):
    folder = write_study(tmp_path, {"baseline": (0.5, 0.3, 60.0)}, seeds=2)
    write_run(tmp_path, "baseline", 0, 0.9, fingerprint="0123456789")
    assert len(cnnexp.runs(folder)) == 2
    frame = cnnexp.runs(folder, superseded=True)
    assert frame["superseded"].tolist() == [True, False, False]
