"""`cnnexp.runs`: runs as a table."""

import pytest
from fake_records import write_run

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


def test_a_table_of_no_runs_has_its_columns(tmp_path):
    frame = cnnexp.runs(tmp_path)
    assert len(frame) == 0 and {"study", "test_accuracy", "train_seconds", "folder"} <= set(frame.columns)
