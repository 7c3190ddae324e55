"""A sample of the simulated error rates: false verdicts of people who look after every seed, and the page's tables."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_records import study_in_memory

from cnnexp.records.study import Plan
from cnnexp.report.analysis.findings import analyse
from cnnexp.report.read.study import Schedule

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import error_rates
from error_rates import CASES, COMPARISONS, MAX_SEEDS, RULES, decided, false_verdicts, until_decided

pytestmark = pytest.mark.integration

TODAY, EXTENDED, EVERY_SEED = RULES


@pytest.mark.parametrize("comparisons", COMPARISONS)
@pytest.mark.parametrize("case", [case for case in CASES if case.name.startswith("normal")], ids=lambda case: case.name)
def test_looking_after_every_seed_gives_at_most_5_percent_false_verdicts(
    case: error_rates.Case, comparisons: int
) -> None:
    paths = 4000
    rates = false_verdicts(case, comparisons, paths, seed=comparisons)
    error = 3 * math.sqrt(0.05 * 0.95 / paths)
    assert 0.01 < rates[EXTENDED] < 0.05 + error and 0.01 < rates[EVERY_SEED] < 0.05 + error
    assert rates[TODAY] > 2 * 0.05, "looks at a fixed limit are what the plans are for"


@pytest.mark.parametrize(("comparisons", "true"), [(6, 0), (6, 3), (6, 5)])
def test_arms_that_stop_when_they_are_decided_leave_at_most_5_percent_false_verdicts(
    comparisons: int, true: int
) -> None:
    paths = 4000
    false, runs = until_decided(comparisons, true, paths)
    assert 0.02 < false < 0.05 + 3 * math.sqrt(0.05 * 0.95 / paths)
    assert runs == pytest.approx(1 - true / comparisons * 0.7, abs=0.05), "the arms that differ stop after some 6 seeds"


@pytest.mark.parametrize("plan", [Plan(tuple(range(5))), Plan(tuple(range(MAX_SEEDS)), every_seed=True)])
def test_the_simulation_decides_as_the_report_does(plan: Plan) -> None:
    generator = np.random.default_rng(4)
    checked = 0
    for _ in range(12):
        values = 0.5 + 0.01 * generator.normal(0, 1, (3, 14)) + np.array([[0.0], [0.02], [0.012]])
        differences = values[1:] - values[:1]
        simulated = decided(differences, plan, 2)
        for n in (3, 5, 7, 10, 12, 14):
            study = study_in_memory({name: list(row[:n]) for name, row in zip("abc", values, strict=True)})
            waits = frozenset(plan.seeds[n:])
            listed = dict.fromkeys("abc", frozenset(range(n)))
            study.schedule = Schedule(plan, listed, dict.fromkeys("abc", waits))
            found = analyse(study)
            if found.families[0].tests == 2 and not (plan.every_seed is False and n > 5):
                first = [bool(row.decision.side and row.decision.share == 2) for row in found.rows[1:]]
                assert first == simulated[:, n - 1].tolist()
                checked += 1
            elif any(simulated[:, 4]) or any(simulated[:, n - 1]):  # planned seeds, or these
                assert any(row.decision.side for row in found.rows[1:])
                checked += 1
    assert checked > 20


def test_the_page_has_the_limits_of_this_code() -> None:
    page = error_rates.PAGE.read_text(encoding="utf-8")
    for lines in (error_rates.limits_table(), error_rates.rule_table()):
        assert "\n".join(lines) in page
