"""`cnnexp verify`: what a report says is what the logits say, and a number that was changed is found."""

import csv
import inspect
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checksummed import lines_of
from fake_records import write_run, write_study
from scipy import stats

from cnnexp import cli, metrics, report, storage
from cnnexp.commands.verify import SCOPE
from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.report.analysis.epochs import over_epochs
from cnnexp.report.read.collect import collect, find_groups
from cnnexp.report.render import assemble
from cnnexp.verify import arithmetic
from cnnexp.verify.check import check
from cnnexp.verify.of_tables import KNOWN, Tables

pytestmark = pytest.mark.counts("changes and agreements")

pytest_plugins = ["trained_runs"]

CLAIMS = [
    *("combined > batchnorm", "std(dropout) < std(baseline)", "batchnorm - baseline >= 5 points"),
    *("combined > baseline at every epoch", "combined converges faster than baseline", "nobody > baseline"),
    *("dropout.test_loss < baseline.test_loss", "combined - batchnorm < 20 points", "batchnorm.train_accuracy > 50 %"),
    *("baseline < combined", "baseline < combined at every epoch", "std(baseline) > std(dropout)"),
]
REPORTED = {"baseline": 60.0, "combined": {"test_accuracy": 75.0, "std": 1.0, "val_accuracy": 74.0}, "nobody": 1.0}
NORM, DROPOUT, CROP = "model.norm=batch", "model.dropout.fc=0.5", "augmentation=crop"
FACTORIAL = {"baseline": [], "batchnorm": [NORM], "dropout": [DROPOUT], "combined": [NORM, DROPOUT]}
GAINS = {**FACTORIAL, "combined": [NORM, DROPOUT, CROP], "augmentation": [CROP]}
AS_RECORDED = {  # columns of which nothing is computed
    **{"runs": {"arm", "repeat", "shift_consistency_percent"}, "claims": {"unit", "reported", "remark"}},
    **{"effects": {"remark", "formula"}, "reported": {"study", "unit"}},
}
TABLES = {  # and their rows
    **{"comparison": 7, "runs": 23, "per_class": 70, "reported": 4, "claims": 12, "effects": 3, "calibration": 7},
    **{"calibration_bins": 105, "confusions": 140, "mistakes": 84, "disagreement": 6, "never_agreed": 30},
    "per_class_difference": 60,
}


def agreeing(outputs: Path, changes: dict[str, list[str]]) -> None:
    """Give fake runs the loss of their logits, the sum of their seconds, and what their arms change."""
    for run in find_runs(outputs):
        run.update(changes=changes.get(run.info["arm"], [f"other={run.info['arm']}"]))
        if run.status == "done":
            stored = run.predictions()
            loss = metrics.cross_entropy(stored["logits"], stored["labels"])
            spent = {part: seconds for part, seconds in run.info["seconds"].items() if part != "total"}
            run.update(
                result={**run.info["result"], "test_loss": loss}, seconds={**spent, "total": sum(spent.values())}
            )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a study of seven arms with its report, in which all agrees."""
    outputs = tmp_path_factory.mktemp("outputs")
    folder = write_study(outputs, claims=CLAIMS, reported=REPORTED)
    write_run(outputs, "dropout", 7, status="diverged")
    write_run(outputs, "dropout", 8, status="failed", error={"type": "E", "message": "no"})
    agreeing(outputs, FACTORIAL)
    report.write(folder, figures=False)
    return folder


@pytest.fixture
def study(demo: Path, tmp_path: Path) -> Path:
    """Return a copy of the study, for a test to change."""
    return Path(shutil.copytree(demo, tmp_path / "demo"))


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, newline="") as lines:
        return list(csv.DictReader(lines))


def test_all_agrees(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(demo)]) == 0
    done = check(demo, demo / "report")
    assert capsys.readouterr().out == (
        f"{len(done.numbers)} numbers in 21 runs and 13 tables agree with the stored logits and rows\n{SCOPE}\n"
    )
    assert {file.stem: len(rows_of(file)) for file in (demo / "report" / "tables").glob("*.csv")} == TABLES
    assert len(done.numbers) > 1000
    verdicts = {row["verdict"] for row in rows_of(demo / "report" / "tables" / "claims.csv")}
    assert verdicts == {"holds", "within noise", "not tested"}, "the arithmetic of all of these was checked"


def test_every_column_is_compared(demo: Path) -> None:
    """But those of which nothing is computed."""
    (found,) = {id(t): t for t in [Tables(collect(*find_groups(demo)[0])).all()]}.values()
    for name, rows in found.items():
        columns = set(rows_of(demo / "report" / "tables" / name)[0])
        assert columns - AS_RECORDED.get(Path(name).stem, set()) == set().union(*rows), name


def test_every_table_that_a_report_may_write_is_known() -> None:
    written = set(re.findall(r'"(?:tables/)?(\w+\.csv)"', inspect.getsource(assemble)))
    assert written == set(KNOWN) == {f"{name}.csv" for name in TABLES}


@pytest.mark.slow
def test_gains_that_are_no_factorial_agree(tmp_path: Path) -> None:
    folder = write_study(tmp_path)
    agreeing(tmp_path, GAINS)
    report.write(folder, figures=False)
    done = check(folder, folder / "report")
    assert [row["effect"] for row in rows_of(folder / "report" / "tables" / "effects.csv")] == [
        *("batchnorm alone", "dropout alone", "augmentation alone", "combined"),
        "combined beyond the sum of its parts",
    ]
    assert (done.wrong, done.tables) == ([], 11)


def test_a_run_whose_last_epoch_counts_agrees(tmp_path: Path) -> None:
    run = write_run(tmp_path, protocol={"validate_on": "val", "keep_epoch": "last"}, epochs=1)
    run.keep_rows(0)
    for epoch, accuracy in ((1, 0.7), (2, 0.6)):
        for split in ("train", "val"):
            run.append(kind="epoch", epoch=epoch, step=70 * epoch, split=split, loss=1 - accuracy, accuracy=accuracy)
    run.sync()
    last = {"best_epoch": 2, "epochs": 2, "val_accuracy": 0.6, "val_loss": 0.4}
    run.update(result={**run.info["result"], **last})
    numbers = {number.name: number for number in check(run.folder, tmp_path / "report").numbers}
    assert all(numbers[f"result.{name}"].agrees for name in last)


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("gap", [0.0, 2.0])
def test_a_lead_at_every_epoch_is_computed_twice(direction: int, gap: float) -> None:
    for leads in np.random.default_rng(1).normal(gap, 1, (50, 4, 5)):
        curves = [dict(enumerate(seed, start=1)) for seed in leads.round(1)]  # rounded, so that means tie
        curves[0][6] = 9.0  # an epoch that the others did not reach
        found = over_epochs(curves, 0.5, direction)
        assert found is not None
        again = arithmetic.lasting(curves, 0.5, direction)
        for name in ("n", "mean", "std", "low", "high", "p"):
            assert again[name] == pytest.approx(getattr(found.test, name), rel=1e-9, abs=1e-12), name


def test_single_seeds_and_another_baseline_agree(tmp_path: Path) -> None:
    folder = write_study(tmp_path, seeds=1)
    agreeing(tmp_path, FACTORIAL)
    report.write(folder, baseline="batchnorm", figures=False)
    assert any(row["p_mcnemar_exact"] for row in rows_of(folder / "report" / "tables" / "comparison.csv"))
    assert check(folder, folder / "report").wrong == []


def test_runs_that_were_trained_agree(trained_run: Path, other_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run in (trained_run, other_run):
        assert cli.main(["verify", str(run)]) == 0
        told = capsys.readouterr()
        assert told.out == f"9 numbers in 1 run and 0 tables agree with the stored logits and rows\n{SCOPE}\n"
        assert told.err == f"cnnexp: no report in {run / 'report'}: run.json alone is compared\n"


CHANGED = {  # {table: columns}: a cell of each kind of number, and of the words
    "comparison": [
        *("test_accuracy_mean_percent", "test_accuracy_high95_percent", "n", "difference_low95_points", "p_paired_t"),
        *("p_holm", "train_seconds_mean", "epochs_to_plateau_mean", "verdict", "seeds", "macs", "diverged"),
    ],
    "runs": ["test_accuracy_percent", "val_loss", "train_seconds", "best_epoch", "status"],
    "per_class": ["accuracy_mean_percent", "accuracy_std_percent", "class", "n"],
    "reported": ["reported", "mean", "low95", "difference"],
    "claims": ["mean", "low95", "p", "p_holm", "n", "verdict"],
    "calibration": ["ece_mean_percent", "ece_by_chance_percent", "brier_std", "nll_mean_nats", "accuracy_mean_percent"],
    "calibration_bins": ["bin", "images_per_seed", "confidence_mean_percent", "accuracy_percent"],
    "confusions": ["rank", "true_class", "answered_class", "count", "share_of_true_class_percent"],
    "mistakes": ["image", "true_class", "answered_class", "confidence_percent", "seeds_wrong", "seeds"],
    "disagreement": ["images", "both_mean_percent", "only_baseline_at_every_seed_images", "two_seeds_of_arm_percent"],
    "never_agreed": ["right_at_every_seed", "image", "answered_by_the_other", "confidence_percent"],
    "per_class_difference": ["class", "difference_mean_points", "difference_low95_points"],
    "effects": ["points_mean", "points_low95", "p", "p_holm", "verdict"],
}


def change_a_cell(file: Path, column: str) -> None:
    """Change a cell of a table in its eighth digit, or its words."""
    rows = rows_of(file)
    row = next(row for row in rows[1:] if row[column])
    try:
        row[column] = repr(float(row[column]) * (1 + 1e-8) or 1.0)
    except ValueError:
        row[column] = "changed"
    with open(file, "w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_every_changed_cell_is_found_and_no_other(
    study: Path, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    tables = study / "report" / "tables"
    for table, columns in CHANGED.items():
        for column in columns:
            change_a_cell(tables / f"{table}.csv", column)
    wrong = check(study, study / "report").wrong
    found = {(Path(number.where.partition(",")[0]).stem, number.name) for number in wrong}
    assert found == {(table, column) for table, columns in CHANGED.items() for column in columns}
    assert len(wrong) == len(found) == 67
    record_property("cells changed", len(found))
    assert cli.main(["verify", str(study)]) == 3
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 13, "what may be the reason, ten of them, how many more, and how many in all"
    assert out[0] == "runs have come or gone since the report was made? `cnnexp report` makes it anew"
    assert out[1].startswith(f"{tables / 'comparison.csv'}, ") and " seeds: given " in out[1]
    assert all(", recomputed " in line for line in out[1:11])
    assert out[-2] == "... and 57 more" and out[-1].startswith("67 of ")


def change_result(run: RunRecord, **fields: Any) -> None:
    run.update(result={**run.info["result"], **fields})


def lower_a_logit(run: RunRecord) -> None:
    stored = run.predictions()
    stored["logits"][4, stored["labels"][4]] -= 0.1
    run.write_predictions(**stored)


def change_a_label(run: RunRecord) -> None:
    stored = run.predictions()
    stored["labels"][0] = (stored["labels"][0] + 1) % 10
    run.write_predictions(**stored)


def change_a_row(run: RunRecord) -> None:
    rows = run.rows()
    best = run.info["result"]["best_epoch"]
    next(row for row in rows if row["split"] == "val" and row["epoch"] == best)["accuracy"] -= 0.5
    (run.folder / "metrics.jsonl").write_bytes(lines_of(rows))


TAMPER: list[tuple[str, Callable[[RunRecord], Any]]] = [  # which number tells, and what is done to a run
    ("result.test_accuracy", lambda run: change_result(run, test_accuracy=run.info["result"]["test_accuracy"] + 1e-6)),
    ("result.test_loss", lambda run: change_result(run, test_loss=run.info["result"]["test_loss"] * 1.0001)),
    ("result.val_accuracy", lambda run: change_result(run, val_accuracy=0.99)),
    ("result.best_epoch", lambda run: change_result(run, best_epoch=1)),
    ("train_accuracy_percent", lambda run: change_result(run, train_accuracy=0.99)),
    ("seconds.total", lambda run: run.update(seconds={**run.info["seconds"], "total": 1.0})),
    ("data.test", lambda run: run.update(data={**run.info["data"], "test": 999})),
    ("result.test_loss", lower_a_logit),
    ("result.test_accuracy", change_a_label),
    ("result.best_epoch", change_a_row),
    ("content", lambda run: (run.folder / "predictions.npz").write_bytes(b"no")),
    ("content", lambda run: (run.folder / "metrics.jsonl").unlink()),
]


def test_a_changed_run_is_found(study: Path) -> None:
    done = [run for run in find_runs(study) if run.info["status"] == "done"]
    for (_, tamper), run in zip(TAMPER, done, strict=False):
        tamper(run)
    wrong = check(study, study / "report").wrong
    for (name, _), run in zip(TAMPER, done, strict=False):
        assert [n for n in wrong if run.name in n.where and n.name == name], (name, [str(n) for n in wrong])
    untouched = {run.name for run in done[len(TAMPER) :]}
    assert not [str(n) for n in wrong if any(name in n.where for name in untouched)]


def test_a_run_that_is_gone_is_missed(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(find_runs(study)[0].folder)
    assert cli.main(["verify", str(study)]) == 3
    assert "runs have come or gone" in capsys.readouterr().out
    assert {"seeds", "rows"} <= {number.name for number in check(study, study / "report").wrong}


@pytest.mark.parametrize("content", ["{", "[]", '{"status": "done"}', "sealed", "of another run"])
def test_a_record_that_is_malformed_or_damaged_is_told(study: Path, content: str) -> None:
    """And the numbers of the others are compared all the same."""
    first, second, *_ = find_runs(study)
    file, whole = first.folder / "run.json", (first.folder / "run.json").read_text()
    text = {
        "sealed": whole.replace('"seconds"', '"secnods"', 1),
        "of another run": (second.folder / "run.json").read_text(),
    }
    file.write_text(text.get(content, content))
    done = check(study, study / "report")
    (told,) = [number for number in done.wrong if number.where == f"{first.name}/run.json"]
    assert told.name == "record" and "run.json: " in told.given
    assert done.runs == 20 and cli.main(["verify", str(first.folder)]) == 3


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "predictions.npz"])
def test_a_damaged_file_is_told_and_stops_nothing(
    trained_run: Path, other_run: Path, tmp_path: Path, name: str
) -> None:
    runs = [Path(shutil.copytree(run, tmp_path / run.name)) for run in (trained_run, other_run)]
    damaged = bytearray((runs[0] / name).read_bytes())
    damaged[len(damaged) // 2] ^= 4
    (runs[0] / name).write_bytes(damaged)
    done = check(tmp_path, tmp_path / "report")
    assert done.runs == 2 and f"{runs[0].name}/{name}" in {number.where for number in done.wrong}
    assert not [number for number in done.wrong if runs[1].name in number.where]


def test_nothing_to_recompute_is_no_agreement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, "dropout", 8, status="failed", error={"type": "E", "message": "no"})
    assert cli.main(["verify", str(run.folder)]) == 2
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith("holds no number to recompute: no run is done, and there is no report")
    )


def test_a_table_that_is_not_of_these_runs_is_told(study: Path, tmp_path: Path) -> None:
    plan = storage.read_json(study / "study.json")
    storage.write_json(study / "study.json", {**plan, "claims": [], "reported": {}})
    wrong = check(study, study / "report").wrong
    tables = study / "report" / "tables"
    assert {number.where for number in wrong if number.name == "table"} == {
        str(tables / "claims.csv"),
        str(tables / "reported.csv"),
    }
    (tables / "comparison.csv").unlink()
    assert [n for n in check(study, study / "report").wrong if n.where == str(tables / "comparison.csv")]


@pytest.mark.slow
def test_the_claims_over_several_studies_are_compared(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_study(
            tmp_path, {"baseline": (0.5, 0.3, 10.0), "other": (0.6, 0.3, 10.0)}, study=name, claims=["other > baseline"]
        )
    agreeing(tmp_path, {})
    report.write(tmp_path, figures=False)
    assert check(tmp_path, tmp_path / "report").wrong == []
    change_a_cell(tmp_path / "report" / "tables" / "claims.csv", "mean")
    assert [number.name for number in check(tmp_path, tmp_path / "report").wrong] == ["mean"]


@pytest.mark.slow
def test_several_studies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        write_study(tmp_path, {"baseline": (0.5, 0.3, 10.0), "other": (0.6, 0.3, 10.0)}, study=name)
    agreeing(tmp_path, {})
    report.write(tmp_path, figures=False)
    done = check(tmp_path, tmp_path / "report")
    assert (done.runs, done.tables, done.wrong, done.without_report) == (12, 20, [], [])
    assert cli.main(["verify", str(tmp_path / "three")]) == 2
    assert "no such folder" in capsys.readouterr().err


@pytest.mark.slow
def test_no_torch(demo: Path) -> None:
    code = (
        f"import sys; from cnnexp.cli import main; assert main(['verify', {str(demo)!r}]) == 0\n"
        "assert not {'torch', 'hydra', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True)


# The second arithmetic against SciPy's own tests.


def test_spread_against_scipy() -> None:
    values = [3.0, 4.5, 3.7, 5.1, math.nan]
    expected = stats.ttest_1samp(values[:4], 4.0)
    limits = expected.confidence_interval(0.95)
    found = arithmetic.spread(values, 4.0)
    assert found == pytest.approx(
        {"n": 4, "mean": np.mean(values[:4]), "std": np.std(values[:4], ddof=1)}
        | {"low": limits.low, "high": limits.high, "p": expected.pvalue}
    )
    assert arithmetic.spread([2.0, 2.0], 2.0)["p"] == 1.0 and math.isnan(arithmetic.spread([2.0, 2.0])["p"])


def test_ratio_is_one_sided_by_neither() -> None:
    first, second = [1.0, 2.0, 4.0, 3.0, 6.0], [1.2, 1.1, 1.6, 1.4, 1.3]
    found = arithmetic.ratio(first, second)
    assert found["p"] == pytest.approx(stats.pearsonr(np.add(first, second), np.subtract(first, second)).pvalue)
    for limit in (found["low"], found["high"]):
        scaled = limit * np.array(second)
        assert stats.pearsonr(first + scaled, first - scaled).pvalue == pytest.approx(0.05)
    turned = arithmetic.ratio(second, first)
    assert (turned["low"], turned["high"]) == pytest.approx((1 / found["high"], 1 / found["low"]))


def test_holm_and_mcnemar_against_scipy() -> None:
    assert arithmetic.holm([0.01, math.nan, 0.04, 0.03, 0.9]) == pytest.approx(
        [0.04, math.nan, 0.09, 0.09, 0.9], nan_ok=True
    )
    generator = np.random.default_rng(0)
    first, second = generator.random((2, 200)) < np.array([[0.7], [0.6]])
    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    expected = stats.binomtest(gained, gained + lost, 0.5).pvalue
    assert arithmetic.mcnemar(first, second) == pytest.approx(expected)
    assert arithmetic.mcnemar(first, first) == 1.0
