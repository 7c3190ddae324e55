"""Locks: exclusive, naming their holder, released with its process."""

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.storage import failpoints

pytestmark = pytest.mark.counts("operations")

HOLD = "import sys, time; from pathlib import Path; from cnnexp import storage\n" + (
    "with storage.lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
)


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


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("nowhere"), os.mkfifo])
def test_what_is_no_lock_file_is_held_by_nobody(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / ".lock")
    with pytest.raises(UserError, match="is not a lock file, but a link or a folder; delete it") as raised:
        storage.lock(tmp_path / ".lock").__enter__()
    assert not isinstance(raised.value, storage.Locked), "a sweep would wait for its end"


def test_a_lock_is_held_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoints, "observer", failpoints.parse("lock.write:enospc:1+"))
    with storage.lock(tmp_path / ".lock"):
        assert storage.is_locked(tmp_path / ".lock")
        with pytest.raises(storage.Locked, match="is in use by another process"), storage.lock(tmp_path / ".lock"):
            pass


@pytest.mark.integration
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
    assert seen == [True], "the locked file is the one that others find there"


def test_a_file_system_without_locks_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(storage.StorageError, match=r"\.lock: cannot be written \(No locks available\)"):
        storage.lock(tmp_path / ".lock").__enter__()


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
