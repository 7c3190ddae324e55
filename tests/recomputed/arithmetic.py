"""The statistics of a report, written a second time: as textbooks give them, with SciPy's distributions."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

NO_SPREAD = 1e-12
Spread = dict[str, float]  # n, of, mean, std, low, high, p; nan where n is too small
Key = tuple[int, int, int]  # of a run: how many folds, its fold, its seed; (0, 0, seed) without folds


def spread(values: Mapping[Key, float], reference: float = 0.0) -> Spread:
    """Return n, mean, std, the 95 % limits of the mean and p of "it is `reference`" (Student), of the finite values.

    Of folds, n of which `of` there are: the values are the means of each, and the standard error of their mean is
    std * sqrt(1 / n + 1 / (of - 1)): Nadeau & Bengio 2003, with a share of 1 / of of the images held out.
    """
    kept: list[float] = []
    of = max((key[0] for key in values), default=0)
    for at in sorted({key[:2] if of else key for key in values}):
        same = [v for key, v in values.items() if key[: len(at)] == at and math.isfinite(v)]
        kept += [math.fsum(same) / len(same)] if same else []
    n = len(kept)
    found = {"n": n, "of": of, **dict.fromkeys(("mean", "std", "low", "high", "p"), math.nan)}
    if not n:
        return found
    found["mean"] = mean = math.fsum(kept) / n
    if n < 2:
        return found
    found["std"] = std = math.sqrt(math.fsum((value - mean) ** 2 for value in kept) / (n - 1))
    error = std * (math.sqrt(1 / n + (1 / of) / (1 - 1 / of)) if of else 1 / math.sqrt(n))
    half = float(stats.t(n - 1).ppf(0.975)) * error
    found |= {"low": mean - half, "high": mean + half}
    away = abs(mean - reference)
    if std > NO_SPREAD:
        found["p"] = 2 * float(stats.t(n - 1).sf(away / error))
    elif away <= NO_SPREAD:
        found["p"] = 1.0
    return found


def ratio(first: Sequence[float], second: Sequence[float]) -> Spread:
    """Return n and the ratio of two paired samples' deviations, its 95 % limits and p (Pitman and Morgan 1939).

    The limits are those ratios at which the test of a + ratio b against a - ratio b is at 5 %, found by search.
    """
    a, b = np.array(first, float), np.array(second, float)
    n = len(a)
    found = {"n": n, "of": 0, **dict.fromkeys(("mean", "std", "low", "high", "p"), math.nan)}
    if n < 2 or min(a.std(), b.std()) <= NO_SPREAD:
        return found
    middle = float(a.std(ddof=1) / b.std(ddof=1))
    found["mean"] = middle
    if n < 3 or 1 - np.corrcoef(a, b)[0, 1] ** 2 <= NO_SPREAD:
        return found
    t = float(stats.t(n - 2).ppf(0.975))
    critical = t / math.sqrt(n - 2 + t * t)

    def correlation(rho: float) -> float:
        return float(abs(np.corrcoef(a + rho * b, a - rho * b)[0, 1]))

    def limit(side: float) -> float:
        step = optimize.brentq(lambda x: correlation(middle * math.exp(side * x)) - critical, 0.0, 30.0, xtol=1e-14)
        return float(middle * math.exp(side * float(step)))

    r = correlation(1.0)
    p = 2 * float(stats.t(n - 2).sf(r * math.sqrt((n - 2) / (1 - r * r))))
    return found | {"low": limit(-1), "high": limit(1), "p": p}


def lasting(leads: Mapping[Key, Mapping[int, float]], threshold: float, direction: int) -> Spread:
    """Return the numbers of the epoch with the smallest mean lead, and p of "it leads at every epoch".

    leads: {epoch: lead} of each seed; direction: 1 if it leads above the threshold, -1 if below.
    """
    tests: dict[int, Spread] = {}
    for epoch in sorted(next(iter(leads.values()), {})):
        if all(epoch in lead for lead in leads.values()):
            tests[epoch] = spread({key: lead[epoch] for key, lead in leads.items()}, threshold)
    if not tests:
        return spread({})
    ahead = {epoch: direction * (test["mean"] - threshold) for epoch, test in tests.items()}
    behind = [tests[epoch]["p"] for epoch in tests if ahead[epoch] <= NO_SPREAD]
    if behind:
        known = [p for p in behind if not math.isnan(p)]
        p = min(1.0, len(tests) * min(known)) if known else math.nan
    else:
        p = math.nan if any(math.isnan(test["p"]) for test in tests.values()) else max(t["p"] for t in tests.values())
    shown = sorted(tests, key=lambda epoch: (round(ahead[epoch], 9), epoch))[0]
    return {**tests[shown], "p": p}


def stepped(p_values: Sequence[float], level: float) -> list[float]:
    """Return what each p must be below: level / k of k tests; those below leave, and the others share it again."""
    found = [math.nan] * len(p_values)
    left = set(range(len(p_values)))
    while left:
        share = level / len(left)
        gone = {i for i in left if p_values[i] < share}
        found = [share if i in left else limit for i, limit in enumerate(found)]
        if not gone:
            break
        left -= gone
    return found


def smallest_found(test: Spread, limit: float) -> float:
    """Return the true difference at which a t test with this n and deviation finds it, on its side, 4 times in 5."""
    n, std = int(test["n"]), test["std"]
    if n < 3 or test["of"] or math.isnan(limit) or std <= NO_SPREAD:
        return math.nan
    t = float(stats.t(n - 1).isf(limit / 2))

    nodes, weights = np.polynomial.legendre.leggauss(600)
    ratios = 4 * (nodes + 1)  # of the sample's deviation to std
    density = stats.chi(n - 1, scale=1 / math.sqrt(n - 1)).pdf(ratios) * 4 * weights

    def missed(difference: float) -> float:
        shift = difference / std * math.sqrt(n)
        return float(stats.norm.cdf(t * ratios - shift) @ density) - 0.2

    return float(optimize.brentq(missed, 1e-9 * std, (2 * t + 4) * std / math.sqrt(n), xtol=1e-15 * std))


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return McNemar's exact two-sided p of two networks' right answers (N,) on the same images."""
    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    tail = sum(math.comb(gained + lost, k) for k in range(min(gained, lost) + 1))
    return min(1.0, float(2 * tail / 2 ** (gained + lost)))


def log_softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return log-probabilities (N, K) of logits (N, K); nan where these are not finite."""
    with np.errstate(invalid="ignore"):
        shifted = logits.astype(np.float64) - logits.max(axis=1)[:, None]
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1))[:, None])


def accuracy_and_loss(logits: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> tuple[float, float]:
    """Return the share of labels (N,) that the logits (N, K) name, and the mean cross-entropy in nats."""
    precise = logits.astype(np.float64)
    largest = precise.max(axis=1)
    log_sums = largest + np.log(np.exp(precise - largest[:, None]).sum(axis=1))
    own = precise[np.arange(len(labels)), labels]
    right = int((precise.argmax(axis=1) == labels).sum())
    return right / len(labels), math.fsum(log_sums - own) / len(labels)
