"""A verdict on each claim of a study, corrected for all tests of the study."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cnnexp.claims.grammar import STD, Claim
from cnnexp.claims.metrics import METRICS
from cnnexp.report.analysis.evidence import Evidence
from cnnexp.report.analysis.statistics import LEVEL, MAX_SEEDS, NO_SPREAD, holm, paired
from cnnexp.report.read.study import Arm, Study
from cnnexp.report.read.tested import same_test_images

VERDICTS = ("holds", "does not hold", "not decided", "within noise", "not tested")
Hypothesis = tuple[str, tuple[tuple[str, str, int], ...], float, int]


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict, which begins with one of VERDICTS. remark: what was tested, what would decide."""

    evidence: Evidence
    p_holm: float
    verdict: str
    remark: str


def corrected_p_values(study: Study, evidence: Sequence[Evidence]) -> dict[Hypothesis, float]:
    """Return Holm's adjusted p of every test of a study: each arm against the baseline, and the claims' evidence.

    A hypothesis tested twice, as by the claim that an arm is better than the baseline, counts once.
    """
    found: dict[Hypothesis, float] = {}
    if base := study.baseline:
        others = [arm for arm in study.arms if arm is not base and same_test_images(arm, base)]
        found = {against_baseline(arm, base): paired(arm.accuracies(), base.accuracies()).p for arm in others}
    for of_claim in evidence:
        if not of_claim.reason:
            found.setdefault(_hypothesis_of(of_claim), of_claim.test.p)
    return dict(zip(found, holm(list(found.values())), strict=True))


def against_baseline(arm: Arm, base: Arm) -> Hypothesis:
    """Return the hypothesis of an arm's comparison with the baseline."""
    return _hypothesis("mean", [(arm.key, "test_accuracy", 1), (base.key, "test_accuracy", -1)])


def _hypothesis_of(evidence: Evidence) -> Hypothesis:
    claim = evidence.claim
    assert claim is not None
    terms = [
        ("+".join(arm.key for arm in evidence.arms[term]), f"{term.metric}{' spread' * term.spread}", term.times)
        for term in claim.terms
    ]
    return _hypothesis(claim.kind, terms, claim.threshold, claim.direction)


def _hypothesis(
    kind: str, terms: Iterable[tuple[str, str, int]], threshold: float = 0.0, direction: int = 1
) -> Hypothesis:
    """Return a key that is the same for "a > b", "b < a" and "a < b", because means are tested on two sides."""
    ordered = sorted(terms)
    if ordered[0][2] < 0:
        ordered = [(arm, metric, -times) for arm, metric, times in ordered]
        threshold, direction = (threshold if kind == STD else -threshold), -direction
    return kind, tuple(ordered), threshold, direction if kind == "curve" else 0


def judge(evidence: Sequence[Evidence], corrected: Mapping[Hypothesis, float]) -> list[Judged]:
    """Judge every claim by its evidence. corrected: from corrected_p_values, of all tests of the study."""
    tests = sum(not math.isnan(p) for p in corrected.values())
    return [_judged(of_claim, corrected, tests) for of_claim in evidence]


def _judged(evidence: Evidence, corrected: Mapping[Hypothesis, float], tests: int) -> Judged:
    claim, test = evidence.claim, evidence.test
    if claim is None or evidence.reason:
        remark = ". ".join(part for part in (evidence.reason, evidence.paired_runs) if part)
        return Judged(evidence, math.nan, "not tested", remark)
    p, measured = corrected[_hypothesis_of(evidence)], _measured(evidence, claim)
    if not p < LEVEL:
        verdict, why = _undecided(evidence, claim, tests)
        return Judged(evidence, p, verdict, "; ".join(part for part in (measured, why) if part))
    side = 1 if test.mean > claim.threshold else -1
    if biased := _biased(evidence, claim, side):
        return Judged(evidence, p, "not tested", f"diverged runs are left out, which favours {', '.join(biased)}")
    return Judged(evidence, p, "holds" if side == claim.direction else "does not hold", measured)


def _biased(evidence: Evidence, claim: Claim, side: int) -> list[str]:
    """Return the arms that support the verdict only without their diverged runs, which are in no mean."""
    arms: dict[str, None] = {}
    for term in claim.terms:
        if side * term.times * METRICS[term.metric].better > 0 or claim.kind == STD or term.spread:
            arms |= {arm.label: None for arm in evidence.arms[term] if arm.diverged}
    return list(arms)


def _measured(evidence: Evidence, claim: Claim) -> str:
    """Say what was measured where the claim does not say it."""
    metrics = list(dict.fromkeys(term.metric for term in claim.terms))
    if any(term.spread for term in claim.terms):
        return "spread: the standard deviation over the arms of the name, for each seed"
    if epochs := evidence.epochs:
        words = " and ".join(n.replace("val_", "validation ").replace("train_", "training ") for n in metrics)
        of_another = f"; p: of epoch {epochs.decisive}" if epochs.decisive != epochs.smallest else ""
        return f"the smallest lead is at epoch {epochs.smallest}, by {words}{of_another}"
    if claim.kind == STD:
        return "the ratio of the deviations over the seeds"
    if claim.kind == "convergence":
        return "epochs to a point below the lower of the two runs' best validation accuracies"
    own_best = "epochs until within a point of the run's own best validation accuracy"
    return own_best if "epochs_to_plateau" in metrics else ""


def _undecided(evidence: Evidence, claim: Claim, tests: int) -> tuple[str, str]:
    """Return the verdict on a claim that is not decided, in the words of the comparison, and what would decide."""
    test, decisive = evidence.test, evidence.decisive
    if math.isnan(test.p):
        verdict = f"not decided (n = {test.n}, no spread)"
        return verdict, "the same difference at every seed; a t-test cannot decide"
    alone = test.p < LEVEL
    verdict = f"not decided (n = {test.n})" if alone or test.n == 2 else "within noise"
    if decisive.std <= NO_SPREAD:
        return verdict, "every seed has the number claimed" if claim.threshold else "no difference at any seed"
    seeds = evidence.seeds_needed(LEVEL / tests)  # the level that is sure to pass Holm
    number = f"about {seeds} seeds" if seeds else f"more than {MAX_SEEDS:,} seeds"
    if alone:
        return verdict, f"the interval alone decides, but not after Holm over {tests} tests; {number} would"
    equal = claim.or_equal and claim.threshold == (1 if claim.kind == STD else 0)  # no number of seeds shows "a <= a"
    but = ", none if they are equal: <= and >= are tested as < and >" if equal else ""
    return verdict, f"{number} would decide if it stays as observed{but}"


def summary(judged: Sequence[Judged]) -> str:
    """Count the verdicts: "2 hold, 1 does not hold, 1 not decided, 3 within noise, 1 not tested"."""
    counts = {verdict: sum(j.verdict.startswith(verdict) for j in judged) for verdict in VERDICTS}
    plural = {"holds": "hold", "does not hold": "do not hold"}
    words = [f"{n} {plural.get(v, v) if n > 1 else v}" for v, n in counts.items() if n]
    return ", ".join(words)
