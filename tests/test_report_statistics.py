"""The report's statistics against SciPy, hand-worked numbers, and simulated studies whose truth is known."""

import math

import numpy as np
import pytest
from scipy import stats

from cnnexp.report.statistics import Difference, holm, mcnemar, paired, summarise, t_interval, verdict


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


def test_paired_without_shared_seeds_or_with_one():
    assert paired({0: 0.5}, {1: 0.4}).n == 0
    one = paired({0: 0.5}, {0: 0.4})
    assert (one.n, one.mean) == (1, pytest.approx(0.1)) and math.isnan(one.p)


def test_without_spread_nothing_is_called_significant():
    same, shifted = paired({0: 0.5, 1: 0.6}, {0: 0.5, 1: 0.6}), paired({0: 0.6, 1: 0.7}, {0: 0.5, 1: 0.6})
    assert same.p == 1.0
    assert math.isnan(shifted.p)
    assert verdict(shifted, holm([shifted.p])[0]) == "not decided (n = 2, no spread)"


def test_holm_by_hand():
    # Sorted: 0.01 * 3 = 0.03; 0.03 * 2 = 0.06; 0.04 * 1 = 0.04, raised to 0.06 (never below the one before).
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
    with_none = holm([math.nan, 0.02])
    assert math.isnan(with_none[0]) and with_none[1] == pytest.approx(0.02)


def test_mcnemar_by_hand():
    # 1 image only the first has right, 9 only the second: 2 * (C(10,0) + C(10,1)) / 2**10 = 22 / 1024.
    first = np.array([True] + [False] * 9 + [True] * 5)
    second = np.array([False] + [True] * 9 + [True] * 5)
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (1, 9)
    assert found.p == pytest.approx(22 / 1024)
    assert mcnemar(first, first).p == 1.0


def test_interval_covers_and_test_rejects_as_often_as_promised():
    studies = 20_000
    error = 3 * math.sqrt(0.05 * 0.95 / studies)
    for n in (2, 3, 5, 10):
        values = np.random.default_rng(n).normal(0.3, 1.0, (studies, n))
        _, low, high, _ = t_interval(values)
        _, _, _, p = t_interval(values - 0.3)
        assert abs(((low <= 0.3) & (high >= 0.3)).mean() - 0.95) < error
        assert (p < 0.05).mean() < 0.05 + error


def test_a_study_of_equal_arms_finds_a_winner_in_at_most_5_percent():
    studies, arms, seeds = 3000, 6, 3
    generator = np.random.default_rng(1)
    differences = generator.normal(size=(studies, arms, seeds)) - generator.normal(size=(studies, 1, seeds))
    mean, low, high, p = t_interval(differences)
    wrong = 0
    for s in range(studies):
        adjusted = holm(list(p[s]))
        words = [
            verdict(Difference(seeds, mean[s, a], low[s, a], high[s, a], p[s, a]), adjusted[a]) for a in range(arms)
        ]
        wrong += any(word in ("better", "worse") for word in words)
    assert wrong / studies < 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)
    assert wrong > 0  # the test would not be one if nothing were ever called


UP, DOWN = Difference(3, 0.02, 0.01, 0.03, 0.01), Difference(3, -0.02, -0.03, -0.01, 0.01)


@pytest.mark.parametrize(
    ("difference", "p", "diverged", "baseline_diverged", "words"),
    [
        (UP, 0.02, 0, 0, "better"),
        (DOWN, 0.02, 0, 0, "worse"),
        (UP, 0.08, 0, 0, "not decided (n = 3)"),
        (UP, 0.02, 1, 0, "not decided (1 diverged)"),
        (DOWN, 0.02, 1, 0, "worse"),
        (DOWN, 0.02, 0, 2, "not decided (2 diverged)"),
        (UP, 0.02, 0, 1, "better"),
        (Difference(3, 0.02, -0.01, 0.05, 0.3), 0.3, 0, 0, "within noise"),
        (Difference(2, 0.02, -0.20, 0.24, 0.3), 0.3, 0, 0, "not decided (n = 2)"),
        (Difference(1, 0.02, math.nan, math.nan, math.nan), math.nan, 0, 0, "one seed: no verdict"),
        (Difference(0, math.nan, math.nan, math.nan, math.nan), math.nan, 0, 0, "no shared seed: no verdict"),
    ],
)
def test_verdict(difference, p, diverged, baseline_diverged, words):
    assert verdict(difference, p, diverged, baseline_diverged) == words
