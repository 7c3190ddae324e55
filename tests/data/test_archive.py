"""Downloaded archives: unsafe members are refused, and nothing of them is written."""

import gzip
import io
import os
import random
import tarfile
from pathlib import Path

import pytest

from cnnexp.data import archive
from cnnexp.data.archive import extract_tar
from cnnexp.errors import UserError
from cnnexp.storage import failpoints

pytestmark = pytest.mark.counts("archives")

Member = str | tuple[str, bytes] | tarfile.TarInfo


def tar(file: Path, *members: Member, mode: str = "w:gz") -> Path:
    """Write a tar archive of small files, or of members of any kind."""
    with tarfile.open(file, mode) as opened:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                opened.addfile(member)
                continue
            info = tarfile.TarInfo(member if isinstance(member, str) else member[0])
            info.size = 2
            opened.addfile(info, io.BytesIO(b"hi"))
    return file


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_an_archive_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    extract_tar(
        tar(tmp_path / "it.tgz", "./images/a/1", special("images/b", tarfile.DIRTYPE), "images/b/2"),
        tmp_path / "images",
    )
    assert tree(tmp_path / "images") == ["a", "a/1", "b", "b/2"]
    assert (tmp_path / "images" / "b" / "2").read_text() == "hi"
    whole = (tmp_path / "it.tgz").read_bytes()
    for damaged in (whole[:0], whole[:40], whole[:-30], whole[:30] + b"\xff" * 30 + whole[60:], b"not an archive"):
        (tmp_path / "cut.tgz").write_bytes(damaged)
        with pytest.raises(UserError, match=r"cut\.tgz: cannot be unpacked"):
            extract_tar(tmp_path / "cut.tgz", tmp_path / "other")
    assert names(tmp_path) == ["cut.tgz", "images", "it.tgz"]


def test_an_archive_is_durable_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, str]] = []
    monkeypatch.setattr(failpoints, "observer", lambda p: done.append((p.point, p.path.name)))
    extract_tar(tar(tmp_path / "it.tgz", "images/a/1", "images/2"), tmp_path / "images")
    named = done.index(("move.rename", "images"))
    assert {name for point, name in done[:named] if point == "blocks.sync"} == {"1", "2", "a", "images"}


REFUSED: dict[str, tuple[tuple[Member, ...], str]] = {
    "an absolute path": (("/etc/cnnexp",), r"'/etc/cnnexp' is an absolute path"),
    "a way out": (("../outside",), r"'../outside' leads out of its folder"),
    "a way out and in": (("images/../../in/images/2",), r"leads out of its folder"),
    "a symbolic link": ((special("images/link", tarfile.SYMTYPE, "/etc"),), r"'images/link' is a link or a device"),
    "a link within": ((special("images/link", tarfile.SYMTYPE, "1"),), r"'images/link' is a link or a device"),
    "a hard link": ((special("images/link", tarfile.LNKTYPE, "images/1"),), r"is a link or a device"),
    "a device": ((special("images/zero", tarfile.CHRTYPE),), r"'images/zero' is a link or a device"),
    "a disk": ((special("images/disk", tarfile.BLKTYPE),), r"is a link or a device"),
    "a pipe": ((special("images/pipe", tarfile.FIFOTYPE),), r"is a link or a device"),
    "names that differ in case": (("images/A", "images/a"), r"'images/a' differs from another name only in its case"),
    "folders that differ in case": (("images/A/1", "images/a/2"), r"differs from another name only in its case"),
    "names that differ in composition": (
        ("images/\u00e9", "images/e\u0301"),
        r"differs from another name only in its case",
    ),
    "a file twice": (("images/2", "images/2"), r"'images/2' is there twice"),
    "a file for a folder": (("images/2", "images/2/3"), r"cannot make this folder|Not a directory"),
    "a folder for a file": (("images/2/3", "images/2"), r"'images/2' is there twice"),
    "another folder": (("other/1",), r"'other/1' is not in the folder 'images'"),
    "another name": (("images.txt",), r"'images.txt' is not in the folder 'images'"),
    "a name that is too long": (("images/" + "x" * 300,), r"File name too long"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsafe_members_are_refused(tmp_path: Path, name: str) -> None:
    members, told = REFUSED[name]
    (tmp_path / "in").mkdir()
    file = tar(tmp_path / "in" / "it.tgz", "images/1", *members)
    with pytest.raises(UserError, match=told) as caught:
        extract_tar(file, tmp_path / "in" / "images")
    assert str(caught.value).startswith(f"{file}: cannot be unpacked (") and "\n" not in str(caught.value)
    assert tree(tmp_path) == ["in", "in/it.tgz"], "nothing of it is left, or elsewhere"
    assert not Path("/etc/cnnexp").exists()


def test_an_archive_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be unpacked"):
        extract_tar(tar(tmp_path / "it.tgz"), tmp_path / "images")
    assert tree(tmp_path) == ["it.tgz"]


def test_too_many_members_and_too_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tar(tmp_path / "it.tgz", *(f"images/{i}" for i in range(5)))
    for name, most in (("MAX_MEMBERS", 4), ("MAX_UNPACKED_BYTES", 9)):
        with monkeypatch.context() as patch:
            patch.setattr(archive, name, most)
            with pytest.raises(UserError, match=r"it has more than .* members, or .* bytes in them"):
                extract_tar(file, tmp_path / "images")
            patch.setattr(archive, name, most + 1)
            extract_tar(file, tmp_path / "images")
        archive.storage.remove(tmp_path / "images")
    huge = special("images/huge", tarfile.REGTYPE)
    huge.size = 2**40  # said in the header alone: refused before a byte of it is read
    (tmp_path / "huge.tgz").write_bytes(gzip.compress(huge.tobuf()))
    with pytest.raises(UserError, match="more than"):
        extract_tar(tmp_path / "huge.tgz", tmp_path / "images")


def test_owners_and_permissions_are_ignored(tmp_path: Path) -> None:
    info = special("images/1", tarfile.REGTYPE)
    info.mode, info.uid = 0o6777, 12345
    extract_tar(tar(tmp_path / "it.tgz", info), tmp_path / "images")
    status = (tmp_path / "images" / "1").stat()
    assert status.st_mode & 0o7111 == 0 and status.st_uid == os.getuid()


@pytest.mark.integration
@pytest.mark.parametrize("where", ["the compressed file", "the archive in it"])
def test_damaged_archives_are_never_a_bug(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnexp.storage.sync_folder", lambda folder: None)
    file, inside = tmp_path / "it.tgz", where == "the archive in it"
    whole = tar(file, *(f"images/{i}" for i in range(20))).read_bytes()
    whole = gzip.decompress(whole) if inside else whole
    draw = random.Random(where)
    told = 0
    for _ in range(100):
        damaged = bytearray(whole[: draw.choice([len(whole), draw.randrange(len(whole))])])
        for _ in range(draw.randrange(1, 9) if damaged else 0):
            damaged[draw.randrange(min(len(damaged), draw.choice([600, 10**6])))] = draw.randrange(256)
        file.write_bytes(gzip.compress(damaged, 1) if inside else damaged)
        try:
            extract_tar(file, tmp_path / "images")
        except UserError as error:
            assert str(error).startswith(f"{file}: cannot be unpacked (")
            told += 1
        archive.storage.remove(tmp_path / "images")
        assert names(tmp_path) == ["it.tgz"]
    assert told > 50


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, blocks: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cnnexp.storage.append_blocks", full)
    with pytest.raises(UserError, match=r"it.tgz: cannot be unpacked .*No space left on device"):
        extract_tar(tar(tmp_path / "it.tgz", "images/1"), tmp_path / "images")
    assert tree(tmp_path) == ["it.tgz"]
