"""The image files below a folder: none is missing because a folder cannot be listed."""

import errno
import os

import pytest
from image_folders import folder, picture, tree
from public_sets import DRAWN

from cnnexp.commands.predict import find_files
from cnnexp.data import public
from cnnexp.data.image_files import image_files
from cnnexp.storage import StorageError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNEXP_CACHE", str(tmp_path / "cache"))


def cannot_list(monkeypatch, place, code):
    """Let every way of listing one folder fail."""

    def failing(really):
        def listing(path="."):
            if os.fspath(path) == os.fspath(place):
                raise OSError(code, os.strerror(code), os.fspath(path))
            return really(path)

        return listing

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, failing(getattr(os, name)))


@pytest.mark.parametrize(
    ("below", "code", "message"),
    [
        (
            "train/cat/more",
            errno.EACCES,
            r"train/cat/more: cannot be read \(Permission denied\); check its permissions",
        ),
        ("train/cat/more", errno.ESTALE, r"train/cat/more: cannot be read \(Stale file handle\); the disk or the"),
        ("train/cat/more", errno.ENOENT, r"train/cat/more: cannot be read \(No such file or directory\)"),
        ("test/dog", errno.EIO, r"test/dog: cannot be read \(Input/output error\); the disk or the"),
        ("test", errno.EACCES, r"test: cannot be read \(Permission denied\)"),
        (".", errno.EIO, r"tree: cannot be read \(Input/output error\)"),
    ],
)
def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch, below, code, message):
    root = tree(tmp_path / "tree")
    (root / "train/cat/more").mkdir()
    picture(77).save(root / "train/cat/more/77.png")
    cannot_list(monkeypatch, root / below, code)
    with pytest.raises(StorageError, match=message) as caught:
        folder(root, on_corrupt="skip")
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    monkeypatch.setenv("CNNEXP_CACHE", str(tmp_path / "cache"))
    assert sum(map(len, folder(root).splits().values())) == 21


def test_a_listing_that_breaks_off_is_an_error(tmp_path, monkeypatch):
    tree(tmp_path / "tree")

    class Broken:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def __next__(self):
            raise OSError(errno.EIO, "Input/output error")

        def __iter__(self):
            return self

    monkeypatch.setattr(os, "scandir", lambda path: Broken())
    with pytest.raises(StorageError, match=r"tree: cannot be read \(Input/output error\)"):
        image_files(tmp_path / "tree")


def test_a_folder_to_predict_with_one_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    root = tree(tmp_path / "tree", parts=(".",))
    assert len(find_files([root])[0]) == 10
    cannot_list(monkeypatch, root / "dog", errno.EACCES)
    with pytest.raises(StorageError, match=r"dog: cannot be read \(Permission denied\)"):
        find_files([root])


def test_a_public_set_with_a_folder_that_cannot_be_listed_is_not_smaller(tmp_path, monkeypatch):
    DRAWN["EuroSAT"](tmp_path)
    files = public.files_of("EuroSAT", tmp_path)
    assert len(files) == 30 and files == sorted(tmp_path.glob("eurosat/2750/*/*"))
    cannot_list(monkeypatch, files[0].parent, errno.EACCES)
    with pytest.raises(StorageError, match=rf"{files[0].parent.name}: cannot be read \(Permission denied\)"):
        public.files_of("EuroSAT", tmp_path)
