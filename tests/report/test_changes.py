"""The stamp by which an overview knows whether a page must be made again."""

import pytest
from fake_records import write_study

from cnnexp.records.provenance import PACKAGE
from cnnexp.records.run_record import find_runs
from cnnexp.report.read import changes

TWO = {"baseline": (0.5, 0.3, 60.0), "dropout": (0.6, 0.1, 70.0)}


def test_the_files_that_make_pages_are_in_the_stamp(tmp_path, monkeypatch):
    folder = write_study(tmp_path, TWO)
    before = changes.stamp(folder, find_runs(folder))
    assert before == changes.stamp(folder, find_runs(folder))
    monkeypatch.setattr(changes, "makers", lambda package: "others")
    assert changes.stamp(folder, find_runs(folder)) != before


@pytest.mark.parametrize("name", ["report/a.py", "report/b/c.html.j2", "report/b/d.js", "pages/e.css"])
def test_a_change_of_each_kind_of_file_is_seen(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_text("1")
    before = changes.makers.__wrapped__(tmp_path)
    file.write_text("2")
    assert changes.makers.__wrapped__(tmp_path) != before


def test_every_file_of_the_package_that_a_page_is_made_of_is_of_a_known_kind():
    found = [file for name in changes.MAKERS for file in (PACKAGE / name).rglob("*") if file.is_file()]
    kinds = {file.suffix for file in found if "__pycache__" not in file.parts}
    assert kinds <= set(changes.MADE_BY), kinds
