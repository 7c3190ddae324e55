"""What Optuna is asked: proposals are a function of the trials so far, and pruning is its median rule."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cnnexp.errors import UserError
from cnnexp.search import optuna_study
from cnnexp.search.space import read_space
from cnnexp.search.trials import Search, Trial

optuna = pytest.importorskip("optuna")
from cnnexp.search.optuna_study import is_worth_pruning, study_of  # noqa: E402
from cnnexp.search.proposal import propose  # noqa: E402

SPACE = {
    "optimizer.lr": {"low": 1e-4, "high": 0.1, "log": True},
    "model.norm": ["none", "batch"],
    "epochs": {"low": 2, "high": 9},
}


def search(space: Any = SPACE, sampler: str = "tpe", monitor: str = "accuracy", seed: int = 0) -> Search:
    return Search(Path("s"), sampler, read_space(space), monitor, "best", 30, seed)


def made(of: Search, count: int, value: Any = lambda params: 1 - abs(params["optimizer.lr"] - 0.01)) -> list[Trial]:
    """Make trials one after another; each has the value of its settings."""
    trials: list[Trial] = []
    for number in range(count):
        params = propose(of, trials, number)
        assert params is not None
        trials.append(Trial(number, params, Path("s"), "complete", value(params), {1: 0.1, 2: value(params)}))
    return trials


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_trials_get_the_same_proposal_in_another_process(sampler: str) -> None:
    trials = made(search(sampler=sampler), 14)
    again = propose(search(sampler=sampler), trials[:13], 13)
    assert again == trials[13].params
    assert propose(search(sampler=sampler, seed=1), trials[:13], 13) != again
    assert len({str(trial.params) for trial in trials}) == 14


@pytest.mark.integration
def test_tpe_learns_from_the_trials_and_random_does_not() -> None:
    def mean(sampler: str) -> float:
        values = [trial.value or 0.0 for trial in made(search(sampler=sampler), 40)[20:]]
        return sum(values) / len(values)

    assert mean("tpe") > mean("random") + 0.005


def test_a_finite_space_is_tried_completely_without_repetition() -> None:
    of = search({"model.norm": ["none", "batch"], "batch_size": [8, 16, 32]})
    trials = made(of, 6, lambda params: params["batch_size"] / 32)
    assert len({str(trial.params) for trial in trials}) == 6
    assert propose(of, trials, 6) is None


def test_settings_that_diverge_count_as_the_worst() -> None:
    trials = [
        Trial(0, {"model.norm": "none"}, Path("s"), "unfit"),
        Trial(1, {"model.norm": "batch"}, Path("s"), "failed"),
    ]
    states = [trial.state.name for trial in study_of(search({"model.norm": ["none", "batch"]}), trials).trials]
    assert states == ["PRUNED", "FAIL"]


@pytest.mark.parametrize(
    ("monitor", "curve", "min_epochs", "pruned"),
    [
        ("accuracy", {1: 0.9, 2: 0.34}, 1, False),  # the best so far counts, not the last
        ("accuracy", {1: 0.1, 2: 0.34}, 1, True),
        ("accuracy", {1: 0.1, 2: 0.36}, 1, False),
        ("accuracy", {1: 0.1, 2: 0.34}, 3, False),  # too early
        ("loss", {1: 0.9, 2: 0.36}, 1, True),
        ("loss", {1: 0.9, 2: 0.34}, 1, False),
    ],
)
def test_a_trial_is_pruned_below_the_median(
    monitor: str, curve: dict[int, float], min_epochs: int, pruned: bool
) -> None:
    of = search({"model.norm": ["none", "batch"]}, monitor=monitor)
    others = [Trial(n, {"model.norm": "none"}, Path("s"), "complete", 0.5, {1: 0.3, 2: 0.35, 3: 0.5}) for n in range(5)]
    others.append(Trial(9, {"model.norm": "none"}, Path("s"), "pruned", None, {1: 0.99, 2: 0.99}))
    assert is_worth_pruning(of, others, curve, min_epochs) is pruned
    assert not is_worth_pruning(of, others[1:], curve, min_epochs)  # fewer than 5 are complete


def test_without_optuna_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"Optuna is not installed; type: pip install 'cnnexp\[search\]'"):
        optuna_study.check_installed()


@pytest.mark.integration
def test_a_plain_train_does_not_import_optuna(tmp_path: Path) -> None:
    from tiny import TINY

    code = f"""import sys; from cnnexp import cli
assert cli.main(["train", *{TINY!r}, "epochs=1", "outputs={tmp_path}"]) == 0
assert not [name for name in sys.modules if name.startswith(("optuna", "sqlalchemy", "cnnexp.search."))], sys.modules"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
