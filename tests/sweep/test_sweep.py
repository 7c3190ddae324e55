"""A sweep: what runs when, what a failure does to the others (nothing), and how it stops."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import pytest
import torch
import yaml
from plain_plans import finish, plain_plan
from thread_workers import use_threads

from cnnexp.errors import UserError
from cnnexp.process.limits import cores
from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.records.study import read_study
from cnnexp.report.look import look
from cnnexp.storage import StorageError
from cnnexp.sweep import local, scheduler
from cnnexp.sweep import worker as workers
from cnnexp.sweep.engine import Event, Lost
from cnnexp.sweep.local import LocalEngine
from cnnexp.sweep.planning import at_a_time, machine
from cnnexp.sweep.scheduler import Scheduler
from cnnexp.sweep.server import CONTEXT, METHOD
from cnnexp.sweep.slots import Slot, resolve
from cnnexp.sweep.times import Times, work_of
from cnnexp.sweep.worker import Worker
from cnnexp.training.plan import Plan

pytestmark = [pytest.mark.counts("sweeps"), pytest.mark.integration]

Train = Callable[..., int]
Runs = Callable[[], dict[str, RunRecord]]

# A person's own network, whose first step ends badly in a way that the config chooses, until a file says "cured".
HAZARDS = """
import ctypes, os, signal, sys, time
from pathlib import Path

import torch
from torch import nn

CURED = Path(__file__).with_name("cured")


class Clings(Exception):
    # an error that no other process can be told of

    def __reduce__(self):
        raise TypeError("cannot be pickled")


class Hazard(nn.Module):
    def __init__(self, classes: int, kind: str, width: int):
        super().__init__()
        self.kind = kind
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.Dropout(0.2), nn.LazyLinear(classes))
        self.layers(torch.zeros(2, 3, 8, 8))

    def forward(self, x):
        if not CURED.exists() and self.training:
            self.suffer()
        y = self.layers(x)
        return y * float("nan") if self.kind == "blow_up" else y

    def suffer(self):
        if self.kind == "raise":
            raise ZeroDivisionError("by design")
        if self.kind == "unpicklable":
            raise Clings("cannot be told")
        if self.kind == "memory":
            raise MemoryError
        if self.kind == "sys_exit":
            sys.exit(5)
        if self.kind == "os_exit":
            os._exit(7)
        if self.kind == "segfault":
            ctypes.string_at(0)
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "edit":
            Path(__file__).with_name("model").joinpath("hazard.yaml").write_text("width: 99")
        if self.kind == "edit_code":
            Path(__file__).write_text("raise SystemExit('read anew')")
        if self.kind == "slow":
            time.sleep(0.1)
"""


@pytest.fixture
def hazards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return the words that choose the hazardous network, which lives in a folder of its own."""
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "hazards.py").write_text(HAZARDS)
    node = {"_target_": "hazards.Hazard", "kind": "well", "width": 8}
    (tmp_path / "own" / "model" / "hazard.yaml").write_text(yaml.safe_dump(node))
    monkeypatch.syspath_prepend(tmp_path / "own")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "own"))
    yield ["--config-dir", str(tmp_path / "own"), "model=hazard"]
    sys.modules.pop("hazards", None)


def write_study(folder: Path, arms: dict[str, Any]) -> None:
    """Write a study `mine` of these arms into a folder of configs."""
    (folder / "study").mkdir(exist_ok=True)
    text = yaml.safe_dump({"study": {"name": "runs", "arms": arms}}, sort_keys=False)
    (folder / "study" / "mine.yaml").write_text(f"# @package _global_\n{text}")


# Real processes.


CAUSES = {  # how a run ends: what its record says of the cause
    "kill": "killed by SIGKILL (out of memory?)",
    "segfault": "killed by SIGSEGV",
    "os_exit": "it ended its process with code 7",
    "raise": "by design",
    "unpicklable": "cannot be told",
    "sys_exit": "5",
}
IN_THE_LOG = {
    "kill": [CAUSES["kill"]],
    "segfault": ["Segmentation fault", "in suffer"],  # faulthandler says where
    "os_exit": [CAUSES["os_exit"]],
    "raise": ["Traceback", "ZeroDivisionError: by design"],
    "unpicklable": ["Traceback", "Clings: cannot be told"],
    "sys_exit": ["Traceback", "SystemExit: 5"],
}


@pytest.mark.parametrize("kinds", [["kill", "raise", "well"]])
def test_a_failure_leaves_the_others_alone(
    train: Train, hazards: list[str], runs: Runs, tmp_path: Path, kinds: list[str], monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    request = [*hazards, "-m", f"model.kind={','.join(kinds)}"]
    assert train(*request, "slots=cpu:2") == 3
    found = {kind: runs()[f"kind_{kind}-s0"] for kind in kinds}
    assert {kind: run.status for kind, run in found.items()} == {**dict.fromkeys(kinds, "failed"), "well": "done"}
    told = capfd.readouterr().out.split(f"[{len(kinds)}/{len(kinds)}]")[1]
    for kind in set(kinds) - {"well"}:
        log = (found[kind].folder / "train.log").read_text()
        assert found[kind].info["error"]["message"] == CAUSES[kind]
        assert [words for words in IN_THE_LOG[kind] if words not in log] == []
        assert f"failed: model.kind={kind}, seed 0" in told, "a summary at the end"

    # The same command makes what is left, and nothing else.
    (tmp_path / "own" / "cured").touch()
    kept = (found["well"].folder / "run.json").stat().st_mtime_ns
    use_threads(monkeypatch)
    assert train(*request, "slots=cpu:1") == 0
    assert {run.status for run in runs().values()} == {"done"}
    assert all(run.info["error"] is None for run in runs().values())
    assert (found["well"].folder / "run.json").stat().st_mtime_ns == kept
    assert f"{len(kinds)} runs, 1 done before, on 1 slot(s)" in capfd.readouterr().out


@pytest.mark.slow
def test_of_twenty_runs_five_end_badly(
    train: Train, hazards: list[str], runs: Runs, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = [kind for kind in CAUSES if kind != "raise"]
    kinds = [*("well",) * 3, *bad, *("well",) * 12]
    arms = {f"arm{n:02}": {"model": {"kind": kind, "width": 4 + n}} for n, kind in enumerate(kinds)}
    write_study(tmp_path / "own", arms)
    request = [*hazards, "+study=mine", "slots=cpu:2", "device.threads=1"]
    assert train(*request) == 3
    found = runs()
    assert [found[f"arm{n:02}-s0"].status for n in range(20)] == [
        "done" if kind == "well" else "failed" for kind in kinds
    ]
    for kind in bad:
        run = found[f"arm{kinds.index(kind):02}-s0"]
        assert run.info["error"]["message"] == CAUSES[kind]
        assert [words for words in IN_THE_LOG[kind] if words not in (run.folder / "train.log").read_text()] == []
    capfd.readouterr()

    before = {name: (run.folder / "train.log").read_bytes() for name, run in found.items()}
    (tmp_path / "own" / "cured").touch()
    assert train(*request) == 0
    assert "20 runs, 15 done before, on 2 slot(s)" in capfd.readouterr().out
    touched = {name for name, run in runs().items() if (run.folder / "train.log").read_bytes() != before[name]}
    assert touched == {f"arm{n:02}-s0" for n, kind in enumerate(kinds) if kind != "well"}
    assert {run.status for run in runs().values()} == {"done"}


def children(pid: int) -> list[int]:
    """Return the processes whose parent is `pid`, from /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        if parent == pid:
            found.append(int(stat.parent.name))
    return found


def gone(pid: int) -> bool:
    """Tell whether a process has ended (a zombie that nobody waits for has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 75, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow),
    ],
)
def test_a_signal_stops_the_sweep_and_its_workers(
    tiny: list[str], train: Train, hazards: list[str], runs: Runs, outputs: Path, tmp_path: Path,
    number: signal.Signals, code: int, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    words = [word for word in tiny if not word.startswith("model")]
    request = [*hazards, "-m", "model.kind=slow", "seed=0,1,2", "epochs=40ep", "study.arm=slow"]
    command = [sys.executable, "-W", "error", "-m", "cnnexp", "train", *words, *request, "slots=cpu:2"]
    sweep = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, text=True
    )
    try:
        wait_for(lambda: sum(len(run.rows()) > 0 for run in (find_runs(outputs) if outputs.exists() else [])) == 2)
        below = children(sweep.pid)
        assert len(below) >= 2
        sweep.send_signal(number)
        out, _ = sweep.communicate(timeout=60)
    finally:
        sweep.kill()
    assert sweep.returncode == code, out
    assert "Traceback" not in out
    wait_for(lambda: all(gone(pid) for pid in below), 20)
    found = runs()
    assert {name: run.status for name, run in found.items()} == {"slow-s0": "interrupted", "slow-s1": "interrupted"}
    assert all((run.folder / "checkpoints" / "last.pt").exists() for run in found.values()), "saved before the end"
    assert not [run for run in found.values() if "Traceback" in (run.folder / "train.log").read_text()]
    if number != signal.SIGKILL:
        assert "slow, seed 1" in out.splitlines()[-1] and out.count("the same command continues") == 1
        assert re.search(r"\ninterrupted and saved: .* and .*; not started: 1 run; the same command continues\n$", out)
        assert "compare them" not in out, "no run is done"
    (tmp_path / "own" / "cured").touch()
    use_threads(monkeypatch)
    assert train(*request, "slots=cpu:1") == 0
    assert {name: run.info["resumed"] for name, run in runs().items()} == {"slow-s0": 1, "slow-s1": 1, "slow-s2": 0}


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ([signal.SIGTERM, signal.SIGTERM], [signal.SIGTERM, signal.SIGCONT]),
        ([signal.SIGUSR1, signal.SIGTERM, signal.SIGINT], [signal.SIGTERM, signal.SIGCONT]),
        ([signal.SIGINT, signal.SIGINT], [signal.SIGTERM, signal.SIGCONT, signal.SIGKILL]),
        ([signal.SIGTERM, signal.SIGINT, signal.SIGINT], [signal.SIGTERM, signal.SIGCONT, signal.SIGKILL]),
    ],
)
def test_only_a_second_interrupt_takes_the_runs_their_time_to_save(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: list[int], sent: list[int]
) -> None:
    told: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: told.append(number) if pid == 1 else None)
    engine = LocalEngine([Slot("cpu", 1)])
    sweep = Scheduler([], engine, Times([]))
    process: Any = SimpleNamespace(pid=1, sentinel=os.pipe()[0])
    engine.workers = [Worker(engine.slots[0], process, Pipe()[0])]
    for number in asked:
        sweep.ask(number, None)
    assert told == sent


@pytest.fixture
def slow_sweep(
    tiny: list[str], hazards: list[str], outputs: Path, tmp_path: Path
) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Start a sweep of three slow runs on two slots; yield it, and its server, when two runs have rows."""
    words = [word for word in tiny if not word.startswith("model")]
    request = [*hazards, "-m", "model.kind=slow", "seed=0,1,2", "epochs=40ep", "study.arm=slow", "slots=cpu:2"]
    (tmp_path / "temporary").mkdir()
    sweep = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "cnnexp", "train", *words, *request],
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    try:
        wait_for(lambda: sum(len(run.rows()) > 0 for run in (find_runs(outputs) if outputs.exists() else [])) == 2)
        (server,) = [pid for pid in children(sweep.pid) if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        yield sweep, server
    finally:
        sweep.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a server of workers, and /proc")
def test_runs_continue_when_the_server_of_the_workers_is_killed(
    slow_sweep: tuple["subprocess.Popen[str]", int], runs: Runs, tmp_path: Path
) -> None:
    sweep, server = slow_sweep
    (tmp_path / "own" / "cured").touch()
    os.kill(server, signal.SIGKILL)
    out, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 0 and "Traceback" not in out, out
    assert out.count("continues: slow, seed") == 2
    found = runs()
    assert {run.status for run in found.values()} == {"done"}
    assert {name: run.info["resumed"] for name, run in found.items()} == {"slow-s0": 1, "slow-s1": 1, "slow-s2": 0}
    assert list((tmp_path / "temporary").iterdir()) == [], "nothing temporary is left"


@pytest.mark.skipif(sys.platform != "linux", reason="needs a server of workers, and /proc")
def test_a_stopped_worker_saves_when_the_sweep_is_asked_to_stop(
    slow_sweep: tuple["subprocess.Popen[str]", int], runs: Runs
) -> None:
    sweep, server = slow_sweep
    for pid in [server, *children(server)]:
        os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    sweep.terminate()
    out, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 75 and time.monotonic() - begun < 30, out
    assert {name: run.status for name, run in runs().items()} == {"slow-s0": "interrupted", "slow-s1": "interrupted"}
    assert all((run.folder / "checkpoints" / "last.pt").exists() for run in runs().values())


@pytest.mark.parametrize("error", [ConnectionRefusedError, EOFError])
def test_a_run_is_lost_if_the_server_of_the_workers_always_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: type[Exception]
) -> None:
    def fail(slot: Slot) -> Worker:
        raise error

    monkeypatch.setattr(local, "start", fail)
    engine, plan = LocalEngine([Slot("cpu", 1)]), plain_plan(tmp_path, "a")
    engine.start(plan)
    (lost,) = engine.news(0.0)
    assert isinstance(lost, Lost) and lost.plan is plan and lost.whose == "run"
    assert lost.cause.startswith("its process ended before it began, 3 times; allow more processes (ulimit -u)")


@pytest.mark.skipif(METHOD != "forkserver", reason="needs a server of workers")
def test_a_deleted_temporary_folder_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(process: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(workers, "import_ahead", lambda: None)
    monkeypatch.setattr(CONTEXT.Process, "start", gone)
    with pytest.raises(UserError, match="TMPDIR: the temporary folder of this sweep was deleted; the same command"):
        workers.start(Slot("cpu", 1))


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
def test_a_worker_that_does_not_stop_in_time_is_killed(tmp_path: Path) -> None:
    engine = LocalEngine([Slot("cpu", 1)])
    sleeper = subprocess.Popen(["env", "--ignore-signal=TERM", "sleep", "60"])
    wait_for(lambda: Path(f"/proc/{sleeper.pid}/comm").read_text() == "sleep\n")
    process: Any = SimpleNamespace(pid=sleeper.pid)
    ours, theirs = Pipe()
    worker = Worker(engine.slots[0], process, ours, plain_plan(tmp_path, "a"), pidfd=os.pidfd_open(sleeper.pid))
    engine.workers = [worker]
    engine.stop(now=False)
    assert time.monotonic() + 20 < engine.kill_at < time.monotonic() + 30
    engine.kill_at = 0.0
    engine.news(1.0)
    assert sleeper.wait(10) == -signal.SIGKILL
    theirs.close()


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[Worker]:
    """Make workers threads; return all that were started."""
    return use_threads(monkeypatch)


@pytest.mark.usefixtures("threads")
class TestWithThreads:
    def test_two_commands_at_once_share_the_work(
        self, train: Train, hazards: list[str], runs: Runs, capfd: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setattr(scheduler, "HELD_SECONDS", 0.0)
        request = [*hazards, "-m", "epochs=1st", "study.arm=a", "slots=cpu:1"]
        assert train(*request, "seed=0") == 0
        (run,) = runs().values()
        run.update(status="interrupted")
        held, hold = run.held(), Scheduler.hold
        held.__enter__()

        def hold_and_release(*arguments: Any) -> None:
            hold(*arguments)
            threading.Timer(0.1, held.__exit__, (None, None, None)).start()

        monkeypatch.setattr(Scheduler, "hold", hold_and_release)
        assert train(*request, "seed=0,1") == 0
        out = capfd.readouterr().out
        assert f"waits for a, seed 0: {run.folder}: is in use by pid {os.getpid()} on " in out
        assert {name: run.status for name, run in runs().items()} == {"a-s0": "done", "a-s1": "done"}

    def test_a_run_out_of_memory_says_what_to_try(
        self, train: Train, hazards: list[str], capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert train(*hazards, "-m", "model.kind=memory", "seed=0", "study.arm=a", "slots=cpu:1") == 3
        assert "oom: a, seed 0: out of memory with batch_size=8; try batch_size=4" in capfd.readouterr().out

    def test_what_has_diverged_is_told_again(self, train: Train, hazards: list[str], runs: Runs) -> None:
        request = [*hazards, "-m", "epochs=2st", "slots=cpu:1", "model.kind=blow_up,well,sys_exit"]
        assert train(*request) == 3
        before = {name: run.status for name, run in runs().items()}
        assert before == {
            "kind_blow_up-s0": "diverged",
            "kind_well-s0": "done",
            "kind_sys_exit-s0": "failed",
        }
        assert train(*request[:-1], "model.kind=blow_up,well") == 3
        assert {name: run.status for name, run in runs().items()} == before

    def test_a_study_is_written_down(
        self, train: Train, hazards: list[str], runs: Runs, outputs: Path, tmp_path: Path
    ) -> None:
        write_study(tmp_path / "own", {"small": {"model.width": 4}, "large": {"model.width": 9}})
        request = [*hazards, "slots=cpu:1", "epochs=2st", "study.name=mine", "study.question=why"]
        assert train(*request, "+study=mine", "seed=0,1") == 0
        study = read_study(outputs / "mine")
        assert study is not None and (study["name"], study["question"]) == ("mine", "why")
        assert study["arms"] == ["small", "large"]
        listed = [(run["arm"], run["seed"]) for run in study["runs"]]
        assert listed == [("small", 0), ("large", 0), ("small", 1), ("large", 1)], "breadth first"
        assert {run["folder"] for run in study["runs"]} == {run.name for run in runs().values()}
        assert study["plan"] == {"seeds": [0, 1], "every_seed": False, "ended": False}
        assert not (outputs / "mine" / "multirun.yaml").exists()

        # An arm whose config has changed supersedes its old runs; other arms and seeds stay, and nothing is deleted.
        assert train(*request, "+study=mine", "+arm=large", "seed=0", "optimizer.lr=0.5") == 0
        after = read_study(outputs / "mine")
        assert after is not None
        assert sorted((run["arm"], run["seed"]) for run in after["runs"]) == [("large", 0), ("small", 0), ("small", 1)]
        assert len(find_runs(outputs)) == 5

        # Seeds may be added to the plan until a report was made; then they extend it, and the looks are kept.
        assert train(*request, "+study=mine", "seed=0,1,2") == 0
        assert (read_study(outputs / "mine") or {})["plan"]["seeds"] == [0, 1, 2]
        look(outputs / "mine")
        assert train(*request, "+study=mine", "seed=0,1,2,3") == 0
        after = read_study(outputs / "mine") or {}
        assert after["plan"]["seeds"] == [0, 1, 2] and len(after["looks"]) == 1

        # Arms that nobody named are told apart by their config, and supersede nothing.
        assert train(*request, "-m", "model.width=5,6", "seed=0") == 0
        assert train(*request, "-m", "model.width=5,6", "seed=0", "optimizer.lr=0.5") == 0
        assert len((read_study(outputs / "mine") or {})["runs"]) == 8 + 4

    def test_fail_fast(self, train: Train, hazards: list[str], runs: Runs, capfd: pytest.CaptureFixture[str]) -> None:
        request = [*hazards, "-m", "slots=cpu:1", "epochs=2st", "model.kind=well,raise,blow_up", "seed=0,1"]
        assert train(*request, "--fail-fast") == 3
        assert {name: run.status for name, run in runs().items()} == {
            "kind_well-s0": "done",
            "kind_raise-s0": "failed",
        }
        assert "not started: 4 runs; the same command continues" in capfd.readouterr().out

    def test_a_budget(self, train: Train, hazards: list[str], runs: Runs, capfd: pytest.CaptureFixture[str]) -> None:
        request = [*hazards, "-m", "slots=cpu:1", "epochs=2st"]
        assert train(*request, "seed=0") == 0
        (run,) = runs().values()
        run.update(seconds={**run.info["seconds"], "total": 50.0})  # so long, as it seems, does a run of this arm take
        assert train(*request, "seed=0,1,2", "--budget", "40s") == 2
        assert len(runs()) == 1
        told = capfd.readouterr()
        assert "not started: 2 runs, which would not end within the budget" in told.out
        assert told.err.endswith("--budget: too short for any of the 2 runs left; the shortest may take 50 s\n")
        assert train(*request, "seed=0,1,2", "--budget", "1m") == 0
        assert len(runs()) == 3

    def test_editing_what_the_runs_were_composed_of_changes_nothing(
        self, train: Train, hazards: list[str], runs: Runs, tmp_path: Path
    ) -> None:
        request = [*hazards, "-m", "slots=cpu:1", "epochs=2st", "model.width=5", "seed=0,1", "model.kind=edit,well"]
        assert train(*request) == 0
        assert (tmp_path / "own" / "model" / "hazard.yaml").read_text() == "width: 99", "the first run has edited it"
        assert len(runs()) == 4
        assert {run.config()["model"]["_target_"] for run in runs().values()} == {"hazards.Hazard"}
        assert len({run.info["fingerprint"] for run in runs().values()}) == 2, "one a kind"
        assert {run.info["model"]["parameters"] for run in runs().values()} == {3 * 64 * 5 + 5 + 5 * 10 + 10}

    def test_user_code_that_changes_meanwhile_is_not_trained_under_the_old_name(
        self, train: Train, hazards: list[str], runs: Runs
    ) -> None:
        request = [*hazards, "-m", "slots=cpu:1", "epochs=2st", "seed=0", "model.kind=edit_code,well"]
        assert train(*request) == 3
        found = runs()
        assert {name: run.status for name, run in found.items()} == {
            "kind_edit_code-s0": "done",
            "kind_well-s0": "failed",
        }
        assert found["kind_well-s0"].info["error"]["message"] == (
            "hazards: has changed since this run was planned; the same command plans it again"
        )

    def test_a_setting_that_never_took_effect_is_told(
        self, train: Train, hazards: list[str], capfd: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        request = [*hazards, "-m", "slots=cpu:1", "epochs=2st"]
        (tmp_path / "own" / "cured").touch()
        assert train(*request, "model.kind=well,raise", "seed=0,1") == 0
        told = [line for line in capfd.readouterr().out.splitlines() if line.startswith("suspicious: ")]
        assert told == [
            "suspicious: model.kind=well and model.kind=raise, seeds 0, 1: the same to the last bit, though their "
            "configs differ in model.kind: that never took effect"
        ]
        assert train(*request, "model.width=6,7", "seed=0") == 0
        assert "suspicious" not in capfd.readouterr().out

    def test_weights_that_are_not_to_be_had_skip_a_run(
        self, train: Train, runs: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def unreachable(*_: object, **__: object) -> None:
            raise URLError("no network here")

        monkeypatch.setattr("urllib.request.OpenerDirector.open", unreachable)
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        assert train("-m", "model=resnet18", "model.weights=imagenet,none", "epochs=1st", "slots=cpu:1") == 0
        statuses = {name: (run.status, run.info["error"]) for name, run in runs().items()}
        assert statuses["weights_none-s0"] == ("done", None)
        status, error = statuses["weights_imagenet-s0"]
        assert (status, error["type"]) == ("skipped", "Skipped") and "no network here" in error["message"]

    def test_a_worker_that_is_gone_is_replaced(
        self, train: Train, hazards: list[str], runs: Runs, threads: list[Worker], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        note = Scheduler.note

        def note_and_end_the_worker(self: Scheduler, *arguments: Any) -> None:
            note(self, *arguments)
            threads[-1].connection.send(None)
            threads[-1].process.join()

        monkeypatch.setattr(Scheduler, "note", note_and_end_the_worker)
        assert train(*hazards, "-m", "slots=cpu:1", "epochs=1st", "seed=0,1,2") == 0
        assert {run.status for run in runs().values()} == {"done"}
        assert len(threads) == 3

    def test_a_worker_that_has_grown_is_replaced(
        self, train: Train, hazards: list[str], threads: list[Worker], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(local, "memory_mib", lambda: -1.0)
        assert train(*hazards, "-m", "slots=cpu:1", "epochs=1st", "seed=0,1") == 0
        assert len(threads) == 2

    def test_a_worker_whose_device_may_be_spoilt_is_replaced(
        self, train: Train, hazards: list[str], threads: list[Worker], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start = LocalEngine.start

        def start_on_a_gpu(self: LocalEngine, plan: Plan) -> None:
            start(self, plan)
            self.workers[0].slot = Slot("cuda:0", 1)

        monkeypatch.setattr(LocalEngine, "start", start_on_a_gpu)
        assert train(*hazards, "-m", "slots=cpu:1", "epochs=1st", "model.kind=raise,well", "seed=0,1") == 3
        assert len(threads) == 3, "a new one after each failure, and none after a run that is done"

    def test_a_run_that_was_done_before_its_worker_died_stays_done(
        self, train: Train, hazards: list[str], runs: Runs, threads: list[Worker], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def exited(self: LocalEngine, worker: Worker) -> Iterator[Event]:
            assert worker.plan is not None
            message = worker.connection.recv()
            if message[0] == "ended":  # and nobody heard of it
                plan, worker.plan = worker.plan, None
                yield Lost(plan, "killed by SIGKILL", "run")

        monkeypatch.setattr(LocalEngine, "receive", exited)
        assert train(*hazards, "-m", "slots=cpu:1", "epochs=1st", "seed=0,1") == 0
        assert {run.status for run in runs().values()} == {"done"}
        assert all((run.folder / "checkpoints" / "best.pt").exists() for run in runs().values())

    def test_a_run_whose_end_cannot_be_recorded_ends_alone(
        self, train: Train, hazards: list[str], runs: Runs, threads: list[Worker], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begin = Plan.begin

        def full(plan: Plan, record: RunRecord) -> None:
            if plan.seed == 1:
                raise StorageError(plan.folder, OSError(errno.ENOSPC, "No space left on device"))
            begin(plan, record)

        def exited(self: LocalEngine, worker: Worker) -> Iterator[Event]:
            assert worker.plan is not None
            worker.connection.recv()
            plan, worker.plan = worker.plan, None
            yield Lost(plan, "killed by SIGKILL", "run")

        monkeypatch.setattr(Plan, "begin", full)
        monkeypatch.setattr(workers, "make", lambda plan, told: ("done", ""))
        monkeypatch.setattr(LocalEngine, "receive", exited)
        assert train(*hazards, "-m", "slots=cpu:1", "epochs=1st", "seed=0,1,2", "study.arm=some") == 3
        statuses = {name: run.status for name, run in runs().items() if run.info}
        assert statuses == {"some-s0": "failed", "some-s2": "failed"}

    def test_a_run_whose_log_is_a_link_ends_alone(self, plan: Callable[..., Plan], outputs: Path) -> None:
        wanted = plan()
        wanted.folder.mkdir(parents=True)
        (wanted.folder / "train.log").symlink_to(outputs / "elsewhere")
        status, message = workers.make_logged(wanted, workers.PipeProgress(Pipe()[0]))
        assert status == "failed" and "train.log: cannot be written" in message
        assert not (outputs / "elsewhere").exists()

    def test_one_sweep_has_one_kind_of_device_and_of_slots(
        self, train: Train, hazards: list[str], capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert train(*hazards, "-m", "device.kind=cpu,cuda") == 2
        assert "device.kind: given cpu and cuda in one sweep; start a sweep for each" in capfd.readouterr().err

    def test_a_transfer_starts_with_its_upstream(
        self, train: Train, runs: Runs, outputs: Path, tmp_path: Path, hazards: list[str], threads: list[Worker]
    ) -> None:
        pretrain = {
            "defaults": [{"override /model": "torchvision"}],
            "model": {"name": "squeezenet1_1"},
            "data": {"num_train": 50, "num_test": 20, "size": 32},
            "epochs": "1st",
            "batch_size": 8,
            "study": {"name": "pretrain", "arm": "first"},
        }
        (tmp_path / "own" / "pretrain").mkdir()
        (tmp_path / "own" / "pretrain" / "first.yaml").write_text("# @package _global_\n" + yaml.safe_dump(pretrain))
        more = ["model=torchvision", "model.name=squeezenet1_1", "model.weights={config:first}", "data.size=32"]
        request = [*hazards[:2], "-m", *more, "epochs=1st", "slots=cpu:1", "seed=0,1", "study.arm=second"]
        assert train(*request) == 0
        found = runs()
        assert {name: run.status for name, run in found.items()} == dict.fromkeys(
            ("first-s0", "second-s0", "second-s1"), "done"
        )
        assert found["first-s0"].folder.parent.name == "pretrain"
        ends = [found[name].info["finished"] for name in ("first-s0", "second-s0")]
        assert ends == sorted(ends)
        # The backbone is what the upstream's best checkpoint holds, moved by one step of Adam and no further.
        first, second = (
            torch.load(found[name].folder / "checkpoints" / "best.pt")["model"] for name in ("first-s0", "second-s0")
        )
        moved = (first["features.0.weight"] - second["features.0.weight"]).abs().max()
        assert 0 < moved <= 0.0011


# The decisions alone: plans that only say how they end.


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let plans end as their arm's name says; return the order in which they were started."""
    started: list[str] = []

    def make(plan: Plan, progress: Any) -> tuple[str, str]:
        started.append(plan.label)
        status = plan.arm.partition(" ")[0]
        finish(plan, status)
        return status, "as its name says"

    monkeypatch.setattr(workers, "make", make)
    return started


def sweep_of(plans: list[Plan], budget: int | None = None, times: Times | None = None, slots: int = 1) -> int:
    """Make plans on slots; returns the exit code."""
    return Scheduler(plans, LocalEngine([Slot("cpu", 1)] * slots), times or Times([]), budget).run()


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize(
    ("upstream", "dependents", "code"),
    [
        ("done", "done", 0),
        ("failed", "skipped", 3),
        ("skipped", "skipped", 0),
        ("diverged", "skipped", 3),
    ],
)
def test_what_needs_another_run_follows_it(
    tmp_path: Path, order: list[str], slots: int, upstream: str, dependents: str, code: int
) -> None:
    first = plain_plan(tmp_path, upstream)
    plans = [
        first,
        *(plain_plan(tmp_path, "done then", seed, first) for seed in (0, 1)),
        plain_plan(tmp_path, "done alone"),
    ]
    assert sweep_of(plans, slots=slots) == code
    assert plans[3].record().status == "done"
    made = [label for label in order if label.startswith("done then")]
    assert len(made) == (2 if dependents == "done" else 0)
    assert [plan.record().status for plan in plans[1:3]] == [dependents, dependents]
    if made:
        assert order.index(first.label) < min(order.index(label) for label in made)
    else:
        message = plans[1].record().info["error"]["message"]
        assert message.startswith(f"it starts from {first.folder}, which is ")
        assert message in (plans[1].folder / "train.log").read_text()


@pytest.mark.usefixtures("threads")
def test_an_upstream_that_diverged_before_is_not_waited_for(tmp_path: Path, order: list[str]) -> None:
    first = plain_plan(tmp_path, "diverged")
    finish(first, "diverged")
    then = plain_plan(tmp_path, "done then", upstream=first)
    assert sweep_of([first, then]) == 0
    assert (then.record().status, order) == ("skipped", [])


@pytest.mark.usefixtures("threads")
def test_a_chain_of_upstreams(tmp_path: Path, order: list[str]) -> None:
    first = plain_plan(tmp_path, "done first")
    second = plain_plan(tmp_path, "done second", upstream=first)
    third = plain_plan(tmp_path, "done third", upstream=second)
    assert third.chain() == [first, second, third]
    assert sweep_of([third, second, first], slots=2) == 0
    assert order == [first.label, second.label, third.label]


@pytest.mark.usefixtures("threads")
def test_what_needs_a_run_beyond_the_budget_is_beyond_it(
    tmp_path: Path, order: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    first = plain_plan(tmp_path, "done first")
    then = plain_plan(tmp_path, "done then", upstream=first)
    times = Times([])
    times.learn(first.fingerprint, work_of(first.config), 1000.0)
    with pytest.raises(UserError, match=r"^--budget: too short for any of the 2 runs left; .* 17 min$"):
        sweep_of([first, then], budget=60, times=times)
    assert order == [] and not then.folder.exists()
    assert "not started: 2 runs, which would not end within the budget" in capsys.readouterr().out
    other = plain_plan(tmp_path, "done other", 1)
    times.learn(other.fingerprint, work_of(other.config), 1.0)
    assert sweep_of([first, other], budget=60, times=times) == 75, "the same command continues"
    assert order == [other.label]


def test_times_are_those_of_the_config_else_of_its_like(tmp_path: Path) -> None:
    def plan_with(arm: str, **more: Any) -> Plan:
        plan = plain_plan(tmp_path, arm)
        plan.config.update(model={"name": "a"}, **more)
        return plan

    one, two, other = plan_with("one", epochs=3), plan_with("two", epochs=3), plan_with("other", epochs=4)
    times = Times([tmp_path])
    assert times.expected(one) is None and times.total([one], 2) is None
    for plan, seconds in ((one, 10.0), (one, 20.0), (two, 45.0)):
        times.learn(plan.fingerprint, work_of(plan.config), seconds)
    like = plan_with("like", epochs=3, clip_norm=1.0)
    assert (times.expected(one), times.expected(two), times.expected(like)) == (15.0, 45.0, 25.0)
    assert times.expected(other) is None and times.total([one, other], 1) is None, "four epochs are not three"
    assert times.total([one, one, two], 3) == 45.0, "no shorter than the longest"
    assert times.total([one, two, two], 2) == pytest.approx((15 + 45 + 45) / 2)
    assert times.total([], 2) == 0.0


@pytest.mark.parametrize(
    ("slots", "kind", "cores", "expected"),
    [
        ("auto", "cpu", 2, [("cpu", 1)] * 2),
        ("auto", "cpu", 4, [("cpu", 1)] * 4),
        ("auto", "cpu", 16, [("cpu", 2)] * 8),
        ("cpu:3", "auto", 16, [("cpu", 5)] * 3),
        ("cpu", "cpu", 4, [("cpu", 4)]),
        ("cpu:8", "cpu", 4, [("cpu", 1)] * 8),
        (["cuda:0", "cuda:1"], "auto", 8, [("cuda:0", 4), ("cuda:1", 4)]),
        ("cuda:0*3", "auto", 16, [("cuda:0", 5)] * 3),
        (["cuda:0*2", "cuda:1"], "cuda", 2, [("cuda:0", 1), ("cuda:0", 1), ("cuda:1", 1)]),
        (["cpu", "cpu:2"], "cpu", 6, [("cpu", 2)] * 3),
    ],
)
def test_slots(
    slots: Any, kind: str, cores: int, expected: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnexp.process.limits.cores", lambda: cores)
    assert [(slot.device, slot.threads) for slot in resolve(slots, kind)] == expected


@pytest.mark.parametrize(("stated", "expected"), [([1], 1), ([3, 3], 3), (["auto"], cores()), ([1, 3], cores())])
def test_a_slot_has_the_threads_that_the_config_states(stated: list[int | str], expected: int) -> None:
    device = {"kind": "cpu", "processes": 1, "precision": "fp32"}
    composed = [({"slots": "cpu:1", "device": {**device, "threads": threads}}, None) for threads in stated]
    slots, target = machine(composed)
    assert slots == [Slot("cpu", expected)]
    assert target.threads == expected


@pytest.mark.parametrize(("slots", "workers", "expected"), [(2, "auto", 2), (0, "auto", 1), (0, 8, 8)])
def test_how_many_runs_are_made_at_a_time(slots: int, workers: str | int, expected: int) -> None:
    assert at_a_time([Slot("cpu", 1)] * slots, {"workers": workers}) == expected
