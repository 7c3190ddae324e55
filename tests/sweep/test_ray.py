"""The engine of Ray: wrong requests, and real clusters of two nodes, whose parts are killed in the middle of runs."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ray_cluster import ENVIRONMENT, RayCluster, available, ray_cluster
from same_runs import assert_same_runs
from tiny import with_tiny

from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.process.signals import children
from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.storage import presence
from cnnexp.sweep.ray import RayEngine

Train = Callable[..., int]
SWEEP = ("-m", "study.name=study", "study.arm=a")


@pytest.mark.integration
def test_without_ray_the_command_says_what_to_install(
    train: Train, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "ray" else find(name, *more))
    assert train(*SWEEP, "cluster=ray") == 2
    assert capsys.readouterr().err == "cnnexp: cluster=ray: Ray is not installed; type: pip install 'cnnexp[ray]'\n"


@pytest.mark.integration
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("cluster.gpus=1.5",), "cluster.gpus: given 1.5; allowed: a whole number, or a part of one GPU, such as 0.25"),
        (("device.kind=cuda",), "cluster.gpus: given 0 with device.kind=cuda"),
        (("cluster.gpus=1", "device=auto"), "device.precision=bf16"),
        (("cluster.memory=16 GB",), "cluster.memory: given '16 GB'; allowed: a size such as 500M or 16G"),
        (("cluster.memory=16",), "cluster.memory: given 16"),
        (("cluster.workers=all",), "cluster.workers: given 'all'"),
        (("cluster.time=1h",), "cluster.time"),
        (("slots=cpu:2",), "slots: are those of this machine"),
        (("--no-wait",), "--no-wait: needs cluster=slurm"),
    ],
)
def test_wrong_requests(
    train: Train, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("cnnexp.sweep.ray.version_of", lambda name: "2.50")
    assert train(*SWEEP, "cluster=ray", *words) == 2
    assert message in capsys.readouterr().err


def test_a_single_run_needs_no_cluster(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("cluster=ray") == 2
    assert "cluster: given 'ray' for a single run; add -m" in capsys.readouterr().err


def test_the_plan_of_a_machine_with_gpus_is_made_without_one(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], outputs: Path
) -> None:
    monkeypatch.setattr("cnnexp.sweep.ray.version_of", lambda name: "2.50")
    gpu = ["device=auto", "device.precision=bf16", "cluster.gpus=0.25", "cluster.cpus=2", "device.threads=auto"]
    assert train(*SWEEP, "cluster=ray", *gpu, "--plan") == 0
    assert "1 to do" in capsys.readouterr().out and not outputs.exists()


def test_a_cluster_that_loses_its_last_node_is_no_wrong_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a cluster that never had room is refused with 2; otherwise the command ends with 75, and can go on."""
    node = {"Alive": True, "Resources": {"CPU": 1.0}}

    class Agent:
        ready = SimpleNamespace(remote=object)

    made = SimpleNamespace(remote=lambda *_: Agent())
    pretended = SimpleNamespace(nodes=lambda: [node], remote=lambda **_: lambda _: made)
    monkeypatch.setitem(sys.modules, "ray", pretended)
    monkeypatch.setattr("cnnexp.sweep.ray.join", lambda address: None)
    engine = RayEngine({"address": "auto", "workers": "auto"}, {"CPU": 1}, (), 2)
    node["Alive"] = False
    with pytest.raises(RuntimeError, match="no node of the cluster has what a run needs: CPU 1") as raised:
        engine.look()
    assert not isinstance(raised.value, UserError)
    with pytest.raises(UserError, match="no node of the cluster has what a run needs: CPU 1"):
        RayEngine({"address": "auto", "workers": "auto"}, {"CPU": 1}, (), 2)


# Real clusters.

LONG = ("epochs=150ep", "checkpoint.every=5ep", "log.hash_chain=true", "seed=0,1")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """Bring up a cluster of two nodes."""
    with ray_cluster(tmp_path_factory.mktemp("ray")) as found:
        yield found


@pytest.fixture
def nodes(cluster: RayCluster) -> RayCluster:
    """Return the cluster, with two nodes again."""
    while len(cluster.nodes) < 2:
        cluster.add_node()
    return cluster


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], Path]:
    """Return the folders of local sweeps, by their words."""
    return {}


Begin = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def begin(tiny: list[str], tmp_path: Path) -> Iterator[Begin]:
    """Return a function that starts `cnnexp train` on a cluster; what is left of it is killed after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(address: str, *words: str, sweep: Sequence[str] = SWEEP) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "cnnexp", "train", *with_tiny(tiny, [*sweep, "cluster=ray", *words])]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        environment = {**ENVIRONMENT, "RAY_ADDRESS": address}
        started.append(subprocess.Popen(command, env=environment, cwd=tmp_path, start_new_session=True, **pipes))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def end(process: "subprocess.Popen[str]", code: int, seconds: float = 400.0) -> str:
    """Wait for the end of a command; return what it printed."""
    out, _ = process.communicate(timeout=seconds)
    assert process.returncode == code, out
    return out


def wait_for(condition: Callable[[], Any], seconds: float = 240.0) -> Any:
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, "it did not come about in time"
        time.sleep(0.1)
    return found


def under_way(outputs: Path, rows: int, count: int = 2) -> list[RunRecord]:
    """Wait until so many runs have each written so many rows; return them."""

    def look() -> list[RunRecord]:
        runs = find_runs(outputs) if outputs.exists() else []
        return runs if sum(len(run.rows()) >= rows for run in runs) >= count else []

    found: list[RunRecord] = wait_for(look)
    return found


def pid_of(run: RunRecord) -> int:
    """Return the process that makes a run."""
    found = re.match(r"pid (\d+)", storage.holder(run.folder / ".lock") or "")
    assert found is not None
    return int(found[1])


def agent_of(run: RunRecord) -> int:
    """Return the process of the agent of a run."""
    for file in (run.folder.parent / presence.FOLDER).glob("*.lock"):
        agent = int(presence.host_and_pid(file).rpartition("-")[2])
        if any(pid_of(run) in children(server) for server in children(agent)):
            return agent
    raise AssertionError("no agent")


@pytest.mark.cluster
@pytest.mark.timeout(900)
@pytest.mark.skipif(not available(), reason="needs pip install 'cnnexp[ray]'")
class TestOnRay:
    @pytest.fixture
    def compare(
        self, train: Train, outputs: Path, expected: dict[tuple[str, ...], Path],
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Callable[..., None]:  # fmt: skip
        """Return a function that compares the runs of this test with those of a local sweep."""

        def check(*words: str) -> None:
            if words not in expected:
                folder = tmp_path_factory.mktemp("local")
                assert train(*SWEEP, *words, "slots=cpu:1", f"outputs={folder}") == 0
                expected[words] = folder
            assert_same_runs(outputs, expected[words])

        return check

    def test_runs_are_those_of_a_local_sweep(
        self, nodes: RayCluster, begin: Begin, compare: Callable[..., None], outputs: Path
    ) -> None:
        words = ("seed=0,1,2,3", "log.hash_chain=true", "probes=all")
        out = end(begin(nodes.address, *words, "cluster.memory=500M"), 0)
        assert "4 runs, 0 done before, on the Ray cluster" in out
        assert "3 node(s), with room for 2 run(s) at a time" in out
        compare(*words)
        assert "4 runs, 4 done before" in end(begin("127.0.0.1:1", *words), 0), "without a cluster: none is needed"

    def test_a_search_makes_its_trials(self, nodes: RayCluster, begin: Begin, outputs: Path) -> None:
        pytest.importorskip("optuna")
        words = ("+search=tpe", "search.space={optimizer.lr:{low:1e-3,high:1e-1,log:true}}", "search.trials=4")
        out = end(begin(nodes.address, *words, sweep=()), 0)
        assert "4 trials, 0 done before, on the Ray cluster" in out and "4 trials (4 complete)\nbest: trial-" in out
        runs = find_runs(outputs / "search")
        assert [(run.status, run.is_tested) for run in runs] == [("done", False)] * 4
        assert "4 trials, 4 done before" in end(begin(nodes.address, *words, sweep=()), 0)

    def test_a_transfer_starts_with_its_upstream_and_computes_features_once(
        self, nodes: RayCluster, begin: Begin, compare: Callable[..., None], outputs: Path, tmp_path: Path
    ) -> None:
        first = {"data": {"num_train": 50, "num_test": 20, "size": 32}, "epochs": "2ep", "batch_size": 8}
        first |= {"defaults": [{"override /model": "resnet18"}], "study": {"name": "pretrain", "arm": "first"}}
        (tmp_path / "own" / "pretrain").mkdir(parents=True)
        (tmp_path / "own" / "pretrain" / "first.yaml").write_text("# @package _global_\n" + yaml.safe_dump(first))
        words = ("--config-dir", str(tmp_path / "own"), "model=resnet18", "model.weights={config:first}")
        words += ("model.freeze=backbone", "model.bn=frozen", "augmentation=flip", "data.size=32", "seed=0,1")
        end(begin(nodes.address, *words), 0)
        features = [(run.folder.parent.name, run.info.get("features")) for run in find_runs(outputs)]
        assert sorted(features, key=str) == [("pretrain", None), *[("study", "computed once")] * 2]
        compare(*words)

    def test_a_run_whose_process_is_killed_has_failed(
        self, nodes: RayCluster, begin: Begin, compare: Callable[..., None], outputs: Path
    ) -> None:
        command = begin(nodes.address, *LONG)
        os.kill(pid_of(under_way(outputs, 20)[0]), signal.SIGKILL)
        out = end(command, 3)
        assert "killed by SIGKILL" in out
        assert [run.status for run in find_runs(outputs)] == ["failed", "done"]
        end(begin(nodes.address, *LONG), 0)
        compare(*LONG)

    def test_a_run_goes_on_elsewhere_when_its_agent_is_killed(
        self, nodes: RayCluster, begin: Begin, compare: Callable[..., None], outputs: Path
    ) -> None:
        command = begin(nodes.address, *LONG)
        os.kill(agent_of(under_way(outputs, 20)[0]), signal.SIGKILL)
        assert "its node, or its agent there, has ended" in end(command, 0)
        assert [run.info["resumed"] for run in find_runs(outputs)] == [1, 0]
        compare(*LONG)

    def test_a_run_goes_on_elsewhere_when_its_node_is_lost(
        self, nodes: RayCluster, begin: Begin, compare: Callable[..., None], outputs: Path
    ) -> None:
        command = begin(nodes.address, *LONG)
        under_way(outputs, 20)
        nodes.kill(nodes.nodes[0])
        assert "its node, or its agent there, has ended" in end(command, 0)
        assert sorted(run.info["resumed"] for run in find_runs(outputs)) == [0, 1]
        compare(*LONG)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
    def test_an_interrupted_command_is_continued(
        self, nodes: RayCluster, begin: Begin, compare: Callable[..., None], outputs: Path, number: signal.Signals
    ) -> None:
        command = begin(nodes.address, *LONG)
        under_way(outputs, 20)
        sent = time.monotonic()
        command.send_signal(number)
        end(command, {signal.SIGTERM: 75, signal.SIGINT: 130, signal.SIGKILL: -9}[number])
        assert time.monotonic() < sent + 30
        wait_for(lambda: {run.status for run in find_runs(outputs)} == {"interrupted"}, 30)
        wait_for(lambda: not any(storage.is_locked(run.folder / ".lock") for run in find_runs(outputs)), 30)
        end(begin(nodes.address, *LONG), 0)
        compare(*LONG)

    def test_two_commands_at_once_make_each_run_once(
        self, nodes: RayCluster, begin: Begin, compare: Callable[..., None], outputs: Path
    ) -> None:
        words = ("seed=0,1,2,3,4,5", "log.hash_chain=true")
        for command in [begin(nodes.address, *words, "cluster.workers=1") for _ in range(2)]:
            end(command, 0)
        assert [made_times(run) for run in find_runs(outputs)] == [1] * 6
        compare(*words)

    @pytest.mark.slow
    def test_of_200_tiny_runs_none_is_made_twice(
        self, nodes: RayCluster, begin: Begin, compare: Callable[..., None], outputs: Path
    ) -> None:
        words = ("epochs=1st", f"seed={','.join(map(str, range(200)))}")
        end(begin(nodes.address, *words), 0, 800)
        assert [made_times(run) for run in find_runs(outputs)] == [1] * 200
        compare(*words)

    def test_the_death_of_the_head_ends_the_command_within_a_minute(
        self, begin: Begin, compare: Callable[..., None], outputs: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "ray").mkdir()
        with ray_cluster(tmp_path / "ray") as doomed:
            command = begin(doomed.address, *LONG)
            under_way(outputs, 20)
            killed = time.monotonic()
            doomed.kill(doomed.head)
            out = end(command, 75)
            assert time.monotonic() < killed + 60
            assert "the Ray cluster does not answer, and 2 run(s) are not done" in out
            wait_for(lambda: not any(storage.is_locked(run.folder / ".lock") for run in find_runs(outputs)), 60)
        (tmp_path / "ray2").mkdir()
        with ray_cluster(tmp_path / "ray2") as other:
            end(begin(other.address, *LONG), 0)
        compare(*LONG)

    def test_a_cluster_is_started_if_none_runs(self, begin: Begin, compare: Callable[..., None]) -> None:
        words = ("seed=0,1", "log.hash_chain=true")
        out = end(begin("127.0.0.1:1", *words, "cluster.address=local"), 0)
        assert "1 node(s), with room for " in out
        compare(*words)

    @pytest.mark.parametrize(
        ("address", "words", "message"),
        [
            ("127.0.0.1:1", (), "cluster.address: 127.0.0.1:1 cannot be joined: "),
            ("", ("cluster.gpus=1", "device=auto", "device.precision=bf16"), "no node of the cluster has what a run"),
            ("", ("cluster.memory=900G",), "no node of the cluster has what a run needs: CPU 1, memory "),
        ],
    )
    def test_a_cluster_that_cannot_make_the_runs(
        self, nodes: RayCluster, begin: Begin, address: str, words: tuple[str, ...], message: str
    ) -> None:
        assert message in end(begin(address or nodes.address, *words), 2)

    def test_each_run_sees_its_own_gpu(self, nodes: RayCluster, begin: Begin, outputs: Path) -> None:
        nodes.add_node(gpus=2)
        command = begin(nodes.address, *LONG, "cluster.gpus=1")  # on the CPU: the GPUs are pretended
        servers = [server for run in under_way(outputs, 5) for server in children(agent_of(run))]
        environments = [Path(f"/proc/{server}/environ").read_text().split("\0") for server in servers]
        seen = {word for words in environments for word in words if word.startswith("CUDA_VISIBLE_DEVICES=")}
        assert seen == {"CUDA_VISIBLE_DEVICES=0", "CUDA_VISIBLE_DEVICES=1"}
        command.send_signal(signal.SIGTERM)
        end(command, 75)
        nodes.kill(nodes.nodes[-1])

    def test_more_nodes_may_join(
        self, nodes: RayCluster, begin: Begin, compare: Callable[..., None], outputs: Path
    ) -> None:
        nodes.kill(nodes.nodes[0])
        command = begin(nodes.address, *LONG)
        under_way(outputs, 20, count=1)
        assert len(find_runs(outputs)) == 1
        nodes.add_node()
        under_way(outputs, 1)
        end(command, 0)
        compare(*LONG)


def made_times(run: RunRecord) -> int:
    """Return how often a run was made to its end."""
    return (run.folder / "train.log").read_text().count("done: test accuracy")
