"""Optuna, asked: what to try next, and whether a trial is worth going on with. Nothing else imports it.

A study of Optuna's is built from the recorded trials for each question, so nothing but these is stored. Optuna keeps no
generator between two processes: each proposal has a sampler of its own, seeded by the trial's number.
"""

import importlib.util
from collections.abc import Sequence
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from cnnexp.errors import UserError
from cnnexp.rng import fold
from cnnexp.search.space import Numbers, Params, as_word, as_words
from cnnexp.search.trials import Search, Trial

if TYPE_CHECKING:
    import optuna

ATTEMPTS = 20  # to propose settings that were not tried before
MAX_COUNTED = 10_000  # combinations of a space, to say that all were tried
STARTUP = 5  # complete trials before one is pruned


def check_installed() -> None:
    """Raise UserError if Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise UserError("+search: Optuna is not installed; type: pip install 'cnnexp[search]'")


def propose(search: Search, trials: Sequence[Trial], number: int) -> Params | None:
    """Return settings for the trial of this number that none had before; None if there are no others.

    The same trials and number give the same settings.
    """
    import optuna

    tried = {tuple(as_words(trial.params)) for trial in trials}
    sizes = [len(dimension) for dimension in search.space.values()]
    if 0 < prod(sizes) <= len(tried):
        return None
    study = study_of(search, trials)
    for attempt in range(ATTEMPTS):
        seed = fold(search.seed, "search", number, attempt) % 2**32
        asked = optuna.samplers.TPESampler(seed=seed) if search.sampler == "tpe" else None
        study.sampler = asked or optuna.samplers.RandomSampler(seed=seed)
        drawn = study.ask(distributions(search)).params
        params = {key: from_optuna(search, key, drawn[key]) for key in search.space}
        if tuple(as_words(params)) not in tried:
            return params
    if not 0 < prod(sizes) <= MAX_COUNTED:
        return None
    combinations = product(*(dimension.values() for dimension in search.space.values()))
    others = [
        p for values in combinations if tuple(as_words(p := dict(zip(search.space, values, strict=True)))) not in tried
    ]
    return others[fold(search.seed, "search", number) % len(others)] if others else None


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
        elif of.whole:
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
