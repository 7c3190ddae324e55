"""A study of fake runs with its report, in which every number agrees: made once a session."""

import shutil
from pathlib import Path

import pytest
from consistent_study import CLAIMS, FACTORIAL, REPORTED, make_consistent
from fake_records import write_run, write_study

from cnnexp import report


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a study of seven arms with its report, in which all agrees. Tests do not change it."""
    outputs = tmp_path_factory.mktemp("consistent")
    folder = write_study(outputs, claims=CLAIMS, reported=REPORTED)
    write_run(outputs, "dropout", 7, status="diverged")
    write_run(outputs, "dropout", 8, status="failed", error={"type": "E", "message": "no"})
    make_consistent(outputs, FACTORIAL)
    report.write(folder, figures=False)
    return folder


@pytest.fixture
def study(demo: Path, tmp_path: Path) -> Path:
    """Return a copy of the study, for a test to change."""
    return Path(shutil.copytree(demo, tmp_path / "demo"))
