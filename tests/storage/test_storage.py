"""The one place that writes: old file or new file and nothing between, rows that survive a kill, locks."""

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

from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.storage import checksums

pytestmark = pytest.mark.counts("operations")

HOLD = "import sys, time; from pathlib import Path; from cnnexp import storage\n" + (
    "with storage.lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
)


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


@pytest.mark.parametrize("cut", range(1, 16))
def test_a_row_that_a_kill_tore_is_dropped_and_written_over(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "metrics.jsonl"
    rows = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    for row in rows:
        storage.append_row(file, row)
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    assert storage.read_rows(file) == rows[:1]
    storage.keep_rows(file, 1)
    storage.append_row(file, rows[1])
    assert file.read_bytes() == whole


def test_reading_stops_at_what_is_no_row(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert storage.read_rows(file) == []
    first, third = checksums.encode({"a": 1}), checksums.encode({"a": 3})
    for second in (b"[2]\n", b"\xff\xfe\n", b'{"a": 2}\n'):
        file.write_bytes(first + second + third)
        assert storage.read_rows(file) == [{"a": 1}]


def test_blocks_of_rows_become_one_array(tmp_path: Path) -> None:
    blocks = [np.arange(12, dtype=np.uint8).reshape(2, 3, 2), np.ones((1, 3, 2), np.uint8)]
    assert storage.write_array(tmp_path / "it.npy", iter(blocks)) == (3, 3, 2)
    np.testing.assert_array_equal(np.load(tmp_path / "it.npy"), np.concatenate(blocks))


def test_a_lock_is_exclusive_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    file = tmp_path / "run" / ".lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, file], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        assert storage.is_locked(file)
        with pytest.raises(storage.Locked, match=rf"run: is in use by pid {holder.pid} on "), storage.lock(file):
            pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert not storage.is_locked(file)
    with storage.lock(file):
        assert storage.is_locked(file)
    assert not storage.is_locked(file)


def test_waiting_for_a_lock(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    hold = HOLD.replace("time.sleep(60)", "time.sleep(0.3)")
    with subprocess.Popen([sys.executable, "-c", hold, file], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        start = time.monotonic()
        with storage.lock(file, wait=True):
            assert time.monotonic() - start > 0.1


def test_a_lock_that_is_deleted_while_it_is_waited_for_is_no_lock(tmp_path: Path) -> None:
    file, seen = tmp_path / "run" / ".lock", []

    def wait() -> None:
        with storage.lock(file, wait=True):
            seen.append(storage.is_locked(file))

    with storage.lock(file):
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.1)
        shutil.rmtree(file.parent)
    waiting.join()
    assert seen == [True], "what is held is the file that others find there"


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(storage.StorageError, match=r"\.lock: cannot be written \(No locks available\)"):
        storage.lock(tmp_path / ".lock").__enter__()


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


def test_rows_that_are_gone_are_missed(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for number in range(3):
        storage.append_row(path, {"number": number})
    storage.keep_rows(path, 2)
    assert storage.read_rows(path) == [{"number": 0}, {"number": 1}]
    with pytest.raises(UserError, match="has 2 readable rows, but 3 are needed"):
        storage.keep_rows(path, 3)
    path.unlink()
    with pytest.raises(UserError, match="has 0 readable rows"):
        storage.keep_rows(path, 1)


def test_looking_at_a_lock_keeps_nobody_from_taking_it(tmp_path: Path) -> None:
    path, stop = tmp_path / ".lock", threading.Event()

    def look() -> None:
        while not stop.is_set():
            storage.is_locked(path)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for _ in range(300):
            with storage.lock(path):
                pass
    finally:
        stop.set()
        watcher.join()
    assert path.read_text() == "", "a lock that is free names no holder"


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
