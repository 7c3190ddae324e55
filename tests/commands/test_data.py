"""`cnnexp data`: what it prints, draws and deletes."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from image_folders import tree
from PIL import Image, ImageDraw

from cnnexp import cli
from cnnexp.commands import data
from cnnexp.data.images import Split


@pytest.mark.integration
def test_it_describes_and_draws_and_clears(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CNNEXP_CACHE", str(tmp_path / "cache"))
    root = tree(tmp_path / "tree", count=10, mode="L")
    given = ["folder", "--no-page", "--grid", str(tmp_path / "new/grid.png"), f"data.root={root}", "data.size=8"]
    assert data.main(given) == 0
    printed = capsys.readouterr().out
    for line in (
        "folder, 2 classes",
        "uint8, 8 x 8 x 1 (H x W x C), ",
        "(0.0 MiB)",
    ):
        assert line in printed
    assert ["cat", "9", "1", "10"] in [line.split() for line in printed.splitlines()]
    with Image.open(tmp_path / "new/grid.png") as picture:
        assert picture.format == "PNG" and picture.height == 2 * 66
    assert data.main(["--clear-cache"]) == 0
    assert "freed in" in capsys.readouterr().out
    assert [f for f in (tmp_path / "cache").iterdir() if f.is_dir()] == []


def test_names_of_every_script_are_legible_in_the_grid(monkeypatch):
    drawn = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, place, text, font, **_: drawn.append((text, font)))
    images = Split(np.zeros((2, 4, 4, 1), np.uint8), np.arange(2), np.arange(2), np.array(["a", "b"]))
    data.grid(SimpleNamespace(classes=["Äpfel", "猫"], train=images))
    for text, font in drawn:
        boxes = {bytes(font.getmask(character)) for character in text}
        assert bytes(font.getmask("\uffff")) not in boxes, "a character that the font lacks is an empty box"
    assert len(drawn) == 2


def test_images_in_memory_have_nothing_to_verify(capsys):
    own = ["data._target_=own_parts.stripes", "data.count=40", "data.size=8"]
    assert cli.main(["data", *own, "--no-page", "--verify"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "the images are in memory: nothing to verify"


def test_a_folder_for_no_page_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["data", "postcards", "--no-page", "--out", str(tmp_path / "page")])
    assert "--no-page and --out DIR, the folder of the page: leave one out" in capsys.readouterr().err
    assert not (tmp_path / "page").exists()


def test_a_grid_that_is_no_png_file_is_refused_before_the_data_is_read(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["data", "folder", "--grid", "g.jpg", f"data.root={tmp_path}/gone"])
    assert "--grid g.jpg: the picture is a PNG file; name it g.png" in capsys.readouterr().err


@pytest.mark.integration
def test_wrong_settings_are_reported(tmp_path, capsys):
    for given, message in (
        (["folder", f"data.root={tmp_path}/gone"], r"data.root: .*gone is not a folder"),
        (["imagenet"], r"unknown choice 'imagenet'; .*did you mean 'imagenette'"),
        (["data.sise=3"], r"data.sise: no such key"),
        (["postcards", "data.val_fraction=1"], r"data.val_fraction: given 1; allowed: a number >= 0 and < 1"),
        (["postcards", "data.normalize={mean: [0.5]}"], r"data.normalize.std: is missing"),
    ):
        assert cli.main(["data", *given]) == 2
        error = capsys.readouterr().err
        assert re.search(message, error) and error.count("\n") == 1
