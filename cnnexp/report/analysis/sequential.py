"""Limits for a test that is looked at again and again: alpha spending for paired t tests, and an e-process.

Lan & DeMets (1983, Biometrika 70): the chance of a false verdict up to n seeds is fixed beforehand, for every n. Each
look may use what its n adds. The limits follow exactly, because r = sum / root of the sum of squares, of normal values
without an effect, is a Markov chain: the direction of n values is uniform on a sphere, and independent of its radius.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import special

from cnnexp.report.analysis.statistics import NO_SPREAD, Estimate

Array = np.ndarray[Any, Any]
FIRST_LOOK = 3  # two seeds have one degree of freedom: t must exceed 12.7 at 5 %
PRIOR_VARIANCE = 1.0  # of the effect in deviations, in the e-process: effects of about one deviation
NODES = 48  # of each quadrature; with four times as many no limit changes by 0.2 %
_X, _W = np.polynomial.legendre.leggauss(NODES)


def linear_limits(level: float, first: int, last: int) -> dict[int, float]:
    """Return {n: limit of p} of looks at n = first..last seeds, which together err with probability `level`.

    What may be spent up to n is level * n / last.
    """
    return spending_limits(tuple((n, level * n / last) for n in range(first, last + 1)))


def spending_limits(spent: tuple[tuple[int, float], ...]) -> dict[int, float]:
    """Return {n: what the two-sided p of a t test must be below}, of looks at consecutive n >= 3.

    spent: (n, the probability of a false verdict up to n), rising. With no effect and normal values the probability
    that any p is below its limit is the last of them.
    """
    return {n: _look(spent[: place + 1])[0] for place, (n, _) in enumerate(spent)}


def anytime_p(test: Estimate, reference: float = 0.0) -> float:
    """Return 1 / e of the e-process of a t test: whenever one looks, it is below x with probability x at most.

    e is the likelihood of t if the effect in deviations is normal with PRIOR_VARIANCE, divided by that without an
    effect: a martingale without an effect (Pérez-Ortiz et al. 2024, Annals of Statistics 52). nan without a spread, and
    of folds.
    """
    n = test.n
    if n < 2 or not test.std > NO_SPREAD or test.folds:  # values of folds are not independent
        return math.nan
    t = (test.mean - reference) / test.std * math.sqrt(n)
    return min(1.0, math.exp(-float(log_e(n, np.array(t)))))


def log_e(n: int | Array, t: Array) -> Array:
    """Return the logarithm of the e-process of a t test with n values, at t of any shape. n: one, or one for each t."""
    square, wider = t * t / (n - 1), 1 + n * PRIOR_VARIANCE
    return np.asarray(n / 2 * (np.log1p(square) - np.log1p(square / wider)) - np.log(wider) / 2)


@lru_cache(maxsize=4096)
def _look(spent: tuple[tuple[int, float], ...]) -> tuple[float, "_Survival"]:
    """Return the limit of p at the last of the looks, and what is known after it."""
    (n, total), before = spent[-1], _look(spent[:-1])[1] if len(spent) > 1 else None
    limit = total if before is None else _limit(before, n, total - spent[-2][1])
    return limit, _Survival(before, n, float(_r_of_p(np.array(limit), n)))


class _Survival:
    """P(no look up to n was significant | r at n), an even function of r, which is 0 from `bound` on."""

    def __init__(self, before: "_Survival | None", n: int, bound: float):
        self.bound = bound
        self.angles = np.linspace(0, math.pi / 2, 4 * NODES)  # dense towards the bound
        self.values = np.ones(len(self.angles)) if before is None else before.one_more(bound * np.sin(self.angles), n)

    def __call__(self, r: Array) -> Array:
        angle = np.arcsin(np.minimum(np.abs(r) / self.bound, 1.0))
        return np.asarray(np.interp(angle, self.angles, self.values))

    def one_more(self, r: Array, n: int) -> Array:
        """Return P(no look up to n - 1 was significant | r at n).

        Given r, the latest value in units of the radius is w = r / n + c v, where v is a coordinate of a uniform
        direction in n - 1 dimensions; r at n - 1 is (r - w) / sqrt(1 - w^2), inside the bound for w in an interval.
        """
        scale = np.sqrt(np.maximum(1 - r * r / n, 0) * (n - 1) / n)
        square = 1 + self.bound**2
        half = self.bound * np.sqrt(np.maximum(square - r * r, 0))
        with np.errstate(divide="ignore", invalid="ignore"):
            low, high = (np.clip(((r + side * half) / square - r / n) / scale, -1, 1) for side in (-1, 1))
        low, high = np.nan_to_num(np.arcsin(low)), np.nan_to_num(np.arcsin(high))
        angles = (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * _X
        w = r[:, None] / n + scale[:, None] * np.sin(angles)
        earlier = (r[:, None] - w) / np.sqrt(np.maximum(1 - w * w, 1e-300))
        density = np.cos(angles) ** (n - 3) / special.beta(0.5, (n - 2) / 2)
        return np.asarray((self(earlier) * density) @ _W * (high - low) / 2)


def _limit(before: _Survival, n: int, spend: float) -> float:
    """Return the limit of p at n that adds `spend` to the probability of a false verdict."""
    from scipy import optimize  # its import takes 0.2 s, which a report of one look does not need

    def added(limit: float) -> float:
        at = limit * (1 + _X) / 2
        return float(before.one_more(_r_of_p(at, n), n) @ _W * limit / 2)

    return float(optimize.brentq(lambda limit: added(limit) / spend - 1, spend, 1.0, xtol=1e-12, rtol=1e-6))


def _r_of_p(p: Array, n: int) -> Array:
    """Return the |sum| / root of the sum of squares of n values whose two-sided t test has this p."""
    t = special.stdtrit(n - 1, 1 - p / 2)
    return np.asarray(np.sqrt(n) / np.sqrt(1 + (n - 1) / t**2))
