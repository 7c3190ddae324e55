"""Folders of studies: readable in every script, and never shared by two names."""

import unicodedata
from pathlib import Path

import pytest

from cnnexp.records.run_record import distinct_slug, run_folder, slug

NAMES = ["猫", "犬", "a b", "a-b", "a/b", "a  b", "a?b", "-a", "a", ".a", "über", "uber", "ü ber", "x" * 90, "x" * 91]


def test_no_two_names_share_a_folder():
    folders = {name: run_folder(Path("out"), name, "arm", 0, "f" * 10).parent for name in NAMES}
    assert len(set(folders.values())) == len(NAMES)
    assert all(folder.parent == Path("out") for folder in folders.values())


@pytest.mark.parametrize("name", ["猫", "über", "ablation", "lr=0.1,wd=1e-4", "हिन्दी", "x_1.5"])
def test_names_that_a_folder_can_have_are_kept(name):
    assert distinct_slug(name) == slug(name) == name


def test_the_two_spellings_of_an_accent_are_one_name():
    assert distinct_slug(unicodedata.normalize("NFD", "é")) == distinct_slug(unicodedata.normalize("NFC", "é")) == "é"


@pytest.mark.parametrize("name", ["猫" * 200, "a" * 1000, "é" * 100, "../../etc", "/", "", "\ud800"])
def test_every_name_fits_a_file_system(name):
    found = distinct_slug(name)
    assert len(found.encode()) <= 100 and "/" not in found and found.strip(".") == found != ""
