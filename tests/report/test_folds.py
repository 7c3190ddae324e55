"""Cross-validation in a report: pairs by fold and seed, the corrected resampled t test, one verdict for all folds."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from consistent_study import make_consistent, rows_of
from fake_records import predictions, write_run
from recomputed.check import check, wrong
from scipy import stats

from cnnexp import cli, report
from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.records.study import read_crossings, read_plan, read_study
from cnnexp.records.study import write_study as write_study_file
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.analysis.plan import rules_in_words
from cnnexp.report.analysis.statistics import estimate, t_interval
from cnnexp.report.look import look
from cnnexp.report.read import folds
from cnnexp.report.render.answer import answer

pytestmark = pytest.mark.integration

GAINS = {"baseline": 0.0, "better": 0.1, "same": 0.0, "both": 0.12}
CHANGES = {"baseline": [], "better": ["a=1"], "same": ["b=1"], "both": ["a=1", "b=1"]}
CLAIMS = [
    *("better - baseline >= 5 points", "both > same", "both > baseline at every epoch", "std(both) < std(same)"),
    "better converges faster than same",
]


def of_fold(outputs: Path, arm: str, fold: int, seed: int, accuracy: float, of: int = 5, **more: Any) -> RunRecord:
    """Write a run of a fold: its fingerprint is its own, the group's is that of the arm."""
    own = f"{sum(map(ord, arm)) + 1000 * fold:010x}"
    shared = {"fold": fold, "of": of, "group": f"{sum(map(ord, arm)):010x}"}
    return write_run(outputs, arm, seed, accuracy, study="cv", fingerprint=own, fold=shared, images=200, **more)


def study(outputs: Path, numbers: range = range(5), seeds: int = 2, plan: int = 2, claims: Any = CLAIMS) -> Path:
    """Write the runs of these folds of five, of every arm, and study.json."""
    generator = np.random.default_rng(3)
    for fold in range(5):
        of_all = generator.normal(0, 0.04)
        for arm, gain in GAINS.items():
            for seed in range(seeds):
                accuracy = 0.6 + gain + of_all + generator.normal(0, 0.02)
                if fold in numbers:
                    of_fold(outputs, arm, fold, seed, accuracy)
    make_consistent(outputs, CHANGES)
    runs = [
        {"folder": r.folder.name, "group": r.info["fold"]["group"]}
        | {key: r.info[key] for key in ("arm", "seed", "fingerprint")}
        for r in find_runs(outputs)
    ]
    content = {
        "name": "cv",
        "question": "",
        "baseline": "baseline",
        "runs": runs,
        "arms": list(GAINS),
        "claims": claims,
    }
    write_study_file(outputs / "cv", content | {"plan": {"seeds": list(range(plan)), "every_seed": False}})
    return outputs / "cv"


def verdicts(found: Findings) -> dict[str, str]:
    return {row.arm.name: row.verdict for row in found.rows if not row.is_baseline}


def test_every_number_is_that_of_the_second_implementation(tmp_path: Path) -> None:
    folder = study(tmp_path)
    report.write(folder, figures=False)
    assert wrong(folder) == [] and len(check(folder)) > 1000
    compared = {row["arm"]: row for row in rows_of(folder / "report" / "tables" / "comparison.csv")}
    assert {name: row["verdict"] for name, row in compared.items()} == {
        **{"baseline": "", "better": "better over 5 folds", "same": "within noise over 5 folds"},
        "both": "better over 5 folds",
    }
    assert {row["n"] for row in compared.values()} == {"5"} and {row["seeds"] for row in compared.values()} == {"0 1"}
    claimed = {row["claim"]: row["verdict"] for row in rows_of(folder / "report" / "tables" / "claims.csv")}
    assert claimed["both > same"] == "holds over 5 folds" and claimed["std(both) < std(same)"] == "not tested"
    assert cli.main(["verify", str(folder)]) == 0


def test_the_difference_by_hand(tmp_path: Path) -> None:
    """Differences of a fold and a seed, their means by fold, and the standard error of Nadeau and Bengio."""
    found = look(study(tmp_path))
    infos = [run.info for run in find_runs(tmp_path)]
    accuracy = {(i["arm"], i["fold"]["fold"], i["seed"]): i["result"]["test_accuracy"] for i in infos}
    by_fold = [np.mean([accuracy["better", f, s] - accuracy["baseline", f, s] for s in (0, 1)]) for f in range(5)]
    error = np.std(by_fold, ddof=1) * math.sqrt(1 / 5 + 1 / 4)
    (row,) = [row for row in found.rows if row.arm.name == "better"]
    assert row.difference is not None and row.difference.n == row.difference.folds == 5
    expected = stats.t.interval(0.95, 4, np.mean(by_fold), error)
    assert (row.difference.low, row.difference.high) == pytest.approx(expected)
    assert row.difference.p == pytest.approx(2 * stats.t(4).sf(np.mean(by_fold) / error))
    rules = " ".join(rules_in_words(found))
    assert "n held-out / n trained-on = 1 / 4" in rules and "All folds have the same test images" in rules
    assert row.decision.rule == "all folds" and row.decision.limit == pytest.approx(0.04 / row.decision.share)


def test_notes_and_captions_are_about_folds(tmp_path: Path) -> None:
    folder = study(tmp_path)
    said = report.write(folder).terminal
    assert "points against the baseline, paired by fold and seed." in said and "these folds show no difference" in said
    made = {file.stem: file.read_text() for file in (folder / "report" / "tables").glob("*.md")}
    notes = made["comparison"]
    assert "n: number of folds." in notes and "corrected resampled t over the folds" in notes
    assert "paired by fold and seed, with its 95 % interval. p: paired corrected t-test." in notes
    assert (
        "over the folds" in made["claims"] and "over the folds" in made["effects"] and "{" not in "".join(made.values())
    )
    page = (folder / "report" / "index.html").read_text()
    for words in (
        "over the seeds",
        "of two seeds",
        "small ones are seeds",
        "Student",
        "paired by seed",
        "Single seeds",
    ):
        assert words not in "\n".join([said, page.partition('id="library"')[0], *made.values()]), words


def test_a_run_is_paired_with_that_of_its_fold_and_seed(tmp_path: Path) -> None:
    """The arms have different seeds at a fold: only what both have counts."""
    for fold in range(5):
        of_fold(tmp_path, "baseline", fold, 0, 0.6)
        of_fold(tmp_path, "better", fold, 0, 0.61 + fold / 100)
        of_fold(tmp_path, "better", fold, 1, 0.9)
    (row,) = [row for row in look(tmp_path / "cv").rows if row.arm.name == "better"]
    assert row.difference is not None and row.difference.mean == pytest.approx(0.03, abs=1e-9)


def test_remarks_on_claims_without_a_spread_name_folds(tmp_path: Path) -> None:
    for fold in range(5):
        for arm, gain in {"baseline": 0.0, "better": 0.1, "same": 0.0}.items():
            of_fold(tmp_path, arm, fold, 0, 0.6 + gain)
    content = {"name": "cv", "question": "", "baseline": "baseline", "runs": [], "arms": ["baseline", "better", "same"]}
    write_study_file(tmp_path / "cv", content | {"claims": ["better > baseline", "same > baseline"]})
    remarks = [judged.remark for judged in look(tmp_path / "cv").judged]
    assert remarks[0].startswith("the same difference at every fold") and "no difference at any fold" in remarks[1]


def test_a_margin_is_tested_over_folds(tmp_path: Path) -> None:
    found = look(study(tmp_path, claims=["same within 30 points of baseline", "better within 1 point of baseline"]))
    assert [judged.verdict for judged in found.judged] == ["holds over 5 folds", "does not hold over 5 folds"]


def test_nothing_is_decided_before_all_folds_are_done(tmp_path: Path) -> None:
    folder = study(tmp_path, range(4))
    report.write(folder, figures=False)
    found = look(folder)
    assert set(verdicts(found).values()) == {"provisional: 4 of 5 folds"}
    assert wrong(folder) == [] and read_crossings(read_study(folder) or {}) == {}


def test_more_seeds_than_planned_change_no_verdict(tmp_path: Path) -> None:
    """Each further look would be another chance; of folds there is one."""
    first = look(study(tmp_path, seeds=2, plan=2))
    for fold in range(5):
        of_fold(tmp_path, "same", fold, 2, 0.95)
        of_fold(tmp_path, "baseline", fold, 2, 0.5)
    again = look(tmp_path / "cv")
    before, after = ({row.arm.name: row for row in found.rows}["same"] for found in (first, again))
    assert before.verdict == "within noise over 5 folds" and before.decision.p == after.decision.p
    assert after.difference is not None and after.difference.p < after.decision.limit and not after.decision.side
    assert read_plan(read_study(tmp_path / "cv") or {}).seeds == (0, 1)  # type: ignore[union-attr]


def test_missing_seeds_of_all_folds_are_counted_as_seeds(tmp_path: Path) -> None:
    """As many planned seeds as there are folds: what is missing is a seed."""
    found = look(study(tmp_path, seeds=3, plan=5))
    assert set(verdicts(found).values()) == {"provisional: 3 of 5 seeds"}


def test_seeds_beyond_the_plan_that_are_under_way_hold_no_verdict_back(tmp_path: Path) -> None:
    folder = study(tmp_path)
    content = read_study(folder) or {}
    more = [{**run, "seed": 2, "folder": f"{run['folder']}-more"} for run in content["runs"] if run["seed"] == 1]
    write_study_file(folder, content | {"runs": content["runs"] + more})
    found = look(folder)
    assert verdicts(found)["better"] == "better over 5 folds" and verdicts(found)["same"] == "within noise over 5 folds"
    assert answer(found).status[1] == "Final"


def test_folds_that_are_the_test(tmp_path: Path) -> None:
    """Each fold has other test images: arms are compared within a fold."""
    for fold in range(5):
        for arm, gain in GAINS.items():
            run = of_fold(tmp_path, arm, fold, 0, 0.6 + gain + fold / 50 + len(arm) * fold / 1000)
            logits, labels, ids = predictions(run.info["result"]["test_accuracy"], fold, 10, 200)
            run.write_predictions(logits, labels, np.array([f"fold{fold}/{name}" for name in ids]))
    found = look(tmp_path / "cv")
    assert verdicts(found)["better"] == "better over 5 folds"
    assert not [note for note in found.study.notes if "not tested on the same images" in note]
    assert answer(found).facts["n"] == "5 folds an arm, 1 seed a fold, 200 test images a fold"
    assert "same test images" not in " ".join(rules_in_words(found))
    report.write(tmp_path / "cv", figures=False)
    said = "Images of fold 0 only, by 1 run of 5 of an arm: every fold has other test images."
    page, table = ((tmp_path / "cv" / "report" / name).read_text() for name in ("index.html", "tables/disagreement.md"))
    assert page.count(said) == 2 and said in table  # of the mistakes, and of the disagreement
    for words in ("leaves out the choice of test images", "Two seeds", "at every seed", "Wrong at (seeds)"):
        assert words not in page + table, words


def test_folds_with_one_test_split_show_images_of_all_runs(tmp_path: Path) -> None:
    report.write(study(tmp_path), figures=False)
    assert "Images of fold" not in (tmp_path / "cv" / "report" / "index.html").read_text()


def test_two_folds_decide_nothing(tmp_path: Path) -> None:
    """Another number of folds is another experiment, and more seeds would decide nothing: none are advised."""
    for fold in range(2):
        for arm, gain in GAINS.items():
            of_fold(tmp_path, arm, fold, 0, 0.6 + gain + len(arm) * fold / 1000, of=2)
    found = look(tmp_path / "cv")
    assert verdicts(found)["better"] == "not decided (n = 2)"
    said = answer(found)
    assert said.status[1:] == ("Too few folds", "2 folds cannot show whether a difference would come again.")
    assert said.next and said.next[1].startswith("cnnexp verify ")


@pytest.mark.parametrize(
    ("numbers", "seeds", "plan", "status"),
    [
        (range(4), 2, 2, "4 of 5 folds done in every arm. Verdicts may change until all are done."),
        (range(5), 3, 5, "3 of 5 planned seeds done in every arm. Verdicts may change until all are done."),
        (range(5), 2, 2, "All 5 folds at the 2 planned seeds of the study are done. More seeds change no verdict."),
    ],
)
def test_the_first_screen_counts_folds(tmp_path: Path, numbers: range, seeds: int, plan: int, status: str) -> None:
    said = answer(look(study(tmp_path, numbers, seeds, plan)))
    assert said.status[2] == status
    assert said.facts["n"] == f"{len(numbers)} folds an arm, {seeds} seeds a fold, 200 test images"
    same = next(bar.verdict for bar in said.forest.bars if bar.label == "same") if said.forest else ""
    assert status.startswith(("4 of", "3 of")) or same == "no detectable difference over 5 folds"
    assert "paired t-test over the folds, corrected for their shared images" in said.facts["Tested"]


@pytest.mark.parametrize(
    "fold", [{"fold": 5, "of": 5, "group": "a"}, {"fold": 0, "of": "5", "group": "a"}, "0", {"fold": 0, "of": 5}]
)
def test_a_damaged_fold_is_left_out(tmp_path: Path, fold: Any) -> None:
    write_run(tmp_path, "baseline", 0, 0.6, study="cv")
    write_run(tmp_path, "other", 0, 0.6, study="cv", fold=fold)
    found = look(tmp_path / "cv")
    assert [left.reason for left in found.study.left_out] == ["run.json: fold is not {fold, of, group}"]


def test_folds_and_seeds_as_one_number() -> None:
    numbers = [folds.unit(of, fold, seed) for of in (2, 4096) for fold in (0, 1) for seed in (0, 2**32 - 1)]
    assert len(set(numbers)) == 8 and max(numbers) < 2**63 and min(numbers) >= folds.SEEDS
    assert (folds.count_of(numbers[-1]), folds.fold_of(numbers[-1])) == (4096, 1)
    assert (folds.count_of(7), folds.fold_of(7)) == (0, -1)


def test_the_corrected_test_keeps_its_level_where_students_does_not() -> None:
    """Values with the correlation that the correction is for, n_test / (n_test + n_train), of 5 and 10 folds."""
    generator = np.random.default_rng(0)
    for count in (5, 10):
        shared, own = generator.normal(size=(20_000, 1)), generator.normal(size=(20_000, count))
        values = math.sqrt(1 / count) * shared + math.sqrt(1 - 1 / count) * own
        corrected, students = (t_interval(values, overlap)[3] for overlap in (1 / (count - 1), 0.0))
        assert (corrected < 0.05).mean() == pytest.approx(0.05, abs=0.005)
        assert (students < 0.05).mean() > 0.12


def test_without_folds_the_test_is_students() -> None:
    values = [0.1, 0.2, 0.15, 0.3]
    assert (
        estimate(dict(enumerate(values))).p == estimate(values).p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    )
