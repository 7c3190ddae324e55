"""What a study tests, computed a second time: differences from the baseline, claims, and Holm over both."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnexp.claims.grammar import STD, Claim, Term, members, parse
from cnnexp.claims.metrics import metric as metric_of
from cnnexp.config.keys import ALL, counts
from cnnexp.errors import UserError
from cnnexp.report.read.runs import PLATEAU_MARGIN, Run
from cnnexp.report.read.study import Arm, Study
from recomputed.arithmetic import Key, Spread, lasting, mcnemar, ratio, smallest_found, spread, stepped
from recomputed.of_runs import Recomputed

Table = list[dict[str, Any]]
COLUMNS = ("mean", "std", "low", "high", "n", "p")
SIGNIFICANT, FINAL = 0.05, 0.04  # the level; what is spent of it when all planned seeds are done
FEWEST = 3  # seeds that can decide


@dataclass(frozen=True)
class Stated:
    """A claim of a study. claim: None if it cannot be read; arms: of each term, {} if one has no finished runs."""

    text: str
    claim: Claim | None
    arms: Mapping[Term, Sequence[Arm]]


class Tested:
    """The tests of one study, and the numbers of its runs that they are about."""

    def __init__(self, study: Study):
        self.study = study
        self.runs = {id(run): Recomputed(run) for run in study.runs}
        self.stated = [self.state(text) for text in study.claims]

    def state(self, text: str) -> Stated:
        """Read a claim, and find its arms."""
        try:
            claim = parse(text)
        except UserError:
            return Stated(text, None, {})
        known = [*(arm.name for arm in self.study.arms), *(run.arm for run in self.study.left_out)]
        arms: dict[Term, Sequence[Arm]] = {}
        for term in claim.terms:
            names = members(term.arm, known) if term.spread else [term.arm]
            found = [self.study.named(name) for name in names]
            if (term.spread and len(names) < 2) or any(len(same) != 1 or not same[0].runs for same in found):
                return Stated(text, claim, {})
            arms[term] = [same[0] for same in found]
        return Stated(text, claim, arms)

    def of(self, arm: Arm) -> dict[Key, Recomputed]:
        """Return the done runs of an arm."""
        return {key_of(run): self.runs[id(run)] for run in arm.runs}

    def values(self, arm: Arm, get: Callable[[Recomputed], float]) -> dict[Key, float]:
        """Return {seed: value} of an arm's done runs, where it is finite."""
        found = {seed: get(run) for seed, run in self.of(arm).items()}
        return {seed: value for seed, value in found.items() if math.isfinite(value)}

    def metric(self, arm: Arm, name: str) -> dict[Key, float]:
        """Return {seed: value} of one of METRICS, in its unit."""
        return self.values(arm, lambda run: run.metric(name))

    def apart(self, arm: Arm, other: Arm) -> str:
        """Return "epochs 3ep and 6ep" of two arms whose first runs have other settings that neither sets, else ""."""
        if arm.name == other.name or not arm.runs or not other.runs:
            return ""
        pair = [self.runs[id(a.runs[0])] for a in (arm, other)]
        mine, theirs = (run.leaves() for run in pair)
        keys = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
        keys = [key for key in keys if all(counts(key, purpose) for purpose in ALL)]
        keys = [key for key in keys if not any(run.sets(key) for run in pair)]
        return "; ".join(f"{key} {mine.get(key)} and {theirs.get(key)}" for key in keys)

    def against_baseline(self, arm: Arm, base: Arm) -> Spread:
        """Return the differences in points, paired by seed; none of arms that are apart."""
        if self.apart(arm, base):
            return spread({})
        mine, theirs = self.metric(arm, "test_accuracy"), self.metric(base, "test_accuracy")
        return spread({seed: mine[seed] - theirs[seed] for seed in mine.keys() & theirs.keys()})

    def mcnemar(self, arm: Arm, base: Arm) -> float:
        """Return McNemar's p of two arms at the one seed that they share; nan if their test images differ."""
        (seed,) = self.of(arm).keys() & self.of(base).keys()
        first, second = (self.of(a)[seed] for a in (arm, base))
        if first.images() is None or first.images() != second.images():
            return math.nan
        return mcnemar(first.right(), second.right())

    def family(self) -> dict[Any, float]:
        """Return what p of every test must be below: of arms against the baseline, and of the other claims.

        All seeds count as planned ones. nan of what cannot be tested.
        """
        base = self.study.baseline
        compares: dict[Any, tuple[Spread, bool]] = {}
        for arm in self.study.arms if base else []:
            if base and arm is not base:
                test = self.against_baseline(arm, base)
                winner = arm if test["mean"] > 0 else base
                compares[compared(arm, base)] = test, bool(winner.diverged)
        claims: dict[Any, tuple[Spread, bool]] = {}
        for stated in self.stated:
            test = self.tested(stated)
            if can_decide(stated, test) and _claimed(stated) not in compares:
                claims.setdefault(_claimed(stated), (test, bool(flattered(stated, test))))
        return limits_of(compares) | limits_of(claims)

    def tested(self, stated: Stated) -> Spread:
        """Return the numbers of a claim."""
        claim = stated.claim
        if claim is None or not stated.arms or self.validated_apart(stated) or self.claims_apart(stated):
            return spread({})
        if claim.kind == "convergence":
            return spread(self.epochs_apart(*(stated.arms[term][0] for term in claim.terms)))
        if claim.kind == "curve":
            return lasting(self.leads(claim, stated.arms), claim.threshold, claim.direction)
        values = [self.value(term, stated.arms[term]) for term in claim.terms]
        seeds = sorted(set.intersection(*(set(value) for value in values)))
        if claim.kind == STD and any(seed[0] for seed in seeds):
            return spread({})
        if claim.kind == STD:
            return ratio(*([value[seed] for seed in seeds] for value in values))
        sums = {seed: sum(t.times * v[seed] for t, v in zip(claim.terms, values, strict=True)) for seed in seeds}
        return spread(sums, claim.threshold)

    def claims_apart(self, stated: Stated) -> bool:
        """Tell whether two arms of a claim have other settings that neither sets."""
        arms = [arm for of_term in stated.arms.values() for arm in of_term]
        return any(self.apart(*pair) for pair in itertools.combinations(arms, 2))

    def validated_apart(self, stated: Stated) -> bool:
        """Tell whether a claim compares numbers of different validation images, for a seed that two arms share."""
        claim = stated.claim
        assert claim is not None
        arms: list[Arm] = []
        for term in claim.terms:
            curve = metric_of(term.metric).curve if claim.kind == "curve" else None
            name = "val" if claim.kind == "convergence" else curve[0] if curve else term.metric
            if name.startswith("val") or (term.metric == "epochs_to_plateau" and claim.kind != "curve"):
                arms += stated.arms[term]
        pairs = [(self.of(arms[0]), self.of(arm)) for arm in arms[1:]]
        return any(mine[seed].drew_apart(of[seed]) for mine, of in pairs for seed in mine.keys() & of.keys())

    def value(self, term: Term, arms: Sequence[Arm]) -> dict[Key, float]:
        """Return {seed: value} of a term: of its one arm, or the deviation over all that a spread is over."""
        values = [self.metric(arm, term.metric) for arm in arms]
        if not term.spread:
            return values[0]
        seeds = set.intersection(*(set(value) for value in values))
        return {seed: float(np.std([value[seed] for value in values], ddof=1)) for seed in seeds}

    def leads(self, claim: Claim, arms: Mapping[Term, Sequence[Arm]]) -> dict[Key, dict[int, float]]:
        """Return for each shared seed {epoch: lead}."""
        seeds = set.intersection(*(set(self.of(arms[term][0])) for term in claim.terms))
        found = {}
        for seed in sorted(seeds):
            lead: dict[int, float] | None = None
            for term in claim.terms:
                metric = metric_of(term.metric)
                assert metric.curve is not None
                curve = self.of(arms[term][0])[seed].curve(*metric.curve)
                lead = {
                    epoch: (0.0 if lead is None else lead[epoch]) + term.times * metric.scale * value
                    for epoch, value in curve.items()
                    if lead is None or epoch in lead
                }
            if lead:
                found[seed] = lead
        return found

    def epochs_apart(self, first: Arm, second: Arm) -> dict[Key, float]:
        """Return for each shared seed the difference in epochs to a point below the lower of the two best values."""
        mine, theirs = self.of(first), self.of(second)
        found = {}
        for seed in sorted(mine.keys() & theirs.keys()):
            curves = [of[seed].curve("val", "accuracy") for of in (mine, theirs)]
            if all(curves):
                level = min(max(curve.values()) for curve in curves)
                epochs = [min(e for e, v in curve.items() if v + PLATEAU_MARGIN + 1e-9 >= level) for curve in curves]
                found[seed] = float(epochs[0] - epochs[1])
        return found

    def claims(self) -> Table:
        """Return what claims.csv should hold."""
        corrected = self.family() if self.stated else {}
        lines = []
        for stated in self.stated:
            claim, test = stated.claim, self.tested(stated)
            limit = corrected[_claimed(stated)] if can_decide(stated, test) else math.nan
            numbers = {f"{k}{limits(k)}": test[k] for k in COLUMNS}
            line = {"claim": stated.text, "unit": claim.unit if claim else "", "reported": self.reported(claim)}
            verdict = "not comparable" if self.claims_apart(stated) else verdict_on(stated, test, limit)
            of_a_mean = claim is not None and claim.kind in ("mean", "convergence") and verdict not in UNTESTED
            detectable = smallest_found(test, limit) if of_a_mean else math.nan
            lines.append({**line, **numbers, **decided(test, limit), "detectable": detectable, "verdict": verdict})
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


def can_decide(stated: Stated, test: Spread) -> bool:
    """Tell whether a claim is tested: by two seeds or more; a ratio of deviations by three, and with a p value."""
    assert stated.claim is not None or not test["n"]
    of_std = stated.claim is not None and stated.claim.kind == STD
    return test["n"] >= (3 if of_std else 2) and not (of_std and math.isnan(test["p"]))


DECIDED = ("holds", "does not hold", "better", "worse")
UNTESTED = (*DECIDED, "not tested", "not comparable")


def limits_of(tests: Mapping[Any, tuple[Spread, bool]]) -> dict[Any, float]:
    """Return what p of each test of a family must be below; tests: with whether diverged runs keep it undecided."""
    enough = {key: test for key, (test, _) in tests.items() if test["n"] >= FEWEST or test["n"] < test["of"]}
    can = {key: math.inf if t["n"] < t["of"] else t["p"] for key, t in enough.items() if not math.isnan(t["p"])}
    found = dict(zip(can, stepped([math.inf if tests[key][1] else p for key, p in can.items()], FINAL), strict=True))
    return {key: math.nan if t["n"] < t["of"] else found.get(key, math.nan) for key, (t, _) in tests.items()}


def decided(test: Spread, limit: float) -> dict[str, Any]:
    """Return the columns of a decision."""
    made = not math.isnan(limit)
    rule, n = ("all folds" if test["of"] else "planned seeds", test["n"]) if made else ("", 0)
    return {"p_limit": limit, "p_compared": test["p"] if made else math.nan, "seeds_compared": n, "rule": rule}


def flattered(stated: Stated, test: Spread) -> int:
    """Return how many diverged runs are left out that the verdict on a claim would rest on."""
    claim = stated.claim
    assert claim is not None
    side = math.copysign(1, test["mean"] - claim.threshold)
    left_out = set[tuple[str, str]]()
    for term in claim.terms:
        helps = term.spread or claim.kind == STD or side * term.times * metric_of(term.metric).better > 0
        left_out |= {(arm.label, run.name) for arm in stated.arms[term] for run in arm.diverged if helps}
    return len(left_out)


def verdict_on(stated: Stated, test: Spread, limit: float) -> str:
    """Return the verdict on a claim. Runs that diverged and would have weakened a side leave it undecided."""
    claim, n = stated.claim, test["n"]
    if claim is None or not can_decide(stated, test):
        return "not tested"
    if test["p"] < limit:
        side = math.copysign(1, test["mean"] - claim.threshold)
        if lost := flattered(stated, test):
            return f"not decided ({lost} diverged)"
        return ("holds" if side == claim.direction else "does not hold") + over(test)
    if n < test["of"]:
        return f"provisional: {n} of {test['of']} folds"
    if math.isnan(test["p"]):
        return f"not decided (n = {n}, no spread)"
    return f"not decided (n = {n})" if n < FEWEST or test["p"] < SIGNIFICANT else f"within noise{over(test)}"


def verdict_of(test: Spread, limit: float, diverged: int, of_baseline: int, words: tuple[str, str]) -> str:
    """Return the verdict on a difference in one of two words (above 0, below 0), or why there is none."""
    n = test["n"]
    if 0 < n < test["of"]:
        return f"provisional: {n} of {test['of']} folds"
    if n < 2:
        return "one seed: no verdict" if n else "no shared seed: no verdict"
    if math.isnan(test["p"]):
        return f"not decided (n = {n}, no spread)"
    if test["p"] < limit:
        above = test["mean"] > 0
        lost = diverged if above else of_baseline
        return f"not decided ({lost} diverged)" if lost else words[0 if above else 1] + over(test)
    return f"not decided (n = {n})" if test["p"] < SIGNIFICANT or n < FEWEST else f"within noise{over(test)}"


def over(test: Spread) -> str:
    """Return what a verdict on folds ends in."""
    return f" over {test['n']} folds" if test["of"] else ""


def key_of(run: Run) -> Key:
    """Return what pairs a run with one of another arm: the fold and the seed."""
    fold = run.get("fold") or {"of": 0, "fold": 0}
    return fold["of"], fold["fold"], run.seed


def limits(name: str) -> str:
    """Return what the columns of a 95 % limit end in."""
    return "95" if name in ("low", "high") else ""


def compared(arm: Arm, base: Arm) -> Any:
    """Return a key of what the comparison of an arm with the baseline tests."""
    return _hypothesis([(arm.key, "test_accuracy", 1), (base.key, "test_accuracy", -1)], 0.0)


def _claimed(stated: Stated) -> Any:
    """Return a key that is the same for claims that test the same: the other way round, or with another >= for >."""
    claim = stated.claim
    assert claim is not None
    terms = [
        ("+".join(arm.key for arm in stated.arms[term]), f"{term.metric}{' spread' * term.spread}", term.times)
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
