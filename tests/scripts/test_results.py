"""The tables of docs/results.md are those of the archived records, and an archive is a folder for cnnexp report."""

import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from consistent_study import CLAIMS
from fake_records import write_run, write_study

from cnnexp import report

pytestmark = pytest.mark.integration

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(PROJECT / "scripts"))
    import results

    return results


@pytest.fixture
def archived(results: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the outputs of a study "demo" that is done; `results` packs it into another folder."""
    without_predictions = [claim for claim in CLAIMS if ".f1" not in claim and ".precision" not in claim]
    write_study(tmp_path / "outputs", claims=without_predictions)
    monkeypatch.setattr(results, "OUTPUTS", tmp_path / "outputs")
    monkeypatch.setattr(results, "STUDIES", {"demo": []})
    monkeypatch.setattr(results, "ARCHIVES", tmp_path / "archives")
    return tmp_path / "outputs" / "demo"


def test_the_page_has_the_tables_of_its_archives(results: Any, tmp_path: Path) -> None:
    page = results.PAGE.read_text()
    assert results.MARK.search(page)
    assert results.filled(page, results.unpacked(tmp_path)) == page


def test_every_archive_that_the_page_names_is_there(results: Any) -> None:
    named = set(re.findall(r"docs/results/[\w.-]+\.tar\.xz", results.PAGE.read_text()))
    assert named and [name for name in sorted(named) if not (PROJECT / name).is_file()] == []


def test_an_archive_gives_the_claims_of_the_runs(results: Any, archived: Path, tmp_path: Path) -> None:
    results.pack([])
    (folder,) = results.unpacked(tmp_path / "unpacked")
    assert not list(folder.glob("*/predictions.npz"))
    report.write(archived, figures=False)
    there, here = (pd.read_csv(f / "report" / "tables" / "claims.csv") for f in (archived, folder))
    assert here["verdict"].str.fullmatch("holds").any()
    pd.testing.assert_frame_equal(there, here)
    page = results.filled("<!-- table: headline -->\n<!-- end -->", [folder])
    assert page.count("**holds**") == (here["verdict"] == "holds").sum()


def test_the_same_records_give_the_same_archive(results: Any, archived: Path, tmp_path: Path) -> None:
    results.pack(["demo"])
    (file,) = (tmp_path / "archives").iterdir()
    first = file.read_bytes()
    for path in archived.rglob("*"):
        path.touch()
    results.pack(["demo"])
    assert file.read_bytes() == first


def test_a_study_that_is_not_done_is_not_archived(results: Any, archived: Path, tmp_path: Path) -> None:
    write_run(archived.parent, "dropout", 8, status="interrupted")
    with pytest.raises(SystemExit, match=r"demo: not done: dropout-s8"):
        results.pack([])
    shutil.rmtree(next(archived.glob("dropout-s8-*")))
    results.pack([])
