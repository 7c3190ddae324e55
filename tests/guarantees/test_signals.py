"""Signals at any moment: what can be saved is, nothing is left behind, and no one sees a traceback."""

import os
import pty
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_records
import pytest
from cuts import gone
from forks import Forks
from lives import EPOCH, difference, everything, last, live

from cnnexp.process import signals
from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.training import run as runner
from cnnexp.training.plan import Plan
from cnnexp.training.progress import Progress

pytestmark = pytest.mark.counts("signals")

Plans = Callable[..., Plan]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 75, signal.SIGUSR1: 75, signal.SIGUSR2: 75, signal.SIGHUP: 75}
COMMAND = [sys.executable, "-W", "error", "-m", "cnnexp"]
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@pytest.fixture(autouse=True)
def hangups_are_heard() -> Iterator[None]:
    """Let processes that are started here hear SIGHUP, also where the tests themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


# Within a run, in a process that is forked for it.


@pytest.mark.integration
@pytest.mark.parametrize(
    ("moment", "number", "step"),
    [
        ("evaluation", 1, EPOCH),  # the validation of the first epoch: it ends, and its epoch is saved
        pytest.param("evaluation", 3, 3 * EPOCH, marks=pytest.mark.slow),
        ("evaluation", 4, 3 * EPOCH),  # the test split: all is saved by now
        pytest.param("evaluation", 5, 3 * EPOCH, marks=pytest.mark.slow),  # the training split, in evaluation mode
        ("write", 2, EPOCH),  # last.pt of the first epoch
        pytest.param("row", 4, 3, marks=pytest.mark.slow),  # between a step's hashes and its metric row
    ],
)
def test_in_the_middle_of(
    forks: Forks, kind_plan: Plans, tmp_path: Path, moment: str, number: int, step: int | None
) -> None:
    more = ["log.steps=3st", "checkpoint.every=1ep"]
    plan, uncut = kind_plan("plateau", *more), kind_plan("plateau", *more, f"outputs={tmp_path / 'uncut'}")
    assert forks(live, plan, moment, number) == "interrupted"
    assert last(plan.folder)["step"] == step
    assert (plan.folder / "predictions.npz").exists() == (number == 5), "written when the test split has been evaluated"
    assert forks(live, plan) == "done" and plan.record().info["resumed"] == 1
    assert forks(live, uncut) == "done"
    assert difference(everything(plan.folder), everything(uncut.folder)) is None


@pytest.mark.slow
def test_while_features_are_computed(forks: Forks, plan: Plans) -> None:
    own = plan("model=resnet18", "model.freeze=backbone", "model.bn=frozen", "augmentation=none", "epochs=2st")
    assert forks(live, own, "features", 3) == "interrupted"
    assert not (own.folder / "checkpoints" / "last.pt").exists(), "nothing was trained"
    assert forks(live, own) == "done"


def test_a_signal_that_comes_too_late_is_for_what_follows() -> None:
    with pytest.raises(signals.Interrupted) as raised, signals.stop_request():
        os.kill(os.getpid(), signal.SIGUSR2)
    assert raised.value.exit_code == 75


def test_a_signal_that_came_before_ends_what_is_to_end_at_once() -> None:
    begun = []
    with pytest.raises(signals.Interrupted) as raised, signals.stop_request() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        with stop.at_once():
            begun.append(True)
    assert raised.value.exit_code == 75 and not begun


# Where there is nothing to save, in a small process with a command of its own.

SLOW_COMMANDS = {
    "an import": "print('there', flush=True); time.sleep(60)\ndef main(argv): return 0",
    "the command": """
def main(argv):
    try:
        print('there', flush=True)
        time.sleep(60)
    finally:
        print('tidied', flush=True)
""",
    "a finaliser": """
class Slow:
    def __del__(self):
        print('there', flush=True)
        time.sleep(60)


def main(argv):
    slow = Slow()
    del slow
    return 0
""",
    "tidying": """
def main(argv):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    finally:
        print('there', flush=True)
        time.sleep(60)
""",
}


def ask(folder: Path, where: str, number: signal.Signals) -> tuple[int, str, str]:
    """Send a signal to a command that has come to a place; return its exit code and what it printed."""
    (folder / "slow.py").write_text("import os, signal, time\n" + SLOW_COMMANDS[where])
    script = "from cnnexp import cli; cli.COMMANDS['slow'] = ('slow', ''); cli.entry(['slow'])"
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None and process.stdout.readline() == "there\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("where", ["an import", "the command", "a finaliser"])
def test_nothing_to_save(tmp_path: Path, where: str, number: signal.Signals) -> None:
    code, out, err = ask(tmp_path, where, number)
    assert (code, err) == (CODES[number], "cnnexp: interrupted\n")
    assert out == ("tidied\n" if where == "the command" else "")


def test_a_second_interrupt_ends_a_command_at_once(tmp_path: Path) -> None:
    assert ask(tmp_path, "tidying", signal.SIGINT) == (-signal.SIGINT, "", "")


# Real processes.


def caught(pid: int) -> bool:
    """Tell whether a process has come so far that it answers SIGTERM: Python itself has started by then."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:"))
    return bool(mask >> (signal.SIGTERM - 1) & 1)


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.005)


def start(words: list[str], **more: Any) -> subprocess.Popen[str]:
    """Start a command of cnnexp, and wait until it answers signals."""
    process = subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **more
    )
    wait_for(lambda: process.poll() is not None or caught(process.pid))
    return process


def end(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, float]:
    """Send a signal; return the exit code and how many seconds the end took. A traceback fails the test."""
    process.send_signal(number)
    sent = time.monotonic()
    out, err = process.communicate(timeout=60)
    seconds = time.monotonic() - sent
    assert "Traceback" not in out + err, out + err
    print(f"ended {seconds:.2f} s after {number.name}, exit code {process.returncode}")
    return process.returncode, seconds


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_run_at_any_moment(
    tiny: list[str], plan: Plans, outputs: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunRecord, "drop_resume_files", lambda self: None)
    draw, more = random.Random(seed), ["epochs=200ep", "study.arm=cut", "log.hash_chain=true"]
    measured = start(["train", *tiny, *more, f"outputs={outputs.parent / 'measured'}"])
    began = time.monotonic()
    measured.communicate(timeout=100)
    whole = time.monotonic() - began
    interrupted = 0
    for number in draw.sample(list(CODES), 4):
        process = start(["train", *tiny, *more])
        time.sleep(draw.random() * 0.5 * whole)
        code, seconds = end(process, number)
        assert code in (CODES[number], 0), "it may have been done"
        interrupted += code == CODES[number]
        assert seconds < 2
    assert interrupted >= 2
    run = runner.run(plan(*more), Progress())
    (uncut,) = find_runs(outputs.parent / "measured")
    kept = everything_but_the_last_checkpoint(run)
    assert difference(kept, everything_but_the_last_checkpoint(uncut)) is None


def everything_but_the_last_checkpoint(run: RunRecord) -> dict[str, Any]:
    """Return what a run computed, of which one that is done keeps no last.pt."""
    shutil.copy(run.folder / "checkpoints" / "best.pt", run.folder / "checkpoints" / "last.pt")
    return everything(run.folder)


@pytest.mark.integration
@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_while_data_is_prepared(tmp_path: Path, number: signal.Signals) -> None:
    words = ["data", "postcards", "data.num_train=60000", "data.size=32", f"data.cache={tmp_path}"]
    process = start(words)
    wait_for(lambda: any(file.stat().st_size > 2**20 for file in tmp_path.glob(".postcards-*.tmp/images.npy")))
    assert end(process, number)[0] == CODES[number]
    assert not list(tmp_path.glob("*postcards-*.tmp")) and not list(tmp_path.glob("postcards-*"))


@needs_proc
@pytest.mark.slow
def test_while_a_report_is_written(tmp_path: Path) -> None:
    folder = fake_records.write_study(tmp_path / "outputs" / "study")
    draw = random.Random(0)
    for number in CODES:
        process = start(["report", str(folder)])
        time.sleep(draw.random() * 4)
        assert end(process, number)[0] in (CODES[number], 0)
        assert not list(folder.rglob(".*.tmp"))
    process = start(["report", str(folder)])
    process.communicate(timeout=60)
    assert process.returncode == 0 and (folder / "report" / "index.html").exists()


def in_a_terminal(words: list[str], ready: Callable[[], Any]) -> int:
    """Start a command in a terminal of its own, and close that once `ready`; return the exit code."""
    master, slave = pty.openpty()
    lead = "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
    lead += "; os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", lead, *COMMAND, *words], stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    while not ready():
        assert process.poll() is None, shown
        if select.select([master], [], [], 0.02)[0]:
            shown += os.read(master, 4096)
    os.close(master)
    assert b"\r" in shown, "bars were drawn"
    return process.wait(60)


@pytest.mark.integration
@needs_proc
@pytest.mark.parametrize("sweep", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_terminal_that_is_closed(tiny: list[str], outputs: Path, sweep: bool) -> None:
    words = ["train", *tiny, "epochs=4000ep", "study.arm=long", *(["-m", "seed=0,1", "slots=cpu:2"] if sweep else [])]
    runs = 2 if sweep else 1

    def trains() -> bool:
        return sum(len(run.rows()) > 2 for run in (find_runs(outputs) if outputs.exists() else [])) == runs

    assert in_a_terminal(words, trains) == 75
    found = find_runs(outputs)
    assert [run.status for run in found] == ["interrupted"] * runs
    assert [run.info["error"]["type"] for run in found] == ["Interrupted"] * runs
    assert all((run.folder / "checkpoints" / "last.pt").exists() for run in found), "saved, and not killed"


@pytest.mark.integration
@needs_proc
def test_nohup_is_respected(tiny: list[str]) -> None:
    process = subprocess.Popen(
        ["nohup", *COMMAND, "train", *tiny, "epochs=3ep"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: process.poll() is not None or caught(process.pid))
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=60) and process.returncode == 0


def below(pid: int) -> list[int]:
    """Return all processes that descend from `pid`, from /proc."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
    found = [child for child, parent in parents.items() if parent == pid]
    return [*found, *(descendant for child in found for descendant in below(child))]


def send_to_all(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to processes, as a scheduler does to those of a job."""
    for pid in pids:
        if not gone(pid):
            os.kill(pid, number)


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_scheduler_signals_every_process_of_a_sweep(tiny: list[str], outputs: Path, number: signal.Signals) -> None:
    words = ["train", *tiny, "-m", "seed=0,1,2", "epochs=4000ep", "study.arm=long", "slots=cpu:2"]
    process = start(words)
    wait_for(lambda: sum(len(run.rows()) > 0 for run in (find_runs(outputs) if outputs.exists() else [])) == 2)
    processes = below(process.pid)
    assert len(processes) >= 4, "a server, a tracker of resources, two workers"
    send_to_all(processes, number)
    assert end(process, number)[0] == CODES[number]
    wait_for(lambda: all(gone(pid) for pid in processes), 20)
    found = {run.name.rpartition("-")[0]: run for run in find_runs(outputs)}
    assert {name: run.status for name, run in found.items()} == dict.fromkeys(("long-s0", "long-s1"), "interrupted")
    assert [run.info["error"]["type"] for run in found.values()] == ["Interrupted"] * 2, "saved, and not killed"
    assert all((run.folder / "checkpoints" / "last.pt").exists() for run in found.values())


@needs_proc
@pytest.mark.slow
def test_a_sweep_that_is_still_planned(tiny: list[str], outputs: Path) -> None:
    draw = random.Random(0)
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGKILL):
        process = start(["train", *tiny, "-m", "seed=0,1,2", "epochs=4000ep", "slots=cpu:2"])
        wait_for(lambda process=process: below(process.pid))
        time.sleep(draw.random() * 2)
        processes = below(process.pid)
        if number != signal.SIGKILL:
            send_to_all(processes, number)
        assert end(process, number)[0] == CODES.get(number, -number)
        wait_for(lambda pids=processes: all(gone(pid) for pid in pids), 20)
    assert not [run for run in (find_runs(outputs) if outputs.exists() else []) if run.status == "failed"]
