"""Claims held against the seeds: what is computed against SciPy, and a verdict or a reason for every claim."""

import csv
import io
import math
import re

import numpy as np
import pytest
from fake_records import ARMS, predictions, study_in_memory, write_run, write_study
from pages import Page
from scipy import stats

from cnnexp import report
from cnnexp.pages.tables import to_csv
from cnnexp.records.run_record import find_runs
from cnnexp.records.study import Plan
from cnnexp.report.analysis import judge
from cnnexp.report.analysis.effects import effects
from cnnexp.report.analysis.findings import analyse, questions
from cnnexp.report.analysis.statistics import paired, ratio_of_deviations
from cnnexp.report.read.collect import collect, find_groups
from cnnexp.report.read.study import Schedule
from cnnexp.report.render import claim_tables
from cnnexp.report.render.tables import tables_of
from cnnexp.sweep.until import is_open

BASE, UP = [0.50, 0.51, 0.52, 0.49, 0.50], [0.60, 0.62, 0.61, 0.60, 0.59]


def only(study, claim):
    """Return the verdict on one claim of a study in memory."""
    study.claims = [claim]
    (judged,) = analyse(study).judged
    return judged


def study_of(folder):
    return collect(*find_groups(folder)[0])


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        ("up > base", "holds"),
        ("base < up", "holds"),
        ("up <= base", "does not hold"),
        ("up - base > 5 points", "holds"),
        ("up - base > 15 points", "does not hold"),
        ("up - base < 15 points", "holds"),
        ("up - base >= 10.2 points", "within noise"),
        ("up > 50 %", "holds"),
        ("up < 50 %", "does not hold"),
        ("up > 60.5 %", "within noise"),
    ],
)
def test_verdicts_on_means(claim, verdict):
    assert only(study_in_memory({"base": BASE, "up": UP}), claim).verdict == verdict


def test_a_claim_against_scipy():
    found = only(study_in_memory({"base": BASE, "up": UP}), "up - base > 9 points")
    points = 100 * (np.array(UP) - np.array(BASE))
    expected = stats.ttest_1samp(points, 9)
    test, limits = found.evidence.test, expected.confidence_interval(0.95)
    assert (test.n, test.p) == (5, pytest.approx(expected.pvalue))
    assert (test.mean, test.std) == (pytest.approx(points.mean()), pytest.approx(points.std(ddof=1)))
    assert (test.low, test.high) == (pytest.approx(limits.low), pytest.approx(limits.high))


def limits_of(study):
    return {name: decision.limit for name, decision in analyse(study).decisions.items()}


def test_comparisons_and_claims_are_two_families_and_what_is_tested_twice_counts_once():
    study = study_in_memory({"base": BASE, "up": BASE[::-1], "other": BASE[1:] + BASE[:1]})
    study.claims = ["up > base", "base < up", "up - base > 0.1 points", "up > other", "nobody > base"]
    found = analyse(study)
    assert [row.decision.limit for row in found.rows[1:]] == pytest.approx([0.04 / 2] * 2)
    assert [judged.decision.limit for judged in found.judged[:4]] == pytest.approx([0.04 / 2] * 4) and len(
        limits_of(study)
    ) == 4
    assert math.isnan(found.judged[4].decision.limit)
    study.claims = ["up > other"]
    assert analyse(study).judged[0].decision.limit == pytest.approx(0.04), (
        "what a study does not ask is not corrected for"
    )
    study.arms[2].runs.clear()
    assert analyse(study).rows[1].decision.limit == pytest.approx(0.04), "a test that cannot be made does not count"


def test_what_is_decided_leaves_its_share_to_the_others():
    # Holm by hand: one p is below 0.04 / 3, then another below 0.04 / 2, and the last not below 0.04.
    study = study_in_memory({"base": [0.5] * 5, "sure": UP, "next": [0.505, 0.52, 0.54, 0.53, 0.54], "no": BASE})
    (_, sure, second, no) = analyse(study).rows
    assert 0.04 / 3 < second.difference.p < 0.04 / 2 and sure.difference.p < 0.04 / 3
    assert [row.decision.limit for row in (sure, second, no)] == pytest.approx([0.04 / 3, 0.02, 0.04])
    assert [row.verdict for row in (sure, second, no)] == ["better", "better", "within noise"]


def test_how_many_seeds_would_decide_with_which_chance():
    found = only(study_in_memory({"base": [0.50, 0.51, 0.52, 0.5], "up": [0.52, 0.51, 0.55, 0.52]}), "up > base")
    assert found.verdict == "within noise" and re.fullmatch(
        r"\d+ more seeds would decide it with probability about 0\.[0-9]", found.remark
    )
    nothing = only(study_in_memory({"base": [0.5, 0.6, 0.7, 0.55], "up": [0.6, 0.7, 0.5, 0.55]}), "up > base")
    assert "20 more seeds would decide it with probability below 0.1" in nothing.remark


@pytest.mark.parametrize("claim", ["a <= b", "a >= b", "std(a) <= std(b)", "a < b", "a - b <= 1 points"])
def test_no_number_of_seeds_is_promised_where_equal_arms_are_never_decided(claim):
    study = study_in_memory({"a": [0.50, 0.52, 0.51, 0.53], "b": [0.51, 0.51, 0.53, 0.50]})
    promises_less = "no number of seeds decides if they are equal" in only(study, claim).remark
    assert promises_less == (claim in ("a <= b", "a >= b", "std(a) <= std(b)"))
    assert any("never holds where they are equal" in note for note in claim_tables.CLAIM_NOTES)


def test_an_interval_that_decides_alone_may_not_after_holm():
    arms = {"base": [0.50, 0.51, 0.52], "up": [0.52, 0.535, 0.55]}
    study = study_in_memory({**arms, **{f"other{i}": [0.5, 0.52 + i / 100, 0.51] for i in range(4)}})
    found = only(study, "up > base")
    assert found.evidence.test.low > 0 and found.decision.limit == pytest.approx(0.04 / 5)
    assert found.verdict == analyse(study).rows[1].verdict == "not decided (n = 3)"
    study.claims = ["up > base", "other0 > base"]
    assert judge.summary(analyse(study).judged) == "1 not decided, 1 within noise"


@pytest.mark.parametrize("up", [[0.52, 0.535, 0.55], [0.5, 0.6, 0.55], [0.6, 0.6, 0.61], [0.5, 0.5, 0.5], [0.52, 0.53]])
def test_a_claim_and_the_table_of_arms_say_the_same_of_the_same(up):
    study = study_in_memory({"base": [0.50, 0.51, 0.52], "up": up, "other": [0.5, 0.53, 0.48]})
    same = {"better": "holds", "worse": "does not hold"}
    arm = next(row.verdict for row in analyse(study).rows if row.arm.name == "up")
    assert only(study, "up > base").verdict == same.get(arm, arm)


def test_seeds_that_do_not_differ():
    study = study_in_memory({"base": [0.50, 0.51, 0.52], "up": [0.52, 0.53, 0.54], "same": [0.50, 0.51, 0.52]})
    found = only(study, "up > base")
    assert found.verdict == "not decided (n = 3, no spread)" and math.isnan(found.decision.limit)
    assert found.remark == "the same difference at every seed; a t-test cannot decide"
    found = only(study, "same > base")
    assert (found.verdict, found.remark) == ("within noise", "no difference at any seed")


def test_gaps_losses_and_times(tmp_path):
    runs = []
    for seed in range(3):
        run = write_run(tmp_path, "a", seed, 0.5 + seed / 100, seconds=60 + seed)
        run.update(result={**run.info["result"], "train_accuracy": 0.72 + seed / 50, "test_loss": 1.5 - seed / 10})
        runs.append(run)
    study = study_of(tmp_path / "demo")
    gap = only(study, "a.train_accuracy - a.test_accuracy > 10 points")
    assert gap.evidence.test.mean == pytest.approx(np.mean([22, 23, 24])) and gap.verdict == "holds"
    assert only(study, "a.test_loss < 2 nats").evidence.test.mean == pytest.approx(1.4)
    losses = only(study, "a.val_loss - a.train_loss > 0 nats").evidence.samples[0]
    assert losses == [run.info["result"]["val_loss"] - run.info["result"]["train_loss"] for run in runs]
    assert only(study, "a.train_seconds < 100 seconds").evidence.test.mean == pytest.approx(61)


def with_curves(folder, curves):
    """Write runs with these validation accuracies by epoch: {arm: a list for each seed}."""
    for arm, seeds in curves.items():
        for seed, values in enumerate(seeds):
            run = write_run(folder, arm, seed, 0.5, epochs=1)
            run.keep_rows(0)
            for epoch, value in enumerate(values, start=1):
                run.append(kind="epoch", epoch=epoch, split="val", loss=1 - value, accuracy=value)
            run.sync()
    study = study_of(folder / "demo")
    study.schedule = Schedule(Plan(tuple(range(max(map(len, curves.values()))))))
    return study


A = [[0.40, 0.50, 0.60], [0.41, 0.52, 0.61], [0.40, 0.51, 0.62, 0.10]]  # the last epoch only one of them reached
B = [[0.30, 0.45, 0.50], [0.30, 0.46, 0.52], [0.31, 0.45, 0.50]]
LEADS = 100 * (np.array([seed[:3] for seed in A]) - B)  # (seeds, epochs), in points


def p_values(number):
    return [stats.ttest_1samp(LEADS[:, epoch], number).pvalue for epoch in range(3)]


def test_a_lead_at_every_epoch_is_tested_at_each(tmp_path):
    study = with_curves(tmp_path, {"a": A, "b": B})
    for claim, sign in (("a > b at every epoch", 1), ("b < a at every epoch", -1)):
        found = only(study, claim)
        test, limits = found.evidence.test, stats.ttest_1samp(LEADS[:, 1], 0).confidence_interval(0.95)
        assert found.verdict == "holds"
        assert found.remark == "the smallest lead is at epoch 2, by validation accuracy; p: of epoch 3"
        assert (test.n, test.mean, test.p) == (3, pytest.approx(sign * 17 / 3), pytest.approx(max(p_values(0))))
        assert sorted([abs(test.low), abs(test.high)]) == pytest.approx([limits.low, limits.high])
    study.claims = ["a > b at every epoch", "b < a at every epoch", "b > a at every epoch"]
    assert len({name for name in limits_of(study) if name.startswith("curve")}) == 2, (
        "that b leads is not that a does not"
    )
    losses = only(study, "a.test_loss < b.test_loss at every epoch").evidence.test
    assert losses.mean == pytest.approx(-0.17 / 3)
    assert "no seed has train_accuracy" in only(study, "a.train_accuracy > 3 % at every epoch").remark


def test_a_lead_that_is_lost_at_one_epoch_does_not_hold(tmp_path):
    study = with_curves(tmp_path, {"a": A, "b": B})
    found = only(study, "b > a at every epoch")
    assert found.verdict == "does not hold" and found.evidence.test.p == pytest.approx(3 * min(p_values(0)))
    assert found.remark == "the smallest lead is at epoch 3, by validation accuracy; p: of epoch 1"
    found = only(study, "a - b > 7 points at every epoch")  # epoch 2 alone lies below
    assert found.evidence.test.p == pytest.approx(3 * p_values(7)[1]) and found.verdict == "within noise"
    assert only(study, "a - b > 9 points at every epoch").verdict == "does not hold"
    assert "no seed has train_accuracy" in only(study, "a.train_accuracy > 3 % at every epoch").remark


def test_converging_faster(tmp_path):
    fast = [[0.3, 0.6, 0.6, 0.6]] * 2 + [[0.5, 0.6, 0.6, 0.6]]
    slow = [[0.3, 0.4, 0.5, 0.6]] * 3
    study = with_curves(tmp_path, {"slow": slow, "fast": fast})
    found = only(study, "fast converges faster than slow")
    assert found.evidence.samples[0] == [-2, -2, -2] and found.verdict == "not decided (n = 3, no spread)"
    assert "the same difference at every seed; a t-test cannot decide" in found.remark


def test_an_arm_that_gets_further_is_not_slower_for_it(tmp_path):
    high = [[0.50, 0.62, 0.70, 0.80], [0.61, 0.62, 0.70, 0.80], [0.60, 0.62, 0.70, 0.80]]
    low = [[0.40, 0.50, 0.605, 0.61], [0.40, 0.50, 0.58, 0.61], [0.60, 0.50, 0.605, 0.61]]
    study = with_curves(tmp_path, {"low": low, "high": high})
    found = only(study, "high converges faster than low")  # the level is 0.60: epochs 2, 1, 1 against 3, 4, 1
    assert found.evidence.samples[0] == [-1, -3, 0]
    assert "a point below the lower of the two" in found.remark
    own = only(study, "high.epochs_to_plateau < low.epochs_to_plateau")
    assert own.evidence.samples[0] == [1, 0, 3] and "the run's own best" in own.remark


def test_deviations_against_scipy():
    generator = np.random.default_rng(0)
    shared = generator.normal(size=9)
    a, b = shared + generator.normal(size=9), 3 * (shared + generator.normal(size=9))
    found = ratio_of_deviations(a, b)
    assert found.mean == pytest.approx(a.std(ddof=1) / b.std(ddof=1))
    assert found.p == pytest.approx(stats.pearsonr(a + b, a - b).pvalue)
    for limit in (found.low, found.high):  # the test of "the ratio is this limit" has a p of 0.05
        assert stats.pearsonr(a + limit * b, a - limit * b).pvalue == pytest.approx(0.05)


def test_claims_about_deviations():
    wide, narrow = [0.40, 0.60, 0.45, 0.66, 0.38, 0.71], [0.50, 0.51, 0.505, 0.50, 0.51, 0.508]
    study = study_in_memory({"wide": wide, "narrow": narrow}, reported={"wide": {"std": 2.0}, "narrow": {"std": 0.5}})
    found = only(study, "std(narrow) < std(wide)")
    assert found.verdict == "holds" and found.evidence.test.high < 1 and found.evidence.reported == 0.25
    assert only(study, "std(narrow) > std(wide)").verdict == "does not hold"
    of_loss = only(study, "std(narrow.test_loss) < std(wide.test_loss)")
    assert math.isnan(of_loss.evidence.reported), "the reported deviation is of the test accuracy"
    study.arms[1].diverged.append(study.arms[1].runs[0])
    assert only(study, "std(narrow) < std(wide)").remark == "diverged runs are left out, which favours narrow"
    alike = only(study_in_memory({"a": wide, "b": [*wide[1:], 0.5]}), "std(a) < std(b)")
    assert (alike.verdict, alike.remark) == ("within noise", "the ratio of the deviations over the seeds")
    two = only(study_in_memory({"a": wide[:2], "b": narrow[:2]}), "std(a) > std(b)")
    assert "2 seeds shared, and Pitman's and Morgan's test can never decide below 3" in two.remark


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ("bse > up", "no finished run of bse (did you mean 'base'?)"),
        ("none > up", "all runs of none diverged"),
        ("twice > up", "twice has several configs: twice (aaaaaaaa), twice (bbbbbbbb)"),
        ("up >> base", "cannot be read: study.claims: 'up >> base'"),
        ("up.val_accuracy > base.val_accuracy", "no seed has val_accuracy in every arm that it needs"),
        ("up.train_seconds > base.train_seconds at every epoch", "cannot be read"),
        ("up > one", "one seed shared, and a paired t-test can never decide below 2"),
    ],
)
def test_not_tested_says_why(tmp_path, claim, reason):
    for arm, fingerprint in (("base", ""), ("up", ""), ("twice", "a" * 9), ("twice", "b" * 9)):
        for seed in range(2):
            run = write_run(tmp_path, arm, seed, 0.5 + seed / 10, fingerprint=fingerprint, with_predictions=False)
            run.update(result={**run.info["result"], "val_accuracy": None})
    write_run(tmp_path, "none", 0, status="diverged")
    write_run(tmp_path, "one", 0, 0.5, with_predictions=False)
    found = only(study_of(tmp_path / "demo"), claim)
    assert found.verdict == "not tested" and math.isnan(found.decision.limit)
    assert reason in found.remark


def test_what_diverged_speaks_for_nobody(tmp_path):
    for seed in range(3):
        write_run(tmp_path, "base", seed, 0.5 + seed / 100)
        write_run(tmp_path, "up", seed, 0.6 + seed / 90)
    write_run(tmp_path, "up", 3, status="diverged")
    study = study_of(tmp_path / "demo")
    found = only(study, "up > base")
    assert (
        found.verdict == "not decided (1 diverged)" and found.remark == "diverged runs are left out, which favours up"
    )
    assert only(study, "up - base > 20 points").verdict == "does not hold"  # even flattered it is below


def test_two_single_runs_are_compared_on_their_test_images(tmp_path):
    write_run(tmp_path, "base", 0, 0.5)
    write_run(tmp_path, "up", 0, 0.6)
    study = study_of(tmp_path / "demo")
    found = only(study, "up > base")
    assert found.verdict == "not tested"
    assert "test images only up has right" in found.remark and "McNemar's exact p" in found.remark
    assert "by bootstrap over the 1,000 images" in found.remark
    assert "McNemar" not in only(study, "up - base > 5 points").remark  # it tests no such number
    logits, labels, ids = predictions(0.6, 0)
    study.arms[1].runs[0].record.write_predictions(logits, labels, np.char.add("other/", ids))
    del study.arms[1].runs[0].predictions
    assert only(study, "up > base").remark.endswith("Their test images differ.")


def test_reported_beside_reproduced():
    values = {"base": {"test_accuracy": 51.31, "std": 0.34}, "gone": {"test_accuracy": 60.0}, "up": {"test_loss": 1.5}}
    study = study_in_memory({"base": BASE, "up": UP}, reported=values)
    found = analyse(study)
    rows = found.reported
    assert rows[0].here.mean == pytest.approx(50.4) and rows[0].difference == pytest.approx(50.4 - 51.31)
    table = tables_of(found)["reported.csv"]
    assert table.cells[0] == ["base", "test_accuracy (%)", "51.31 ± 0.34", "50.40 ± 1.14", "-0.91", "5"]
    assert table.cells[1] == ["gone", "test_accuracy (%)", "60.00", "no finished run", "-", "0"]
    assert table.cells[2][:3] == ["up", "test_loss (nats)", "1.500"]
    lines = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert float(lines[0]["difference"]) == rows[0].difference and lines[1]["mean"] == ""
    study.reported["up"] = {"test_accuracy": 60.0}
    assert only(study, "up - base > 5 points").evidence.reported == pytest.approx(60 - 51.31)
    assert math.isnan(only(study, "up > base at every epoch").evidence.reported)


CLAIMS = {
    "reported": {"baseline": 51.31, "dropout": 62.5, "combined": 75.67},
    "source": "a <b>report</b>",
    "claims": ["dropout > baseline", "combined > dropout", "std(dropout) < std(baseline)", "dropout > 99 %"],
}
TWO = {"baseline": (0.5, 0.3, 60.0), "dropout": (0.6, 0.1, 70.0)}


def test_the_report_shows_claims_everywhere(tmp_path):
    folder = write_study(tmp_path, TWO, **CLAIMS)
    written = report.write(folder, figures=False)
    page = written.index.read_text()
    for words in (
        "Reported and reproduced",
        "1 holds, 1 does not hold, 1 within noise, 1 not tested.",
        'class="noise">within noise',
        'class="better">holds',
        'class="worse">does not hold',
        "no finished run of combined",
        "a &lt;b&gt;report&lt;/b&gt;",
        "How this is judged.",
    ):
        assert words in page, words
    assert "<b>" not in page
    assert "Claims: 1 holds, 1 does not hold, 1 within noise, 1 not tested" in written.terminal
    assert "Reported: a <b>report</b>" in written.terminal
    headings, line = (row for row in written.terminal.splitlines() if row.startswith(("Arm", "baseline")))
    assert "Reported" in headings and "51.31" in line
    assert max(map(len, written.terminal.splitlines()[:20])) <= 120
    files = {file.name for file in (written.index.parent / "tables").iterdir()}
    assert {"claims.md", "claims.csv", "reported.md", "reported.csv"} <= files and "effects.md" not in files
    (first, *_) = csv.DictReader(io.StringIO((written.index.parent / "tables" / "claims.csv").read_text()))
    study = study_of(folder)
    points = paired(study.arms[1].accuracies(), study.arms[0].accuracies())
    assert float(first["mean"]) == pytest.approx(100 * points.mean)
    assert (first["verdict"], float(first["reported"])) == ("holds", pytest.approx(11.19))
    markdown = (written.index.parent / "tables" / "claims.md").read_text()
    assert "a &lt;b&gt;report&lt;/b&gt;" in markdown and "| dropout &gt; baseline |" in markdown


def test_claims_of_a_study_without_published_numbers_are_called_claims(tmp_path):
    folder = write_study(tmp_path, TWO, claims=["dropout > baseline"])
    written = report.write(folder, figures=False)
    page, markdown = (file.read_text() for file in (written.index, written.index.parent / "tables" / "claims.md"))
    assert "Reported and reproduced" not in page and "what the study states, and whether it holds" in page
    assert re.match(r"\| Claim \| Here \| 95 % interval \|", markdown) and "Here: the claim's left side" in markdown
    assert not re.search("Reported|Reproduced", markdown + written.terminal)


@pytest.mark.integration
def test_without_claims_nothing_is_shown(tmp_path):
    written = report.write(write_study(tmp_path, TWO), figures=False)
    assert "Reported" not in written.terminal and 'id="reported"' not in written.index.read_text()


HOSTILE = "<script>alert(1)</script> > \x1b[31mb\u202e | =cmd {{ 7*7 }}"


@pytest.mark.integration
@pytest.mark.parametrize(
    "fields",
    [
        {"reported": [1], "claims": "a > b", "source": ["x"]},
        {"reported": {"baseline": "x"}, "claims": [1]},
        {"reported": {HOSTILE: 50.0}, "claims": [HOSTILE, "=cmd > b"], "source": HOSTILE},
    ],
)
def test_whatever_study_json_holds(tmp_path, fields):
    written = report.write(write_study(tmp_path, TWO, seeds=2, **fields), figures=False)
    shown = [written.terminal, written.index.read_text()]
    shown += [file.read_text() for file in (written.index.parent / "tables").iterdir()]
    assert not any("\x1b" in text or "\u202e" in text for text in shown)
    assert not Page(shown[1]).strange
    if not isinstance(fields["claims"][0], str) or isinstance(fields["claims"], str):
        assert written.terminal.count("Read with care: study.json: study.") == 2
    else:
        assert "cannot be read" in shown[1]
        assert "\n'=cmd" in (written.index.parent / "tables" / "claims.csv").read_text()


@pytest.fixture
def no_outlooks(monkeypatch):
    """Leave out the advice on more seeds, which changes no verdict and is most of the time of an analysis."""
    monkeypatch.setattr("cnnexp.report.analysis.findings.outlooks", lambda family, decisions: {})


@pytest.mark.integration
@pytest.mark.usefixtures("no_outlooks")
def test_a_study_of_equal_arms_with_claims_is_decided_in_at_most_5_percent():
    studies, generator = 300, np.random.default_rng(3)
    claims = ["b > c", "std(a) < std(b)", "c - d > 0 points", "a - b < c - d", "b < 50 %", "d > a"]
    wrong = 0
    for accuracies in generator.normal(0.5, 0.01, (studies, 4, 4)):
        findings = analyse(study_in_memory(dict(zip("abcd", accuracies, strict=True)), claims=claims))
        decided = [row.verdict for row in findings.rows] + [found.verdict for found in findings.judged]
        wrong += bool({"better", "worse", "holds", "does not hold"} & set(decided))
    assert 0 < wrong / studies < 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)


LASTING = ["a > b at every epoch", "a - b < 0 points at every epoch"]


@pytest.mark.integration
@pytest.mark.parametrize("common", [0.0, 0.01])
@pytest.mark.parametrize("claim", LASTING)
@pytest.mark.usefixtures("no_outlooks")
def test_a_lead_of_equal_arms_at_every_epoch_is_decided_in_at_most_5_percent(claim, common):
    studies, generator = 300, np.random.default_rng(5)
    wrong = 0
    for _ in range(studies):
        shared = generator.normal(0, common, (2, 4, 1))  # of a seed at all its epochs
        curves = 0.5 + shared + generator.normal(0, 0.01, (2, 4, 6))
        study = study_in_memory({"a": [0.5] * 4, "b": [0.5] * 4})
        for arm, of_arm in zip(study.arms, curves, strict=True):
            for run, values in zip(arm.runs, of_arm, strict=True):
                run.rows = {"val": {epoch: {"accuracy": value} for epoch, value in enumerate(values, start=1)}}
        wrong += only(study, claim).verdict in ("holds", "does not hold")
    assert wrong / studies < 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)


@pytest.mark.integration
def test_the_interval_of_a_ratio_covers_as_often_as_promised():
    studies = 1500
    error = 3 * math.sqrt(0.05 * 0.95 / studies)
    for n in (3, 8):
        generator = np.random.default_rng(n)
        shared, own = generator.normal(size=(studies, 1, n)), generator.normal(size=(studies, 2, n))
        values = shared + own  # pairs that correlate, as seeds may
        found = [ratio_of_deviations(2 * a, b) for a, b in values]
        assert abs(np.mean([f.low <= 2 <= f.high for f in found]) - 0.95) < error
        assert abs(np.mean([ratio_of_deviations(a, b).p < 0.05 for a, b in values]) - 0.05) < error


def test_tables_of_nothing():
    study = study_in_memory({"base": BASE})
    assert analyse(study).judged == [] and judge.summary([]) == "" and effects(study) == []
    assert not {"claims.md", "effects.md", "reported.md"} & tables_of(analyse(study)).keys()


@pytest.mark.integration
def test_the_claims_of_several_studies_are_gathered(tmp_path):
    arms = {"baseline": (0.5, 0.1, 9.0), "up": (0.7, 0.1, 9.0)}
    for name, claim in (("first", "up > baseline"), ("second", "baseline > up"), ("third", "nobody > up")):
        write_study(tmp_path, arms, 5, name, claims=[claim], reported={"up": 66.5}, source=f"report of {name}")
    write_study(tmp_path, arms, 5, "silent")
    written = report.write(tmp_path, figures=False)
    assert "Claims of all studies: 1 holds, 1 does not hold, 1 not tested." in written.terminal
    folder = written.index.parent / "tables"
    rows = list(csv.DictReader(io.StringIO((folder / "claims.csv").read_text())))
    assert [(row["study"], row["verdict"]) for row in rows] == [
        ("first", "holds"),
        ("second", "does not hold"),
        ("third", "not tested"),
    ]
    shown = written.index.read_text()
    for text in ("up &gt; baseline", "report of second", "66.50"):
        assert text in shown
    sizes = (folder / "studies.md").read_text().splitlines()[2:]
    assert [line.split(" | ")[0] for line in sizes] == ["| first", "| second", "| silent", "| third"]
    assert all("| 2 | 5 | 10 |" in line for line in sizes)


@pytest.mark.integration
def test_tables_over_studies_go_when_the_claims_go(tmp_path):
    for name in ("first", "second"):
        write_study(tmp_path, ARMS, 2, name, claims=["up > baseline"])
    folder = report.write(tmp_path, figures=False).index.parent / "tables"
    assert (folder / "claims.md").exists()
    for name in ("first", "second"):
        write_study(tmp_path, ARMS, 2, name)
    report.write(tmp_path, figures=False)
    assert not (folder / "claims.md").exists()
    assert (folder / "studies.md").exists()


SPREADS = {
    "norm=none,lr=1": [0.10, 0.12, 0.11],
    "norm=none,lr=2": [0.50, 0.55, 0.52],
    "norm=none,lr=3": [0.30, 0.30, 0.36],
    "norm=batch,lr=1": [0.50, 0.52, 0.51],
    "norm=batch,lr=2": [0.52, 0.55, 0.52],
    "norm=batch,lr=3": [0.51, 0.50, 0.53],
}


def test_a_spread_is_over_the_arms_of_its_name_seed_by_seed():
    study = study_in_memory(SPREADS)
    found = only(study, 'spread("norm=batch") < spread("norm=none")')
    batch, none = (np.array([SPREADS[f"norm={norm},lr={lr}"] for lr in (1, 2, 3)]) for norm in ("batch", "none"))
    points = 100 * (batch.std(axis=0, ddof=1) - none.std(axis=0, ddof=1))
    expected = stats.ttest_1samp(points, 0)
    assert (found.verdict, found.evidence.test.n) == ("holds", 3)
    assert found.evidence.test.mean == pytest.approx(points.mean())
    assert found.evidence.test.p == pytest.approx(expected.pvalue)
    assert "standard deviation over the arms" in found.remark
    assert only(study, 'spread("norm=batch,lr=1") < 2 points').verdict == "not tested"
    assert only(study, 'spread("lr=1") > spread("lr=2")').evidence.test.n == 3


@pytest.mark.integration
def test_a_spread_without_an_arm_that_did_not_finish_is_not_tested(tmp_path):
    arms = {name: (values[0], 0.1, 9.0) for name, values in SPREADS.items()}
    claim = 'spread("norm=batch") < spread("norm=none")'
    folder = write_study(tmp_path, arms, 3, claims=[claim])
    (judged,) = analyse(study_of(folder)).judged
    assert judged.verdict == "holds"
    for run in find_runs(folder):
        if run.info["arm"] == "norm=none,lr=3":
            run.update(status="failed")
    (judged,) = analyse(study_of(folder)).judged
    assert judged.verdict == "not tested" and "no finished run of norm=none,lr=3 (3 failed)" in judged.remark


def test_outside_a_margin_p_has_two_sides_because_the_mean_chooses_the_end():
    study = study_in_memory({"base": BASE, "up": UP})
    points = 100 * (np.array(UP) - np.array(BASE))
    outside = only(study, "up within 3 points of base").evidence.test.p
    assert outside == pytest.approx(stats.ttest_1samp(points, 3).pvalue)
    inside = only(study, "up within 12 points of base").evidence.test.p
    assert inside == pytest.approx(stats.ttest_1samp(points, 12, alternative="less").pvalue)


def test_no_seed_is_made_for_an_arm_that_never_differs_and_one_for_an_arm_that_always_differs_alike():
    study = study_in_memory({"base": [0.5, 0.52, 0.51], "same": [0.5, 0.52, 0.51], "alike": [0.6, 0.62, 0.61]})
    study.schedule = Schedule(Plan(tuple(range(20)), every_seed=True))
    going = {question.text: is_open(question, 17) for question in questions(analyse(study))}
    assert going == {"same": False, "alike": True}
