"""The content of files decides what is prepared: no path, size or time does."""

import os
import shutil
import time

import numpy as np
import pytest
from image_folders import folder
from PIL import Image

from cnnexp.data import digests


@pytest.fixture
def cache(tmp_path) -> str:
    return str(tmp_path / "cache")


@pytest.fixture
def roots(tmp_path):
    """Return two trees with the same names, sizes and times, and other pixels."""
    for root, shift in (("A", 0), ("B", 40)):
        for part in ("train", "test"):
            for k, name in enumerate(("cat", "dog")):
                (tmp_path / root / part / name).mkdir(parents=True)
                for i in range(6):
                    file = tmp_path / root / part / name / f"{i}.bmp"
                    Image.new("RGB", (8, 8), (100 * k + shift, 9 * i, len(part))).save(file)
                    os.utime(file, (10**9, 10**9))
    return tmp_path / "A", tmp_path / "B"


def values(data):
    return {int(data.test.images[i, 0, 0, 0]) for i in data.test.indices}


def test_another_tree_with_the_same_names_sizes_and_times_is_another(roots, cache):
    first, second = (folder(root, cache=cache) for root in roots)
    assert values(first) == {0, 100} and values(second) == {40, 140} and first.fingerprint != second.fingerprint


def test_classes_swapped_in_place_are_noticed(roots, cache):
    first = folder(roots[0], cache=cache)
    test = roots[0] / "test"
    for old, new in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
        (test / old).rename(test / new)
    second = folder(roots[0], cache=cache)
    assert second.prepare_seconds > 0 and second.fingerprint != first.fingerprint


def test_content_is_read_again_only_if_the_file_system_says_so(roots, cache, monkeypatch):
    files = sorted(roots[0].rglob("*.bmp"))
    read: list[str] = []
    original = digests._digest
    monkeypatch.setattr(digests, "_digest", lambda path: read.append(path.name) or original(path))
    later = time.time() + 10
    monkeypatch.setattr(time, "time", lambda: later)
    first = digests.content_digest(files, cache)
    assert len(read) == len(files) and digests.content_digest(files, cache) == first and len(read) == len(files)
    os.utime(files[0], (1, 1))  # the time alone: read again, and found to be the same
    assert digests.content_digest(files, cache) == first and len(read) == 2 * len(files)
    status = files[0].stat()
    pixels = files[0].read_bytes()
    files[0].write_bytes(pixels[:-1] + b"\7")
    os.utime(files[0], ns=(status.st_atime_ns, status.st_mtime_ns))  # as tar --mtime does
    assert digests.content_digest(files, cache) != first
    digests.forget(cache)
    seen = len(read)
    digests.content_digest(files, cache)
    assert len(read) == seen + len(files)


@pytest.mark.integration
def test_verify_reads_every_file_again(roots, cache, monkeypatch, capsys):
    from cnnexp import cli
    from cnnexp.training import build

    later = time.time() + 10
    monkeypatch.setattr(time, "time", lambda: later)
    words = ["data", "folder", f"data.root={roots[0]}", f"data.cache={cache}", "data.size=8", "data.val_fraction=0"]
    assert cli.main([*words, "--no-page"]) == 0
    (record,) = (roots[0].parent / "cache/digests").iterdir()
    record.write_text("0" * 32)  # as if the files had changed, and no time of theirs
    build._remembered_data.cache_clear()  # as in another process
    assert cli.main([*words, "--no-page", "--verify"]) == 0
    assert "verified: 24 files were read again; " in capsys.readouterr().out and record.read_text() != "0" * 32


def test_what_has_just_changed_is_not_remembered(roots, cache):
    files = sorted(roots[0].rglob("*.bmp"))
    digests.content_digest(files, cache)
    assert not (digests._folder(cache)).exists()


def test_a_touched_or_moved_tree_is_not_prepared_again(roots, cache, tmp_path):
    first = folder(roots[0], cache=cache)
    shutil.copytree(roots[0], tmp_path / "copy")
    second = folder(tmp_path / "copy", cache=cache)
    assert second.prepare_seconds == 0 and second.cache == first.cache
    assert np.array_equal(second.test.ids, first.test.ids)
