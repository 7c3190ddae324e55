"""What to try next, asked of Optuna.

Optuna keeps no generator between two processes: each proposal has its own sampler, seeded by the trial number.
"""

from collections.abc import Sequence
from itertools import product
from math import prod

from cnnexp.rng import fold
from cnnexp.search.optuna_study import distributions, from_optuna, study_of
from cnnexp.search.space import Params, as_words
from cnnexp.search.trials import Search, Trial

ATTEMPTS = 20  # to propose settings that were not tried before
MAX_COUNTED = 10_000  # combinations of a space, to say that all were tried


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
        sampler = optuna.samplers.TPESampler if search.sampler == "tpe" else optuna.samplers.RandomSampler
        study.sampler = sampler(seed=seed)
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
