"""Temporary files are in a folder that this process, or the next one after a kill, deletes."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    with socket.socket(socket.AF_UNIX) as unbound, pytest.raises(OSError, match="too long"):
        unbound.bind(str(deep / "listener"))
    process = start(deep, False)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0 and out.startswith("/tmp/cnnexp-process-")
    assert not Path(out.strip()).parent.exists()
