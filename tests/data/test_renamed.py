"""Files that are renamed: what is drawn by their names changes, and every command says so."""

from collections.abc import Callable
from pathlib import Path

import pytest
from image_folders import folder, picture

from cnnexp import cli
from cnnexp.errors import UserError
from cnnexp.records.run_record import find_runs
from cnnexp.training.build import forget_data
from cnnexp.training.plan import Plan

pytestmark = pytest.mark.integration

SMALL = ["data.size=8", "epochs=1", "batch_size=8", "device=cpu", "device.threads=1", "model=conv2_norm"]


def make(root: Path, inside: str) -> list[str]:
    """Write images below `root`, 40 of each class, and a table of them; return the words that train on the folder."""
    for part in ("train", "test") if inside else ("",):
        for k, name in enumerate(("cat", "dog")):
            (root / part / name).mkdir(parents=True)
            for i in range(40):
                picture(1000 * k + i + 100 * (part == "test"), size=(8, 8)).save(root / part / name / f"{i:02}.png")
    rows = [f"{file.relative_to(root)},{file.parent.name}" for file in sorted(root.rglob("*.png"))]
    (root / "table.csv").write_text("\n".join(["path,label", *rows]))
    return ["data=folder", f"data.root={root}"]


def rename(root: Path) -> None:
    """Rename the images so that they stay in their order, for a new process."""
    forget_data()
    for file in root.rglob("*.png"):
        file.rename(file.with_name(f"x{file.name}"))
    table = root / "table.csv"
    table.write_text(table.read_text().replace("/", "/x"))


def train(*words: str) -> int:
    return cli.main(["train", *SMALL, "study.name=renamed", *words])


@pytest.mark.parametrize("form", ["folder", "table"])
def test_renamed_images_are_another_run(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, outputs = tmp_path / "photos", tmp_path / "outputs"
    words = [*make(photos, ""), f"outputs={outputs}"]
    if form == "table":
        words[:2] = ["data=csv", f"data.file={photos / 'table.csv'}"]
    assert train(*words) == 0
    (before,) = find_runs(outputs)
    rename(photos)
    assert cli.main(["evaluate", str(before.folder)]) == 3
    assert "the split drawn by the names of its files has changed" in capsys.readouterr().out
    assert train(*words) == 0
    first, second = sorted(find_runs(outputs), key=lambda run: str(run.info["started"]))
    assert first.info["data"]["fingerprint"] == second.info["data"]["fingerprint"]
    assert first.info["data"]["split"] != second.info["data"]["split"]
    assert cli.main(["rerun", str(before.folder), "--out", str(tmp_path / "again")]) == 3
    assert "data.split: " in capsys.readouterr().out


def test_renamed_images_are_other_folds_of_which_each_has_the_same_facts(tmp_path: Path) -> None:
    make(tmp_path / "photos", "")
    folds = [folder(tmp_path / "photos", folds=3, fold=fold).drawn for fold in range(3)]
    assert folds[0]["split"] and folds[1:] == folds[:-1]
    rename(tmp_path / "photos")
    assert folder(tmp_path / "photos", folds=3, fold=0).drawn != folds[0]


def test_other_validation_images_are_refused_and_the_fingerprint_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, outputs = tmp_path / "photos", tmp_path / "outputs"
    words = [*make(photos, "train"), f"outputs={outputs}"]
    assert train(*words) == 0
    (run,) = find_runs(outputs)
    rename(photos)
    assert train(*words) == 2
    assert "the validation split of the data, drawn by the names of its files, has changed" in capsys.readouterr().err
    assert train(*words, "epochs=2ep") == 0
    assert "its validation images are others, because files were renamed" in capsys.readouterr().err
    assert train(*words, "study.name=another") == 0
    (other,) = find_runs(outputs / "another")
    assert other.info["fingerprint"] == run.info["fingerprint"]


@pytest.mark.parametrize("inside", ["", "train"])
def test_a_planned_run_refuses_what_is_drawn_from_other_names(
    tmp_path: Path, plan: Callable[..., Plan], inside: str
) -> None:
    words = make(tmp_path / "photos", inside)
    planned = plan(*words, "data.size=8", "batch_size=8")
    planned.check_unchanged(folder(tmp_path / "photos", val_fraction=0.1))
    rename(tmp_path / "photos")
    with pytest.raises(UserError, match="drawn by the names of its files: has changed since this run was planned"):
        planned.check_unchanged(folder(tmp_path / "photos", val_fraction=0.1))


def test_splits_of_ones_own_are_not_drawn(tmp_path: Path) -> None:
    make(tmp_path / "photos", "train")
    assert folder(tmp_path / "photos", val_fraction=0).drawn == {}
