"""A search: its trials never read a test image, go on as they would have gone, and are compared by validation rows."""

import dataclasses
import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from plain_plans import FakeEngine, plain_plan
from thread_workers import use_threads
from tiny import DIVERGE, TINY

from cnnexp import cli, storage
from cnnexp.config.flags import Request
from cnnexp.errors import UserError
from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.records.under_way import SEARCH_LOCK
from cnnexp.report.search.findings import read_found
from cnnexp.search.space import read_space
from cnnexp.search.trials import Search, Trials, read_search, trial_name, winner
from cnnexp.sweep import search_scheduler
from cnnexp.sweep.local import LocalEngine
from cnnexp.sweep.times import Times
from cnnexp.sweep.trial_plans import TrialPlanner
from cnnexp.training import build
from cnnexp.training import run as runner
from cnnexp.training.launched import Place
from cnnexp.training.plan import Plan

pytest.importorskip("optuna")
pytestmark = [pytest.mark.usefixtures("threads"), pytest.mark.integration]

LR = "search.space={optimizer.lr:{low:1e-3,high:1e-1,log:true},model.norm:[none,batch]}"
THREE = ("+search=tpe", LR, "search.trials=3", "slots=cpu:1")
Train = Callable[..., int]


def of(space: str) -> tuple[str, str]:
    """Return the words of a search over a space."""
    return "+search=tpe", f"search.space={space}"


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make trials in this process."""
    use_threads(monkeypatch)


@pytest.fixture
def train(outputs: Path) -> Train:
    """Return a function that does `cnnexp train <tiny without a norm> <more>`; the norm may be in the space."""
    own = [word for word in TINY if not word.startswith("model.norm")]
    return lambda *more: cli.main(["train", *own, f"outputs={outputs}", *more])


def trials(outputs: Path) -> list[Any]:
    """Return the trials of the search of a test."""
    search = read_search(outputs / "search")
    assert search is not None
    return Trials(search).read()


def rows(outputs: Path) -> dict[str, list[Any]]:
    """Return the metric rows of all trials, without times."""
    from cnnexp.records.identical import untimed

    return {run.name: untimed(run) for run in find_runs(outputs / "search")}


class Poison:
    """What a test image is replaced by: whoever looks at it fails."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError("a test image was read")

    __getitem__ = __len__ = __array__ = __iter__ = __getattr__  # type: ignore[assignment]


def poison_test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every run fail that reads a pixel of the test split, or writes what it predicts there."""
    real = build.build_data

    def poisoned(config: Any) -> Any:
        data = real(config)
        test: Any = dataclasses.replace(data.test, images=Poison(), ids=Poison())
        return dataclasses.replace(data, test=test)

    monkeypatch.setattr("cnnexp.training.setup.build.build_data", poisoned)


def test_trials_never_read_a_test_image(
    train: Train, outputs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    poison_test_images(monkeypatch)
    assert train("-m", "study.name=plain") == 3  # the poison works: a run that is tested fails
    assert "a test image was read" in capfd.readouterr().out
    assert train(*THREE, "shift_pixels=1") == 0
    assert [trial.state for trial in trials(outputs)] == ["complete"] * 3
    for run in find_runs(outputs / "search"):
        assert not {"test_accuracy", "test_loss", "shift_consistency"} & set(run.info["result"])
        assert not (run.folder / "predictions.npz").exists()


def test_a_search_proposes_trains_and_says_how_to_retrain(
    train: Train, outputs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(*THREE, "++seed=0") == 0
    printed = capfd.readouterr().out
    made = trials(outputs)
    best = max(made, key=lambda trial: (trial.value, -trial.number))
    assert len({json.dumps(trial.params) for trial in made}) == 3
    for trial in made:
        config = RunRecord.read(trial.folder).config()
        assert config["optimizer"]["lr"] == trial.params["optimizer.lr"]
        assert config["model"]["norm"] == trial.params["model.norm"]
        accuracies = [row["accuracy"] for row in RunRecord.read(trial.folder).rows(split="val")]
        assert trial.value == max(accuracies)
    assert (
        f"best: {best.name} optimizer.lr={best.params['optimizer.lr']} model.norm={best.params['model.norm']}"
        in printed
    )
    (command,) = re.findall(r"^  cnnexp (train -m .*)$", printed, re.MULTILINE)
    assert "seed=1,2,3,4,5 study.name=search-best name=best" in command and "search=" not in command
    assert command.count("seed=") == 1
    assert cli.main(shlex.split(command.replace("1,2,3,4,5", "1,2"))) == 0
    retrained = find_runs(outputs / "search-best")
    assert [run.info["seed"] for run in retrained] == [1, 2]
    assert all(0 <= run.info["result"]["test_accuracy"] <= 1 for run in retrained)
    assert retrained[0].config()["optimizer"]["lr"] == best.params["optimizer.lr"]


def test_the_same_command_makes_nothing_again(train: Train, outputs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert train(*THREE) == 0
    before = {file: file.stat().st_mtime_ns for file in outputs.rglob("*.json*")}
    capfd.readouterr()
    assert train(*THREE) == 0
    assert "3 trials, 3 done before" in capfd.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in outputs.rglob("*.json*")} == before


def test_retrain_trains_the_winner_on_new_seeds(train: Train, outputs: Path) -> None:
    assert train(*THREE, "search.retrain=2", "search.trials=2") == 0
    runs = find_runs(outputs / "search-best")
    assert [(run.info["arm"], run.info["seed"]) for run in runs] == [("best", 1), ("best", 2)]
    assert all("test_accuracy" in run.info["result"] for run in runs)


def test_nothing_is_retrained_after_a_failure_with_fail_fast(train: Train, outputs: Path) -> None:
    with second_raises(RuntimeError("cosmic ray")):
        assert train(*THREE, "search.retrain=2", "--fail-fast") == 3
    assert [trial.state for trial in trials(outputs)] == ["complete", "failed"]
    assert not (outputs / "search-best").exists()


@contextmanager
def spent_in_the_search(seconds: float) -> Iterator[None]:
    """Let the search take so long."""
    clock = iter([0.0, seconds])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnnexp.sweep.search.monotonic", lambda: next(clock))
        yield


def test_the_retraining_has_the_flags_of_the_search(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Request] = []
    monkeypatch.setattr("cnnexp.sweep.launcher.launch", lambda words, request: asked.append(request) or 0)
    words = (*THREE, "search.trials=1", "search.retrain=2")
    with spent_in_the_search(3000.4):
        assert train(*words, "--fail-fast", "--budget=1h") == 0
    assert train(*words, "--budget=1h") == 0  # no trial is left to make
    assert [(request.fail_fast, request.budget) for request in asked] == [(True, 599), (False, 3600)]


def test_nothing_is_retrained_when_the_budget_is_spent(
    train: Train, outputs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = (*THREE, "search.trials=1", "search.retrain=1", "--budget=1h")
    with spent_in_the_search(3600.5):
        assert train(*words) == 75
    assert "not started: the retraining, because the budget is spent; the same command" in capfd.readouterr().out
    assert not (outputs / "search-best").exists()
    assert train(*words) == 0
    assert [run.status for run in find_runs(outputs / "search-best")] == ["done"]


def test_no_retrained_run_starts_that_would_not_end_within_the_budget(
    train: Train, outputs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(*THREE, "search.trials=1") == 0
    for run in find_runs(outputs):  # as if a trial took an hour
        run.update(seconds={"total": 3600.0})
    (command,) = re.findall(r"^  cnnexp (train -m .*)$", capfd.readouterr().out, re.MULTILINE)
    assert cli.main([*shlex.split(command), "--plan"]) == 0
    assert "5 to do: about 5 h 0 min on" in capfd.readouterr().out
    assert train(*THREE, "search.trials=1", "search.retrain=2", "--budget=10s") == 2  # none can start
    assert "--budget: too short for any of the 2 runs left; the shortest may take 60 min" in capfd.readouterr().err
    with spent_in_the_search(7190):
        assert train(*THREE, "search.trials=2", "search.retrain=2", "--budget=2h") == 75
    assert "--budget: too short for any of the 2 runs left" in capfd.readouterr().out
    assert not find_runs(outputs / "search-best")
    assert [trial.state for trial in trials(outputs)] == ["complete"] * 2


def test_the_report_has_the_runs_of_the_retraining_that_was_asked_for_last(
    train: Train, outputs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(*THREE, "search.trials=1") == 0
    (command,) = re.findall(r"^  cnnexp (train -m .*)$", capfd.readouterr().out, re.MULTILINE)
    words = shlex.split(command.replace("1,2,3,4,5", "1,2"))

    def accuracies(epochs: str) -> list[float]:
        assert cli.main([*(word for word in words if not word.startswith("epochs=")), f"epochs={epochs}"]) == 0
        return list(read_found(outputs / "search").retrained.accuracies)

    one = accuracies("1ep")
    two = accuracies("2ep")
    runs = {run.folder: run.info["result"] for run in find_runs(outputs / "search-best")}
    assert len(runs) == 4
    for epochs, found in ((1, one), (2, two), (1, accuracies("1ep"))):
        assert found == [result["test_accuracy"] for result in runs.values() if result["epochs"] == epochs]
        assert len(found) == 2


def test_more_trials_go_on_as_one_search(train: Train, outputs: Path, tmp_path: Path) -> None:
    assert train(*THREE, "search.trials=4") == 0
    whole, of_whole = rows(outputs), [trial.params for trial in trials(outputs)]
    (outputs / "search").rename(tmp_path / "whole")
    for count in (1, 3, 4):
        assert train(*THREE, f"search.trials={count}") == 0
    assert [trial.params for trial in trials(outputs)] == of_whole
    assert rows(outputs) == whole


def test_a_trial_that_diverges_is_a_result(train: Train, outputs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    space = "search.space={scheduler.gamma:[1e30,0.5]}"
    bad = [word for word in DIVERGE if "gamma" not in word]
    assert train("+search=random", space, *bad, "slots=cpu:1") == 0
    printed = capfd.readouterr().out
    assert sorted(trial.state for trial in trials(outputs)) == ["complete", "unfit"]
    assert "all settings of the space are tried: 2 trials" in printed
    assert "2 trials (1 complete, 1 diverged)" in printed and "diverged trial-" in printed


@contextmanager
def second_raises(error: Exception) -> Iterator[None]:
    """Let the second trial raise an error."""
    real = runner.prepare

    def prepare(plan: Any, *rest: Any) -> Any:
        if plan.arm == "trial-001":
            raise error
        return real(plan, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "prepare", prepare)
        yield


def test_a_trial_that_fails_is_repeated_by_the_same_command(
    train: Train, outputs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with second_raises(RuntimeError("cosmic ray")):
        assert train(*THREE) == 3
    assert [trial.state for trial in trials(outputs)] == ["complete", "failed", "complete"]
    capfd.readouterr()
    assert train(*THREE, "--plan") == 0
    assert re.search(r"\n3 trials, 2 done, 1 to do: about \S+ s on 1 slot\(s\)\n$", capfd.readouterr().out)
    assert train(*THREE) == 0
    assert [trial.state for trial in trials(outputs)] == ["complete"] * 3
    capfd.readouterr()
    assert train(*THREE, "--plan") == 0
    assert capfd.readouterr().out.endswith("\n3 trials, 3 done, 0 to do\n")


def test_the_plan_of_a_search_on_a_cluster_has_its_workers(
    train: Train, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnexp.sweep.ray.needs_of", lambda *given: None)  # it asks Ray, which may not be installed
    words = [word for word in THREE if not word.startswith("slots=")]
    assert train(*words, "cluster=ray", "cluster.workers=3", "cluster.cpus=1", "--plan") == 0
    assert "on 3 slot(s)" in capfd.readouterr().out


def test_a_trial_that_runs_out_of_memory_is_a_result(
    train: Train, outputs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with second_raises(MemoryError()):
        assert train(*THREE) == 0
    assert [trial.status for trial in trials(outputs)] == ["done", "oom", "done"]
    assert "3 trials (2 complete, 1 oom)" in capfd.readouterr().out
    assert train(*THREE) == 0
    assert "3 trials, 3 done before" in capfd.readouterr().out
    assert [trial.state for trial in trials(outputs)] == ["complete", "unfit", "complete"]


def test_bad_trials_are_pruned(train: Train, outputs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    space = "search.space={optimizer.lr:{low:1e-9,high:1e-1,log:true}}"
    words = (
        "+search=random",
        space,
        "epochs=6",
        "monitor=loss",
        "search.min_epochs=3",
        "search.trials=9",
        "slots=cpu:1",
    )
    assert train(*words) == 0
    made = trials(outputs)
    pruned = [trial for trial in made if trial.state == "pruned"]
    assert pruned and "pruned  trial-" in capfd.readouterr().out
    for trial in pruned:
        result = RunRecord.read(trial.folder).info["result"]
        assert result["stopped"] == "pruned" and 3 <= result["epochs"] < 6
        before = [other.curve for other in made[: trial.number] if other.state == "complete"]
        medians = sorted(curve[trial.epochs] for curve in before)
        middle = (medians[(len(medians) - 1) // 2] + medians[len(medians) // 2]) / 2
        assert len(before) >= 5 and min(trial.curve.values()) > middle
    assert winner(Trials(read_search(outputs / "search")).search, made).state == "complete"  # type: ignore[arg-type, union-attr]
    (outputs / "search").rename(outputs / "pruned")
    assert train(*words, "search.prune=false") == 0
    assert [trial.state for trial in trials(outputs)] == ["complete"] * 9


def test_a_trial_is_rerun_without_its_search_and_a_pruned_one_ends_where_it_ended(
    train: Train, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("cnnexp.search.pruner.is_worth_pruning", lambda search, known, *rest: len(known) == 2)
        assert train(*THREE, "search.trials=2", "search.min_epochs=2") == 0
    assert [(trial.state, trial.epochs) for trial in trials(outputs)] == [("complete", 3), ("pruned", 2)]
    for trial, metric_rows in zip(trials(outputs), (6, 4), strict=True):
        for original in (trial.folder, tmp_path / trial.name):  # a rerun is rerun, too
            again = original.with_name("again") if original == tmp_path / trial.name else tmp_path / trial.name
            capfd.readouterr()
            assert cli.main(["rerun", str(original), "--out", str(again)]) == 0
            assert f"the same to the last bit: {metric_rows} metric rows\n" in capfd.readouterr().out
        shutil.rmtree(again)


def test_settings_that_the_data_refuses_are_named_before_the_search(
    train: Train, outputs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train("+search=tpe", "search.space={accumulate:[1,9]}") == 2
    assert "search.space.accumulate: given 9; allowed: at most batch_size, 8" in capfd.readouterr().err
    assert not outputs.exists()


def test_plan_writes_nothing(train: Train, outputs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert train(*THREE, "--plan") == 0
    printed = capfd.readouterr().out
    assert "optimizer.lr: 0.001 to 0.1, by ratio\nmodel.norm: one of none, batch\n" in printed
    assert "next     trial-000 optimizer.lr=" in printed and "3 trials, 0 done, 3 to do" in printed
    assert not outputs.exists()
    assert train(*THREE, "search.trials=1") == 0
    first = trials(outputs)[0].params
    assert f"next     trial-000 optimizer.lr={first['optimizer.lr']} model.norm={first['model.norm']}" in printed
    capfd.readouterr()
    assert train(*THREE, "--plan") == 0
    assert re.search(r"complete trial-000 .*: validation accuracy \d+.\d+%\nnext     trial-001", capfd.readouterr().out)


def test_a_budget_starts_no_trial_that_would_not_end(train: Train, outputs: Path) -> None:
    assert train(*THREE, "search.trials=2") == 0
    for run in find_runs(outputs):  # as if a trial took an hour
        run.update(seconds={"total": 3600.0})
    assert train(*THREE, "--budget=10s") == 2  # none can start
    assert [trial.state for trial in trials(outputs)] == ["complete", "complete", "open"]
    for run in find_runs(outputs):
        if run.status == "done":
            run.update(seconds={"total": 0.1})
    assert train(*THREE, "--budget=1h") == 0
    assert [trial.state for trial in trials(outputs)] == ["complete"] * 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("epochs=2ep",),
            "outputs/search: the trials there differ in epochs (3ep there, 2ep now); add study.name=NAME",
        ),
        (("search.space={model.norm:[none,batch]}",), "holds a search with another space; add study.name=NAME"),
        (("+search=random",), "holds a search with another sampler (tpe there, random now)"),
        (("seed=1",), "holds a search with another seed (0 there, 1 now)"),
        (("monitor=f1",), "holds a search with another monitor (accuracy there, f1 now)"),
    ],
)
def test_another_search_needs_another_name(
    train: Train, outputs: Path, words: tuple[str, ...], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(*THREE, "search.trials=1") == 0
    capfd.readouterr()
    keys = {word.partition("=")[0] for word in words}
    assert train(*(word for word in THREE if word.partition("=")[0] not in keys), *words) == 2
    assert message in capfd.readouterr().err


def test_a_refused_command_changes_no_record(train: Train, outputs: Path) -> None:
    assert train(*THREE, "search.trials=1") == 0
    before = (outputs / "search" / "search.json").read_bytes()
    assert train(*THREE, "search.trials=2", "epochs=2ep") == 2
    assert (outputs / "search" / "search.json").read_bytes() == before


@contextmanager
def before_the_second(spoil: Callable[[TrialPlanner], object]) -> Iterator[None]:
    """Call a function before the second trial is planned."""
    real = TrialPlanner.propose

    def propose(self: TrialPlanner, params: Any, number: int) -> Plan:
        if number == 1:
            spoil(self)
        return real(self, params, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrialPlanner, "propose", propose)
        yield


@pytest.mark.parametrize(
    "error",
    [
        storage.StorageError("/data/images.npy", OSError(errno.ESTALE, "Stale file handle"), "read"),
        storage.Locked("/data: is in use by pid 7"),
        storage.Damaged("/data/images.npy: was damaged"),
        UserError("model.weights: no such run"),
    ],
)
def test_what_is_no_fault_of_the_settings_ends_the_search(
    error: UserError, train: Train, outputs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> Plan:
        raise error

    with before_the_second(lambda planner: setattr(planner, "plan", fail)):
        assert train(*THREE) == 2
    assert capfd.readouterr().err == f"cnnexp: {error}\n"
    assert [trial.state for trial in trials(outputs)] == ["complete"]
    assert train(*THREE) == 0
    assert [trial.state for trial in trials(outputs)] == ["complete"] * 3


def test_settings_that_cannot_be_together_are_refused(outputs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tiny = [word for word in TINY if not word.startswith(("batch_size=", "model.norm="))]
    space = "search.space={accumulate:[1,8],batch_size:[8,4]}"
    words = ["+search=random", space, "search.trials=4", "model.norm=none", "slots=cpu:1", f"outputs={outputs}"]
    assert cli.main(["train", *tiny, *words]) == 0
    made = trials(outputs)
    assert sorted(trial.shown_state for trial in made) == ["complete"] * 3 + ["refused"]
    assert [trial.params for trial in made if trial.state == "unfit"] == [{"accumulate": 8, "batch_size": 4}]
    assert "accumulate: given 8; allowed: at most batch_size, 4" in capfd.readouterr().out


NETWORK = "from torch import nn\n\n\ndef net(classes):\n"
NETWORK += "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes))\n"


@pytest.mark.parametrize("edited", ["search_net.py", "search_part.py"])
def test_code_that_is_edited_meanwhile_ends_the_search(
    edited: str, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "search_net.py").write_text("import search_part\n" + NETWORK)
    (tmp_path / "search_part.py").write_text("WIDTH = 1\n")
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "own.yaml").write_text("_target_: search_net.net\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("search_net", "search_part"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    words = ["train", *(word for word in TINY if not word.startswith("model")), f"outputs={outputs}", "slots=cpu:1"]
    words += ["--config-dir", str(tmp_path / "mine"), "model=own", "epochs=1ep", "+search=random", "search.trials=3"]
    words += ["search.space={optimizer.lr:{low:1e-3,high:1e-1}}"]
    file = tmp_path / edited
    before = file.read_text()
    with before_the_second(lambda _: file.write_text(before + "\n# edited\n")):
        assert cli.main(words) == 2
    err = capfd.readouterr().err
    assert f"cnnexp: {edited.removesuffix('.py')}" in err
    assert "has changed since this search began; add study.name=NAME for a new search" in err
    assert [trial.state for trial in trials(outputs)] == ["complete"]
    file.write_text(before)
    assert cli.main(words) == 0
    assert [trial.state for trial in trials(outputs)] == ["complete"] * 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("+search=tpe",), "search.space: is empty; name what to try, such as search.space='{optimizer.lr: {low: 1e-4"),
        (("search=tpe", LR), "search=tpe: type +search=tpe, with the plus"),
        (("search.trials=3",), "search.trials=3: belongs to a search; add +search=tpe"),
        (("+search=tpe", LR, "search.trails=3"), "search.trails: unknown key 'trails'; choose one of sampler"),
        (("+search=tpe", "search.space.optimizer.lr=0.1"), "search.space.optimizer.lr: a space is one word, with all"),
        (
            ("+search=tpe", "search.space.optimizer.lr.low=1e-4", "search.space.optimizer.lr.high=1e-1"),
            "type search.space='{optimizer.lr: {low: 0.001, high: 0.1}}'",
        ),
        (("+search=tpee", LR), "search: unknown choice 'tpee'; choose one of random, tpe (did you mean 'tpe'?)"),
        (("+search=tpe,random", LR), "+search: given tpe,random; allowed: one of tpe, random"),
        ((*THREE, "--until-decided"), "--until-decided: adds seeds to the arms of a study; a search has trials"),
        ((*THREE, "--no-wait"), "--no-wait: needs cluster=slurm, which makes no search; leave it out"),
        ((*THREE, "+study=ablation"), "study.arms: given with +search; a search has trials instead"),
        ((*THREE, "-m", "seed=0,1"), "seed: given several values with +search; each trial has one seed"),
        ((*THREE, "-m", "ema.decay=0.9,0.99"), "ema.decay: given several values with +search; put them"),
        ((*THREE, "optimizer.lr=0.1"), "optimizer.lr: is typed, and in search.space; leave one of them out"),
        ((*THREE, "++optimizer.lr=0.1"), "optimizer.lr: is typed, and in search.space; leave one of them out"),
        ((*THREE, "++study.arm=mine"), "name: given with +search, which names its trials itself; study.name=NAME"),
        ((*THREE, "name=mine"), "name: given with +search, which names its trials itself; study.name=NAME"),
        ((*THREE, "validate_on=test"), "validate_on: given test with +search; a search must not see the test images"),
        ((*THREE, "data.val_fraction=0"), "+search: trials are compared on validation images; set data"),
        ((*THREE, "cluster=by_hand"), "cluster: given by_hand with +search, whose trials are"),
        (of("{optimizer.lrr:{low:0.1,high:1}}"), "optimizer.lrr: no such key (did you mean 'optimizer.lr'?)"),
        (of("{model.act:[a,b]}"), "search.space.model.act: no such key"),
        (of("{model.norm:[none,batchh]}"), "search.space.model.norm: given 'batchh'; allowed: one of none, batch"),
        (of("{optimizer:[adam,sgdd]}"), "search.space.optimizer: unknown choice 'sgdd'"),
        (of("{optimizer.lr:{low:-1.0,high:1}}"), "search.space.optimizer.lr: given -1.0; allowed: a number > 0"),
    ],
)  # fmt: skip
def test_wrong_words_are_one_line_and_nothing_is_made(
    train: Train, outputs: Path, words: tuple[str, ...], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(*words) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("postcards: prepar")]
    assert len(lines) == 1 and message in lines[0]
    assert not outputs.exists()


def test_all_trials_have_the_same_validation_images(outputs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def plan(space: str, *more: str) -> int:
        own = [word for word in TINY if not word.startswith("data.num_train")]
        return cli.main(["train", *own, f"outputs={outputs}", *of(space), *more, "--plan"])

    for values in ("[50,60]", "{low:50,high:60}"):
        assert plan(f"{{data.num_train:{values}}}") == 2
        message = "search.space.data.num_train: 60: it changes the validation images, on which trials are compared"
        assert message in capfd.readouterr().err
    assert (
        plan("{data.train_limit:[20,30],data.normalize:[dataset,{mean:[0,0,0],std:[1,1,1]}]}", "data.num_train=50") == 0
    )


def test_a_short_name_is_typed_too(outputs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "aug=flip", f"outputs={outputs}", *of("{augmentation:[none,flip]}")]) == 2
    assert "augmentation: is typed, and in search.space; leave one of them out" in capfd.readouterr().err


def test_processes_of_torchrun_make_no_search(
    train: Train, outputs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cnnexp.training.launched.place_of", lambda: Place("torchrun", 0, 2, 0, 2, "localhost:1"))
    assert train(*THREE) == 2
    assert "torchrun: shares one run among 2 processes; type this command without it" in capfd.readouterr().err
    assert not outputs.exists()


def test_a_search_is_not_put_into_a_study(train: Train, outputs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert train("-m", "study.name=mine") == 0
    assert train(*THREE, "study.name=mine") == 2
    assert "mine: holds a study that is no search; add study.name=NAME" in capfd.readouterr().err


def test_a_file_of_ones_own_has_the_space(train: Train, outputs: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "search").mkdir(parents=True)
    file = tmp_path / "mine" / "search" / "lr.yaml"
    file.write_text("defaults: [random]\nspace:\n  optimizer.lr: {low: 1e-3, high: 1e-1, log: true}\ntrials: 2\n")
    assert train("--config-dir", str(tmp_path / "mine"), "+search=lr") == 0
    search = read_search(outputs / "search-lr")
    assert search is not None and search.sampler == "random" and search.trials == 2
    assert search.words[:2] == ("--config-dir", str(tmp_path / "mine"))


def test_a_second_command_does_not_propose_beside_the_first(
    train: Train, outputs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (outputs / "search").mkdir(parents=True)
    with storage.lock(outputs / "search" / SEARCH_LOCK):
        assert train(*THREE) == 2
    assert "is in use by" in capfd.readouterr().err


def test_half_a_row_of_a_crash_is_cut_off(train: Train, outputs: Path) -> None:
    assert train(*THREE, "search.trials=2") == 0
    with (outputs / "search" / "trials.jsonl").open("a") as file:
        file.write('{"checksum": "crc32:0000')
    assert train(*THREE, "search.trials=3") == 0
    assert [trial.number for trial in trials(outputs)] == [0, 1, 2]


def test_damaged_records_are_one_line(train: Train, outputs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert train(*THREE, "search.trials=1") == 0
    storage.append_row(outputs / "search" / "trials.jsonl", {"number": 1, "params": {"other": 1}, "folder": "x"})
    assert train(*THREE, "search.trials=2") == 2
    assert "trials.jsonl: has a row that a search has not written" in capfd.readouterr().err


@pytest.mark.slow
class TestInProcesses:
    """With workers in processes of their own, as a person has them."""

    @pytest.fixture
    def threads(self) -> None:
        """Use processes."""

    def start(self, outputs: Path, *more: str) -> subprocess.Popen[bytes]:
        """Start the command; what it prints goes to outputs/printed."""
        own = [word for word in TINY if not word.startswith("model.norm")]
        words = [sys.executable, "-m", "cnnexp", "train", *own, f"outputs={outputs}", *more]
        outputs.mkdir(exist_ok=True)
        with (outputs / "printed").open("wb") as file:
            return subprocess.Popen(words, stdout=file, stderr=file)

    def wait_for(self, outputs: Path, trial: str, epoch: int = 1) -> RunRecord:
        """Wait until a trial has made so many epochs."""
        until = time.monotonic() + 120
        while time.monotonic() < until:
            for folder in (outputs / "search").glob(f"{trial}-*"):
                if len(storage.read_rows(folder / "metrics.jsonl")) >= 2 * epoch:
                    return RunRecord.read(folder)
            time.sleep(0.01)
        raise AssertionError(f"{trial} has not come so far")

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_interrupted_and_continued_gives_the_same_trials(
        self, outputs: Path, tmp_path: Path, number: signal.Signals
    ) -> None:
        words = (*THREE, "search.trials=4", "epochs=30", "search.min_epochs=1")
        whole = self.start(tmp_path / "whole", *words)
        assert whole.wait(240) == 0
        broken = self.start(outputs, *words)
        self.wait_for(outputs, "trial-002", 3)
        broken.send_signal(number)
        assert broken.wait(60) == (130 if number == signal.SIGINT else 75)
        assert [trial.state for trial in trials(outputs)][:2] == ["complete"] * 2
        assert self.start(outputs, *words).wait(240) == 0
        assert [trial.params for trial in trials(outputs)] == [trial.params for trial in trials(tmp_path / "whole")]
        assert rows(outputs) == rows(tmp_path / "whole")

    def test_a_killed_worker_is_one_failed_trial(self, outputs: Path) -> None:
        words = (*THREE, "epochs=60", "search.prune=false")
        command = self.start(outputs, *words)
        self.wait_for(outputs, "trial-001")
        holder = storage.holder(next((outputs / "search").glob("trial-001-*")) / ".lock")
        pid = int(re.search(r"\d+", str(holder))[0])  # type: ignore[index]
        os.kill(pid, signal.SIGKILL)
        assert command.wait(240) == 3
        output = (outputs / "printed").read_text()
        assert [trial.state for trial in trials(outputs)] == ["complete", "failed", "complete"]
        assert "killed by SIGKILL" in output
        assert self.start(outputs, *words).wait(240) == 0
        assert [trial.state for trial in trials(outputs)] == ["complete"] * 3

    def test_two_workers_share_the_trials(self, outputs: Path) -> None:
        command = self.start(outputs, *THREE[:-1], "slots=cpu:2", "search.trials=6")
        assert command.wait(240) == 0
        made = trials(outputs)
        assert len({json.dumps(trial.params) for trial in made}) == 6
        assert {trial.state for trial in made} == {"complete"}


def test_the_scheduler_is_what_proposes(monkeypatch: pytest.MonkeyPatch, train: Train, outputs: Path) -> None:
    asked: list[tuple[int, int]] = []
    real = search_scheduler.propose

    def propose(search: Any, known: Any, number: int) -> Any:
        asked.append((number, sum(trial.state == "complete" for trial in known)))
        return real(search, known, number)

    monkeypatch.setattr(search_scheduler, "propose", propose)
    assert train(*THREE) == 0
    assert asked == [(number, number) for number in range(3)]  # each knows all that came before


def test_an_engine_may_have_no_slot_before_it_is_connected(
    monkeypatch: pytest.MonkeyPatch, train: Train, outputs: Path
) -> None:
    connected: list[bool] = []
    free, news = LocalEngine.free, LocalEngine.news

    def first_connect(self: LocalEngine, seconds: float) -> Any:
        connected.append(True)
        return news(self, 0.01)

    monkeypatch.setattr(LocalEngine, "free", lambda self: free(self) if connected else 0)
    monkeypatch.setattr(LocalEngine, "news", first_connect)
    assert train(*THREE) == 0
    assert [trial.state for trial in trials(outputs)] == ["complete"] * 3


def test_a_budget_that_ends_before_an_engine_has_a_slot_leaves_trials(
    monkeypatch: pytest.MonkeyPatch, train: Train, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(LocalEngine, "free", lambda self: 0)
    monkeypatch.setattr(LocalEngine, "news", lambda self, seconds: time.sleep(0.1) or [])
    assert train(*THREE, "--budget=1s") == 75
    assert "not started: 3 trials, because no slot was free within the budget" in capfd.readouterr().out


def test_runs_that_trials_start_from_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    space = read_space({"optimizer.lr": {"low": 0.1, "high": 1.0}})
    search = Search(tmp_path / "s", "random", space, "accuracy", "best", 3, 0)
    search.folder.mkdir()
    first = plain_plan(tmp_path, "first")

    def plan(params: Any, number: int) -> Plan:
        return plain_plan(tmp_path, trial_name(number), upstream=first)

    def engine() -> FakeEngine:
        return FakeEngine(1, lambda plan, attempt: (1.0, "done"))

    search_scheduler.SearchScheduler(Trials(search), plan, [], engine(), Times([]), None, False).run()
    counted = re.findall(r"^\[(\d/\d)\]", capfd.readouterr().out, re.MULTILINE)
    assert counted == ["1/4", "2/4", "3/4", "4/4"]
    for one in (first, left := plan({}, 2)):  # as if both had not been made
        shutil.rmtree(one.folder)
    search_scheduler.SearchScheduler(Trials(search), plan, [left], engine(), Times([]), None, False).run()
    assert re.findall(r"^\[(\d/\d)\]", capfd.readouterr().out, re.MULTILINE) == ["3/4", "4/4"]
