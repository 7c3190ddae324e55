"""What the seeds can tell: means, intervals, paired differences and a verdict in words.

Seeds are the sample: intervals and tests speak of training again with other seeds, on these test images.
Student (1908) for the interval and the paired test, Holm (1979) for several arms, McNemar (1947) for two networks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.05
NO_SPREAD = 1e-12  # differences of accuracies are multiples of 1/N; a smaller spread is rounding


@dataclass(frozen=True)
class Summary:
    """n values: mean, sample standard deviation (nan if n < 2) and the 95 % interval of the mean (nan if n < 2)."""

    n: int
    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """An arm minus the baseline over `n` shared seeds: mean, 95 % interval, p of the paired t-test (nan if n < 2)."""

    n: int
    mean: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class McNemar:
    """Two networks on the same images: how many only the first, or only the second, has right; exact two-sided p."""

    only_first: int
    only_second: int
    p: float


def t_interval(values: np.ndarray[Any, Any]) -> tuple[Any, Any, Any, Any]:
    """Return mean, low, high (95 %) and the two-sided p of "the mean is 0", over the last axis of (..., n >= 2).

    Without any spread there is nothing to judge by: p is 1 if all values are 0, and nan otherwise.
    """
    n = values.shape[-1]
    mean, std = values.mean(-1), values.std(-1, ddof=1)
    half = stats.t.ppf(1 - LEVEL / 2, n - 1) * std / math.sqrt(n)
    spread = std > NO_SPREAD
    t = np.abs(mean) * math.sqrt(n) / np.where(spread, std, 1)
    without = np.where(np.abs(mean) <= NO_SPREAD, 1.0, np.nan)
    return mean, mean - half, mean + half, np.where(spread, 2 * stats.t.sf(t, n - 1), without)


def summarise(values: Sequence[float]) -> Summary:
    """Summarise the finite ones of `values`; of none of them, everything is nan."""
    finite = np.array([v for v in values if math.isfinite(v)], float)
    if len(finite) < 2:
        return Summary(len(finite), float(finite[0]) if len(finite) else math.nan, math.nan, math.nan, math.nan)
    mean, low, high, _ = t_interval(finite)
    return Summary(len(finite), float(mean), float(finite.std(ddof=1)), float(low), float(high))


def paired(arm: Mapping[int, float], baseline: Mapping[int, float]) -> Difference:
    """Compare two arms, each {seed: accuracy}, over the seeds that both have."""
    seeds = sorted(arm.keys() & baseline.keys())
    differences = np.array([arm[s] - baseline[s] for s in seeds], float)
    if len(seeds) < 2:
        return Difference(len(seeds), float(differences[0]) if seeds else math.nan, math.nan, math.nan, math.nan)
    mean, low, high, p = (float(x) for x in t_interval(differences))
    return Difference(len(seeds), mean, low, high, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p values, in the order given; nan stays nan and is not counted."""
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def mcnemar(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> McNemar:
    """Test two networks by the images that only one of them has right. first, second: (N,) bool, the same images."""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    p = float(stats.binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0
    return McNemar(only_first, only_second, p)


def verdict(difference: Difference, p_holm: float, diverged: int = 0, baseline_diverged: int = 0) -> str:
    """Say in words what the paired comparison shows.

    "better" and "worse" need a Holm-corrected p < 0.05 and an interval without 0, and no diverged run on the side that
    would win: what diverged is left out of the mean, which flatters the arm that it is left out of.
    """
    if difference.n < 2:
        return "one seed: no verdict" if difference.n else "no shared seed: no verdict"
    if math.isnan(p_holm):
        return f"not decided (n = {difference.n}, no spread)"
    excludes_zero = difference.low > 0 or difference.high < 0
    if p_holm < LEVEL and excludes_zero:
        winner_diverged = diverged if difference.mean > 0 else baseline_diverged
        if winner_diverged:
            return f"not decided ({winner_diverged} diverged)"
        return "better" if difference.mean > 0 else "worse"
    return f"not decided (n = {difference.n})" if excludes_zero or difference.n == 2 else "within noise"
