"""The numbers of a report are those of the oracle in tests/recomputed; the oracle finds a number that was changed."""

import inspect
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from consistent_study import (
    CELLS,
    FACTORIAL,
    GAINS,
    ROWS,
    change_a_cell,
    change_cells,
    make_consistent,
    rows_of,
    tamper,
    write_edge_cases,
)
from fake_records import write_run, write_study
from recomputed import arithmetic
from recomputed.check import check, wrong
from recomputed.of_tables import KNOWN, Tables
from scipy import stats

from cnnexp import report, storage
from cnnexp.report.analysis.statistics import over_epochs
from cnnexp.report.read.collect import collect, find_groups
from cnnexp.report.render import tables

pytestmark = [pytest.mark.counts("numbers computed twice"), pytest.mark.integration]

pytest_plugins = ["studies", "trained_runs"]

SENTENCES = {"claims": {"remark"}, "effects": {"formula"}}  # columns that the oracle does not have
TWO_ARMS = {"baseline": (0.5, 0.3, 10.0), "other": (0.6, 0.3, 10.0)}


def written(folder: Path, **options: str) -> Path:
    """Write the report of a study folder; return the folder of its tables."""
    report.write(folder, figures=False, **options)
    return folder / "report" / "tables"


def by_seed(values: Sequence[float]) -> dict[arithmetic.Key, float]:
    return {(0, 0, seed): value for seed, value in enumerate(values)}


def test_all_agrees(demo: Path) -> None:
    assert {file.stem: len(rows_of(file)) for file in (demo / "report" / "tables").glob("*.csv")} == ROWS
    assert wrong(demo) == [] and len(check(demo)) > 1000
    verdicts = {row["verdict"] for row in rows_of(demo / "report" / "tables" / "claims.csv")}
    assert verdicts == {"holds", "within noise", "not tested", "not decided (1 diverged)"}, (
        "the arithmetic of all of these was checked"
    )


def test_every_column_is_compared(demo: Path) -> None:
    for name, rows in Tables(collect(*find_groups(demo)[0])).all().items():
        columns = set(rows_of(demo / "report" / "tables" / name)[0])
        assert columns - SENTENCES.get(Path(name).stem, set()) == set().union(*rows), name


def test_every_table_that_a_report_may_write_is_known() -> None:
    names = set(re.findall(r'yield "(\w+)", "[a-z ]*csv', inspect.getsource(tables)))
    assert {f"{name}.csv" for name in names} == set(KNOWN) == {f"{name}.csv" for name in ROWS}


def test_arms_without_differences_with_other_seeds_or_without_runs_agree(tmp_path: Path) -> None:
    folder = write_edge_cases(tmp_path)
    tables = written(folder)
    assert wrong(folder) == []
    verdicts = {row["arm"]: row["verdict"] for row in rows_of(tables / "comparison.csv") if "=" not in row["arm"]}
    assert verdicts == {
        **{"baseline": "", "equal": "within noise", "shifted": "not decided (n = 4, no spread)", "constant": "better"},
        **{"near": "within noise", "other_seeds": "not decided (n = 3)", "two_seeds": "not decided (n = 2)"},
        **dict.fromkeys(("one_seed", "one_equal_seed"), "one seed: no verdict"),
        "diverging": "all runs diverged",
    }
    filled = [row for row in rows_of(tables / "calibration_bins.csv") if row["accuracy_percent"]]
    assert len({row["bin"] for row in filled}) > 10


@pytest.mark.slow
def test_gains_that_are_no_factorial_agree(tmp_path: Path) -> None:
    folder = write_study(tmp_path)
    make_consistent(tmp_path, GAINS)
    tables = written(folder)
    assert [row["effect"] for row in rows_of(tables / "effects.csv")] == [
        *("batchnorm alone", "dropout alone", "augmentation alone", "combined"),
        "combined beyond the sum of its parts",
    ]
    assert wrong(folder) == [] and len(list(tables.glob("*.csv"))) == 12


def test_a_run_whose_last_epoch_counts_agrees(tmp_path: Path) -> None:
    run = write_run(tmp_path, protocol={"validate_on": "val", "keep_epoch": "last", "monitor": "accuracy"}, epochs=1)
    run.keep_rows(0)
    for epoch, accuracy in ((1, 0.7), (2, 0.6)):
        for split in ("train", "val"):
            run.append(kind="epoch", epoch=epoch, step=70 * epoch, split=split, loss=1 - accuracy, accuracy=accuracy)
    run.sync()
    last = {"best_epoch": 2, "epochs": 2, "val_accuracy": 0.6, "val_loss": 0.4}
    run.update(result={**run.info["result"], **last})
    numbers = {number.name: number for number in check(run.folder)}
    assert all(numbers[f"result.{name}"].agrees for name in last)


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("gap", [0.0, 2.0])
def test_a_lead_at_every_epoch_is_computed_twice(direction: int, gap: float) -> None:
    for leads in np.random.default_rng(1).normal(gap, 1, (50, 4, 5)):
        curves = [dict(enumerate(seed, start=1)) for seed in leads.round(1)]  # rounded, so that means tie
        curves[0][6] = 9.0  # an epoch that the others did not reach
        found = over_epochs(dict(enumerate(curves)), 0.5, direction)
        assert found is not None
        again = arithmetic.lasting({(0, 0, seed): curve for seed, curve in enumerate(curves)}, 0.5, direction)
        for name in ("n", "mean", "std", "low", "high", "p"):
            assert again[name] == pytest.approx(getattr(found.test, name), rel=1e-9, abs=1e-12), name


def test_single_seeds_and_another_baseline_agree(tmp_path: Path) -> None:
    folder = write_study(tmp_path, seeds=1)
    make_consistent(tmp_path, FACTORIAL)
    tables = written(folder, baseline="batchnorm")
    assert any(row["p_mcnemar_exact"] for row in rows_of(tables / "comparison.csv"))
    assert wrong(folder) == []


def test_a_run_that_was_trained_agrees(trained_run: Path, other_run: Path) -> None:
    for run in (trained_run, other_run):
        assert wrong(run) == [] and len(check(run)) == 9


def test_a_study_that_was_trained_agrees(trained_study: Path) -> None:
    assert {file.stem for file in (trained_study / "report" / "tables").glob("*.csv")} == set(ROWS)
    assert wrong(trained_study) == []


@pytest.mark.slow
def test_the_claims_over_several_studies_are_compared(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_study(tmp_path, TWO_ARMS, study=name, claims=["other > baseline"])
    make_consistent(tmp_path, {})
    tables = written(tmp_path)
    assert wrong(tmp_path) == []
    change_a_cell(tables / "claims.csv", "mean")
    assert [number.name for number in wrong(tmp_path)] == ["mean"]


# The oracle finds what was changed.


def test_every_changed_cell_is_found_and_no_other(study: Path, record_property: Callable[[str, object], None]) -> None:
    changed = change_cells(study / "report" / "tables", CELLS)
    found = [(Path(number.where.partition(",")[0]).stem, number.name) for number in wrong(study)]
    assert set(found) == changed and len(found) == len(changed) == 73
    record_property("cells changed", len(changed))


def test_a_changed_run_is_found(study: Path) -> None:
    changed, untouched = tamper(study)
    found = wrong(study)
    for run, name in changed:
        assert [n for n in found if run in n.where and n.name == name], (name, [str(n) for n in found])
    assert not [str(n) for n in found if any(run in n.where for run in untouched)]


def test_a_table_of_other_runs_is_found(study: Path) -> None:
    plan = storage.read_json(study / "study.json")
    storage.write_json(study / "study.json", {**plan, "claims": [], "reported": {}})
    tables = study / "report" / "tables"
    found = {number.where for number in wrong(study) if number.name == "table"}
    assert found == {str(tables / "claims.csv"), str(tables / "reported.csv")}


# The oracle's arithmetic against SciPy's own tests.


def test_spread_against_scipy() -> None:
    values = [3.0, 4.5, 3.7, 5.1, math.nan]
    expected = stats.ttest_1samp(values[:4], 4.0)
    limits = expected.confidence_interval(0.95)
    found = arithmetic.spread(by_seed(values), 4.0)
    assert found == pytest.approx(
        {"n": 4, "of": 0, "mean": np.mean(values[:4]), "std": np.std(values[:4], ddof=1)}
        | {"low": limits.low, "high": limits.high, "p": expected.pvalue}
    )
    same = by_seed([2.0, 2.0])
    assert arithmetic.spread(same, 2.0)["p"] == 1.0 and math.isnan(arithmetic.spread(same)["p"])


def test_ratio_is_one_sided_by_neither() -> None:
    first, second = [1.0, 2.0, 4.0, 3.0, 6.0], [1.2, 1.1, 1.6, 1.4, 1.3]
    found = arithmetic.ratio(first, second)
    assert found["p"] == pytest.approx(stats.pearsonr(np.add(first, second), np.subtract(first, second)).pvalue)
    for limit in (found["low"], found["high"]):
        scaled = limit * np.array(second)
        assert stats.pearsonr(first + scaled, first - scaled).pvalue == pytest.approx(0.05)
    turned = arithmetic.ratio(second, first)
    assert (turned["low"], turned["high"]) == pytest.approx((1 / found["high"], 1 / found["low"]))


def test_holm_by_hand_and_mcnemar_against_scipy() -> None:
    # 0.01 < 0.06 / 4 leaves; then 0.019 < 0.06 / 3; 0.04 and 0.9 are not below 0.06 / 2.
    assert arithmetic.stepped([0.01, 0.04, 0.019, 0.9], 0.06) == pytest.approx([0.015, 0.03, 0.02, 0.03])
    generator = np.random.default_rng(0)
    first, second = generator.random((2, 200)) < np.array([[0.7], [0.6]])
    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    expected = stats.binomtest(gained, gained + lost, 0.5).pvalue
    assert arithmetic.mcnemar(first, second) == pytest.approx(expected)
    assert arithmetic.mcnemar(first, first) == 1.0
