"""A run directory as its readers and its writer see it."""

from pathlib import Path
from typing import Any

import pytest
from fake_records import write_run

from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.records.fields import FIELDS, HASH_CHAIN, PROBES
from cnnexp.records.run_record import RunRecord, one_run


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in ("status", "fingerprint", "seed")])
def test_a_field_of_another_type_is_named(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path, "arm", 0, 0.6)
    run.update(**{name: None})
    assert one_run(run.folder).info[name] is None, "a field may be missing"
    run.update(**{name: ["x"] if FIELDS[name][0] is not list else "x"})
    with pytest.raises(UserError, match=rf"run\.json: {name} is not as a run writes it"):
        one_run(run.folder)


def test_a_cut_back_run_has_the_rows_of_its_checkpoint(tmp_path: Path) -> None:
    run = RunRecord(tmp_path)
    for step in (1, 2, 3):
        run.append(kind="step", step=step, loss=1 / step)
        run.append_probe(kind="gradient", step=step)
        run.append_probe(kind="update", step=step)
        storage.append_row(tmp_path / HASH_CHAIN, {"step": step, "chain": str(step)})
    digest, of_probes = run.digest(2), run.digest(4, PROBES)
    run.cut_back(rows=2, probe_rows=4, chain_rows=2)
    assert run.rows_digest == digest == run.digest(2) and run.digest(3) is None
    assert run.probes_digest == of_probes is not None and run.digest(5, PROBES) is None
    for name, steps in (("metrics.jsonl", [1, 2]), (PROBES, [1, 1, 2, 2]), (HASH_CHAIN, [1, 2])):
        assert [row["step"] for row in storage.read_rows(tmp_path / name)] == steps


def test_other_code_that_goes_on_with_a_run_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(code: str) -> dict[str, Any]:
        made_by = {"code": {"digest": code}, "environment": {}}
        monkeypatch.setattr("cnnexp.records.provenance.made_by", lambda: made_by)
        RunRecord.read(tmp_path).begin({"seed": 0}, seed=0)
        return RunRecord.read(tmp_path).info

    (tmp_path / "checkpoints").mkdir()
    assert begin("first")["earlier"] == []
    assert begin("second")["earlier"] == [], "nothing of the first is left: there is no checkpoint"
    (tmp_path / "checkpoints" / "last.pt").touch()
    assert begin("second")["earlier"] == []
    info = begin("third")
    assert info["earlier"] == [{"code": {"digest": "second"}, "environment": {}}]
    assert (info["code"], info["status"], info["resumed"]) == ({"digest": "third"}, "running", 0)


def test_files_that_only_a_resumed_run_needs_go(tmp_path: Path) -> None:
    run = RunRecord(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    for name in ("last.pt", "previous.pt", "best-3.pt", "best.pt"):
        (tmp_path / "checkpoints" / name).touch()
    assert run.resumes
    run.drop_resume_files()
    assert [file.name for file in (tmp_path / "checkpoints").iterdir()] == ["best.pt"] and not run.resumes
