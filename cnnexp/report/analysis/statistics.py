"""Statistics over seeds: means, intervals, paired tests.

Seeds are the sample: intervals and tests are about training again with other seeds, on the same test images.
Student (1908) for the interval and the paired test. Pitman and Morgan (1939, both
Biometrika 31) for the ratio of two deviations. For two single networks the test images are the sample: McNemar (1947),
and a bootstrap (Efron & Tibshirani 1993).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from cnnexp.report.read.folds import means
from cnnexp.text import plural

Values = Sequence[float] | Mapping[int, float]
LEVEL = 0.05
MIN_SEEDS_FOR_RATIO = 3  # the test of two deviations has n - 2 degrees of freedom
RESAMPLES = 10_000
NO_SPREAD = 1e-12  # differences of accuracies are multiples of 1/N; a smaller spread is rounding
TIE_DECIMALS = 9  # to which two means are equal: sums in another order round differently


@dataclass(frozen=True)
class Estimate:
    """The mean of n values, one for each seed, and what they say of it; nan where they are too few.

    low, high: the 95 % interval. p: of the two-sided test. std: the sample standard deviation. folds: of
    cross-validation, of which n are there; the values are then those of the folds, each a mean over its seeds.
    """

    n: int = 0
    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    std: float = math.nan
    folds: int = 0

    @property
    def unit(self) -> str:
        """Return what a value is of: "seed", or "fold"."""
        return "fold" if self.folds else "seed"

    @property
    def units(self) -> str:
        """Return "5 seeds", or "5 folds"."""
        return plural(self.n, self.unit)

    @property
    def all_equal(self) -> str:
        """Return "all 5 seeds equal" of several values without spread, which an interval of width 0 hides; else ""."""
        if not self.std <= NO_SPREAD:
            return ""
        return f"both {self.unit}s equal" if self.n == 2 else f"all {self.units} equal"


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


def t_interval(values: np.ndarray[Any, Any], overlap: float = 0.0) -> tuple[Any, Any, Any, Any]:
    """Return mean, low, high (95 %) and the two-sided p of "the mean is 0", over the last axis of (..., n >= 2).

    overlap: added to 1 / n, for values that are not independent; see `overlap_of`.
    Without any spread there is nothing to judge by: p is 1 if all values are 0, and nan otherwise.
    """
    n = values.shape[-1]
    root = math.sqrt(1 / n + overlap)
    mean, std = values.mean(-1), values.std(-1, ddof=1)
    half = special.stdtrit(n - 1, 1 - LEVEL / 2) * std * root
    spread = std > NO_SPREAD
    t = np.abs(mean) / root / np.where(spread, std, 1)
    without = np.where(np.abs(mean) <= NO_SPREAD, 1.0, np.nan)
    return mean, mean - half, mean + half, np.where(spread, 2 * special.stdtr(n - 1, -t), without)


def overlap_of(folds: int) -> float:
    """Return n held-out / n trained-on, what the corrected resampled t test adds to 1 / n; 0 without folds.

    Nadeau & Bengio (2003, Machine Learning 52): training sets of several folds share images, so the values are
    correlated, and the variance of their mean is larger than that of independent ones. A fold is 1 / k of the images.
    They derived it for runs that are tested on the fold that they leave out. With a fixed test split it is approximate.
    """
    return 1 / (folds - 1) if folds else 0.0


def estimate(values: Values, reference: float = 0.0) -> Estimate:
    """Return the mean of `values` with its 95 % interval, and the two-sided p of "their mean is `reference`".

    values: {unit: value} (see `Run.unit`). Of cross-validation each fold is one value, and the test is corrected.
    """
    found, folds = means(values) if isinstance(values, Mapping) else (list(values), 0)
    sample = np.array(found, float)
    if len(sample) < 2:
        return Estimate(len(sample), float(sample[0]) if len(sample) else math.nan, folds=folds)
    mean, low, high, p = (float(x) for x in t_interval(sample - reference, overlap_of(folds)))
    ends = low + reference, high + reference
    return Estimate(len(sample), mean + reference, *ends, p, float(sample.std(ddof=1)), folds)


def summarise(values: Values) -> Estimate:
    """Estimate the mean of those values that are finite."""
    if isinstance(values, Mapping):
        return estimate({unit: value for unit, value in values.items() if math.isfinite(value)})
    return estimate([value for value in values if math.isfinite(value)])


def paired(arm: Mapping[int, float], baseline: Mapping[int, float]) -> Estimate:
    """Estimate the difference of two arms, each {unit: accuracy}, over the units that both have."""
    return estimate({unit: arm[unit] - baseline[unit] for unit in sorted(arm.keys() & baseline.keys())})


def ratio_of_deviations(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Return the first sample's standard deviation divided by the second's, its 95 % interval, and p of "it is 1".

    The values are paired by seed. If the deviation of a is rho times that of b, then a + rho b and a - rho b are
    uncorrelated: the test is of that at rho = 1, and the interval holds each rho that it would accept. It depends on
    the normal distribution more than a test of means. Interval and p are nan below three pairs, or without any spread.
    """
    n = len(first)
    if n < 2 or min(np.std(first), np.std(second)) <= NO_SPREAD:
        return Estimate(n)
    ratio = float(np.std(first, ddof=1) / np.std(second, ddof=1))
    unexplained = 1 - float(np.corrcoef(first, second)[0, 1]) ** 2  # 1 - r^2, r: the correlation of the pairs
    if n < MIN_SEEDS_FOR_RATIO or unexplained <= NO_SPREAD:
        return Estimate(n, ratio)
    t = abs(ratio - 1 / ratio) * math.sqrt((n - 2) / (4 * unexplained))
    k = 1 + 2 * unexplained * special.stdtrit(n - 2, 1 - LEVEL / 2) ** 2 / (n - 2)
    factor = float(np.sqrt(k + np.sqrt(k * k - 1)))  # between the ratio and its limits
    return Estimate(n, ratio, ratio / factor, ratio * factor, float(2 * special.stdtr(n - 2, -t)))


@dataclass(frozen=True)
class EpochTests:
    """The paired t-test of a claimed lead over the seeds, at every epoch.

    by_epoch: not empty, rising; means of the sum that is compared with the claimed number. smallest: the epoch with the
    smallest lead, the first of several. opposed: whether an epoch shows no lead. decisive: the epoch whose p is the
    claim's. test: mean, interval and deviation of `smallest`, with the claim's p.

    A lead at every epoch holds only if it is there at each one, so the largest p is the claim's, without correction (an
    intersection-union test: Berger 1982, Technometrics 24). One epoch without the lead refutes it, and any of them may
    be that one: the smallest p of those, times the number of epochs (Bonferroni).
    """

    by_epoch: Mapping[int, Estimate]
    smallest: int
    opposed: bool
    decisive: int
    test: Estimate


def over_epochs(curves: Mapping[int, Mapping[int, float]], threshold: float, direction: int) -> EpochTests | None:
    """Test a lead claimed to lie above (direction 1) or below (-1) `threshold`; None without a shared epoch.

    curves: of each unit, {epoch: lead}.
    """
    shared = sorted(set.intersection(*map(set, curves.values()))) if curves else []
    if not shared:
        return None
    by_epoch = {epoch: estimate({unit: curve[epoch] for unit, curve in curves.items()}, threshold) for epoch in shared}
    leads = {epoch: direction * (test.mean - threshold) for epoch, test in by_epoch.items()}
    smallest = min(leads, key=lambda epoch: (round(leads[epoch], TIE_DECIMALS), epoch))
    opposed = [epoch for epoch in leads if leads[epoch] <= NO_SPREAD]
    sortable = {e: math.inf if math.isnan(by_epoch[e].p) else by_epoch[e].p for e in opposed or by_epoch}
    decisive = (min if opposed else max)(sortable, key=lambda epoch: sortable[epoch])
    p = by_epoch[decisive].p
    if opposed and not math.isnan(p):
        p = min(1.0, len(by_epoch) * p)
    return EpochTests(by_epoch, smallest, bool(opposed), decisive, replace(by_epoch[smallest], p=p))


def mcnemar(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> McNemar:
    """Test two networks by the images that only one of them has right. first, second: (N,) bool, the same images."""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    p = min(1.0, 2 * float(special.bdtr(min(only_first, discordant - only_first), discordant, 0.5)))  # binomial, exact
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


def p_value(p: float, equals: bool = False) -> str:
    """Format a p value as "0.012" or "< 0.0001"; with `equals` as "= 0.012"; a dash where there is none."""
    if math.isnan(p):
        return "-"
    return "< 0.0001" if p < 0.0001 else ("= " if equals else "") + (f"{p:.4f}" if p < 0.001 else f"{p:.2g}")


def beside_limit(p: float, limit: float) -> tuple[str, str]:
    """Format a p value and its limit, with more digits where they, or p and 0.05, would else read the same."""
    texts = p_value(p), p_value(limit)
    for digits in range(3, 18):
        if all(math.isnan(p) or p == other or texts[0] != text for other, text in ((limit, texts[1]), (LEVEL, "0.05"))):
            break
        texts = f"{p:.{digits}g}", p_value(limit) if math.isnan(limit) else f"{limit:.{digits}g}"
    return texts
