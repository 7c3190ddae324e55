"""What a study tests, computed a second time: differences from the baseline, claims, effects, and Holm over them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cnnexp.claims.grammar import STD, Claim, Term
from cnnexp.claims.metrics import METRICS
from cnnexp.report.analysis import effects as contrasts
from cnnexp.report.analysis import paired_runs
from cnnexp.report.analysis.evidence import Evidence
from cnnexp.report.analysis.findings import analyse
from cnnexp.report.read.collect import Arm, Study
from cnnexp.report.read.runs import WITHIN
from recomputed.arithmetic import Spread, holm, lasting, mcnemar, ratio, spread
from recomputed.of_runs import Recomputed

Table = list[dict[str, Any]]
COLUMNS = ("mean", "std", "low", "high", "n", "p")


class Tested:
    """The tests of one study, and the numbers of its runs that they are about."""

    def __init__(self, study: Study):
        self.study = study
        self.runs = {id(run): Recomputed(run) for run in study.runs}
        self.findings = analyse(study)
        self.evidence = [judged.evidence for judged in self.findings.judged]

    def of(self, arm: Arm) -> dict[int, Recomputed]:
        """Return {seed: run} of an arm's done runs."""
        return {run.seed: self.runs[id(run)] for run in arm.runs}

    def values(self, arm: Arm, get: Callable[[Recomputed], float]) -> dict[int, float]:
        """Return {seed: value} of an arm's done runs, where it is finite."""
        found = {seed: get(run) for seed, run in self.of(arm).items()}
        return {seed: value for seed, value in found.items() if math.isfinite(value)}

    def metric(self, arm: Arm, name: str) -> dict[int, float]:
        """Return {seed: value} of one of METRICS, in its unit."""
        return self.values(arm, lambda run: run.metric(name))

    def against_baseline(self, arm: Arm, base: Arm) -> Spread:
        """Return the differences in points, paired by seed."""
        mine, theirs = self.metric(arm, "test_accuracy"), self.metric(base, "test_accuracy")
        return spread([mine[seed] - theirs[seed] for seed in mine.keys() & theirs.keys()])

    def mcnemar(self, arm: Arm, base: Arm) -> float:
        """Return McNemar's p of two arms at the one seed that they share; nan if their test images differ."""
        if paired_runs.same_images_test(arm, base) is None:
            return math.nan
        (seed,) = self.of(arm).keys() & self.of(base).keys()
        first, second = (self.of(a)[seed].right() for a in (arm, base))
        return math.nan if first is None or second is None else mcnemar(first, second)

    def family(self) -> dict[Any, float]:
        """Return Holm's p of every hypothesis that the study tests: arms against the baseline, and claims."""
        base = self.study.baseline
        found: dict[Any, float] = {}
        for arm in self.study.arms if base else []:
            if base and arm is not base:
                found[compared(arm, base)] = self.against_baseline(arm, base)["p"]
        for evidence in self.evidence:
            if not evidence.reason:
                found.setdefault(_claimed(evidence), self.tested(evidence)["p"])
        return dict(zip(found, holm(list(found.values())), strict=True))

    def tested(self, evidence: Evidence) -> Spread:
        """Return the numbers of a claim."""
        claim = evidence.claim
        if claim is None or not evidence.arms:
            return spread([])
        if claim.kind == "convergence":
            return spread(self.epochs_apart(*(evidence.arms[term][0] for term in claim.terms)))
        if claim.kind == "curve":
            return lasting(self.leads(claim, evidence.arms), claim.threshold, claim.direction)
        values = [self.value(term, evidence.arms[term]) for term in claim.terms]
        seeds = sorted(set.intersection(*(set(value) for value in values)))
        if claim.kind == STD:
            return ratio(*([value[seed] for seed in seeds] for value in values))
        sums = [sum(t.times * value[seed] for t, value in zip(claim.terms, values, strict=True)) for seed in seeds]
        return spread(sums, claim.threshold)

    def value(self, term: Term, arms: Sequence[Arm]) -> dict[int, float]:
        """Return {seed: value} of a term: of its one arm, or the deviation over all that a spread is over."""
        values = [self.metric(arm, term.metric) for arm in arms]
        if not term.spread:
            return values[0]
        seeds = set.intersection(*(set(value) for value in values))
        return {seed: float(np.std([value[seed] for value in values], ddof=1)) for seed in seeds}

    def leads(self, claim: Claim, arms: Mapping[Term, Sequence[Arm]]) -> list[dict[int, float]]:
        """Return for each shared seed {epoch: lead}."""
        seeds = set.intersection(*(set(self.of(arms[term][0])) for term in claim.terms))
        found = []
        for seed in sorted(seeds):
            lead: dict[int, float] | None = None
            for term in claim.terms:
                metric = METRICS[term.metric]
                assert metric.curve is not None
                curve = self.of(arms[term][0])[seed].curve(*metric.curve)
                lead = {
                    epoch: (0.0 if lead is None else lead[epoch]) + term.times * metric.scale * value
                    for epoch, value in curve.items()
                    if lead is None or epoch in lead
                }
            if lead:
                found.append(lead)
        return found

    def epochs_apart(self, first: Arm, second: Arm) -> list[float]:
        """Return for each shared seed the difference in epochs to a point below the lower of the two best values."""
        mine, theirs = self.of(first), self.of(second)
        found = []
        for seed in sorted(mine.keys() & theirs.keys()):
            curves = [of[seed].curve("val", "accuracy") for of in (mine, theirs)]
            if all(curves):
                level = min(max(curve.values()) for curve in curves)
                epochs = [min(e for e, v in curve.items() if v + WITHIN + 1e-9 >= level) for curve in curves]
                found.append(float(epochs[0] - epochs[1]))
        return found

    def claims(self) -> Table:
        """Return what claims.csv should hold."""
        corrected = self.family() if self.evidence else {}
        lines = []
        for evidence, judged in zip(self.evidence, self.findings.judged, strict=True):
            test = self.tested(evidence)
            p = math.nan if evidence.reason else corrected[_claimed(evidence)]
            numbers = {f"{k}{limits(k)}": test[k] for k in COLUMNS}
            claim = evidence.claim
            line = {"claim": evidence.text, "unit": claim.unit if claim else "", "reported": self.reported(claim)}
            lines.append({**line, **numbers, "p_holm": p, "verdict": judged.verdict})
        return lines

    def reported(self, claim: Claim | None) -> float:
        """Return a claim's number of the reported values; nan if one of them is missing."""
        if claim is None or claim.kind in ("curve", "convergence") or any(term.spread for term in claim.terms):
            return math.nan
        of_std = claim.kind == STD and all(term.metric == "test_accuracy" for term in claim.terms)
        names = [STD if of_std else term.metric for term in claim.terms]
        values = [self.study.reported.get(t.arm, {}).get(n, math.nan) for t, n in zip(claim.terms, names, strict=True)]
        if claim.kind == STD:
            return values[0] / values[1] if of_std and values[1] else math.nan
        return math.fsum(term.times * value for term, value in zip(claim.terms, values, strict=True))

    def effects(self) -> Table:
        """Return what effects.csv should hold."""
        layout = contrasts.layout(self.study)
        found = self.findings.effects
        points = [self.effect(_weights(effect, layout), layout) for effect in found]
        tested = iter(holm([p["p"] for p, effect in zip(points, found, strict=True) if effect.words]))
        return [
            {
                "effect": effect.name,
                **{f"points_{k}{limits(k)}": p[k] for k in ("mean", "std", "low", "high")},
                "n": p["n"],
                "p": p["p"],
                "p_holm": next(tested) if effect.words else math.nan,
                "verdict": effect.verdict,
            }
            for p, effect in zip(points, found, strict=True)
        ]

    def effect(self, weights: Mapping[frozenset[str], float], layout: contrasts.Layout) -> Spread:
        """Return a weighted sum of the arms' accuracies, in points."""
        values = {members: self.metric(layout[members], "test_accuracy") for members in weights}
        seeds = set.intersection(*(set(value) for value in values.values()))
        return spread([sum(w * values[members][seed] for members, w in weights.items()) for seed in sorted(seeds)])


def limits(name: str) -> str:
    """Return what the columns of a 95 % limit end in."""
    return "95" if name in ("low", "high") else ""


def compared(arm: Arm, base: Arm) -> Any:
    """Return a key of what the comparison of an arm with the baseline tests."""
    return _hypothesis([(arm.key, "test_accuracy", 1), (base.key, "test_accuracy", -1)], 0.0)


def _claimed(evidence: Evidence) -> Any:
    """Return a key that is the same for claims that test the same: the other way round, or with another >= for >."""
    claim = evidence.claim
    assert claim is not None
    terms = [
        ("+".join(arm.key for arm in evidence.arms[term]), f"{term.metric}{' spread' * term.spread}", term.times)
        for term in claim.terms
    ]
    if claim.kind == "convergence":
        return claim.kind, _hypothesis(terms, 0.0)
    if claim.kind == STD:
        return STD, frozenset(term[:2] for term in terms)
    if claim.kind == "curve":
        return "curve", _hypothesis(terms, claim.threshold, claim.direction)
    return _hypothesis(terms, claim.threshold)


def _hypothesis(terms: Sequence[tuple[str, str, int]], threshold: float, direction: int = 0) -> Any:
    turned = frozenset((arm, metric, -times) for arm, metric, times in terms)
    return frozenset([(frozenset(terms), threshold, direction), (turned, -threshold, -direction)])


def _weights(effect: contrasts.Effect, layout: contrasts.Layout) -> dict[frozenset[str], float]:
    """Return how much each arm counts in an effect: by its name, and who is in which combination."""
    by_label = {arm.label: members for members, arm in layout.items()}
    nothing: frozenset[str] = frozenset()
    if effect.formula.startswith("mean of the arms"):
        chosen = frozenset(effect.name.split(" x "))
        half = len(layout) / 2
        return {members: (1 if (len(chosen - members) % 2 == 0) else -1) / half for members in layout}
    if effect.name.endswith(" beyond the sum of its parts"):
        members = by_label[effect.name.removesuffix(" beyond the sum of its parts")]
        return {members: 1.0, **{frozenset({single}): -1.0 for single in members}, nothing: len(members) - 1.0}
    return {by_label[effect.name.removesuffix(" alone")]: 1.0, nothing: -1.0}
