"""The report's statistics against SciPy, hand-worked numbers, and simulated studies whose truth is known."""

import math

import numpy as np
import pytest
from scipy import stats

from cnnexp.report.analysis.decisions import why_undecided
from cnnexp.report.analysis.statistics import (
    McNemar,
    estimate,
    image_interval,
    mcnemar,
    paired,
    summarise,
    t_interval,
)


def test_summary_by_hand():
    found = summarise([0.70, 0.72, 0.74])
    half = 4.302652729911275 * 0.02 / math.sqrt(3)  # t table: 0.975 quantile, 2 degrees of freedom
    assert (found.n, found.mean, found.std) == (3, pytest.approx(0.72), pytest.approx(0.02))
    assert (found.low, found.high) == (pytest.approx(0.72 - half), pytest.approx(0.72 + half))


def test_summary_against_scipy():
    values = np.random.default_rng(0).normal(0.6, 0.02, 8)
    found = summarise(list(values))
    expected = stats.t.interval(0.95, 7, values.mean(), stats.sem(values))
    assert (found.low, found.high) == (pytest.approx(expected[0]), pytest.approx(expected[1]))


def test_one_value_has_no_interval_and_none_has_no_mean():
    one, none = summarise([0.5]), summarise([math.nan])
    assert (one.n, one.mean) == (1, 0.5) and math.isnan(one.std) and math.isnan(one.low)
    assert none.n == 0 and math.isnan(none.mean)


def test_paired_against_scipy_on_shared_seeds_only():
    arm = {0: 0.71, 1: 0.69, 2: 0.74, 9: 0.10}
    baseline = {2: 0.66, 0: 0.65, 1: 0.66, 7: 0.99}
    found = paired(arm, baseline)
    expected = stats.ttest_rel([arm[s] for s in range(3)], [baseline[s] for s in range(3)])
    interval = expected.confidence_interval(0.95)
    assert found.n == 3
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_students_own_data():
    # Student (1908), hours of sleep gained with two drugs by ten patients; R prints t = -4.0621, p = 0.002833 and the
    # interval -2.4598858 to -0.7001142 for their paired difference.
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = paired(dict(enumerate(first)), dict(enumerate(second)))
    assert found.mean == pytest.approx(-1.58)
    assert (found.low, found.high) == (pytest.approx(-2.4598858, abs=1e-7), pytest.approx(-0.7001142, abs=1e-7))
    assert found.p == pytest.approx(0.002833, abs=5e-7)
    assert found.mean / (found.std / math.sqrt(10)) == pytest.approx(-4.0621, abs=5e-5)


def test_estimate_against_a_number_is_the_one_sample_test():
    values = [0.71, 0.69, 0.74, 0.73]
    found, expected = estimate(values, 0.70), stats.ttest_1samp(values, 0.70)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.low == pytest.approx(expected.confidence_interval(0.95).low)
    assert (found.n, found.std) == (4, pytest.approx(np.std(values, ddof=1)))
    assert estimate([0.7, 0.7], 0.7).p == 1.0 and math.isnan(estimate([0.7], 0.5).p)


def test_paired_without_shared_seeds_or_with_one():
    assert paired({0: 0.5}, {1: 0.4}).n == 0
    one = paired({0: 0.5}, {0: 0.4})
    assert (one.n, one.mean) == (1, pytest.approx(0.1)) and math.isnan(one.p)


def test_without_spread_nothing_is_called_significant():
    same, shifted = paired({0: 0.5, 1: 0.6}, {0: 0.5, 1: 0.6}), paired({0: 0.6, 1: 0.7}, {0: 0.5, 1: 0.6})
    assert same.p == 1.0
    assert math.isnan(shifted.p)
    assert why_undecided(shifted) == "not decided (n = 2, no spread)"


def test_mcnemar_by_hand():
    # 1 image only the first has right, 9 only the second: 2 * (C(10,0) + C(10,1)) / 2**10 = 22 / 1024.
    first = np.array([True] + [False] * 9 + [True] * 5)
    second = np.array([False] + [True] * 9 + [True] * 5)
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (1, 9)
    assert found.p == pytest.approx(22 / 1024)
    assert mcnemar(first, first).p == 1.0
    assert (found.images, found.can_decide) == (15, True)
    assert [McNemar(n, 0, 1.0, 20).can_decide for n in (0, 5, 6)] == [False, False, True]  # 2 / 2**5 is above 0.05


def test_the_bootstrap_over_images_against_scipy():
    generator = np.random.default_rng(0)
    first, second = generator.random(400) < 0.7, generator.random(400) < 0.6
    low, high = image_interval(mcnemar(first, second))
    drawn = stats.bootstrap(
        (first, second),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        paired=True,
        method="percentile",
        n_resamples=10_000,
        rng=np.random.default_rng(1),
    )
    assert low == pytest.approx(drawn.confidence_interval.low, abs=0.004)
    assert high == pytest.approx(drawn.confidence_interval.high, abs=0.004)
    assert (low, high) == image_interval(mcnemar(first, second)), "the same predictions, the same interval"
    assert image_interval(mcnemar(first, first)) == (0.0, 0.0)


@pytest.mark.integration
def test_two_equal_networks_are_told_apart_in_at_most_5_percent_and_the_bootstrap_covers():
    pairs, images = 500, 500
    error = 3 * math.sqrt(0.05 * 0.95 / pairs)
    answers = np.random.default_rng(2).random((pairs, 2, images)) < 0.7
    found = [mcnemar(first, second) for first, second in answers]
    assert np.mean([test.p < 0.05 for test in found]) < 0.05 + error
    limits = np.array([image_interval(test) for test in found])
    assert abs(((limits[:, 0] <= 0) & (limits[:, 1] >= 0)).mean() - 0.95) < error


def test_interval_covers_and_test_rejects_as_often_as_promised():
    studies = 20_000
    error = 3 * math.sqrt(0.05 * 0.95 / studies)
    for n in (2, 3, 5, 10):
        values = np.random.default_rng(n).normal(0.3, 1.0, (studies, n))
        _, low, high, _ = t_interval(values)
        _, _, _, p = t_interval(values - 0.3)
        assert abs(((low <= 0.3) & (high >= 0.3)).mean() - 0.95) < error
        assert (p < 0.05).mean() < 0.05 + error
