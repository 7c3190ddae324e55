"""Runs that are planned in one place and made in another: the same bits, one maker, and nothing built unasked."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import untimed
from plain_plans import finish
from same_runs import assert_same_runs
from thread_workers import use_threads

from cnnexp import cli, storage
from cnnexp.commands.work import slots_for
from cnnexp.process.limits import cores
from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.storage import presence
from cnnexp.sweep import scheduler
from cnnexp.sweep.plan_file import read_plans
from cnnexp.sweep.slots import Slot

Train = Callable[..., int]
Runs = Callable[[], dict[str, RunRecord]]
STATED = ("device.kind=cpu", "device.precision=fp32", "device.threads=1")
SWEEP = ("-m", "study.name=study", "study.arm=a", "epochs=2st")
BY_HAND = (*SWEEP, "cluster=by_hand", *STATED)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make runs in threads, and look at other commands' runs all the time."""
    use_threads(monkeypatch)
    monkeypatch.setattr(scheduler, "HELD_SECONDS", 0.0)


def work(outputs: Path, *more: str) -> int:
    return cli.main(["work", str(outputs / "study"), *more])


@pytest.mark.integration
def test_runs_planned_here_are_made_there_as_a_sweep_makes_them(
    train: Train, runs: Runs, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*BY_HAND, "seed=0,1") == 0
    out = capsys.readouterr().out
    assert "2 runs planned, 0 done before" in out
    assert f"make them, on each machine that sees this folder: cnnexp work {outputs / 'study'}\n" in out
    assert runs() == {}, "nothing is trained"
    assert work(outputs, "slots=cpu:1") == 0  # threads share torch's generator
    out = capsys.readouterr().out
    assert "2 runs, 0 done before, on 1 slot(s) (cpu; 1 thread(s) each)" in out
    assert f"compare them: cnnexp report {outputs / 'study'}\n" in out
    there = outputs.parent / "there"
    assert train(*SWEEP, "seed=0,1", "slots=cpu:1", "device.threads=1", f"outputs={there}") == 0
    made, expected = find_runs(outputs), find_runs(there)
    assert [run.name for run in made] == [run.name for run in expected]
    for one, other in zip(made, expected, strict=True):
        assert untimed(one) == untimed(other)
        assert one.predictions()["logits"].tobytes() == other.predictions()["logits"].tobytes()
    assert work(outputs) == 0
    assert "2 runs, 2 done before" in capsys.readouterr().out


@pytest.mark.integration
def test_a_cpu_has_as_many_slots_as_its_cores_serve(train: Train, outputs: Path) -> None:
    for threads in (1, 2 * cores()):
        assert train(*BY_HAND, f"device.threads={threads}") == 0
        slots = slots_for(read_plans(outputs / "study")[0], "auto")
        assert slots == [Slot("cpu", threads)] * max(cores() // threads, 1)


@pytest.mark.integration
def test_a_machine_without_a_gpu_plans_for_one(
    train: Train, outputs: Path, capsys: pytest.CaptureFixture[str], runs: Runs
) -> None:
    gpu = ["device.kind=cuda", "device.precision=bf16"]
    assert train(*SWEEP, "cluster=by_hand", *gpu, "seed=0") == 0
    ((planned,), _) = read_plans(outputs / "study")
    assert (planned.facts["device"], planned.facts["precision"], planned.facts["threads"]) == ("cuda", "bf16", None)
    capsys.readouterr()
    assert work(outputs) == 2
    assert capsys.readouterr().err.startswith("cnnexp: device.kind: given 'cuda'; this machine and this torch ")
    assert runs() == {}
    assert train(*SWEEP, "cluster=by_hand", *gpu, "seed=0", "--plan") == 0
    assert "1 run, 0 done, 1 to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "such as device.kind=cuda device.precision=bf16 device.threads=8; `cnnexp work --probe` prints it there"),
        (("device.kind=cuda",), "such as device.precision=bf16; "),
        (("device=cpu",), "such as device.threads=8; "),
        (("slots=cpu:2", *STATED), "slots: are those of this machine"),
        (("--budget=1h", *STATED), "--budget: given with cluster=by_hand, which only plans; type it for `cnnexp work`"),
        (("--fail-fast", *STATED), "--fail-fast: given with cluster=by_hand, which only plans; type it for `cnnexp wo"),
    ],
)
def test_what_can_change_a_number_is_stated(
    train: Train, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tuple(word for word in ("device.threads=auto", "device=auto") if not words) + words
    assert train(*SWEEP, "cluster=by_hand", *words) == 2
    assert message in capsys.readouterr().err


def test_a_single_run_has_no_workers(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("cluster=by_hand", *STATED) == 2
    assert "cluster: given 'by_hand' for a single run; add -m: a sweep of one" in capsys.readouterr().err


def test_the_probe_prints_what_to_type(train: Train, capsys: pytest.CaptureFixture[str], outputs: Path) -> None:
    assert cli.main(["work", "--probe"]) == 0
    words = capsys.readouterr().out.split()
    assert words[0].startswith("device.kind=")
    assert train(*SWEEP, "cluster=by_hand", *words) == 0
    assert (outputs / "study" / "plan.json").exists()


def change(outputs: Path, what: Callable[[dict[str, Any]], object]) -> None:
    """Change the plans of the runs in plan.json."""
    content = storage.read_json(outputs / "study" / "plan.json")
    for entry in content["runs"].values():
        what(entry["plan"])
    storage.write_json(outputs / "study" / "plan.json", content)


def test_a_machine_that_would_give_other_numbers_is_refused(
    train: Train, outputs: Path, capsys: pytest.CaptureFixture[str], runs: Runs
) -> None:
    assert train(*BY_HAND, "device.precision=auto") == 0
    change(outputs, lambda plan: plan["facts"].update(precision="bf16"))
    assert work(outputs) == 2
    assert (
        "device: the run was planned for device cpu, precision bf16, threads 1; "
        "here it would use device cpu, precision fp32, threads 1"
    ) in capsys.readouterr().err
    assert runs() == {}


@pytest.mark.parametrize(
    ("where", "target"),
    [("model", "own_network.OwnResidual"), ("data", "os.system"), ("optimizer", "torch.hub.load")],
)
def test_a_plan_builds_nothing_unasked(
    train: Train, outputs: Path, capsys: pytest.CaptureFixture[str], runs: Runs, where: str, target: str
) -> None:
    assert train(*BY_HAND) == 0
    change(outputs, lambda plan: plan["config"][where].update(_target_=target))
    assert work(outputs) == 2
    err = capsys.readouterr().err
    assert f"{where}._target_: {target} is not built from a run directory" in err and f"--allow {target}" in err
    assert runs() == {}


@pytest.mark.integration
def test_a_run_that_has_failed_since_it_was_planned_is_not_repeated(
    train: Train, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*BY_HAND, "seed=0,1") == 0
    failed, _ = read_plans(outputs / "study")[0]
    finish(failed, "failed")
    assert work(outputs) == 3
    assert failed.record().status == "failed"
    assert "failed: a, seed 0" in capsys.readouterr().out
    assert train(*BY_HAND, "seed=0,1") == 0, "planned again"
    assert work(outputs) == 0
    assert failed.record().status == "done"


@pytest.mark.integration
def test_a_budget(train: Train, outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(*BY_HAND, "seed=0,1") == 0
    first, _ = read_plans(outputs / "study")[0]
    with first.record().held():
        assert work(outputs, "--budget", "2s") == 75
    assert "not made here: 1 run of another command" in capsys.readouterr().out


@pytest.mark.integration
def test_folders_that_are_typed_are_those_of_the_worker(
    train: Train, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(*BY_HAND) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert work(outputs, "slots=cpu:1", "data.cache=cache") == 0
    assert any((tmp_path / "elsewhere" / "cache").iterdir()) and Path.cwd() != tmp_path / "elsewhere"


def test_a_worker_without_the_folder_of_the_planning_command(
    train: Train, outputs: Path, tmp_path: Path, runs: Runs
) -> None:
    (tmp_path / "planner").mkdir()
    with contextlib.chdir(tmp_path / "planner"):
        assert train(*BY_HAND) == 0
    (tmp_path / "planner").rmdir()
    assert work(outputs, "slots=cpu:1") == 0
    assert [run.status for run in runs().values()] == ["done"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["work"], "DIR: name the folder of a study"),
        (["work", "."], ".: has no plan.json; `cnnexp train` writes it"),
        (["work", "nowhere"], "nowhere: has no plan.json"),
        (["work", "DIR", "epochs=3"], "epochs=3: allowed: slots=, data.root=DIR, data.cache=DIR, data.file=FILE"),
        (["work", "DIR", "slots=cuda:0"], "slots: given cuda:0 with device.kind=cpu"),
        (["work", "DIR", "--budget", "x"], "--budget: given 'x'"),
    ],
)
def test_wrong_requests(
    train: Train, outputs: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*BY_HAND) == 0
    assert cli.main([word.replace("DIR", str(outputs / "study")) for word in words]) == 2
    assert message in capsys.readouterr().err
    assert not Path(presence.FOLDER).exists()


@pytest.mark.integration
def test_a_folder_whose_locks_do_not_reach_is_refused(
    train: Train, outputs: Path, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*BY_HAND) == 0
    blind = "import fcntl, sys, time; from pathlib import Path; from cnnexp.storage import presence\n"
    blind += "fcntl.flock = lambda *_: None; presence.TOUCH_SECONDS = 0.05\n"
    blind += "with presence.at_work(Path(sys.argv[1])): print(flush=True); time.sleep(60)"
    words = [sys.executable, "-c", blind, str(outputs / "study")]
    files = [outputs / "study" / name for name in ("study.json", "plan.json")]
    before = [file.read_bytes() for file in files]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None and other.stdout.readline()
            for command in (lambda: work(outputs), lambda: train(*SWEEP, "device.threads=1", "slots=cpu:1")):
                assert command() == 2
                assert "locks of files do not reach" in capsys.readouterr().err
            assert [file.read_bytes() for file in files] == before, "what is refused changes no record"
        finally:
            other.kill()
    assert runs() == {}
    assert work(outputs) == 0, "the other has ended"


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk with room for a few small files only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.integration
def test_a_machine_whose_disk_is_full_leaves_the_runs_to_others(
    train: Train, outputs: Path, full_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*BY_HAND, "seed=0,1") == 0
    assert work(outputs, "slots=cpu:1", f"data.cache={full_disk}") == 3
    assert capsys.readouterr().out.count("failed: a, seed") == 2
    assert find_runs(outputs) == [], "what one machine lacks is not a fault of the run"
    assert work(outputs, "slots=cpu:1") == 0
    there = outputs.parent / "there"
    assert train(*SWEEP, "seed=0,1", "slots=cpu:1", "device.threads=1", f"outputs={there}") == 0
    assert_same_runs(outputs, there)


# Real workers.


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_whose_worker_ends_is_finished_by_another(
    train: Train, outputs: Path, runs: Runs, number: signal.Signals
) -> None:
    assert train(*BY_HAND, "seed=0,1", "epochs=60ep", "checkpoint.every=1ep") == 0
    command = [sys.executable, "-W", "error", "-m", "cnnexp", "work", str(outputs / "study"), "slots=cpu:1"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    first, second = (subprocess.Popen(command, start_new_session=True, **pipes) for _ in range(2))
    try:
        end = time.monotonic() + 120
        while sum(len(run.rows()) > 0 for run in find_runs(outputs)) < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        first.send_signal(number)
        assert first.communicate(timeout=120) and first.returncode == (-9 if number == signal.SIGKILL else 75)
        out, _ = second.communicate(timeout=240)
    finally:
        for process in (first, second):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert second.returncode == 0, out
    found = list(runs().values())
    assert [run.status for run in found] == ["done", "done"]
    assert sorted(run.info["resumed"] for run in found) == [0, 1]
    assert all(len(run.rows()) == 2 * 60 for run in found), json.dumps([len(run.rows()) for run in found])


@pytest.mark.integration
def test_too_few_open_files_are_refused_before_the_first_run(
    train: Train, outputs: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*BY_HAND) == 0
    monkeypatch.setattr("cnnexp.process.limits.FILES_OF_A_SLOT", 100_000)
    monkeypatch.setattr("resource.getrlimit", lambda _: (64, 64))
    real, opened = os.open, list[int]()

    def few(path: Any, *more: Any, **named: Any) -> int:
        opened.append(0)
        if path == os.devnull and len(opened) > 200:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(path, *more, **named)

    monkeypatch.setattr(os, "open", few)
    assert work(outputs) == 2
    assert "ulimit -n: the limit of 64 open files is too low for this sweep" in capsys.readouterr().err
    assert runs() == {}
