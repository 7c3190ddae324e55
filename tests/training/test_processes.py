"""One run on several processes: the numbers of one process, resumed bit for bit, and ended cleanly when one is lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import untimed
from cuts import CutAt, gone
from lives import difference, everything
from slurm_node import available, slurm_node

from cnnexp.errors import EXIT_DONE, EXIT_PREEMPTED, EXIT_REQUEST, EXIT_SOME_FAILED, Interrupted, ProcessLost, UserError
from cnnexp.process.signals import children
from cnnexp.records.run_record import RunRecord
from cnnexp.storage import Locked
from cnnexp.sweep import slots
from cnnexp.training import exchange, processes
from cnnexp.training import run as runner
from cnnexp.training.checkpoint import Checkpoints, weights_in
from cnnexp.training.launched import Place, first_host, place_of
from cnnexp.training.loop import TrainState
from cnnexp.training.plan import Plan
from cnnexp.training.progress import Progress
from cnnexp.training.ranks import Ranks

pytestmark = pytest.mark.integration

Train = Callable[..., int]
Plans = Callable[..., Plan]

ONE_OF_SEVERAL = str(Path(__file__).parent.parent / "helpers" / "one_of_several.py")
TWO = "device.processes=2"
STEPS, BATCH, SIDE = 12, 9, 16  # 3 epochs of 4 steps; a batch and the last one of an evaluation are uneven in two
UNEVEN = ["data.size=16", f"batch_size={BATCH}", "eval_batch_size=8", "optimizer=momentum", "augmentation=full"]
# Sums of so many numbers, each rounded, in every step; the weights are of the order of 1.
ROUNDING = STEPS * BATCH * SIDE * SIDE * np.finfo(np.float64).eps
MIXED = ["mix={mixup:0.4,cutmix:1.0}", "sampling=balanced", "ema.decay=0.9"]


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute losses in float64 in this process; the others do so when they import double_networks."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


@pytest.fixture
def of(plan: Plans, tmp_path: Path) -> Plans:
    """Return a function that plans a run of a network of double_networks."""

    def make(network: str, *more: str) -> Plan:
        (tmp_path / "own" / "model").mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / "model" / f"double_{network}.yaml").write_text(f"_target_: double_networks.{network}\n")
        return plan(f"hydra.searchpath=[{(tmp_path / 'own').as_uri()}]", f"model=double_{network}", *UNEVEN, *more)

    return make


@pytest.fixture(autouse=True)
def keep_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunRecord, "drop_resume_files", lambda self: None)


@pytest.fixture(autouse=True)
def nobody_left() -> Iterator[None]:
    yield
    mine = [pid for pid in children(os.getpid()) if not gone(pid)]
    left = [pid for pid in mine if b"training.follow" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert not left and not torch.distributed.is_initialized()


class At(Progress):
    """Calls a function at a step, once."""

    def __init__(self, step: int, call: Callable[[], object]):
        self.at, self.call = step, call

    def step(self, state: TrainState) -> None:
        if state.step == self.at:
            self.call()


def other(number: signal.Signals) -> Callable[[], None]:
    """Return a function that sends a signal to the process that this one has started."""
    before = children(os.getpid())

    def send() -> None:
        (pid,) = children(os.getpid()) - before
        os.kill(pid, number)

    return send


def distance(one: Plan, two: Plan) -> float:
    """Return the largest difference of the best weights, the logits and the rows of two runs."""
    mine, theirs = (weights_in(plan.folder / "checkpoints" / "best.pt") for plan in (one, two))
    pairs = [(mine[name].numpy(), theirs[name].numpy()) for name in mine]
    pairs.append((one.record().predictions()["logits"], two.record().predictions()["logits"]))
    pairs += [
        (np.array(a["loss"]), np.array(b["loss"]))
        for a, b in zip(one.record().rows(), two.record().rows(), strict=True)
    ]
    return max(float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max()) for a, b in pairs)


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("network", ["convnet", "resnet", "mlp", "noisy"])
def test_the_numbers_are_those_of_one_process(of: Plans, outputs: Path, network: str) -> None:
    one, two = of(network, *MIXED), of(network, *MIXED, TWO, f"outputs={outputs / 'two'}")
    assert one.fingerprint == two.fingerprint  # the number of processes is not part of a run's identity
    for plan in (one, two):
        runner.run(plan, Progress())
    # logits are stored in float32: two that differ by a rounding of float64 may be neighbours there
    assert distance(one, two) <= max(ROUNDING, float(np.finfo(np.float32).eps))
    mine, theirs = (weights_in(plan.folder / "checkpoints" / "best.pt") for plan in (one, two))
    assert max(float((mine[name] - theirs[name]).abs().max()) for name in mine) <= ROUNDING
    assert two.record().info["device"]["processes"] == 2


@pytest.mark.usefixtures("in_float64")
def test_local_batch_norm_gives_other_numbers_and_is_another_run(of: Plans, outputs: Path) -> None:
    one, two = of("mlp"), of("mlp", TWO, "device.sync_bn=false", f"outputs={outputs / 'two'}")
    assert one.fingerprint != two.fingerprint
    assert one.fingerprint == of("mlp", "device.sync_bn=false").fingerprint
    for plan in (one, two):
        runner.run(plan, Progress())
    assert distance(one, two) > 1e-3


KEPT = ["model=resnet18", "model.freeze=backbone", "model.bn=frozen", "augmentation=flip"]
WATCHED = ["probes=all", "log.hash_chain=true", "scheduler=plateau", "clip_norm=0.5"]
FREED = ["model=resnet18", "model.freeze=backbone", "unfreeze={layer4:1ep,backbone:2ep}"]
LONG = [pytest.param(more, marks=pytest.mark.slow) for more in (KEPT, WATCHED, FREED)]


@pytest.mark.parametrize(
    "more", [[*MIXED, "accumulate=2", "loss.class_weights=balanced", "device.sync_bn=false"], *LONG]
)
def test_however_it_is_cut_off_it_goes_on_bit_for_bit(plan: Plans, outputs: Path, more: list[str]) -> None:
    whole = plan(*more, TWO, f"outputs={outputs / 'whole'}")
    runner.run(whole, Progress())
    cut = plan(*more, TWO, "checkpoint.every=2st")
    with pytest.raises(ProcessLost, match="process 2 of 2 was killed by SIGKILL"):
        runner.run(cut, At(7, other(signal.SIGKILL)))
    record = cut.record()
    assert record.status == "failed" and not (cut.folder / ".meeting").exists()
    runner.run(cut, Progress())
    assert cut.record().info["resumed"] == 1
    assert difference(everything(whole.folder), everything(cut.folder)) is None
    if "probes=all" in more:
        assert record.probe_rows() and whole.record().probe_rows() == cut.record().probe_rows()


@pytest.mark.usefixtures("in_float64")
def test_it_goes_on_with_another_number_of_processes(of: Plans, outputs: Path) -> None:
    one = of("convnet", f"outputs={outputs / 'one'}")
    runner.run(one, Progress())
    with pytest.raises(Interrupted):
        runner.run(of("convnet", TWO), CutAt(5, signal.SIGTERM))
    changed = of("convnet")
    runner.run(changed, Progress())
    assert "resumed after step 5\n" in (changed.folder / "train.log").read_text()
    assert distance(one, changed) <= max(ROUNDING, float(np.finfo(np.float32).eps))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_saves_once_and_stops_all(
    plan: Plans, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    made, saved = plan(TWO, "checkpoint.every=100st"), list[int]()
    before = Checkpoints.save

    def counted(self: Checkpoints, state: TrainState, *more: Any) -> None:
        saved.append(state.step)
        before(self, state, *more)

    monkeypatch.setattr(Checkpoints, "save", counted)

    def locked_then_signalled() -> None:
        with pytest.raises(Locked):
            runner.run(plan(), Progress())
        os.kill(os.getpid(), number)

    with pytest.raises(Interrupted) as stopped:
        runner.run(made, At(4, locked_then_signalled))
    assert stopped.value.exit_code == code and saved == [4] and made.record().status == "interrupted"


def test_a_signal_to_another_process_stops_all(plan: Plans) -> None:
    with pytest.raises(Interrupted) as stopped:
        runner.run(plan(TWO, "epochs=500ep"), At(4, other(signal.SIGTERM)))
    assert stopped.value.exit_code == 75


def test_a_signal_to_another_process_while_features_are_computed(plan: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    term, wait = other(signal.SIGTERM), exchange.wait_for_all
    monkeypatch.setattr(processes, "wait_for_all", lambda group: (term(), wait(group)))
    made = plan(*KEPT, TWO)
    with pytest.raises(Interrupted) as stopped:
        runner.run(made, Progress())
    assert stopped.value.exit_code == 75 and made.record().info["features"] == "computed once"


def test_a_process_that_does_not_answer_is_given_up(plan: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "SILENT_SECONDS", 5.0)
    monkeypatch.setattr(processes, "CAUSE_SECONDS", 0.5)
    made, stopped = plan(TWO), list[float]()
    stop = other(signal.SIGSTOP)
    with pytest.raises(ProcessLost, match="a process of the run did not answer for 5 s"):
        runner.run(made, At(4, lambda: (stop(), stopped.append(time.monotonic()))))
    assert time.monotonic() - stopped[0] < 12 and made.record().status == "failed"


@pytest.mark.parametrize(
    ("raises", "error", "status", "message"),
    [
        ("MemoryError", MemoryError, "oom", "batch_size=4"),
        ("KeyError", ProcessLost, "failed", "process 2 of 2: KeyError"),
    ],
)
def test_an_error_in_another_process_is_that_of_the_run(
    plan: Plans, tmp_path: Path, raises: str, error: type[Exception], status: str, message: str
) -> None:
    (tmp_path / "own" / "augmentation").mkdir(parents=True)
    (tmp_path / "own" / "augmentation" / "fails.yaml").write_text(
        f"_target_: double_networks.fails_elsewhere\nerror: {raises}\n"
    )
    made = plan(f"hydra.searchpath=[{(tmp_path / 'own').as_uri()}]", "augmentation=fails", TWO)
    with pytest.raises(error):
        runner.run(made, Progress())
    info = made.record().info
    assert info["status"] == status and message in info["error"]["message"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["device.compile=true"], "device.processes: given 2 with device.compile=True; compiled steps are for one"),
        (["device.kind=mps"], "device.processes: given 2 with device.kind=mps"),
        (["batch_size=4", "accumulate=3"], "device.processes: given 2 with batch_size=4 and accumulate=3; allowed: an"),
        (["-m", "cluster=ray", "cluster.cpus=1"], "with cluster.cpus=1; each process needs one: cluster.cpus=2"),
        (["-m", "slots=cuda:0"], "device.kind"),
    ],
)
def test_what_it_does_not_do_is_said_before_the_data_is_touched(
    train: Train, capsys: pytest.CaptureFixture[str], outputs: Path, more: list[str], message: str
) -> None:
    assert train(TWO, *more, "--plan") == EXIT_REQUEST
    assert message in capsys.readouterr().err and not outputs.exists()


def test_more_processes_than_gpus_are_refused(
    train: Train, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "one")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert train(TWO, "device.kind=cuda") == EXIT_REQUEST
    assert "given 2; this machine has 1 CUDA device(s), one for each" in capsys.readouterr().err


def test_the_slots_of_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnexp.process.limits.cores", lambda: 4)
    assert [(s.threads, s.processes) for s in slots.resolve("auto", "cpu", 2)] == [(2, 2), (2, 2)]
    assert [(s.threads, s.processes) for s in slots.resolve("cpu:1", "auto", 2)] == [(4, 2)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 5)
    assert [slot.device for slot in slots.resolve("auto", "cuda", 2)] == ["cuda:0", "cuda:2"]
    assert [slot.device for slot in slots.resolve(["cuda:1", "cuda:3"], "auto", 2)] == ["cuda:1", "cuda:3"]
    for overlapping in (["cuda:0", "cuda:1"], ["cuda:4"], ["cuda:0*2"]):
        with pytest.raises(ValueError, match="a slot is 2 GPUs from the one it names; this machine has 5"):
            slots.resolve(overlapping, "auto", 2)


@pytest.mark.parametrize(("size", "count"), [(9, 2), (7, 3), (3, 3), (128, 4)])
def test_the_rows_of_a_batch_are_all_taken_once(size: int, count: int) -> None:
    parts = [list(range(size))[Ranks(rank, count).rows(size)] for rank in range(count)]
    assert [row for part in parts for row in part] == list(range(size))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1 and min(map(len, parts)) > 0


def test_processes_that_never_come_are_said_to_be_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Variables of an earlier torchrun, or of a managed machine, make a command wait for others."""
    monkeypatch.setattr(exchange, "NOTICE_SECONDS", 0.2)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    place = Place("torchrun", 0, 2, 0, 1, f"localhost:{port}")
    told = f"the other processes that torchrun has started, 2 in all, at localhost:{port}"
    with pytest.raises(UserError, match=rf"cannot reach {told} \(.*\); if there are none, unset WORLD_SIZE"):
        exchange.connect_launched(processes.ranks_of(place, lambda plan: None), "cpu", place, 2)
    assert f"cnnexp: waiting for {told}; if there are none, unset WORLD_SIZE" in capsys.readouterr().err
    wrong = {"RANK": "0", "WORLD_SIZE": "two", "MASTER_ADDR": "h", "MASTER_PORT": "1"}
    with pytest.raises(UserError, match="WORLD_SIZE: given 'two' in the environment; allowed: a whole number"):
        place_of(wrong)


def test_torchrun_and_srun_are_detected() -> None:
    assert (
        place_of({}) is None
        and place_of({"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "h", "MASTER_PORT": "1"}) is None
    )
    run = {"RANK": "5", "WORLD_SIZE": "8", "MASTER_ADDR": "h", "MASTER_PORT": "1", "LOCAL_RANK": "1"}
    assert place_of(run | {"LOCAL_WORLD_SIZE": "4"}) == Place("torchrun", 5, 8, 1, 4, "h:1")
    batch = {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7"}  # of a batch script: nobody else is started
    assert place_of(batch) is None
    step = {
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_PROCID": "3",
        "SLURM_LOCALID": "1",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    }
    found = place_of(batch | step | {"SLURM_STEP_NODELIST": "gpu[03-04]", "SLURM_STEP_ID": "0"})
    assert found == Place("srun", 3, 4, 1, 2, "gpu03:20217")
    padded = run | {"WORLD_SIZE": " 8", "RANK": "5\n", "LOCAL_WORLD_SIZE": ""}
    assert place_of(padded) == Place("torchrun", 5, 8, 1, 1, "h:1")
    assert place_of(run | {"WORLD_SIZE": ""}) is None  # as if it were not set
    for each, local in (("", 4), ("1(x2),2", 1), ("3,1", 3), (" 4 ", 4)):
        found = place_of(batch | step | {"SLURM_STEP_TASKS_PER_NODE": each})
        assert found is not None and found.local_count == local
    for each in ("x2", "2x", "-1", "(x2)"):
        with pytest.raises(UserError, match=r"SLURM_STEP_TASKS_PER_NODE: given '.*' in the environment; allowed: num"):
            place_of(batch | step | {"SLURM_STEP_TASKS_PER_NODE": each})
    assert [first_host(nodes) for nodes in ("a", "a,b", "n[1,3-4],m", "n[07-09]-x")] == ["a", "a", "n1", "n07-x"]


def by_hand(tiny: list[str], prepare: str, silent: float = 300.0, count: int = 2) -> list["subprocess.Popen[str]"]:
    """Start processes as torchrun does, which shows only 1 for every exit code but 0; see one_of_several.py."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, ONE_OF_SEVERAL, str(silent), prepare, "train", *tiny]
    return [
        subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **place, "RANK": str(r), "LOCAL_RANK": str(r)},
        )
        for r in range(count)
    ]


def ends(started: list["subprocess.Popen[str]"]) -> list[tuple[int, str]]:
    """Return the exit code and the errors of each process."""
    errors = [process.communicate(timeout=120)[1] for process in started]
    return [(process.returncode, said) for process, said in zip(started, errors, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("prepare", ["slow", "slow_elsewhere"])
def test_preparing_the_data_may_take_longer_than_an_exchange(tiny: list[str], prepare: str) -> None:
    assert [code for code, _ in ends(by_hand(tiny, prepare, silent=2.0))] == [EXIT_DONE] * 2


def test_a_mistake_is_one_line_in_all_processes_together(tiny: list[str]) -> None:
    first, *others = ends(by_hand(tiny, "refused", count=3))
    *notes, mistake = first[1].splitlines()
    assert (first[0], mistake) == (EXIT_REQUEST, "cnnexp: data.root: given 'away'; allowed: a folder")
    assert all("chance chooses the best epoch: 10 validation images" in note for note in notes)
    assert others == [(EXIT_REQUEST, "")] * 2


@pytest.mark.slow
def test_a_signal_while_process_0_prepares_stops_all(tiny: list[str], outputs: Path) -> None:
    started = by_hand(tiny, "slow", silent=4.0)
    while not list(outputs.glob("runs/*/run.json")):
        time.sleep(0.05)
    time.sleep(1)
    started[1].send_signal(signal.SIGTERM)
    assert [code for code, _ in ends(started)] == [EXIT_PREEMPTED] * 2


@pytest.mark.slow
def test_the_others_end_with_a_line_when_process_0_is_killed(tiny: list[str]) -> None:
    first, second = ends(by_hand(tiny, "killed"))
    assert first[0] == -signal.SIGKILL
    assert second == (EXIT_SOME_FAILED, "cnnexp: process 2 of 2 ends: another has ended\n")


def children_of(*scripts: str) -> processes._Children:
    """Return processes of a run that do what these lines of Python say."""
    made = object.__new__(processes._Children)
    made.ranks, made.started = Ranks(0, len(scripts) + 1), []
    for script in scripts:
        command = [sys.executable, "-c", f"import json, time\n{script}"]
        made.started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    return made


def says(memory: bool, message: str) -> str:
    return f"print({json.dumps(json.dumps({'memory': memory, 'message': message}))}, flush=True)"


CLOSED = RuntimeError("[gloo/transport] Connection closed by peer")


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        (says(True, "MemoryError: importing torch"), MemoryError, "process 2 of 2: MemoryError: importing torch"),
        (says(False, "ImportError: no torch"), ProcessLost, "process 2 of 2: ImportError: no torch"),
        ("time.sleep(60)", ProcessLost, r"process 2 of 2 was not ready after 1 s; see train\.log"),
        ("raise SystemExit(4)", ProcessLost, "process 2 of 2 ended with code 4; see"),
    ],
    ids=["memory", "error", "silent", "ended"],
)
def test_why_a_process_was_not_ready(
    plan: Plans, monkeypatch: pytest.MonkeyPatch, script: str, error: type[Exception], message: str
) -> None:
    monkeypatch.setattr(processes, "START_SECONDS", 1.0)
    monkeypatch.setattr(processes, "CAUSE_SECONDS", 0.5)
    made = children_of(script)
    try:
        with pytest.raises(error, match=message):
            made.wake(plan())
    finally:
        made.started[0].kill()
        made.started[0].communicate()


CONSEQUENCE = says(False, "RuntimeError: Connection closed by peer [127.0.0.1]:1234")


@pytest.mark.parametrize(
    ("scripts", "error", "message"),
    [
        ((CONSEQUENCE, f"time.sleep(1)\n{says(False, 'KeyError: here')}"), ProcessLost, "process 3 of 3: KeyError"),
        ((CONSEQUENCE, says(True, "OutOfMemoryError: NCCL out of memory")), MemoryError, "process 3 of 3: OutOf"),
        ((CONSEQUENCE, "import os; os.kill(os.getpid(), 9)"), ProcessLost, "process 3 of 3 was killed by SIGKILL"),
        (
            (CONSEQUENCE, f"time.sleep(1)\n{CONSEQUENCE}"),
            ProcessLost,
            "process 2 of 3: RuntimeError: Connection closed",
        ),
    ],
)
def test_the_cause_is_named_not_a_consequence(scripts: tuple[str, ...], error: type[Exception], message: str) -> None:
    made = children_of(*scripts)
    with pytest.raises(error, match=message):
        made.raise_cause(CLOSED)
    for child in made.started:
        child.communicate()


@pytest.mark.slow
def test_torchrun_shares_a_run_as_device_processes_does(plan: Plans, tiny: list[str], outputs: Path) -> None:
    runner.run(own := plan(TWO, f"outputs={outputs / 'own'}"), Progress())
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "cnnexp"]
    command = [*launcher, "train", *tiny]
    made = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert made.returncode == EXIT_DONE and made.stdout.count("test accuracy") == 1, made.stderr
    (folder,) = outputs.glob("runs/*")
    assert untimed(RunRecord.read(folder)) == untimed(own.record())
    assert not list(weights_differ(folder, own.folder))
    wrong = subprocess.run([*command, "optimizer.lr=a"], capture_output=True, text=True, timeout=250)
    assert wrong.returncode == 1 and "optimizer.lr" in wrong.stderr  # torchrun turns 2 into 1
    sweep = subprocess.run([*command, "-m"], capture_output=True, text=True, timeout=250)
    assert "torchrun: shares one run among 2 processes" in sweep.stderr


@pytest.mark.cluster
@pytest.mark.skipif(not available(), reason="needs root and slurm-wlm")
def test_srun_shares_a_run_and_keeps_the_exit_code(plan: Plans, tiny: list[str], outputs: Path, tmp_path: Path) -> None:
    runner.run(own := plan(TWO, f"outputs={outputs / 'own'}"), Progress())
    with slurm_node(tmp_path / "slurm") as environ:
        command = ["srun", "--ntasks=2", sys.executable, "-m", "cnnexp", "train"]
        made = subprocess.run([*command, *tiny], capture_output=True, text=True, timeout=200, env=environ)
        assert made.returncode == EXIT_DONE and made.stdout.count("test accuracy") == 1, made.stderr
        (folder,) = outputs.glob("runs/*")
        assert untimed(RunRecord.read(folder)) == untimed(own.record()) and not list(weights_differ(folder, own.folder))
        long = [*tiny, "epochs=5000ep", "log.steps=1st", "study.name=long"]
        running = subprocess.Popen([*command, *long], env=environ)
        while not any(len(file.read_text().splitlines()) > 10 for file in outputs.glob("long/*/metrics.jsonl")):
            assert running.poll() is None
            time.sleep(0.1)
        subprocess.run(["scancel", "--signal=TERM", "--me"], env=environ, check=True)
        assert running.wait(60) == 75
        (run,) = (RunRecord.read(folder) for folder in outputs.glob("long/*"))
        assert run.status == "interrupted" and run.resumes


def weights_differ(one: Path, two: Path) -> Iterator[str]:
    """Yield the names of weights that are not the same."""
    mine, theirs = (weights_in(folder / "checkpoints" / "best.pt") for folder in (one, two))
    yield from (name for name in mine if not torch.equal(mine[name], theirs[name]))


@pytest.mark.slow
def test_a_sweep_says_how_threads_are_shared(train: Train, capfd: pytest.CaptureFixture[str], runs: Any) -> None:
    assert train("-m", "seed=0,1", TWO, "slots=cpu:2", "device.threads=auto") == EXIT_DONE
    assert "2 slot(s) (cpu; 1 thread(s) each, shared by 2 processes of a run)" in capfd.readouterr().out
    assert [run.info["device"]["processes"] for run in runs().values()] == [2, 2]
    assert train("-m", "seed=0,1", TWO, "slots=cpu:2", "device.threads=auto") == EXIT_DONE


@pytest.mark.slow
def test_a_killed_command_leaves_nobody(plan: Plans, tiny: list[str], outputs: Path) -> None:
    words = [*tiny, TWO, "epochs=2000ep", "log.steps=1st"]
    command = subprocess.Popen([sys.executable, "-m", "cnnexp", "train", *words], stdout=subprocess.DEVNULL)
    while not any(len(file.read_text().splitlines()) > 10 for file in outputs.glob("runs/*/metrics.jsonl")):
        time.sleep(0.1)
    (other,) = children(command.pid)
    command.kill()
    command.wait()
    until = time.monotonic() + 20
    while not gone(other):
        assert time.monotonic() < until
        time.sleep(0.1)
