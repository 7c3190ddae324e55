"""The limits of tests that are looked at again and again, against simulated paths and published numbers."""

import math

import numpy as np
import pytest
from scipy import stats

from cnnexp.report.analysis.sequential import anytime_p, linear_limits, log_e, spending_limits
from cnnexp.report.analysis.statistics import estimate

SIMULATED = {  # of 3 million paths: {tests: limits at n = 3..10}, for level 0.05 / tests
    1: [0.0150, 0.0086, 0.0086, 0.0096, 0.0108, 0.0122, 0.0136, 0.0152],
    2: [0.0075, 0.0039, 0.0039, 0.0043, 0.0048, 0.0054, 0.0060, 0.0067],
    3: [0.0050, 0.0025, 0.0025, 0.0027, 0.0030, 0.0034, 0.0038, 0.0042],
}


def p_by_looks(values: np.ndarray, first: int) -> np.ndarray:
    """Return p of the t test of the first n values of each row, for n = first, ...: (rows, looks)."""
    n = np.arange(1, values.shape[1] + 1)
    sums, squares = values.cumsum(1), (values**2).cumsum(1)
    n, sums, squares = n[first - 1 :], sums[:, first - 1 :], squares[:, first - 1 :]
    t = sums / np.sqrt(n) / np.sqrt((squares - sums**2 / n) / (n - 1))
    return 2 * stats.t.sf(abs(t), n - 1)


@pytest.mark.parametrize("tests", SIMULATED)
def test_linear_limits_against_simulated_ones(tests: int) -> None:
    limits = linear_limits(0.05 / tests, 3, 10)
    assert list(limits) == list(range(3, 11)) and limits[3] == pytest.approx(0.05 / tests * 3 / 10)
    assert list(limits.values()) == pytest.approx(SIMULATED[tests], abs=0.00011, rel=0.012)


@pytest.mark.parametrize(
    "spent", [[(3, 0.03), (4, 0.04), (5, 0.05)], [(5, 0.04), *((n, 0.04 + 0.0015 * (n - 5)) for n in range(6, 11))]]
)
def test_as_much_is_spent_up_to_every_look_as_was_asked(spent: list[tuple[int, float]]) -> None:
    limits = spending_limits(tuple(spent))
    paths = 200_000
    p = p_by_looks(np.random.default_rng(0).normal(size=(paths, spent[-1][0])), spent[0][0])
    crossed = np.logical_or.accumulate(p < np.array(list(limits.values())), axis=1).mean(0)
    for share, (_, asked) in zip(crossed, spent, strict=True):
        assert abs(share - asked) < 3 * math.sqrt(asked * (1 - asked) / paths)
    assert all(limit > later - before for limit, (_, before), (_, later) in zip(
        list(limits.values())[1:], spent, spent[1:], strict=False
    )), "looks at the same values are alike, so each may use more than it adds"  # fmt: skip


def test_the_e_process_by_integration_and_over_all_looks() -> None:
    values = [0.9, 1.4, 0.2, 1.1]
    t = stats.ttest_1samp(values, 0).statistic
    effects, weight = np.linspace(-8, 8, 4001), stats.norm.pdf(np.linspace(-8, 8, 4001)) * 16 / 4000
    mixed = (stats.nct.pdf(t, 3, 2 * effects) * weight).sum()  # the density of t if the effect is N(0, 1) deviations
    assert log_e(4, np.array(t)) == pytest.approx(math.log(mixed / stats.t.pdf(t, 3)), abs=1e-6)
    assert anytime_p(estimate(values)) == pytest.approx(min(1.0, stats.t.pdf(t, 3) / mixed), rel=1e-5)
    assert math.isnan(anytime_p(estimate([1.0]))) and math.isnan(anytime_p(estimate([1.0, 1.0])))
    paths, looks = 20_000, 60
    drawn = np.random.default_rng(1).normal(size=(paths, looks))
    n, sums, squares = np.arange(1, looks + 1), drawn.cumsum(1), (drawn**2).cumsum(1)
    largest = np.full(paths, -math.inf)
    for k in n[1:]:
        t = sums[:, k - 1] / math.sqrt(k) / np.sqrt((squares[:, k - 1] - sums[:, k - 1] ** 2 / k) / (k - 1))
        largest = np.maximum(largest, log_e(int(k), t))
    assert 0.02 < (largest > math.log(20)).mean() < 0.05 + 3 * math.sqrt(0.05 * 0.95 / paths)
