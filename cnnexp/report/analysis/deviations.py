"""Whether two arms differ in their spread over the seeds, paired by seed: Pitman's and Morgan's test and interval.

Pitman (1939) and Morgan (1939), both Biometrika 31: if the deviation of a is rho times that of b, then a + rho b and
a - rho b do not correlate. The test asks whether they do at rho = 1; the interval holds each rho that it would accept.
Like every test of variances it leans on the normal distribution more than a test of means does.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from cnnexp.report.analysis.statistics import LEVEL, MOST_SEEDS, NO_SPREAD, Difference

FEWEST = 3  # seeds: the test has n - 2 degrees of freedom


def ratio_of_deviations(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Return the first sample's standard deviation divided by the second's, its 95 % interval, and p of "it is 1".

    The values are paired by seed. Interval and p are nan below three pairs, or if a sample has no spread.
    """
    n = len(first)
    if n < 2 or min(np.std(first), np.std(second)) <= NO_SPREAD:
        return Difference(n, math.nan, math.nan, math.nan, math.nan)
    ratio = float(np.std(first, ddof=1) / np.std(second, ddof=1))
    unlike = _unlike(first, second)
    if n < FEWEST or unlike <= NO_SPREAD:
        return Difference(n, ratio, math.nan, math.nan, math.nan)
    t = abs(ratio - 1 / ratio) * math.sqrt((n - 2) / (4 * unlike))
    factor = float(_factor(np.array(n), unlike, LEVEL))
    return Difference(n, ratio, ratio / factor, ratio * factor, float(2 * special.stdtr(n - 2, -t)))


def seeds_needed(first: Sequence[float], second: Sequence[float], level: float = LEVEL) -> int | None:
    """Return at how many seeds the interval, at confidence 1 - level, leaves out 1; None if MOST_SEEDS are too few."""
    ratio = float(np.std(first, ddof=1) / np.std(second, ddof=1))
    n = np.arange(FEWEST, MOST_SEEDS + 1)
    enough = _factor(n, _unlike(first, second), level) < max(ratio, 1 / ratio)
    return int(n[enough.argmax()]) if enough.any() else None


def _unlike(first: Sequence[float], second: Sequence[float]) -> float:
    """Return 1 - r^2, r the correlation of the pairs."""
    return 1 - float(np.corrcoef(first, second)[0, 1]) ** 2


def _factor(n: np.ndarray, unlike: float, level: float) -> np.ndarray:
    """Return what the ratio is multiplied with, and divided by, for its limits: the root of k + sqrt(k^2 - 1)."""
    k = 1 + 2 * unlike * special.stdtrit(n - 2, 1 - level / 2) ** 2 / (n - 2)
    return np.asarray(np.sqrt(k + np.sqrt(k * k - 1)))
