"""The words of a claim: what can be read, what is refused and how that is told, and that all of it is only words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnnexp import cli
from cnnexp.claims.grammar import parse
from cnnexp.claims.metrics import METRICS
from cnnexp.claims.study import check, check_arms, read_reported
from cnnexp.config import checks
from cnnexp.errors import UserError
from cnnexp.records.study import read_study
from cnnexp.sweep.scheduler import Scheduler
from cnnexp.training.plan import Plan

pytestmark = pytest.mark.integration

TEST, VAL, TRAIN, EPOCHS = "test_accuracy", "val_accuracy", "train_accuracy", "epochs_to_plateau"
LOSS, VAL_LOSS, TRAIN_LOSS = "test_loss", "val_loss", "train_loss"


@pytest.mark.parametrize(
    ("text", "kind", "terms", "direction", "threshold", "unit"),
    [
        ("combined > batchnorm", "mean", {("combined", TEST): 1, ("batchnorm", TEST): -1}, 1, 0, "points"),
        ("a<=b", "mean", {("a", TEST): 1, ("b", TEST): -1}, -1, 0, "points"),
        ("relu - sigmoid >= 5 points", "mean", {("relu", TEST): 1, ("sigmoid", TEST): -1}, 1, 5, "points"),
        ("a - b > -1 point", "mean", {("a", TEST): 1, ("b", TEST): -1}, 1, -1, "points"),
        ("a < 50.5 %", "mean", {("a", TEST): 1}, -1, 50.5, "%"),
        (
            "baseline.train_accuracy - baseline.test_accuracy > 10 points",
            *("mean", {("baseline", TRAIN): 1, ("baseline", TEST): -1}, 1, 10, "points"),
        ),
        ("a.test_loss < b.test_loss", "mean", {("a", LOSS): 1, ("b", LOSS): -1}, -1, 0, "nats"),
        ("a.val_loss - a.train_loss > 0.2 nats", "mean", {("a", VAL_LOSS): 1, ("a", TRAIN_LOSS): -1}, 1, 0.2, "nats"),
        ("a.f1 > b.f1", "mean", {("a", "test_f1"): 1, ("b", "test_f1"): -1}, 1, 0, "points"),
        ("a.test_top5 > 90 %", "mean", {("a", "test_top5"): 1}, 1, 90, "%"),
        ('a.recall["garbage truck"] > b.recall[dog]', "mean",
            {("a", "test_recall[garbage truck]"): 1, ("b", "test_recall[dog]"): -1}, *(1, 0, "points")),
        ("a.loss < b.loss", "mean", {("a", LOSS): 1, ("b", LOSS): -1}, -1, 0, "nats"),
        ("a.train_seconds < 60 s", "mean", {("a", "train_seconds"): 1}, -1, 60, "seconds"),
        ("std(batch_norm) < std(base)", "std", {("batch_norm", TEST): 1, ("base", TEST): -1}, -1, 1, "ratio"),
        ("a > b at every epoch", "curve", {("a", VAL): 1, ("b", VAL): -1}, 1, 0, "points"),
        ("a.test_loss < b.test_loss at every epoch", "curve", {("a", VAL_LOSS): 1, ("b", VAL_LOSS): -1}, -1, 0, "nats"),
        ("bn converges faster than base", "convergence", {("bn", EPOCHS): 1, ("base", EPOCHS): -1}, -1, 0, "epochs"),
        ("a.epochs_to_plateau < b.epochs_to_plateau", "mean", {("a", EPOCHS): 1, ("b", EPOCHS): -1}, -1, 0, "epochs"),
        ("a within 1 point of b", "within", {("a", TEST): 1, ("b", TEST): -1}, -1, 1, "points"),
        ("a.test_loss within 0.1 nats of b.test_loss", "within", {("a", LOSS): 1, ("b", LOSS): -1}, -1, 0.1, "nats"),
        ("a - b within 2 points of c - d", "within", {("a", TEST): 1, ("b", TEST): -1, ("c", TEST): -1, ("d", TEST): 1},
            *(-1, 2, "points")),
        ("a - c < b - c", "mean", {("a", TEST): 1, ("b", TEST): -1}, -1, 0, "points"),
        ("a - c < b - c + c - d", "mean", {("a", TEST): 1, ("b", TEST): -1, ("c", TEST): -1, ("d", TEST): 1},
            *(-1, 0, "points")),
        ('"model.norm=batch" > "a b"', "mean", {("model.norm=batch", TEST): 1, ("a b", TEST): -1}, 1, 0, "points"),
        ('"3x3".val_accuracy > b.val_accuracy', "mean", {("3x3", VAL): 1, ("b", VAL): -1}, 1, 0, "points"),
        ("spread(a) < spread(b)", "mean", {("a", TEST): 1, ("b", TEST): -1}, -1, 0, "points"),
        ('spread("n=1".val_accuracy) < 2 points', "mean", {("n=1", VAL): 1}, -1, 2, "points"),
        ("std > a", "mean", {("std", TEST): 1, ("a", TEST): -1}, 1, 0, "points"),  # an arm of this name
    ],
)  # fmt: skip
def test_what_can_be_read(
    text: str, kind: str, terms: dict[tuple[str, str], int], direction: int, threshold: float, unit: str
) -> None:
    claim = parse(text)
    assert {(term.arm, term.metric): term.times for term in claim.terms} == terms
    assert (claim.text, claim.kind, claim.direction) == (text, kind, direction)
    assert (claim.threshold, claim.unit) == (threshold, unit)


REFUSED = {
    "a within 1 point": "expected 'of' after the margin: a within 1 point of b",
    "a within point of b": "expected a number",
    "a within 0 points of b": "a margin is above 0, not 0",
    "a within -1 points of b": "a margin is above 0, not -1",
    "a within 1 % of b": "the number is in '%', not in points",
    "a within 1 of b": "the number lacks its unit, points",
    "a - b within 1 point of c": "a value is within a margin of a value",
    "a within 1 point of b at every epoch": "unexpected 'at'",
    "a within 1 point of a": "compares a value with itself",
    "spread(a) < std(b)": "expected '",
    "spread(a < spread(b)": "expected ')' after a; spread(...) holds one value",
    "spread(spread(a)) < 1 points": "spread(...) holds one value",
    "std(spread(a)) < std(b)": "std(...) is over the seeds of one arm; a spread is over arms",
    "spread(a) > spread(b) at every epoch": "a spread has no value at every epoch",
    "spread(a) converges faster than b": "'converges faster than' compares two arms, without metrics",
    "": "expected an arm, found the end",
    "a": "expected <, <=, > or >=, found the end",
    "a >": "expected an arm, found the end",
    "a = b": "cannot read '= b'; compare with <, <=, > or >=",
    "a-1 > b": "expected an arm, found '1'",
    "a > 3x3": "the number is in 'x3', not in %",
    "a > a": "compares a value with itself",
    "a.val_accuracy > a.test_accuracy at every epoch": "compares a value with itself",  # validation stands for test
    "a.val_loss > a.test_loss at every epoch": "compares a value with itself",
    "a > b > c": "has two comparisons; write two claims",
    "a - b > c": "a difference is compared with a difference or a number, and a value with a value",
    "a + b > 3 %": "a number is compared with one value, or with a difference",
    "a - b > 5": "the number lacks its unit, points",
    "a > 5": "the number lacks its unit, %",
    "a - b > 5 %": "the number is in '%', not in points",
    "a - b > 5 pints": "the number is in 'pints', not in points",
    "a.tst_accuracy > b": "unknown metric 'tst_accuracy'; choose one of " + ", ".join(METRICS)
    + " (did you mean 'test_accuracy'?)",
    "a.f_one > b.f1": "unknown metric 'f_one'; choose one of test_accuracy, ",
    "a.accuracy[dog] > b": "test_accuracy is of all classes; of one class there are precision, recall and f1",
    "a.f1[] > b": 'expected one class in brackets: f1[dog] or f1["my dog"]',
    "a.f1[dog > b": 'expected one class in brackets: f1[dog] or f1["my dog"]',
    "a.f1[3 - three] > b": 'expected one class in brackets: f1[dog] or f1["my dog"]',
    "a.f1 > b.f1 at every epoch": "test_f1 has no value at every epoch",
    "a. > b": "unknown metric '>'",
    "a.": "unknown metric ''",
    "a.test_loss > b": "test_loss and test_accuracy have different units",
    "std(a) < 3 points": "a deviation is compared with another one: std(a) < std(b)",
    "std(a) - std(b) > 1 points": "expected <, <=, > or >=, found '-'",
    "a > std(b)": "unexpected '('; a claim may end in 'at every epoch'",
    "std(a - b) < std(c)": "expected ')' after a; std(...) holds one value",
    "std(a) < std(a)": "compares a value with itself",
    "a converges quicker than b": "expected 'converges faster than'",
    "a converges faster than b.val_accuracy": "'converges faster than' compares two arms, without metrics",
    "a > b at each epoch": "unexpected 'at'",
    "a.train_seconds > b.train_seconds at every epoch": "train_seconds has no value at every epoch",
    "__import__('os').system('x') > a": "cannot read",
    "a > 1e9 %": "the number is in 'e9', not in %",
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused_says_why(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"study.claims: '{text}': ")
    assert REFUSED[text] in str(caught.value)


def test_reported_values() -> None:
    given = {"baseline": 51.31, "wide": {"test_accuracy": 75, "std": 0.34, "train_seconds": 840}, 3: 1.0}
    assert read_reported(given) == {
        "baseline": {TEST: 51.31},
        "wide": {TEST: 75.0, "std": 0.34, "train_seconds": 840.0},
        "3": {TEST: 1.0},
    }
    assert read_reported(None) == {}


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (
            {"a": "75"},
            "study.reported.a: given '75' for test_accuracy; allowed: a number >= 0, accuracies and scores in per cent",
        ),
        ({"a": True}, "given True"),
        ({"a": 101}, "given 101"),
        ({"a": float("nan")}, "given nan"),
        ({"a": {"tst_accuracy": 1}}, "unknown metric 'tst_accuracy'.*did you mean 'test_accuracy'"),
        ([1], r"given \[1\]; allowed: a mapping of arms to numbers"),
    ],
)
def test_reported_values_that_are_none(node: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_reported(node)


def test_arms_are_checked_where_they_are_known() -> None:
    study = {"reported": {"a": 1.0}, "claims": ["a > b"]}
    check(study)
    check_arms(study, ["a", "b"])
    with pytest.raises(UserError, match=r"study\.claims: 'a > b': unknown arm 'b'; choose one of a, c"):
        check_arms(study, ["a", "c"])
    with pytest.raises(UserError, match=r"study\.reported: unknown arm 'a'"):
        check_arms(study, ["b"])
    check_arms({"reported": None, "claims": None}, [])


def test_a_wrong_claim_is_told_before_anything_is_done(
    train: Callable[..., int], outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train('study.claims=["a > b", "a >> b"]') == 2
    assert "study.claims: 'a >> b': expected an arm, found '>'" in capsys.readouterr().err
    assert train("study.claims=a") == 2
    assert "study.claims: given 'a'; allowed: a list of texts or null" in capsys.readouterr().err
    assert train("+study.reported.baseline=high") == 2
    assert "study.reported.baseline: given 'high'" in capsys.readouterr().err
    assert not outputs.exists()


def test_claims_are_words_only(plan: Callable[..., Plan]) -> None:
    with_words = plan('study.claims=["a > b"]', "+study.reported.a=50", "study.source=a book")
    assert with_words.fingerprint == plan().fingerprint
    before = {**with_words.config, "study": {"name": "s", "arm": "a", "question": None, "baseline": None}}
    checks.check(before)  # a config that was recorded when there were no claims


SMALL = [
    "data.size=8",
    "data.num_train=40",
    "data.num_test=20",
    "slots=cpu:1",
    "device=cpu",
    "device.threads=1",
    "batch_size=4",
]


@pytest.fixture
def study(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Return a function that plans `+study=ablation` with two of its arms and writes study.json; nothing is trained."""
    monkeypatch.setattr(Scheduler, "run", lambda self: 0)
    asked = ["train", "+study=ablation", "+arm=baseline,dropout", "seed=0", *SMALL, f"outputs={outputs}"]
    return lambda *more: cli.main([*asked, *more])


def test_study_json_carries_what_was_reported_and_claimed(study: Callable[..., int], outputs: Path) -> None:
    assert study() == 0
    written = read_study(outputs / "ablation") or {}
    assert written["reported"]["combined"] == 75.67
    assert written["source"].startswith("report A")
    assert "combined > batchnorm" in written["claims"], "of arms that are not asked for now, too"
    assert study("study.claims=null", "study.reported=null", "study.source=null") == 0
    written = read_study(outputs / "ablation") or {}
    assert [written[key] for key in ("reported", "source", "claims")] == [None, None, None]


def test_arms_that_there_are_not(study: Callable[..., int], outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert study('study.claims=["combnied > baseline"]') == 2
    error = capsys.readouterr().err
    assert "study.claims: 'combnied > baseline': unknown arm 'combnied'" in error
    assert "did you mean 'combined'" in error
    assert study("+study.reported.nobody=3") == 2
    assert "study.reported: unknown arm 'nobody'" in capsys.readouterr().err
    assert not (outputs / "ablation").exists()


def test_a_baseline_that_is_no_arm(study: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert study("study.baseline=batchnrom", "--plan") == 2
    error = capsys.readouterr().err
    assert "study.baseline: unknown arm 'batchnrom'" in error and "did you mean 'batchnorm'" in error
    assert study("study.baseline=batchnorm", "--plan") == 0, "an arm that is not made now"


def test_a_baseline_of_a_sweep_by_hand(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_hand = ["train", "-m", *SMALL, f"outputs={outputs}", "optimizer.lr=0.001,0.1", "--plan"]
    assert cli.main([*by_hand, "study.baseline='optimizer.lr=0.01'"]) == 2
    assert "study.baseline: unknown arm 'optimizer.lr=0.01'; choose one of" in capsys.readouterr().err
    assert cli.main([*by_hand, "study.baseline='optimizer.lr=1e-3'"]) == 0
    alone = ["train", *SMALL, f"outputs={outputs}", "optimizer.lr=0.1", "--plan"]
    assert cli.main([*alone, "study.baseline='optimizer.lr=1e-3'"]) == 0, "its command may follow"


def test_a_single_run_is_a_baseline(outputs: Path) -> None:
    here = [*SMALL, f"outputs={outputs}", "study.name=norm"]
    assert cli.main(["train", *here, "name=plain"]) == 0
    assert cli.main(["train", "-m", *here, "optimizer.lr=0.001,0.1", "study.baseline=plain", "--plan"]) == 0
    assert cli.main(["train", "-m", *here, "optimizer.lr=0.001,0.1", "study.baseline=plane", "--plan"]) == 2


def test_a_grid_may_have_short_names(outputs: Path, tmp_path: Path) -> None:
    (tmp_path / "own" / "study").mkdir(parents=True)
    study = {"name": "g", "grid": {"aug": ["none", "full"], "model.norm": ["none", "batch"]}, "seeds": [0]}
    study["baseline"] = "augmentation=none,model.norm=none"
    (tmp_path / "own" / "study" / "g.yaml").write_text(f"# @package _global_\nstudy: {json.dumps(study)}\n")
    words = ["--config-dir", str(tmp_path / "own"), "+study=g", *SMALL, f"outputs={outputs}", "model.norm=batch"]
    assert cli.main(["train", *words, "--plan"]) == 0


def test_a_point_of_a_grid_that_is_not_made_now_is_a_baseline(outputs: Path) -> None:
    narrowed = ["train", "+study=mlp_norm_batch", "data=postcards", *SMALL[:-1], f"outputs={outputs}", "seed=0"]
    narrowed += ["study.claims=null", "data.train_limit=null", "--plan"]
    assert cli.main([*narrowed, "batch_size=10,5"]) == 0
    assert cli.main([*narrowed, "study.baseline='model.norm=none,batch_size=51'"]) == 2
