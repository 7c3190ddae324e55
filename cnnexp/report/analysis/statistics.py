"""What the seeds can tell: means, intervals, paired differences and a verdict in words.

Seeds are the sample: intervals and tests speak of training again with other seeds, on these test images.
Student (1908) for the interval and the paired test, Holm (1979) for several comparisons. For two single networks the
test images are the sample: McNemar (1947), and a bootstrap (Efron & Tibshirani 1993).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special, stats

LEVEL = 0.05
MOST_SEEDS = 1000
RESAMPLES = 10_000
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
    """A difference over `n` shared seeds: mean, 95 % interval, p of the paired t-test, deviation (nan if n < 2)."""

    n: int
    mean: float
    low: float
    high: float
    p: float
    std: float = math.nan


@dataclass(frozen=True)
class McNemar:
    """Two networks on the same images: how many only the first, or only the second, has right; exact two-sided p."""

    only_first: int
    only_second: int
    p: float
    images: int

    @property
    def can_decide(self) -> bool:
        """Tell whether p could be below 0.05 if all the images that they differ on spoke for one of them."""
        return 2 * 0.5 ** (self.only_first + self.only_second) < LEVEL


def t_interval(values: np.ndarray[Any, Any]) -> tuple[Any, Any, Any, Any]:
    """Return mean, low, high (95 %) and the two-sided p of "the mean is 0", over the last axis of (..., n >= 2).

    Without any spread there is nothing to judge by: p is 1 if all values are 0, and nan otherwise.
    """
    n = values.shape[-1]
    mean, std = values.mean(-1), values.std(-1, ddof=1)
    half = special.stdtrit(n - 1, 1 - LEVEL / 2) * std / math.sqrt(n)
    spread = std > NO_SPREAD
    t = np.abs(mean) * math.sqrt(n) / np.where(spread, std, 1)
    without = np.where(np.abs(mean) <= NO_SPREAD, 1.0, np.nan)
    return mean, mean - half, mean + half, np.where(spread, 2 * special.stdtr(n - 1, -t), without)


def summarise(values: Sequence[float]) -> Summary:
    """Summarise the finite ones of `values`; of none of them, everything is nan."""
    finite = np.array([v for v in values if math.isfinite(v)], float)
    if len(finite) < 2:
        return Summary(len(finite), float(finite[0]) if len(finite) else math.nan, math.nan, math.nan, math.nan)
    mean, low, high, _ = t_interval(finite)
    return Summary(len(finite), float(mean), float(finite.std(ddof=1)), float(low), float(high))


def paired(arm: Mapping[int, float], baseline: Mapping[int, float]) -> Difference:
    """Compare two arms, each {seed: accuracy}, over the seeds that both have."""
    return against([arm[s] - baseline[s] for s in sorted(arm.keys() & baseline.keys())])


def against(values: Sequence[float], reference: float = 0.0) -> Difference:
    """Return the mean of `values` with its 95 % interval, and the two-sided p of "their mean is `reference`"."""
    sample = np.array(values, float)
    if len(sample) < 2:
        return Difference(len(sample), float(sample[0]) if len(sample) else math.nan, math.nan, math.nan, math.nan)
    mean, low, high, p = (float(x) for x in t_interval(sample - reference))
    return Difference(len(sample), mean + reference, low + reference, high + reference, p, float(sample.std(ddof=1)))


def seeds_needed(distance: float, std: float, level: float = LEVEL) -> int | None:
    """Return at how many seeds the t interval of a mean, at confidence 1 - level, is narrower than `distance`.

    std: as it was observed, so this is a guide and no promise. None if MOST_SEEDS are too few.
    """
    n = np.arange(2, MOST_SEEDS + 1)
    enough = special.stdtrit(n - 1, 1 - level / 2) * std / np.sqrt(n) < abs(distance)
    return int(n[enough.argmax()]) if enough.any() else None


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
    return McNemar(only_first, only_second, p, len(first))


def image_interval(pair: McNemar) -> tuple[float, float]:
    """Return the 95 % interval of the first network's accuracy minus the second's, by bootstrap over the test images.

    An image counts 1 if only the first has it right, -1 if only the second has, and else 0. So to draw as many images
    anew, in pairs, is a multinomial draw of the three counts; the interval is that of the percentiles (Efron &
    Tibshirani 1993, section 13.3). The draws are seeded: the same predictions give the same interval.
    """
    shares = np.array([pair.only_first, pair.only_second, pair.images - pair.only_first - pair.only_second])
    drawn = np.random.default_rng(0).multinomial(pair.images, shares / pair.images, RESAMPLES)
    low, high = np.percentile((drawn[:, 0] - drawn[:, 1]) / pair.images, [100 * LEVEL / 2, 100 - 100 * LEVEL / 2])
    return float(low), float(high)


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


def p_value(p: float, equals: bool = False) -> str:
    """Format a p value as "0.012" or "< 0.0001"; with `equals` as "= 0.012"; a dash where there is none."""
    if math.isnan(p):
        return "-"
    return "< 0.0001" if p < 0.0001 else ("= " if equals else "") + (f"{p:.4f}" if p < 0.001 else f"{p:.2g}")
