"""Downloads from a server on localhost that cuts, stalls, redirects and sends wrong content."""

import hashlib
import io
import os
import re
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from https_server import CONTENT, Server, serving, trusting

from cnnexp.data import download
from cnnexp.errors import UserError
from cnnexp.storage import fetch

pytestmark = pytest.mark.counts("downloads")

MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "STALLED_SECONDS", 1.0)  # a busy machine may need part of it
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


def get(folder: Path, *faults: str, digest: str = MD5) -> Server:
    """Fetch the file into `folder` despite faults; it must be complete in the end."""
    with serving(*faults) as (url, server):
        fetch.fetch(url, folder / "file.tgz", digest, trusting())
    assert (folder / "file.tgz").read_bytes() == CONTENT
    assert names(folder) == ["file.tgz"]
    return server


def refused(folder: Path, *faults: str, digest: str = MD5) -> tuple[str, Server]:
    """Fetch the file into `folder`, which must fail; return why, without the URL."""
    with serving(*faults) as (url, server):
        with pytest.raises(fetch.Unavailable) as caught:
            fetch.fetch(url, folder / "file.tgz", digest, trusting())
        assert not (folder / "file.tgz").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(url, "URL"), server


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def part(folder: Path) -> Path:
    return folder / "file.tgz.part"


def test_a_download_is_complete_and_leaves_nothing_else(tmp_path: Path) -> None:
    assert get(tmp_path).asked == [None]


def test_a_cut_transfer_is_resumed(tmp_path: Path) -> None:
    half = len(CONTENT) // 2
    assert get(tmp_path, "cut").asked == [None, f"bytes={half}-"]


def test_a_stalled_transfer_is_resumed(tmp_path: Path) -> None:
    assert get(tmp_path, "stall").asked == [None, f"bytes={len(CONTENT) // 2}-"]


@pytest.mark.parametrize("fault", ["hang up", "no HTTP", "no length"])
def test_temporary_faults(tmp_path: Path, fault: str) -> None:
    get(tmp_path, fault)


def test_the_part_of_an_earlier_download_is_resumed(tmp_path: Path) -> None:
    message, _ = refused(tmp_path, "cut", "stall", "cut")
    assert re.fullmatch(
        r"the connection to URL ended after [\d,]+ of 1,024,000 bytes; the [\d,]+ bytes .* kept", message
    )
    have = part(tmp_path).stat().st_size
    assert 0 < have < len(CONTENT) and part(tmp_path).read_bytes() == CONTENT[:have]
    assert get(tmp_path).asked == [f"bytes={have}-"]


def test_a_server_without_ranges_starts_again(tmp_path: Path) -> None:
    assert len(get(tmp_path, "cut", "no ranges").asked) == 2


def test_a_server_that_answers_with_another_part(tmp_path: Path) -> None:
    assert get(tmp_path, "cut", "another part").asked[2] is None


@pytest.mark.parametrize("old", [b"rubbish", CONTENT[:-1] + b"?", CONTENT + b"more"], ids=["short", "same", "long"])
def test_a_part_of_another_file_is_dropped(tmp_path: Path, old: bytes) -> None:
    part(tmp_path).write_bytes(old)
    assert get(tmp_path).asked == [f"bytes={len(old)}-", None]


def test_a_complete_part_is_used(tmp_path: Path) -> None:
    part(tmp_path).write_bytes(CONTENT)
    assert get(tmp_path).asked == [f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize("digest", [MD5, SHA256, SHA256[:15]], ids=["md5", "sha256", "first digits"])
def test_wrong_bytes_are_refused_and_dropped(tmp_path: Path, digest: str) -> None:
    get(tmp_path, digest=digest)
    (tmp_path / "file.tgz").unlink()
    message, server = refused(tmp_path, "wrong bytes", digest=digest)
    assert re.fullmatch(rf"URL has the wrong content: its digest is (.+), not {digest}", message)
    found = message.partition("its digest is ")[2].partition(", not ")[0]
    assert len(found) == len(digest)
    assert names(tmp_path) == [] and len(server.asked) == 1


@pytest.mark.parametrize(
    ("fault", "expected"), [("404", "URL answers 404 Not Found"), ("503", "URL answers 503 Service")]
)
def test_an_unavailable_file_is_an_error(tmp_path: Path, fault: str, expected: str) -> None:
    message, server = refused(tmp_path, fault)
    assert message.startswith(expected) and len(server.asked) == 1
    assert names(tmp_path) == []


def test_a_redirection_is_followed_over_https_alone(tmp_path: Path) -> None:
    with serving() as (good, _):
        get(tmp_path, f"302 {good}")
    with serving(secure=False) as (plain, server):
        message, _ = refused(tmp_path / "..", f"301 {plain}")
        assert message == f"URL redirects to {plain}, which is not https" and server.asked == []
    message, _ = refused(tmp_path / "..", "302 ftp://127.0.0.1/file")
    assert message == "URL redirects to ftp://127.0.0.1/file, which is not https"


def test_http_is_refused(tmp_path: Path) -> None:
    with serving(secure=False) as (url, server):
        with pytest.raises(fetch.Unavailable, match="is not https"):
            fetch.fetch(url, tmp_path / "file.tgz", MD5)
        assert server.asked == []


def test_redirections_without_end(tmp_path: Path) -> None:
    with serving(*(["302 /file.tgz"] * 30)) as (url, server):
        with pytest.raises(fetch.Unavailable, match="answers 302"):
            fetch.fetch(url, tmp_path / "file.tgz", MD5, trusting())
        assert len(server.asked) < 15


def test_an_untrusted_certificate(tmp_path: Path) -> None:
    with serving() as (url, server):
        with pytest.raises(fetch.Unavailable, match="certificate verify failed"):
            fetch.fetch(url, tmp_path / "file.tgz", MD5)
        assert server.asked == []


def test_a_too_large_file_is_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message, _ = refused(tmp_path, "huge")
    assert message == "URL has 1,000,000,000,000,000 bytes, more than 4,294,967,296"
    monkeypatch.setattr(fetch, "MAX_FILE_BYTES", 500_000)
    message, _ = refused(tmp_path, "no length")
    assert message == "URL sends more than 500,000 bytes"


def test_a_disk_without_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1_000_000

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    message, _ = refused(tmp_path)
    assert message == f"URL has 1,024,000 bytes, and {tmp_path} has 1,000,000 free"
    part(tmp_path).write_bytes(CONTENT[:500_000])
    get(tmp_path)


def small_archive() -> bytes:
    """Return a .tgz with imagenette2-160/train/x/1."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo("imagenette2-160/train/x/1")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"hi"))
    return buffer.getvalue()


def of(url: str, content: bytes) -> download.Archive:
    return download.Archive("imagenette2-160.tgz", url, f"md5:{hashlib.md5(content).hexdigest()}", "imagenette2-160")


def test_an_archive_is_downloaded_and_unpacked_once(tmp_path: Path) -> None:
    content = small_archive()
    with serving("cut", content=content) as (url, server):
        for _ in range(2):
            found = download.find(of(url, content), tmp_path / "data", trusting())
            assert (found / "train/x/1").read_text() == "hi"
        assert len(server.asked) == 2, "cut, and gone on with; then nothing"


def test_without_a_network_the_error_names_the_archives_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", unreachable)
    (tmp_path / "mine").mkdir()
    for archive in (download.IMAGENETTE, download.CIFAR10):
        with pytest.raises(UserError):
            download.find(archive, tmp_path / "mine/deep/data")
        assert names(tmp_path) == ["mine"] and names(tmp_path / "mine") == []
        with pytest.raises(UserError) as caught:
            download.find(archive, tmp_path)
        assert names(tmp_path) == ["mine"]
        assert str(caught.value) == (
            f"data.root: {tmp_path / archive.folder} is not there and cannot be downloaded (no network here); "
            f"put {archive.url} at {tmp_path / archive.name}"
        )


def test_a_refused_download_keeps_what_a_later_one_needs(tmp_path: Path) -> None:
    content = small_archive()
    with serving("404", content=content) as (url, _), pytest.raises(UserError):
        download.find(of(url, content), tmp_path / "data", trusting())
    assert names(tmp_path) == []
    with serving("cut", "cut", "cut", content=content) as (url, _), pytest.raises(UserError, match="are kept"):
        download.find(of(url, content), tmp_path / "data", trusting())
    assert names(tmp_path / "data") == ["imagenette2-160.tgz.part"]


def test_another_file_of_the_archives_name_is_kept(tmp_path: Path) -> None:
    (tmp_path / "imagenette2-160.tgz").write_bytes(b"cut short")
    with pytest.raises(UserError, match=r"imagenette2-160.tgz: is not the expected file .*delete"):
        download.find(download.IMAGENETTE, tmp_path)
    assert (tmp_path / "imagenette2-160.tgz").read_bytes() == b"cut short"


def test_a_root_that_is_the_archives_folder_is_told_its_parent(tmp_path: Path) -> None:
    (tmp_path / "imagenette2-160" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match=re.escape(f"type data.root={tmp_path}")):
        download.find(download.IMAGENETTE, tmp_path / "imagenette2-160")
