"""scripts/gpu_check.py, tried on the CPU, and its way into docs/performance.md."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import benchmark
import gpu_check
from bench import page, results
from bench.lab import REPOSITORY
from gpu.rows import extrapolated


def check(out: Path, *words: str, timeout: float = 900) -> tuple[int, str]:
    command = [sys.executable, str(REPOSITORY / "scripts" / "gpu_check.py"), "--out", str(out), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=os.environ)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_every_check_passes_on_the_cpu(tmp_path: Path) -> None:
    code, printed = check(tmp_path, "--device", "cpu", "--quick", "--minutes", "15")
    assert code == 0, printed
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert [c["name"] for c in found["checks"]] == list(gpu_check.CHECKS)
    assert {c["status"] for c in found["checks"]} == {"passed"}
    assert benchmark.checked_rows(tmp_path / "gpu_check.json") == {}  # quick: nothing worth keeping


def test_a_failed_check_is_named_and_the_others_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(bench: gpu_check.Bench) -> dict:
        """Always fails."""
        raise gpu_check.Failed("expected 1, found 2")

    monkeypatch.setattr(gpu_check, "CHECKS", {"broken": broken, "fine": lambda bench: {}})
    assert gpu_check.main(["--device", "cpu", "--out", str(tmp_path)]) == 3
    first, second = json.loads((tmp_path / "gpu_check.json").read_text())["checks"]
    assert (first["status"], first["why"], second["status"]) == ("failed", "expected 1, found 2", "passed")


def test_no_check_starts_after_its_time(tmp_path: Path) -> None:
    assert gpu_check.main(["--device", "cpu", "--out", str(tmp_path), "--minutes", "-1", "resume"]) == 0
    (found,) = json.loads((tmp_path / "gpu_check.json").read_text())["checks"]
    assert found["status"] == "not run: no time left"


def test_rows_of_few_epochs_are_extrapolated_and_say_so(tmp_path: Path) -> None:
    about = {"date": "2026-01-01", "machine": {"processor": "x", "cores": 16, "memory_gib": 128, "gpu": "H100"}}
    about |= {"versions": {}, "commit": "a", "quick": False, "not_measured": None, "commands": {}, "problems": {}}
    about["machine"]["load_before"] = 0.1
    one = {"repeat": 1, "train_seconds": 6.0}
    lines = [
        {**one, "case": "cnnexp", "wall_seconds": 10, "recorded_seconds": 8, "start_seconds": 2},
        {**one, "case": "plain", "wall_seconds": 40, "recorded_seconds": 38},
        # Eight runs at a time: 16 s are recorded in 2 s, three quarters of them training.
        {**one, "case": "sweep", "wall_seconds": 5, "recorded_seconds": 16, "start_seconds": 3, "train_seconds": 12.0},
    ]
    row = extrapolated({**about, "facts": {}, "repeats": lines}, epochs=50)
    more = 47 / 3
    assert [line["wall_seconds"] for line in row["repeats"]] == [10 + 6 * more, 40 + 6 * more, 5 + 1.5 * more]
    assert [line["measured_seconds"] for line in row["repeats"]] == [10, 40, 5]
    file = tmp_path / "gpu_check.json"
    file.write_text(json.dumps({"quick": False, "checks": [{"name": "G1", "row": row}, {"name": "resume"}]}))
    assert benchmark.main(["--add", str(file), "--out", str(tmp_path / "docs")]) == 0
    assert list(results.read(tmp_path / "docs")) == ["G1"]
    assert "extrapolated from 3 to 50 epochs" in page.render(results.read(tmp_path / "docs"))
