"""Files and folders replaced as a unit: a reader sees the old one or the new one and nothing between."""

import os
from pathlib import Path

import pytest

from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.storage import disk

pytestmark = pytest.mark.counts("operations")


def names(folder: Path) -> list[str]:
    """Return what is in a folder."""
    return sorted(file.name for file in folder.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "run.json"
    storage.write_json(file, {"epoch": 1})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        storage.write_json(file, {"epoch": 2})
    assert storage.read_json(file) == {"epoch": 1}
    assert names(tmp_path) == ["run.json"], "the temporary file is gone"


def test_what_is_written_is_synced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("folder" if _is_folder(fd) else "file"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("rename"), replace(a, b)))
    storage.write_text(tmp_path / "it", "content")
    assert order == ["file", "rename", "folder"]


def _is_folder(descriptor: int) -> bool:
    return Path(f"/proc/self/fd/{descriptor}").resolve().is_dir()


def test_text_that_is_not_utf8_comes_back(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg".decode("utf-8", errors="surrogateescape")  # a file name in Latin-1
    storage.write_json(tmp_path / "it", [name, "naïve"])
    assert storage.read_json(tmp_path / "it") == [name, "naïve"]


@pytest.mark.parametrize("content", ["", "{", "[1, 2"])
def test_a_malformed_json_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json: cannot be read"):
        storage.read_json(tmp_path / "run.json")


def test_of_two_that_publish_the_first_wins(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"tmp{number}").mkdir()
        (tmp_path / f"tmp{number}" / "file").write_text(str(number))
        storage.publish_folder(tmp_path / f"tmp{number}", tmp_path / "final")
    assert names(tmp_path) == ["final"]
    assert (tmp_path / "final" / "file").read_text() == "1"


def test_removing_a_link_leaves_what_it_points_at(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("content")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    storage.remove(tmp_path / "link")
    storage.remove(tmp_path / "never there")
    assert names(tmp_path) == ["kept"]
    assert storage.size_bytes(tmp_path / "kept") == 7


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/under: cannot make this folder \(Not a directory\)"):
        storage.make_folder(tmp_path / "file" / "under")


@pytest.mark.parametrize("linked", [True, False])
def test_a_copy_outlives_the_file_that_it_is_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool) -> None:
    def refuse(*names: Path) -> None:
        raise OSError("no hard links here")

    if not linked:
        monkeypatch.setattr(os, "link", refuse)
    first, second = tmp_path / "first", tmp_path / "second"
    storage.write_bytes(first, b"old")
    storage.write_bytes(second, b"in the way")
    storage.copy(first, second)
    assert second.read_bytes() == b"old"
    assert first.samefile(second) is linked
    storage.write_bytes(first, b"new")
    assert second.read_bytes() == b"old"
    storage.remove(first)
    assert names(tmp_path) == ["second"]


def test_containers_with_the_same_process_ids_write_different_drafts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = storage.draft(tmp_path / "a", lambda file: file.write(b"first"))
    monkeypatch.setattr(disk, "TOKEN", "other")
    storage.write_text(tmp_path / "a", "second")
    storage.publish(first, tmp_path / "a")
    assert (tmp_path / "a").read_text() == "first"
