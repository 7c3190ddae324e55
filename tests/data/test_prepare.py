"""The cache: written once, by one process, complete or not at all, and again when it is damaged or out of date."""

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from image_folders import build, folder, picture, settings, tree
from public_sets import DRAWN

from cnnexp import storage
from cnnexp.data import cache as caches
from cnnexp.data import outdated, prepare
from cnnexp.errors import UserError

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def cache(tmp_path) -> str:
    return str(tmp_path / "cache")


@pytest.fixture
def root(tmp_path) -> Path:
    return tree(tmp_path / "tree", count=70)  # more than two blocks


def entries(cache: str) -> list[Path]:
    """Return the folders of prepared images. Digests are kept beside them, of files that are some seconds old."""
    return [f for f in Path(cache).iterdir() if f.is_dir() and f.name != "digests"]


@pytest.mark.integration
def test_of_equal_images_those_of_the_same_data_are_found(root, cache):
    """The same images, read from a table, have the same fingerprint and other names."""
    fingerprint = folder(root, cache=cache).fingerprint
    (prepared,) = entries(cache)
    other = prepared.with_name("a-0123456789abcdef")
    shutil.copytree(prepared, other)
    storage.write_json(other / "meta.json", {**storage.read_json(other / "meta.json"), "name": "csv"})
    for name in ("folder", "csv"):
        found = caches.find(cache, name, fingerprint)
        assert found is not None and found.name == name
    assert caches.find(cache, "elsewhere", fingerprint) is not None


@pytest.mark.integration
def test_decoding_happens_once_and_is_shared(root, cache):
    first, second = folder(root, cache=cache), folder(root, cache=cache, val_fraction=0.5)
    assert first.prepare_seconds > 0 and second.prepare_seconds == 0
    assert first.fingerprint == second.fingerprint and first.cache == second.cache == str(entries(cache)[0])
    assert isinstance(second.train.images, np.memmap) and not second.train.images.flags.writeable
    assert second.train.images is second.val.images
    assert sorted(f.name for f in entries(cache)[0].iterdir()) == sorted([*caches.ARRAYS, "meta.json", outdated.FILE])


def test_a_command_that_stops_waits_for_one_image_of_each_thread_only(monkeypatch):
    """SIGTERM gives 30 seconds; a block of large drawings takes minutes."""
    monkeypatch.setattr(prepare, "cores", lambda: 1)
    begun, go_on = [], threading.Event()

    def decode(number: int) -> np.ndarray:
        begun.append(number)
        assert number < prepare.BLOCK_IMAGES or go_on.wait(10)
        return np.zeros((8, 8, 1), np.uint8)

    count = 4 * prepare.BLOCK_IMAGES
    listing = prepare.Listing(["a"], [0] * count, [0] * count, ["a"] * count, decode)
    blocks = prepare._decode("set", listing)
    next(blocks)
    while len(begun) <= prepare.BLOCK_IMAGES:  # the next block has begun
        time.sleep(0.01)
    threading.Timer(0.2, go_on.set).start()
    blocks.close()
    assert len(begun) == prepare.BLOCK_IMAGES + 1


def test_a_limit_prepares_its_own_part_alone(cache, tmp_path):
    root = tree(tmp_path / "tree", count=10)
    few = folder(root, cache=cache, train_limit=8, test_limit=6)
    whole = folder(root, cache=cache)
    validated = max(2, round(8 * len(whole.val) / len(whole.train)))
    assert [len(split) for split in few.splits().values()] == [8, validated, 6]
    assert len(few.train.images) == 14 + validated
    for name, split in few.splits().items():
        assert set(split.ids) < set(whole.splits()[name].ids)


@pytest.mark.integration
@pytest.mark.parametrize("change", ["pixels", "size", "resize", "added", "moved"])
def test_a_change_of_pixels_prepares_again(root, cache, change):
    first, settings = folder(root, cache=cache), {}
    file = root / "train/cat/0.png"
    if change == "pixels":
        shutil.copy(root / "train/dog/1.png", file)
    elif change == "added":
        shutil.copy(file, root / "train/cat/new.png")
    elif change == "moved":
        shutil.move(file, root / "train/dog/moved.png")
    else:
        settings = {"size": {"size": 9}, "resize": {"resize": "squash"}}[change]
    second = folder(root, cache=cache, **settings)
    assert second.prepare_seconds > 0 and len(entries(cache)) == 2
    assert second.fingerprint != first.fingerprint


@pytest.mark.integration
def test_the_fingerprint_is_of_content_not_of_place(root, cache, tmp_path):
    first = folder(root, cache=cache)
    shutil.copytree(root, tmp_path / "copy")
    assert folder(tmp_path / "copy", cache=str(tmp_path / "other")).fingerprint == first.fingerprint
    (root / "test/dog").rename(root / "test/zebra")
    (root / "train/dog").rename(root / "train/zebra")
    assert folder(root, cache=cache).fingerprint != first.fingerprint


@pytest.mark.integration
@pytest.mark.parametrize("damage", ["cut", "missing", "meta", "version"])
def test_a_damaged_cache_is_prepared_again(root, cache, damage):
    first = folder(root, cache=cache)
    place = Path(first.cache)
    if damage == "cut":
        os.truncate(place / "images.npy", 5000)
    elif damage == "missing":
        (place / "sums.npy").unlink()
    elif damage == "meta":
        (place / "meta.json").write_text("{")
    else:
        storage.write_json(place / "meta.json", {**storage.read_json(place / "meta.json"), "version": -1})
    second = folder(root, cache=cache)
    assert second.prepare_seconds > 0 and second.fingerprint == first.fingerprint
    assert folder(root, cache=cache).prepare_seconds == 0


def test_a_failure_or_a_full_disk_leaves_nothing(root, cache, monkeypatch):
    (root / "train/dog/69.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"69.png"):
        folder(root, cache=cache)
    assert entries(cache) == []
    shutil.copy(root / "train/dog/1.png", root / "train/dog/69.png")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage, "write_array", full)
    with pytest.raises(UserError, match=r"cache: cannot be written \(No space left on device\); .*CNNEXP_CACHE"):
        folder(root, cache=cache)
    assert entries(cache) == []
    with pytest.raises(UserError, match=r"cannot make this folder .*; choose .* data.cache=DIR or CNNEXP_CACHE"):
        folder(root, cache=str(root / "train/dog/1.png"))


@pytest.mark.parametrize("change", ["replaced", "deleted", "same size"])
def test_nothing_is_kept_if_a_file_changes_while_images_are_prepared(root, cache, monkeypatch, change):
    """Its new pixels would be found under the digest of the old ones, for good."""
    first, file, really = folder(root, cache=cache), root / "train/cat/5.png", prepare._write_arrays
    caches.clear_cache(cache)
    old = file.read_bytes()

    def meanwhile(*given):
        if change == "replaced":
            picture(999, size=(30, 30)).save(file)
        elif change == "deleted":
            file.unlink()
        else:
            os.utime(file, ns=(0, 10**18))
        return really(*given)

    monkeypatch.setattr(prepare, "_write_arrays", meanwhile)
    with pytest.raises(
        UserError, match=r"train/cat/5.png: changed while the images were prepared; run the same"
    ) as one:
        folder(root, cache=cache, on_corrupt="skip")
    assert "\n" not in str(one.value) and entries(cache) == []
    monkeypatch.undo()
    second = folder(root, cache=cache)
    assert (second.fingerprint == first.fingerprint) == (change == "same size")
    file.write_bytes(old)
    assert folder(root, cache=cache).fingerprint == first.fingerprint


def test_nothing_of_a_public_set_is_kept_if_it_changes_while_it_is_prepared(tmp_path, cache, monkeypatch):
    DRAWN["EuroSAT"](tmp_path)
    file, really = tmp_path / "eurosat/2750/River/River_3.jpg", prepare._write_arrays
    given = {"name": "EuroSAT", "root": str(tmp_path), "cache": cache}
    monkeypatch.setattr(prepare, "_write_arrays", lambda *all_: picture(9).save(file) or really(*all_))
    with pytest.raises(UserError, match=r"River_3.jpg: changed while the images were prepared; run the same"):
        build("torchvision", **given)
    assert entries(cache) == []
    monkeypatch.undo()
    assert build("torchvision", **given).prepare_seconds > 0


def test_the_rest_of_a_killed_process_is_deleted(root, cache):
    first = folder(root, cache=cache)
    place = Path(first.cache)
    leftover = place.with_name(f".{place.name}.tmp")
    place.rename(leftover)
    assert folder(root, cache=cache).prepare_seconds > 0
    assert entries(cache) == [place]


CODE = """
import sys, time
from cnnexp.data import sources, prepare, tree
slow = tree.decode
tree.decode = lambda *a: time.sleep(0.005) or slow(*a)
print("imported", flush=True)
sys.stdin.readline()
print(sources.folder(**{node!r}).fingerprint)
"""


@pytest.mark.integration
def test_two_processes_at_once_end_with_one_cache(root, cache):
    node = settings("folder", root=str(root), size=8, cache=cache)
    node.pop("_target_")
    command = [sys.executable, "-c", CODE.format(node=node)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    both = [subprocess.Popen(command, **pipes, text=True, cwd=REPOSITORY) for _ in range(2)]
    assert [process.stdout.readline() for process in both] == ["imported\n"] * 2
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] != ""
    messages = outputs[0][1] + outputs[1][1]
    assert messages.count("prepared 280 images") == 1
    assert messages.count("waiting until it has prepared") == 1
    assert len(entries(cache)) == 1


def test_a_killed_preparation_leaves_no_cache_and_no_lock(root, cache):
    node = settings("folder", root=str(root), size=8, cache=cache)
    node.pop("_target_")
    command = [sys.executable, "-c", CODE.format(node=node)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not list(Path(cache).glob(".*.tmp/images.npy")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert [f.suffix for f in entries(cache)] == [".tmp"]
    assert folder(root, cache=cache).prepare_seconds > 0
    assert [f.suffix for f in entries(cache)] == [""]


def test_clearing_deletes_prepared_sets_only(root, cache):
    data = folder(root, cache=cache, name="my own/set")
    assert data.name == "my own/set" and Path(data.cache).parent == Path(cache)
    (Path(cache) / "mine").mkdir()
    (Path(cache) / "notes-0123.txt").write_text("mine")
    size = storage.size_bytes(Path(data.cache))
    assert caches.cached(cache) == [(Path(data.cache), size)]
    with storage.lock(Path(cache) / f".{Path(data.cache).name}.lock"):
        assert caches.clear_cache(cache) == 0
    assert caches.clear_cache(cache) == size and caches.cached(cache) == []
    assert (Path(cache) / "mine").exists() and (Path(cache) / "notes-0123.txt").exists()
    assert data.test.images[data.test.indices].shape == (140, 8, 8, 3)  # an open set stays readable


def test_the_folder_of_the_cache(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    for variable in ("CNNEXP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    assert caches.cache_root(None) == Path("/home/someone/.cache/cnnexp")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert caches.cache_root(None) == Path("/xdg/cnnexp")
    monkeypatch.setenv("CNNEXP_CACHE", "~/own")
    assert caches.cache_root(None) == Path("/home/someone/own")
    assert caches.cache_root("/given") == Path("/given")
