"""The engine of SLURM: the script, what it asks SLURM with pretended commands, and real jobs on one node."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import untimed
from plain_plans import finish, plain_plan
from same_runs import assert_same_runs
from slurm_node import available, slurm_node

from cnnexp.errors import Interrupted
from cnnexp.records.run_record import find_runs
from cnnexp.sweep import slurm
from cnnexp.sweep.engine import Ended, Progress
from cnnexp.sweep.plan_file import read_plans
from cnnexp.sweep.slurm import SlurmEngine

Train = Callable[..., int]
SWEEP = ("-m", "study.name=study", "study.arm=a", "epochs=2st", "cluster=slurm")


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that makes pretended commands of SLURM; each writes its words and input into a log."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    def make(**bodies: str) -> Path:
        for name, body in bodies.items():
            file = tmp_path / "bin" / name
            file.write_text(f'#!/bin/bash\necho "{name} $*" >> {tmp_path}/log\n{body}\n')
            file.chmod(0o755)
        return tmp_path / "log"

    return make


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(slurm, "ASK_SECONDS", 0.0)
    monkeypatch.setattr(slurm, "LATE_SECONDS", 0.0)


@pytest.mark.integration
def test_the_plan_shows_the_script_and_submits_nothing(
    train: Train, outputs: Path, capsys: pytest.CaptureFixture[str], commands: Callable[..., Path]
) -> None:
    log = commands(sbatch="echo 1")
    more = [
        "seed=0,1,2,3",
        "cluster.workers=3",
        "cluster.cpus=4",
        "cluster.gpus=2",
        "cluster.time=90m",
        "cluster.memory=8G",
    ]
    more += ["cluster.partition=gpu", "cluster.qos=long", "cluster.options=['--constraint=a100']"]
    more += ["cluster.setup=[module load cuda]", "device.kind=cuda", "device.precision=bf16", "--fail-fast"]
    assert train(*SWEEP, *more, "--plan") == 0
    out = capsys.readouterr().out
    for line in (
        "--array=1-3", "--cpus-per-task=4", "--gres=gpu:2", "--time=90", "--mem=8G", "--partition=gpu", "--qos=long",
        "--constraint=a100", "--requeue", "--signal=USR2@60", f"--output={outputs / 'study' / 'slurm'}/%A_%a.log",
    ):  # fmt: skip
        assert f"\n#SBATCH {line}\n" in out
    assert "\nmodule load cuda\n" in out
    assert f"\nsrun {sys.executable} -m cnnexp work {outputs / 'study'} slots=auto --fail-fast\n" in out
    assert "account" not in out
    assert not log.exists() and not outputs.exists()


def test_own_code_is_allowed_and_cores_become_slots(plan: Callable[..., Any]) -> None:
    planned = plan()
    cluster = {"workers": 1, "cpus": 6, "gpus": 0, "time": "1-00:00:00", "options": None, "setup": None}
    cluster |= dict.fromkeys(("memory", "partition", "account", "qos"))
    planned.config["device"]["threads"] = 2
    planned.config["model"]["_target_"] = "own_network.OwnResidual"
    text = slurm.script([planned], cluster)
    assert f"work {planned.folder.parent} slots=cpu:3 --allow own_network.OwnResidual\n" in text
    assert "#SBATCH --time=1-00:00:00\n" in text
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


@pytest.mark.integration
def test_a_folder_with_a_space_and_a_percent_sign(
    train: Train, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*SWEEP, f"outputs='{outputs}/my 50%/A'", "--plan") == 0
    out = capsys.readouterr().out
    assert f"\n#SBATCH --output='{outputs}/my 50%%/A/study'/slurm/%A_%a.log\n" in out


@pytest.mark.integration
def test_a_login_node_asks_a_compute_node_for_its_precision(
    train: Train, outputs: Path, commands: Callable[..., Path]
) -> None:
    log = commands(srun="echo device.kind=cuda device.precision=bf16", sbatch="cat > /dev/null; echo '7;lab'")
    gpu = ["cluster.gpus=1", "cluster.cpus=8", "device=auto", "device.threads=auto", "device.precision=auto"]
    assert train(*SWEEP, *gpu, "--no-wait") == 0
    ((planned,), _) = read_plans(outputs / "study")
    assert {key: planned.facts[key] for key in ("device", "precision")} == {"device": "cuda", "precision": "bf16"}
    assert planned.config["device"]["threads"] == 8
    asked, submitted = log.read_text().splitlines()
    assert asked.startswith("srun --nodes=1 --ntasks=1 --cpus-per-task=8 --gres=gpu:1 bash -c ")
    assert submitted == "sbatch --parsable"


@pytest.mark.integration
def test_the_question_for_a_precision_has_the_words_of_the_script(
    train: Train, outputs: Path, commands: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    script = 'for word; do echo "<$word>" >> $(dirname $0)/../words; done; eval "${@: -1}"'
    commands(srun=script, sbatch="cat > /dev/null; echo 7")
    more = ["cluster.gpus=1", "device.kind=cuda", "device.precision=auto"]
    more += ["cluster.options=[\"--comment='two words'\", '--constraint a100']"]
    more += ["cluster.setup=['export OWN=1  # of this machine', 'test $OWN = 1 || exit 9']"]
    assert train(*SWEEP, *more, "--no-wait") == 2, "it asks this machine, which has no GPU"
    fix = "see cluster.setup and cluster.options, or type device.precision=bf16"
    err = f"cnnexp: device.kind: on the compute node that was asked, torch sees no GPU; {fix}\n"
    assert capsys.readouterr().err == err and not outputs.exists()
    words = (outputs.parent / "words").read_text()
    assert "<--comment=two words>\n<--constraint>\n<a100>\n<bash>\n" in words


def run_script(text: str, folder: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run a batch script as SLURM does in the first job of the array 7, on four cores."""
    job = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1", "SLURM_CPUS_PER_TASK": "4", **more}
    environment = {**os.environ, **job}
    return subprocess.run(
        ["bash"], input=text, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def text_of(plan: Callable[..., Any], **more: Any) -> str:
    """Return the batch script of a tiny run."""
    cluster: dict[str, Any] = {"workers": 1, "cpus": 4, "gpus": 0, "time": None, "options": None, "setup": None}
    return slurm.script([plan()], {**cluster, **dict.fromkeys(("memory", "partition", "account", "qos")), **more})


def test_a_worker_has_all_cores_of_its_job(
    plan: Callable[..., Any], commands: Callable[..., Path], tmp_path: Path
) -> None:
    """srun has not taken over --cpus-per-task since SLURM 22.05: where tasks are bound, it would have one core."""
    log = commands(srun='echo "cores $SRUN_CPUS_PER_TASK" >> $(dirname $0)/../log')
    assert run_script(text_of(plan), tmp_path).returncode == 0
    assert log.read_text().endswith("\ncores 4\n")


@pytest.mark.parametrize(
    ("code", "state", "queued"),
    [(75, "RUNNING", True), (75, "COMPLETING", False), (3, "RUNNING", False), (130, "RUNNING", False)],
)
def test_a_worker_is_queued_again_if_it_was_stopped_and_not_cancelled(
    plan: Callable[..., Any], commands: Callable[..., Path], tmp_path: Path, code: int, state: str, queued: bool
) -> None:
    log = commands(srun=f"exit {code}", squeue=f"echo {state}", scontrol="", sleep="")
    assert run_script(text_of(plan), tmp_path).returncode == code
    assert ("scontrol requeue 7_1" in log.read_text()) == queued and "sleep" not in log.read_text()


@pytest.mark.parametrize("busy", ["squeue", "scontrol"])
def test_a_worker_asks_a_busy_controller_again(
    plan: Callable[..., Any], commands: Callable[..., Path], tmp_path: Path, busy: str
) -> None:
    bodies = {"squeue": "echo RUNNING", "scontrol": "true"}
    bodies[busy] = f"mkdir {tmp_path}/asked 2> /dev/null && exit 1; {bodies[busy]}"
    log = commands(srun="exit 75", sleep="", **bodies)
    assert run_script(text_of(plan), tmp_path).returncode == 75
    words = [line.partition(" ")[0] for line in log.read_text().splitlines()]
    expected = ["squeue", "scontrol"] if busy == "scontrol" else ["squeue"]
    assert words == ["srun", *expected, "sleep", "squeue", "scontrol"]


@pytest.mark.integration
def test_no_more_workers_than_runs_are_left(
    train: Train, outputs: Path, commands: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    commands(sbatch=f"cat > {tmp_path}/script; echo 7")
    assert train(*SWEEP[:4], "seed=0,1,2", "slots=cpu:1") == 0
    assert train(*SWEEP, "seed=0,1,2,3", "cluster.workers=8", "--no-wait") == 0
    assert "#SBATCH --array=1-1\n" in (tmp_path / "script").read_text()
    assert "submitted 1 worker(s) as job 7" in capsys.readouterr().out


def test_nothing_is_submitted_when_all_is_done(
    train: Train, commands: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    log = commands(sbatch="exit 1")
    assert train(*SWEEP[:4], "seed=0", "slots=cpu:1") == 0
    capsys.readouterr()
    assert train(*SWEEP, "seed=0") == 0
    assert "1 run, 1 done before, on 1 worker(s) of SLURM\n" in capsys.readouterr().out and not log.exists()


def test_a_cluster_among_several(
    train: Train, commands: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = commands(sbatch="cat > /dev/null; echo '7;lab'", squeue="echo CLUSTER: lab")
    assert train(*SWEEP, "cluster.options=['--clusters=lab']") == 75
    out = capsys.readouterr().out
    assert "look at them: squeue -M lab -j 7\nend them:     scancel -M lab 7\n" in out
    assert log.read_text().splitlines()[1] == "squeue -h -M lab -j 7 -o %T"


@pytest.mark.parametrize(("flags", "code"), [(["--fail-fast"], 3), ([], 75)])
def test_a_failure_is_told_when_no_worker_is_left(
    train: Train, outputs: Path, commands: Callable[..., Path], capsys: pytest.CaptureFixture[str], flags: list[str],
    code: int, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def submit(engine: SlurmEngine, folder: Path) -> None:
        engine.job = "7"
        plan = next(plan for plan in read_plans(folder)[0] if plan.seed == 0)
        finish(plan, "failed")
        plan.record().update(error={"message": "why"})

    monkeypatch.setattr(SlurmEngine, "submit", submit)
    commands(squeue="")
    assert train(*SWEEP, "seed=0,1,2", *flags) == code
    out = capsys.readouterr().out
    assert "no worker of job 7 is left, and 2 run(s) are not done; see " in out
    assert "\nfailed: a, seed 0: why; log: " in out


@pytest.mark.integration
def test_it_submits_and_returns(
    train: Train, outputs: Path, capsys: pytest.CaptureFixture[str], commands: Callable[..., Path], tmp_path: Path
) -> None:
    commands(sbatch=f"cat > {tmp_path}/script; echo 7")
    assert train(*SWEEP, "seed=0,1,2", "cluster.workers=2", "--no-wait") == 0
    out = capsys.readouterr().out
    assert f"submitted 2 worker(s) as job 7; their output: {outputs / 'study' / 'slurm'}" in out
    assert "look at them: squeue -j 7\nend them:     scancel 7\n" in out
    assert "#SBATCH --array=1-2\n" in (tmp_path / "script").read_text()
    assert (outputs / "study" / "slurm").is_dir() and (outputs / "study" / "plan.json").exists()


@pytest.mark.integration
def test_a_tracker_of_jobs_that_nobody_waits_for(
    train: Train, outputs: Path, capsys: pytest.CaptureFixture[str], commands: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("cnnexp.trackers.check", lambda name: None)
    monkeypatch.setattr("cnnexp.sweep.launcher.follow_study", lambda name, folder: None)
    commands(sbatch="cat > /dev/null; echo 7")
    assert train(*SWEEP, "--no-wait", "tracker=wandb") == 0
    assert f"type: cnnexp track {outputs / 'study'} --to wandb --follow\n" in capsys.readouterr().out


@pytest.mark.integration
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*SWEEP,), "cluster=slurm: this machine has no sbatch; type the command on a login node"),
        (("-m", "--no-wait"), "--no-wait: needs cluster=slurm"),
        ((*SWEEP, "cluster.time=2x"), "cluster.time: given '2x'"),
        ((*SWEEP, "cluster.workers=0"), "cluster.workers: given 0"),
        ((*SWEEP, "cluster.gpu=1"), "cluster.gpu"),
        (("-m", "cluster.engine=slurm"), "cluster=slurm: this machine has no sbatch"),
        ((*SWEEP, "cluster.workers=1,2", "seed=0"), "cluster.workers: given 1 and 2 in one sweep"),
        (("cluster=slurm",), "cluster: given 'slurm' for a single run; add -m"),
        ((*SWEEP, "study.name=of-${seed}", "seed=3,4"), "study.name: given several with cluster=slurm"),
        ((*SWEEP, "cluster.time=90"), "cluster.time: given 90"),
        ((*SWEEP, "cluster.time=1m"), "cluster.time: given 1m; allowed: 2m or more; a worker saves and ends"),
        (
            (*SWEEP, 'cluster.options=["--comment=it\'s"]'),
            "cluster.options: given --comment=it's: No closing quotation",
        ),
        ((*SWEEP, "device.kind=cuda", "device.precision=bf16"), "cluster.gpus: given 0 with device.kind=cuda"),
        ((*SWEEP, "--budget=1h"), "--budget: given with cluster=slurm, whose workers are queued again until all is"),
    ],
)
def test_wrong_requests(
    train: Train, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("PATH", "/nowhere")
    assert train(*words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "--no-wait"),
        (*SWEEP, "study.name=of-${seed}", "seed=3,4"),
        (*SWEEP, "cluster.gpus=0.5", "--plan"),
        (*SWEEP, "cluster.workers=auto"),
    ],
)
def test_a_wrong_request_is_refused_before_the_data(
    train: Train, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnexp.sweep.launcher.plan_all", lambda *_: pytest.fail("planned first"))
    monkeypatch.setattr("cnnexp.training.dry_run.before_data", lambda *_: pytest.fail("built first"))
    assert train(*words) == 2


@pytest.mark.integration
def test_what_slurm_refuses_is_one_line(
    train: Train, commands: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    commands(sbatch="echo 'sbatch: error: invalid partition' >&2; exit 1")
    assert train(*SWEEP, "cluster.partition=x") == 2
    assert capsys.readouterr().err == "cnnexp: sbatch: sbatch: error: invalid partition\n"


class TestFollowing:
    """What the engine says of runs that workers make."""

    @pytest.fixture
    def engine(self, commands: Callable[..., Path], tmp_path: Path) -> SlurmEngine:
        commands(sbatch="cat > /dev/null; echo 7", squeue=f"cat {tmp_path}/queue")
        (tmp_path / "queue").write_text("RUNNING\n")
        engine = SlurmEngine("", 1)
        engine.submit(tmp_path / "s")
        return engine

    def test_runs_as_they_end(self, engine: SlurmEngine, tmp_path: Path) -> None:
        plans = [plain_plan(tmp_path, "a", seed) for seed in range(3)]
        finish(plans[1], "failed")
        plans[1].record().update(finished="before")
        for plan in plans:
            engine.start(plan)
        assert engine.news(0.0) == []
        finish(plans[0], "done")
        assert engine.news(0.0) == [Ended(plans[0], "done", "")]
        plans[1].record().update(finished="now", error={"message": "why"})
        assert engine.news(0.0) == [Ended(plans[1], "failed", "why")]
        with plans[2].record().held():
            record = plans[2].record()
            record.update(status="running", schedule={"total_steps": 4})
            record.append(kind="epoch", step=3)
            assert engine.news(0.0) == [Progress(plans[2], 0.75)]
        record.update(status="interrupted", finished="then")
        assert engine.news(0.0) == [], "another worker, or this one after its requeue, continues"

    def test_a_disk_that_does_not_answer_for_a_moment_ends_nothing(
        self, engine: SlurmEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plan = plain_plan(tmp_path, "a")
        engine.start(plan)
        finish(plan, "running")
        (plan.folder / ".lock").touch()
        real = os.open

        def fail(path: Any, *more: Any, **named: Any) -> int:
            if str(path).endswith("/.lock"):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            return real(path, *more, **named)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", fail)
            assert engine.news(0.0) == []
        finish(plan, "done")
        assert engine.news(0.0) == [Ended(plan, "done", "")]

    def test_the_command_ends_with_75_when_no_worker_is_left(self, engine: SlurmEngine, tmp_path: Path) -> None:
        engine.start(plain_plan(tmp_path, "a"))
        (tmp_path / "queue").write_text("PENDING\n")
        assert engine.news(0.0) == []
        (tmp_path / "queue").write_text("")
        with pytest.raises(Interrupted) as raised:
            engine.news(0.0)
        assert raised.value.exit_code == 75

    def test_runs_that_a_network_mount_shows_late_are_waited_for(
        self, engine: SlurmEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(slurm, "LATE_SECONDS", 0.5)
        plan = plain_plan(tmp_path, "a")
        engine.start(plan)
        (tmp_path / "queue").write_text("")
        assert engine.news(0.0) == []
        (tmp_path / "queue").write_text("PENDING\n")
        assert engine.news(0.0) == [], "queued again: it was not listed for a moment"
        (tmp_path / "queue").write_text("")
        time.sleep(0.6)
        assert engine.news(0.0) == []
        finish(plan, "done")
        assert engine.news(0.0) == [Ended(plan, "done", "")]

    def test_a_run_that_fails_before_it_is_followed(self, tmp_path: Path, commands: Callable[..., Path]) -> None:
        plan = plain_plan(tmp_path, "a")
        commands(sbatch="cat > /dev/null; echo 7", squeue="echo RUNNING")
        engine = SlurmEngine("", 1, [plan])
        engine.submit(tmp_path / "s")
        finish(plan, "failed")
        engine.start(plan)
        assert engine.news(0.0) == [Ended(plan, "failed", "")]

    def test_a_signal_leaves_the_workers_alone(
        self, engine: SlurmEngine, tmp_path: Path, commands: Callable[..., Path]
    ) -> None:
        log = commands(scancel="")
        plan = plain_plan(tmp_path, "a")
        engine.start(plan)
        engine.stop(now=False)
        assert engine.news(0.0) == [Ended(plan, "interrupted", "goes on in job 7")]
        engine.close()
        assert "scancel" not in log.read_text()

    def test_a_controller_that_does_not_answer_is_no_end(
        self, engine: SlurmEngine, tmp_path: Path, commands: Callable[..., Path]
    ) -> None:
        engine.start(plain_plan(tmp_path, "a"))
        commands(squeue="echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
        assert engine.news(0.0) == []
        commands(squeue="echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
        with pytest.raises(Interrupted):
            engine.news(0.0)


# Real jobs.


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Bring up SLURM; return the environment of its commands."""
    with slurm_node(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def call(node: dict[str, str], *words: str) -> str:
    return subprocess.run(words, env=node, capture_output=True, text=True, check=True).stdout


def wait_for(condition: Callable[[], Any], seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.5)


def start_now(node: dict[str, str], job: str) -> None:
    """Start a worker that is queued again before SLURM's two minutes are over."""
    time.sleep(5)  # the node refuses a job of the second in which it ended ("Job credential revoked")
    call(node, "scontrol", "update", f"JobId={job}_1", "StartTime=now")


@pytest.mark.cluster
@pytest.mark.timeout(900)
@pytest.mark.skipif(not available(), reason="needs root and slurm-wlm")
class TestOnSlurm:
    def begin(self, node: dict[str, str], tiny: list[str], *words: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-W", "error", "-m", "cnnexp", "train", *tiny, *SWEEP[:3], "cluster=slurm", *words]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, env=node, **pipes)

    def test_runs_are_those_of_a_local_sweep(
        self, node: dict[str, str], tiny: list[str], train: Train, outputs: Path
    ) -> None:
        command = self.begin(node, tiny, "epochs=2ep", "seed=0,1,2", "cluster.workers=2")
        out, _ = command.communicate(timeout=400)
        assert command.returncode == 0, out
        there = outputs.parent / "there"
        assert train(*SWEEP[:3], "epochs=2ep", "seed=0,1,2", "slots=cpu:1", f"outputs={there}") == 0
        made, expected = find_runs(outputs), find_runs(there)
        assert [run.name for run in made] == [run.name for run in expected] and len(made) == 3
        for one, other in zip(made, expected, strict=True):
            assert untimed(one) == untimed(other)
            assert one.predictions()["logits"].tobytes() == other.predictions()["logits"].tobytes()

    def test_a_folder_with_a_space_and_a_percent_sign(
        self, node: dict[str, str], tiny: list[str], outputs: Path
    ) -> None:
        there = outputs / "my 50% %A"
        out, _ = self.begin(node, tiny, "seed=0", f"outputs='{there}'").communicate(timeout=400)
        assert [file.suffix for file in (there / "study" / "slurm").iterdir()] == [".log"], out

    def test_a_preempted_worker_is_queued_again_and_a_cancelled_one_is_not(
        self, node: dict[str, str], tiny: list[str], outputs: Path
    ) -> None:
        command = self.begin(node, tiny, "epochs=4000ep", "checkpoint.every=20ep", "seed=0")
        wait_for(lambda: any(len(run.rows()) > 20 for run in (find_runs(outputs) if outputs.exists() else [])))
        (job,) = {line.partition("_")[0] for line in call(node, "squeue", "-h", "-r", "-o", "%i").split()}
        call(node, "scancel", "--signal=USR2", f"{job}_1")
        wait_for(lambda: "PENDING BeginTime" in call(node, "squeue", "-h", "-o", "%T %r"))
        (run,) = find_runs(outputs)
        assert run.status == "interrupted" and command.poll() is None
        start_now(node, job)
        wait_for(lambda: find_runs(outputs)[0].info["resumed"] == 1 and find_runs(outputs)[0].status == "running")
        call(node, "scancel", job)
        out, _ = command.communicate(timeout=120)
        assert command.returncode == 75, out
        assert f"no worker of job {job} is left, and 1 run(s) are not done" in out
        assert call(node, "squeue", "-h") == ""
        assert find_runs(outputs)[0].status == "interrupted"

    def test_a_run_of_a_preempted_worker_is_that_of_a_local_sweep(
        self, node: dict[str, str], tiny: list[str], train: Train, outputs: Path
    ) -> None:
        words = ("epochs=500ep", "checkpoint.every=20ep", "seed=0")
        command = self.begin(node, tiny, *words)
        wait_for(lambda: any(len(run.rows()) > 20 for run in (find_runs(outputs) if outputs.exists() else [])))
        (job,) = {line.partition("_")[0] for line in call(node, "squeue", "-h", "-r", "-o", "%i").split()}
        call(node, "scancel", "--signal=USR2", f"{job}_1")
        wait_for(lambda: "PENDING BeginTime" in call(node, "squeue", "-h", "-o", "%T %r"))
        start_now(node, job)
        out, _ = command.communicate(timeout=400)
        assert command.returncode == 0, out
        there = outputs.parent / "there"
        assert train(*SWEEP[:3], *words, "slots=cpu:1", f"outputs={there}") == 0
        (made,) = find_runs(outputs)
        assert made.info["resumed"] == 1
        assert_same_runs(outputs, there)
