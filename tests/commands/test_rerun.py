"""`cnnexp rerun`: the same numbers again from the record alone, or which differ, and what has changed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import yaml
from checksummed import lines_of
from image_folders import tree

from cnnexp import cli, storage
from cnnexp.commands.rerun import undetermined
from cnnexp.records import identical
from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.training.build import forget_data

pytestmark = pytest.mark.counts("reruns")

pytest_plugins = ["trained_runs"]
Rerun = Callable[..., tuple[int, str, str]]


@pytest.fixture
def rerun(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Rerun:
    """Return a function that repeats a run, into tmp_path/again if nothing else is said: (code, stdout, stderr)."""

    def run(folder: Path, *words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        out = [] if "--out" in words or "here" in words else ["--out", str(tmp_path / "again")]
        code = cli.main(["rerun", str(folder), *(word for word in words if word != "here"), *out])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def copied(trained_run: Path, tmp_path: Path) -> Path:
    """Return a copy of a run, for a test to change."""
    return Path(shutil.copytree(trained_run, tmp_path / trained_run.name))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def change_config(folder: Path, **nodes: dict[str, Any]) -> None:
    """Change keys of a recorded config's nodes."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for name, changes in nodes.items():
        config[name] |= changes
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def test_a_record_whose_command_was_cut_is_repeated(rerun: Rerun, copied: Path) -> None:
    RunRecord.read(copied).update(repeat="cnnexp train 'cut")
    assert rerun(copied)[0] == 0


def test_the_same_numbers_again(rerun: Rerun, trained_run: Path, tmp_path: Path) -> None:
    before = contents(trained_run)
    with chdir(tmp_path):
        for name in (trained_run.name, f"{trained_run.name}-2"):
            code, out, err = rerun(trained_run, "here")
            assert (code, err.count("cnnexp:")) == (0, 0)
            assert f"rerun     outputs/rerun/{name}\n" in out
            assert out.endswith("the same to the last bit: 4 metric rows and 50 x 10 test logits\n")
    assert contents(trained_run) == before
    first, second = find_runs(tmp_path / "outputs")
    original = RunRecord.read(trained_run)
    for again in (first, second):
        assert {key: again.info[key] for key in ("study", "arm", "seed", "fingerprint", "repeat")} == {
            **{key: original.info[key] for key in ("arm", "seed", "fingerprint", "repeat")},
            "study": "rerun",
        }
        assert again.info["command"].startswith("cnnexp rerun ")
    assert first.predictions()["logits"].tobytes() == original.predictions()["logits"].tobytes()


def test_other_numbers_are_named_with_what_is_not_as_it_was(rerun: Rerun, copied: Path) -> None:
    rows = storage.read_rows(copied / "metrics.jsonl")
    rows[2]["loss"] += 0.25
    (copied / "metrics.jsonl").write_bytes(lines_of(rows))
    record = RunRecord.read(copied)
    record.update(
        result={**record.info["result"], "test_accuracy": 0.125},
        files=None,  # as if these were the rows that the run wrote
        environment={**record.info["environment"], "torch": "1.0"},
        code={**record.info["code"], "commit": "abc-dirty"},
        data={**record.info["data"], "fingerprint": "other images"},
        device={**record.info["device"], "threads": 7},
    )
    code, out, _ = rerun(copied)
    assert code == 3
    for words in (
        "not the same:",
        "metric rows: differ first in row 3 (epoch 2, train): loss ",
        "  test_accuracy: 0.125 then, 0.",
        "changed since then:",
        "  environment.torch: 1.0 then, ",
        "  code.commit: abc-dirty then, ",
        "  data.fingerprint: other images then, ",
        "  device.threads: 7 then, 1 now",
        "  other CPU kernels (threads): numbers may differ in the last bits",
    ):
        assert words in out


def test_other_numbers_with_nothing_else_changed(rerun: Rerun, copied: Path) -> None:
    record = RunRecord.read(copied)
    predictions = record.predictions()
    predictions["logits"][3, 2] += 0.5
    record.write_predictions(**predictions)
    record.update(files=None)  # as if these were the logits that the run wrote
    code, out, _ = rerun(copied)
    assert code == 3
    assert "\n  test logits: the largest difference is 0.5\n" in out
    assert out.endswith("\ncode, versions, device and data are unchanged\n")


@pytest.mark.integration
def test_other_cpu_kernels_are_named(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Torch's plain kernels give other last bits than those for this processor; `rerun` and `diff` say so."""
    if RunRecord.read(copied).info["device"]["instructions"] == "DEFAULT":
        pytest.skip("torch has no faster kernels for this processor")
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    command = [sys.executable, "-m", "cnnexp", "rerun", str(copied), "--out", str(tmp_path / "again")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    here = RunRecord.read(copied).info["device"]["instructions"]
    line = "other CPU kernels ({} {}, DEFAULT {}): numbers may differ in the last bits, and training makes "
    line += "differences grow"
    assert done.returncode == 3 and "metric rows: differ first in row " in done.stdout
    assert f"device.instructions: {here} then, DEFAULT now\n" in done.stdout
    assert f"  {line.format(here, 'then', 'now')}\n" in done.stdout
    assert cli.main(["diff", str(copied), str(tmp_path / "again")]) == 0
    assert f"  {line.format(here, 'in a', 'in b')}\n" in capsys.readouterr().out


def test_equal_numbers_under_other_versions(rerun: Rerun, copied: Path) -> None:
    record = RunRecord.read(copied)
    record.update(environment={**record.info["environment"], "numpy": "0.1"})
    code, out, _ = rerun(copied)
    assert code == 0 and "although this has changed:\n  environment.numpy: 0.1 then, " in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optimizer.lr=3"], "optimizer.lr=3: allowed: data.root=DIR, data.cache=DIR, data.file=FILE; all else"),
        (["--device", "tpu"], "device.kind: unknown device 'tpu'"),
        (["--out", "."], "--out: . holds something else; name a folder that does not exist yet"),
    ],
)
def test_wrong_requests(rerun: Rerun, trained_run: Path, words: list[str], message: str) -> None:
    before = contents(trained_run)
    code, _, err = rerun(trained_run, *words)
    assert code == 2 and message in err and err.count("\n") == 1
    code, _, err = rerun(trained_run, "--out", str(trained_run))
    assert code == 2 and "holds something else" in err
    assert contents(trained_run) == before


@pytest.mark.integration
def test_a_table_that_has_moved(rerun: Rerun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path / "images", ("",), count=30)
    rows = [f"{k}/{i}.png,{k}" for k in ("cat", "dog") for i in range(30)]
    (tmp_path / "images" / "table.csv").write_text("\n".join(["path,label", *rows]))
    words = ["data=csv", f"data.file={tmp_path / 'images/table.csv'}"]
    small = ["data.size=8", "epochs=1st", "batch_size=8", "device=cpu", "device.threads=1", "model=conv2_norm"]
    assert cli.main(["train", *words, *small, f"outputs={tmp_path / 'outputs'}"]) == 0
    run = find_runs(tmp_path / "outputs")[0].folder
    shutil.move(tmp_path / "images", tmp_path / "moved")
    forget_data()
    code, _, err = rerun(run)
    assert code == 2 and "data.file: " in err and "table.csv cannot be read" in err
    moved = f"data.file={tmp_path / 'moved/table.csv'}"
    code, out, err = rerun(run, moved)
    assert code == 0 and out.count("the same to the last bit") == 1, err
    assert cli.main(["evaluate", str(run), moved]) == 0 and "as recorded" in capsys.readouterr().out
    (tmp_path / "moved/few.csv").write_text("\n".join(["path,label", *rows[:20], *rows[30:50]]))
    assert cli.main(["evaluate", str(run), f"data.file={tmp_path / 'moved/few.csv'}"]) == 0, "another table"
    assert "as recorded" not in capsys.readouterr().out


def test_a_run_that_is_not_finished(rerun: Rerun, copied: Path) -> None:
    RunRecord.read(copied).update(status="failed")
    code, _, err = rerun(copied)
    assert code == 2
    assert "the run is failed, so there is nothing to compare with; finish it with: cnnexp train " in err


def test_a_rerun_that_was_interrupted_goes_on(rerun: Rerun, trained_run: Path, tmp_path: Path) -> None:
    assert rerun(trained_run)[0] == 0
    RunRecord.read(tmp_path / "again").update(status="interrupted")
    assert rerun(trained_run)[0] == 0
    assert rerun(trained_run)[0] == 2, "now it is finished, and no place for another"


@pytest.mark.parametrize("node", ["data", "model", "augmentation", "optimizer", "scheduler"])
def test_a_record_builds_only_what_is_shipped(rerun: Rerun, copied: Path, tmp_path: Path, node: str) -> None:
    change_config(copied, **{node: {"_target_": "os.system", "command": f"touch {tmp_path / 'harm'}"}})
    code, _, err = rerun(copied)
    assert code == 2 and f"{node}._target_: os.system is not built from a run directory" in err
    assert not (tmp_path / "harm").exists() and not (tmp_path / "again").exists()


def test_own_parts_are_allowed_by_name_and_must_be_there(
    rerun: Rerun, own_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = rerun(own_run)
    assert code == 2 and "own_network.OwnNetwork is not built from a run directory" in err and "--allow" in err
    assert rerun(own_run, "--allow", "own_network.OwnNetwork")[0] == 0
    missing = Path(shutil.copytree(own_run, tmp_path / "missing"))
    change_config(missing, model={"_target_": "no_such_module.Net"})
    code, _, err = rerun(missing, "--allow", "no_such_module.Net", "--out", str(tmp_path / "other"))
    assert (code, err.count("\n")) == (2, 2) and "config.yaml: is not what the run left there" in err
    assert "model._target_: no module 'no_such_module' for 'no_such_module.Net'; run in its folder, or set" in err


@pytest.mark.integration
def test_a_run_that_diverged_diverges_again(
    rerun: Rerun, train: Callable[..., int], only: Callable[[], RunRecord], tmp_path: Path
) -> None:
    assert train("optimizer.lr=1e30") == 3
    code, out, _ = rerun(only().folder)
    assert code == 0, out
    assert RunRecord.read(tmp_path / "again").status == "diverged"


@pytest.mark.slow
def test_a_run_that_starts_from_another_keeps_its_fingerprint(
    rerun: Rerun, train: Callable[..., int], runs: Callable[[], dict[str, RunRecord]], tmp_path: Path
) -> None:
    pretrain = {
        "defaults": [{"override /model": "torchvision"}],
        "model": {"name": "squeezenet1_1"},
        "data": {"num_train": 50, "num_test": 20, "size": 32},
        "epochs": "1st",
        "batch_size": 8,
        "study": {"name": "pretrain", "arm": "first"},
    }
    (tmp_path / "own" / "pretrain").mkdir(parents=True)
    (tmp_path / "own" / "pretrain" / "first.yaml").write_text("# @package _global_\n" + yaml.safe_dump(pretrain))
    more = ["model=torchvision", "model.name=squeezenet1_1", "data.size=32", "epochs=1st"]
    own = ["--config-dir", str(tmp_path / "own")]
    assert train(*own, *more, "model.weights={config:first}", "study.arm=second") == 0
    weights = runs()["first-s0"].folder / "checkpoints" / "best.pt"
    assert train(*more, f"model.weights={weights}", "study.arm=third") == 0
    for arm in ("second", "third"):
        code, out, _ = rerun(runs()[f"{arm}-s0"].folder, "--out", str(tmp_path / arm))
        assert code == 0 and "this has changed" not in out, out
    weights.write_bytes(weights.read_bytes() + b" ")
    code, out, _ = rerun(runs()["third-s0"].folder)
    assert code == 0 and "your own code, or the weights that the run starts from (the fingerprint differs)" in out


@pytest.mark.parametrize("name", ["metrics.jsonl", "predictions.npz"])
def test_what_cannot_be_compared_is_reported_before_training(
    rerun: Rerun, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("cnnexp.training.loop.train_step", lambda *_: pytest.fail("it was trained"))
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 4
    (copied / name).write_bytes(content)
    code, out, err = rerun(copied)
    assert (code, out) == (2, "") and f"{name}: is not what the run left there" in err
    assert not (tmp_path / "again").exists()


def test_on_cuda_the_setting_that_lets_runs_differ_is_named(copied: Path) -> None:
    record = RunRecord.read(copied)
    assert undetermined(record) == [], "a CPU's numbers are its own"
    record.update(device={**record.info["device"], "kind": "cuda"})
    assert undetermined(record) == ["device.deterministic is false, so two runs on cuda may differ in the last bits"]
    change_config(copied, device={"deterministic": True})
    assert undetermined(record) == []


def test_a_damaged_run_stops_no_report(copied: Path, trained_run: Path) -> None:
    (copied / "metrics.jsonl").write_text("{}\n")
    records = [("a", RunRecord.read(copied)), ("b", RunRecord.read(trained_run))]
    assert identical.identical(records) == [] and identical.sentences(records) == []
