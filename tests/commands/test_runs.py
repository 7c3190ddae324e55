"""`cnnexp runs`: what it lists, and what it reads for that."""

import csv
import io
import json

from fake_records import write_run

from cnnexp import storage
from cnnexp.records import study as study_file


def test_runs_lists_everything_by_study(cnnexp, tmp_path):
    write_run(tmp_path, "dropout", 1, 0.5, study="b", seconds=4000.0)
    write_run(tmp_path, "baseline", 0, 0.612, study="a")
    error = {"type": "E", "message": "\x1b[31mno memory\n"}
    failed = write_run(tmp_path, "wide", 0, study="a", status="failed", error=error)
    storage.make_folder(tmp_path / "a" / "torn")
    storage.write_text(tmp_path / "a" / "torn" / "run.json", "[]")
    code, out, _ = cnnexp("runs", tmp_path)
    lines = [line.split() for line in out.splitlines()]
    assert code == 0 and lines[0] == ["run", "status", "val", "%", "test", "%", "epochs", "time", "age"]
    assert [line[:2] for line in lines[1:5]] == [
        [f"{tmp_path}/a/torn", "malformed"],
        [f"{tmp_path}/a/baseline/0", "done"],
        [f"{tmp_path}/a/wide/0", "failed"],
        [f"{tmp_path}/b/dropout/1", "done"],
    ]
    assert lines[2][3:7] == ["61.20", "15", "64", "s"] and lines[4][5:7] == ["67", "min"]
    assert lines[3][2:5] == [f"{100 * storage.read_rows(failed.metrics)[-1]['accuracy']:.2f}", "-", "3/15"]
    assert "no memory" in out and "\x1b" not in out
    assert out.splitlines()[-1] == "4 runs: 2 done, 1 malformed, 1 failed"


def test_runs_can_be_chosen_and_exported(cnnexp, tmp_path):
    write_run(tmp_path, "old", 0, started="2025-01-01T00:00:00+00:00")
    write_run(tmp_path, "-new", 0, 0.25, started="2025-02-01T00:00:00+00:00")
    write_run(tmp_path, "wide", 0, status="interrupted", result={"test_accuracy": float("nan")})
    _, out, _ = cnnexp("runs", tmp_path, "--newest", "--status", "done")
    assert [line.split("/")[-2] for line in out.splitlines()[1:3]] == ["new", "old"] and "interrupted" not in out
    rows = json.loads(cnnexp("runs", tmp_path, "--json")[1])
    assert {r["arm"]: r["test_accuracy"] for r in rows} == {"old": 0.6, "-new": 0.25, "wide": None}
    table = list(csv.DictReader(io.StringIO(cnnexp("runs", tmp_path, "--csv")[1])))
    assert [r["arm"] for r in table] == ["'-new", "old", "wide"] and table[0]["train_seconds"] == "60.0"


def test_where_a_setting_is_chosen_validation_is_recommended(cnnexp, tmp_path):
    for arm in ("optimizer.lr=0.1", "optimizer.lr=1"):
        write_run(tmp_path, arm, 0, study="sweep")
        write_run(tmp_path, arm, 0, study="planned")
    study_file.write_study(tmp_path / "planned", {"name": "planned", "baseline": "optimizer.lr=0.1", "runs": []})
    said = cnnexp("runs", tmp_path / "sweep")[1].splitlines()[-1]
    assert said.startswith("Choose settings by validation accuracy, not by test accuracy")
    assert "Choose" not in cnnexp("runs", tmp_path / "planned")[1]
    assert "Choose" in cnnexp("runs", tmp_path)[1]


def test_csv_and_json_have_the_settings_that_differ(cnnexp, tmp_path):
    for seed, rate in enumerate((0.1, 0.01)):
        run = write_run(tmp_path, f"rate{seed}", seed)
        run.write_config({"seed": seed, "optimizer": {"lr": rate}, "epochs": "3ep"})
        run.update(files=run.seal())
    rows = json.loads(cnnexp("runs", tmp_path, "--json")[1])
    assert [r["optimizer.lr"] for r in rows] == [0.1, 0.01] and "config.epochs" not in rows[0]
    table = list(csv.DictReader(io.StringIO(cnnexp("runs", tmp_path, "--csv")[1])))
    assert [r["optimizer.lr"] for r in table] == ["0.1", "0.01"]


def test_no_cell_of_the_csv_is_a_formula(cnnexp, tmp_path):
    for seed, value in enumerate(("=1+1", "b")):
        run = write_run(tmp_path, f"arm{seed}", seed)
        run.write_config({"=2+2": value})
        run.update(files=run.seal())
    heading, first, _ = csv.reader(io.StringIO(cnnexp("runs", tmp_path, "--csv")[1]))
    assert (heading[-1], first[-1]) == ("'=2+2", "'=1+1")


def test_runs_reports_mistakes(cnnexp, tmp_path):
    code, _, err = cnnexp("runs", tmp_path, "--status", "fialed")
    assert code == 2 and "unknown status 'fialed'" in err and "did you mean 'failed'" in err
    code, _, err = cnnexp("runs", tmp_path / "gone")
    assert code == 2 and err.count("\n") == 1 and "no such folder" in err
    assert cnnexp("runs", tmp_path)[:2] == (0, f"{tmp_path}: holds no runs\n")


def test_runs_reads_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    run = write_run(tmp_path, status="running")
    opened = []
    monkeypatch.setattr("builtins.open", _recorded(opened))
    assert run.status == "interrupted"
    assert opened and all(mode in ("r", "rb") for mode in opened)
    with storage.lock(run.folder / ".lock"):
        assert run.status == "running"


def _recorded(modes, real=open):
    def record_mode(path, mode="r", *more, **named):
        modes.append(mode)
        return real(path, mode, *more, **named)

    return record_mode
