"""What a study tests, in families that each have a level of their own, and a verdict on each claim."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cnnexp.claims.grammar import STD, Claim, members
from cnnexp.claims.metrics import metric as metric_of
from cnnexp.records.study import identity
from cnnexp.report.analysis.decisions import (
    BOTH_SIDES,
    NO_DECISION,
    Decision,
    Test,
    decided_before,
    over_folds,
    why_undecided,
)
from cnnexp.report.analysis.evidence import Evidence
from cnnexp.report.analysis.outlook import NO_OUTLOOK, Outlook
from cnnexp.report.analysis.sequential import anytime_p
from cnnexp.report.analysis.statistics import NO_SPREAD, Estimate, paired
from cnnexp.report.read.comparable import NOT_COMPARABLE, settings_apart
from cnnexp.report.read.study import Arm, Study
from cnnexp.report.read.tested import same_test_images

VERDICTS = ("holds", "does not hold", "not decided", "within noise", "provisional", "not tested", NOT_COMPARABLE)
Hypothesis = tuple[str, int]  # a text that names it in study.json, and the side of it that the asked side is, 1 or -1


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict, which begins with one of VERDICTS. remark: what was tested, what would decide.

    detectable: of an undecided claim, the distance from the claimed number that these seeds would show; see Outlook.
    """

    evidence: Evidence
    decision: Decision
    verdict: str
    remark: str
    detectable: float = math.nan


def comparison_tests(study: Study) -> dict[str, Test]:
    """Return the tests of each arm against the baseline: the first family."""
    if (base := study.baseline) is None:
        return {}
    found = {}
    for arm in study.arms:
        if arm is not base and not settings_apart(arm, base) and same_test_images(arm, base):
            name, sign = against_baseline(arm, base)
            test = paired(mine := arm.accuracies(), theirs := base.accuracies())
            waits, total = study.schedule.seeds_of([arm.name, base.name])
            seeds, side = tuple(sorted(mine.keys() & theirs.keys())), sign * _side(test.mean)
            barred = frozenset(sign * won for won, winner in ((1, arm), (-1, base)) if winner.diverged)
            in_points = replace(test, mean=100 * test.mean, std=100 * test.std)
            found[name] = Test(seeds, test.p, anytime_p(test), side, False, barred, waits, total, in_points)
    for name in study.schedule.waiting.keys() - {arm.name for arm in study.arms}:  # arms without a run yet
        waits, total = study.schedule.seeds_of([name, base.name])
        found[f"mean: {name}"] = Test((), math.nan, math.nan, 0, waits=waits, total=total)
    return found


def claim_tests(study: Study, evidence: Sequence[Evidence], compared: Mapping[str, Test]) -> dict[str, Test]:
    """Return the tests of the claims that the comparison does not make: the second family.

    A claim made twice, as "a > b" and "b < a", is one test. One that cannot be made yet, but waits for seeds, counts.
    """
    found: dict[str, Test] = {}
    for of_claim in evidence:
        name, sign = hypothesis_of(of_claim)
        if (claim := of_claim.claim) is None or of_claim.is_apart or name in compared or name in found:
            continue
        waits, total = study.schedule.seeds_of(_names(study, of_claim))
        if not of_claim.reason:
            side = _side(of_claim.test.mean - claim.threshold, claim, of_claim.test)
            barred = frozenset(sign * one for one in BOTH_SIDES if _biased(of_claim, claim, one))
            p, anytime, one_sided = of_claim.test.p, of_claim.anytime_p, claim.kind == "within"
            sample = None if claim.kind == STD else of_claim.decisive
            found[name] = Test(
                *(of_claim.seeds, p, anytime, sign * side, one_sided, barred, waits, total, sample, claim.threshold),
                claim.kind == "curve",
            )
        elif waits and all(arm in study.schedule.listed for arm in _names(study, of_claim)):
            found[name] = Test(of_claim.seeds, math.nan, math.nan, 0, waits=waits, total=total)
    return found


def _side(lead: float, claim: Claim | None = None, test: Estimate | None = None) -> int:
    """Return 1 or -1: on which side of the tested number a mean is; of a margin, 1 outside it."""
    if claim and test and claim.kind == "within":
        lead = abs(test.mean) - claim.threshold
    return 1 if lead > 0 else -1


def _names(study: Study, evidence: Evidence) -> list[str]:
    """Return the names of a claim's arms, with runs or without."""
    assert evidence.claim is not None
    if evidence.arms:
        return [arm.name for arms in evidence.arms.values() for arm in arms]
    known = study.schedule.listed
    return [name for term in evidence.claim.terms for name in (members(term.arm, known) if term.spread else [term.arm])]


def against_baseline(arm: Arm, base: Arm) -> Hypothesis:
    """Return the hypothesis of an arm's comparison with the baseline."""
    return _hypothesis("mean", [(_identity(arm), "test_accuracy", 1), (_identity(base), "test_accuracy", -1)])


def hypothesis_of(evidence: Evidence) -> Hypothesis:
    """Return the hypothesis of a claim; its own text if its arms are not known yet."""
    claim = evidence.claim
    if claim is None or not evidence.arms:
        return evidence.text, 1
    terms = [
        ("+".join(map(_identity, evidence.arms[term])), f"{term.metric}{' spread' * term.spread}", term.times)
        for term in claim.terms
    ]
    return _hypothesis(claim.kind, terms, claim.threshold, claim.direction)


def _identity(arm: Arm) -> str:
    return identity(arm.name, arm.fingerprint)


def _hypothesis(
    kind: str, terms: Iterable[tuple[str, str, int]], threshold: float = 0.0, direction: int = 1
) -> Hypothesis:
    """Return the same text for "a > b", "b < a" and "a < b", because means are tested on two sides."""
    ordered, sign = sorted(terms), 1
    if ordered[0][2] < 0:
        ordered, sign = [(arm, metric, -times) for arm, metric, times in ordered], -1
        threshold, direction = (threshold if kind in (STD, "within") else -threshold), -direction
    sides = f" ({'above' if direction > 0 else 'below'})" if kind == "curve" else ""
    text = " ".join(f"{times:+d} {arm}.{metric}" for arm, metric, times in ordered)
    return f"{kind}{sides}: {text} against {threshold + 0:g}", 1 if kind == "within" else sign


def judge(evidence: Evidence, decisions: Mapping[str, Decision], outlooks: Mapping[str, Outlook]) -> Judged:
    """Judge a claim by its evidence. decisions, outlooks: of all tests of the study."""
    claim, (name, sign) = evidence.claim, hypothesis_of(evidence)
    decision = decisions.get(name, NO_DECISION)
    if claim is None or evidence.reason:
        if evidence.is_apart:
            return Judged(evidence, decision, NOT_COMPARABLE, evidence.reason.removeprefix(f"{NOT_COMPARABLE}: "))
        remark = ". ".join(part for part in (evidence.reason, evidence.paired_runs) if part)
        return Judged(evidence, decision, decision.provisional or "not tested", remark)
    measured = _measured(evidence, claim)
    if decision.side:
        verdict = "holds" if sign * decision.side == claim.direction else "does not hold"
        stands = over_folds(evidence.test) + decided_before(len(evidence.seeds), decision)
        return Judged(evidence, decision, verdict + stands, measured)
    outlook = outlooks.get(name, NO_OUTLOOK)
    side = _side(evidence.test.mean - claim.threshold, claim, evidence.test)
    if decision.crossed and (biased := _biased(evidence, claim, side)):
        diverged = sum(len(arm.diverged) for arm in biased)
        remark = f"diverged runs are left out, which favours {', '.join(arm.label for arm in biased)}"
        return Judged(evidence, decision, f"not decided ({diverged} diverged)", remark, outlook.detectable)
    verdict = decision.provisional or why_undecided(evidence.test)
    equal = claim.or_equal and claim.threshold == (1 if claim.kind == STD else 0)  # no number of seeds shows "a <= a"
    never = "no number of seeds decides if they are equal: <= and >= are tested as < and >" if equal else ""
    remark = "; ".join(part for part in (measured, _without_spread(evidence), outlook.advice, never) if part)
    return Judged(evidence, decision, verdict, remark, outlook.detectable)


def _biased(evidence: Evidence, claim: Claim, side: int) -> list[Arm]:
    """Return the arms that support the verdict only without their diverged runs, which are in no mean."""
    arms: dict[str, Arm] = {}
    for term in claim.terms:
        if side * term.times * metric_of(term.metric).better > 0 or claim.kind in (STD, "within") or term.spread:
            arms |= {arm.label: arm for arm in evidence.arms[term] if arm.diverged}
    return list(arms.values())


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


def _without_spread(evidence: Evidence) -> str:
    """Say why no number of seeds like these decides, "" if they differ."""
    assert evidence.claim is not None
    unit = evidence.test.unit
    if math.isnan(evidence.test.p):
        return f"the same difference at every {unit}; a t-test cannot decide"
    if evidence.claim.kind != STD and evidence.decisive.std <= NO_SPREAD:
        return f"every {unit} has the number claimed" if evidence.claim.threshold else f"no difference at any {unit}"
    return ""


def summary(judged: Sequence[Judged]) -> str:
    """Count the verdicts: "2 hold, 1 does not hold, 1 not decided, 3 within noise, 1 not tested"."""
    counts = {verdict: sum(j.verdict.startswith(verdict) for j in judged) for verdict in VERDICTS}
    plural = {"holds": "hold", "does not hold": "do not hold"}
    words = [f"{n} {plural.get(v, v) if n > 1 else v}" for v, n in counts.items() if n]
    return ", ".join(words)
