"""Locks that do not reach from one machine to another are found out before a run is made."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cnnexp.errors import UserError
from cnnexp.storage import disk, presence
from cnnexp.storage.presence import FOLDER, at_work

pytestmark = pytest.mark.counts("operations")

WORK = """
import fcntl, sys, time
from pathlib import Path
from cnnexp.storage import presence

if sys.argv[2] == "no locks":  # such as those of a mount with local_lock, seen from another machine
    fcntl.flock = lambda *_: None
presence.TOUCH_SECONDS = 0.05
with presence.at_work(Path(sys.argv[1])):
    print("there", flush=True)
    time.sleep(60)
"""
Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a process which works in tmp_path."""
    started = []

    def begin(how: str) -> "subprocess.Popen[str]":
        words = [sys.executable, "-W", "error", "-c", WORK, str(tmp_path), how]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / FOLDER).iterdir())


def test_processes_whose_locks_reach_each_other_work_side_by_side(tmp_path: Path, start: Start) -> None:
    other = start("locks")
    began = time.monotonic()
    with at_work(tmp_path):
        assert len(files(tmp_path)) == 2
    assert time.monotonic() - began < presence.PATIENCE_SECONDS, "nothing is waited for"
    assert [presence.host_and_pid(Path(name)) for name in files(tmp_path)] == [f"{socket.gethostname()}-{other.pid}"]


@pytest.mark.integration
def test_a_folder_whose_locks_do_not_reach_is_refused(tmp_path: Path, start: Start) -> None:
    other = start("no locks")
    message = f"locks of files do not reach {socket.gethostname()}-{other.pid}, which works in this folder too; .*NFS"
    with pytest.raises(UserError, match=message), at_work(tmp_path):
        raise AssertionError("no work is begun")
    (left,) = files(tmp_path)
    assert left.startswith(f"{socket.gethostname()}-{other.pid}-"), "it has left, and the other is there"


@pytest.mark.integration
@pytest.mark.parametrize("host", ["here", "elsewhere"])
def test_what_a_killed_process_has_left_is_removed(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(presence, "PATIENCE_SECONDS", 0.5)
    other = start("locks")
    other.kill()
    other.wait()
    (file,) = (tmp_path / FOLDER).iterdir()
    if host == "elsewhere":  # nobody here can tell whether its process lives
        file.rename(file.with_name("elsewhere-1.lock"))
    began = time.monotonic()
    with at_work(tmp_path):
        assert len(files(tmp_path)) == 1
    assert (time.monotonic() - began >= 0.5) == (host == "elsewhere")
    assert files(tmp_path) == []


def test_containers_with_one_host_name_and_the_same_process_ids_work_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with at_work(tmp_path):
        monkeypatch.setattr(disk, "TOKEN", "other")
        with at_work(tmp_path):
            assert len(files(tmp_path)) == 2
        assert len(files(tmp_path)) == 1


def test_nobody_can_tell_whether_a_process_of_another_container_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    monkeypatch.setattr("os.getpid", lambda: ended.pid)
    own = Path(presence.own_name())
    assert presence._ended_here(own) == Path("/proc/self/ns/pid").exists()
    monkeypatch.setattr(presence, "_namespace", lambda: 7)
    assert not presence._ended_here(own)


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / FOLDER).symlink_to(tmp_path.parent)
    with pytest.raises(UserError, match="is a link, not a folder"), at_work(tmp_path):
        pass
