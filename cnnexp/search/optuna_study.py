"""A study of Optuna's, built from the recorded trials for each question: nothing but these is stored.

The questions: whether a trial is worth going on with, and which settings matter. What to try next: proposal.py.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cnnexp.config.words import as_word
from cnnexp.errors import UserError
from cnnexp.search.space import Numbers
from cnnexp.search.trials import Search, Trial
from cnnexp.version import version_of

if TYPE_CHECKING:
    import optuna

STARTUP = 5  # complete trials before one is pruned


def is_installed() -> bool:
    """Tell whether Optuna is installed."""
    return version_of("optuna") is not None


def check_installed() -> None:
    """Raise UserError if Optuna is not installed."""
    if not is_installed():
        raise UserError("+search: Optuna is not installed; type: pip install 'cnnexp[search]'")


def study_of(search: Search, trials: Sequence[Trial]) -> "optuna.Study":
    """Return a study of Optuna's with these trials.

    A trial whose settings are at fault counts as pruned before its first epoch, which is Optuna's worst.
    """
    import optuna
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "unfit": TrialState.PRUNED}
    states |= {"failed": TrialState.FAIL, "open": TrialState.RUNNING}
    study = optuna.create_study(direction="minimize" if search.monitor == "loss" else "maximize")
    study.add_trials(
        [
            create_trial(
                state=states[trial.state],
                params={key: to_optuna(search, key, value) for key, value in trial.params.items()},
                distributions=distributions(search),
                value=trial.value,
                intermediate_values=trial.curve if trial.state in ("complete", "pruned") else {},
            )
            for trial in trials
        ]
    )
    return study


def distributions(search: Search) -> "dict[str, optuna.distributions.BaseDistribution]":
    """Return the space as Optuna describes it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, Any] = {}
    for key, of in search.space.items():
        if not isinstance(of, Numbers):
            found[key] = CategoricalDistribution(range(len(of)))
        elif of.integers:
            found[key] = IntDistribution(int(of.low), int(of.high), log=of.log, step=int(of.step or 1))
        else:
            found[key] = FloatDistribution(of.low, of.high, log=of.log, step=of.step)
    return found


def to_optuna(search: Search, key: str, value: Any) -> Any:
    """Return a setting as Optuna has it: a choice by its position."""
    of = search.space[key]
    return value if isinstance(of, Numbers) else [as_word(option) for option in of.options].index(as_word(value))


def from_optuna(search: Search, key: str, value: Any) -> Any:
    """Return what `to_optuna` was given."""
    of = search.space[key]
    return of.rounded(value) if isinstance(of, Numbers) else of.options[value]


def is_worth_pruning(search: Search, trials: Sequence[Trial], curve: dict[int, float], min_epochs: int) -> bool:
    """Tell whether the best value of a curve so far is below the median of the complete trials at its last epoch.

    curve: {epoch: value}. min_epochs: a trial makes so many epochs before it can be pruned.
    """
    import optuna
    from optuna.trial import TrialState, create_trial

    pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=min_epochs)
    study = study_of(search, [trial for trial in trials if trial.state == "complete"])
    return bool(pruner.prune(study, create_trial(state=TrialState.RUNNING, intermediate_values=curve)))


def shares(search: Search, trials: Sequence[Trial]) -> dict[str, float]:
    """Return {key: importance}, which sum to 1, by PED-ANOVA: in what the best trials differ from all.

    trials: complete ones. The best are a tenth of them, or four.
    """
    import optuna

    quantile = min(max(0.1, 4 / len(trials)), 0.5)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile)
    found = optuna.importance.get_param_importances(study_of(search, trials), evaluator=evaluator)
    return {key: found.get(key, 0.0) for key in search.space}
