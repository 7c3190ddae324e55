"""Temporary files are in a folder that this process, or the next one after a kill, deletes."""

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cnnexp.errors import UserError
from cnnexp.storage import scratch

PROCESS = """
import socket, time
from multiprocessing.util import get_temp_dir
from cnnexp.storage.scratch import temporary_files_here
with temporary_files_here():
    folder = get_temp_dir()
socket.socket(socket.AF_UNIX).bind(folder + "/listener-12345678")
print(folder, flush=True)
if {waits}:
    time.sleep(60)
"""


def start(folder: Path, waits: bool) -> "subprocess.Popen[str]":
    """Start a process whose TMPDIR is `folder`, and which makes a socket. waits: until it is killed."""
    program = [sys.executable, "-c", PROCESS.replace("{waits}", str(waits))]
    return subprocess.Popen(program, env={**os.environ, "TMPDIR": str(folder)}, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def short() -> "Path":
    """Return a new folder with a short path."""
    import tempfile

    return Path(tempfile.mkdtemp(dir="/tmp"))


@pytest.mark.integration
def test_folders_of_killed_processes_are_deleted_and_no_others(short: Path) -> None:
    own = short / "cnnexp-process-mine"
    own.mkdir()
    (own / "results").write_text("kept")
    (short / "pymp-of-another-program").mkdir()
    (short / "cnnexp-process-link").symlink_to(own)
    before = set(short.iterdir())
    killed, lives = start(short, True), start(short, True)
    try:
        for process in (killed, lives):
            assert process.stdout and process.stdout.readline().startswith(f"{short}/cnnexp-process-")
        assert len(set(short.iterdir()) - before) == 2
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        last = start(short, False)
        assert last.communicate(timeout=30) and last.returncode == 0
        (left,) = set(short.iterdir()) - before
        assert [file.name for file in left.glob("*/*")] == ["listener-12345678"], "that of the one that lives"
        assert (own / "results").read_text() == "kept"
    finally:
        for process in (killed, lives):
            process.kill()
            process.communicate()


@pytest.mark.integration
def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    with socket.socket(socket.AF_UNIX) as unbound, pytest.raises(OSError, match="too long"):
        unbound.bind(str(deep / "listener"))
    process = start(deep, False)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0 and out.startswith("/tmp/cnnexp-process-")
    assert not Path(out.strip()).parent.exists()


@pytest.fixture
def taken(short: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Path]:
    """Return a function: the lock of this process's folder fails with an error number, the first time it is taken."""
    monkeypatch.setattr("tempfile.tempdir", str(short))
    real, folders = scratch._lock, list[Path]()

    def make(number: int) -> Path:
        def lock(folder: Path) -> int:
            folders.append(folder)
            if len(folders) == 1:
                raise OSError(number, os.strerror(number))
            return real(folder)

        monkeypatch.setattr(scratch, "_lock", lock)
        return scratch._folder.__wrapped__()

    return make


def test_a_folder_that_another_process_is_deleting_is_not_used(short: Path, taken: Callable[[int], Path]) -> None:
    folder = taken(errno.EWOULDBLOCK)
    assert len(list(short.iterdir())) == 2, "the other one is left to that process"
    with pytest.raises(BlockingIOError):
        scratch._lock(folder)


def test_where_there_are_no_locks_the_first_folder_is_used(short: Path, taken: Callable[[int], Path]) -> None:
    folder = taken(errno.ENOLCK)
    assert list(short.iterdir()) == [folder]


def test_a_lock_that_fails_for_a_moment_is_an_error(taken: Callable[[int], Path]) -> None:
    with pytest.raises(UserError, match=r"TMPDIR: no temporary folder can be made \(.*Too many open files"):
        taken(errno.EMFILE)
