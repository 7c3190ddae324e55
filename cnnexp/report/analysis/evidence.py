"""What the seeds say of each claim of a study: the values, their test, or why it cannot be tested."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cnnexp.claims.grammar import STD, Claim, Term, members, parse
from cnnexp.claims.metrics import METRICS
from cnnexp.errors import UserError, did_you_mean
from cnnexp.report.analysis import paired_runs
from cnnexp.report.analysis.statistics import (
    LEVEL,
    MIN_SEEDS_FOR_RATIO,
    Difference,
    EpochTests,
    against,
    over_epochs,
    ratio_of_deviations,
    seeds_needed,
    seeds_needed_for_ratio,
)
from cnnexp.report.read.runs import PLATEAU_MARGIN, Run
from cnnexp.report.read.study import Arm, Study
from cnnexp.text import plain

NOTHING = Difference(0, math.nan, math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Evidence:
    """A claim and what the seeds say of it, in the claim's unit. claim: None if it cannot be read.

    arms: of each term, one or those that a spread is over.
    samples: over the shared seeds, the sum of the terms; of a claim about deviations, each side's values. test: the
    mean of the sum, or the ratio of the deviations. epochs: of a claim about every epoch, in place of samples.
    reported: the same of the reported values, nan if one is missing.
    reason: why it is not tested, "" if it is; beside: what two single runs show.
    """

    text: str
    claim: Claim | None
    arms: Mapping[Term, Sequence[Arm]] = field(default_factory=dict)
    samples: tuple[list[float], ...] = ()
    test: Difference = NOTHING
    epochs: EpochTests | None = None
    reported: float = math.nan
    reason: str = ""
    beside: str = ""

    @property
    def decisive(self) -> Difference:
        """Return the numbers that p is of: of one epoch, if the claim is about every epoch."""
        return self.epochs.by_epoch[self.epochs.decisive] if self.epochs else self.test

    def seeds_needed(self, level: float = LEVEL) -> int | None:
        """Return about how many seeds would decide, if the observed deviations stay; None if a thousand do not."""
        assert self.claim is not None
        if self.claim.kind == STD:
            first, second = self.samples
            return seeds_needed_for_ratio(first, second, level)
        if self.epochs:
            return self.epochs.seeds_needed(level)
        return seeds_needed(self.test.mean - self.claim.threshold, self.test.std, level)


def gather_evidence(study: Study) -> list[Evidence]:
    """Return the evidence for every claim of the study, in its order."""
    return [_evidence(study, text) for text in study.claims]


def _evidence(study: Study, text: str) -> Evidence:
    try:
        claim = parse(text)
    except UserError as error:
        return Evidence(text, None, reason=f"cannot be read: {plain(error)}")
    reported = _reported(study, claim)
    names = {term: _names(study, term) for term in claim.terms}
    missing = [reason for term in claim.terms if (reason := _missing_of(study, term, names[term]))]
    if missing:
        return Evidence(text, claim, reported=reported, reason="; ".join(dict.fromkeys(missing)))
    arms = {term: [study.named(name)[0] for name in names[term]] for term in claim.terms}
    if claim.kind == "curve":
        epochs = over_epochs(_leads(claim, arms), claim.threshold, claim.direction)
        test = epochs.test if epochs else NOTHING
        return Evidence(text, claim, arms, (), test, epochs, reported, _too_few(claim, test))
    samples = _samples(claim, arms)
    test = ratio_of_deviations(*samples) if claim.kind == STD else against(samples[0], claim.threshold)
    beside = _two_networks(claim, arms) if test.n == 1 else ""
    return Evidence(text, claim, arms, samples, test, None, reported, _too_few(claim, test), beside)


def _names(study: Study, term: Term) -> list[str]:
    """Return the names of a term's arms, finished or not: a spread without those that failed would flatter."""
    if not term.spread:
        return [term.arm]
    return members(term.arm, [*(arm.name for arm in study.arms), *(run.arm for run in study.left_out)])


def _missing_of(study: Study, term: Term, names: Sequence[str]) -> str:
    """Say why a term has no value, "" if it has."""
    if term.spread and len(names) < 2:
        return f"fewer than two arms have '{plain(term.arm)}' in their name"
    return "; ".join(reason for name in names if (reason := _missing(study, name)))


def _missing(study: Study, name: str) -> str:
    """Say why an arm has no values, "" if it has."""
    found = study.named(name)
    if len(found) > 1:
        return f"{plain(name)} has several configs: {', '.join(arm.label for arm in found)}"
    if found and found[0].runs:
        return ""
    if found:
        return f"all runs of {plain(name)} diverged"
    others = Counter(run.status for run in study.left_out if run.arm == plain(name))
    if others:
        return f"no finished run of {plain(name)} ({', '.join(f'{n} {status}' for status, n in others.items())})"
    return f"no finished run of {plain(name)}{did_you_mean(plain(name), [arm.label for arm in study.arms])}"


def by_seed(arm: Arm, metric: str) -> dict[int, float]:
    """Return {seed: value} of a metric of the arm's done runs, in the metric's unit, where it is recorded."""
    values = {run.seed: METRICS[metric].scale * run.metric(metric) for run in arm.runs}
    return {seed: value for seed, value in values.items() if math.isfinite(value)}


def spread_by_seed(arms: Sequence[Arm], metric: str) -> dict[int, float]:
    """Return {seed: sample standard deviation of a metric over the arms}, of the seeds that all of them have."""
    values = [by_seed(arm, metric) for arm in arms]
    return {seed: statistics.stdev(value[seed] for value in values) for seed in _shared(values)}


def _samples(claim: Claim, arms: Mapping[Term, Sequence[Arm]]) -> tuple[list[float], ...]:
    if claim.kind == "convergence":
        return (_epochs_apart(*(arms[term][0] for term in claim.terms)),)
    values = [(spread_by_seed(arms[t], t.metric) if t.spread else by_seed(arms[t][0], t.metric)) for t in claim.terms]
    seeds = _shared(values)
    if claim.kind == STD:
        return tuple([value[seed] for seed in seeds] for value in values)
    pairs = list(zip(claim.terms, values, strict=True))
    return ([sum(term.times * value[seed] for term, value in pairs) for seed in seeds],)


def _epochs_apart(first: Arm, second: Arm) -> list[float]:
    """Return for each shared seed how many epochs more the first arm takes to a level that both reach.

    The level is a point below the best validation accuracy of the run whose best is lower: a run that gets further
    would else be called slow for it.
    """
    theirs = {run.seed: run for run in second.runs}
    found = []
    for run in sorted((run for run in first.runs if run.seed in theirs), key=lambda run: run.seed):
        pair = (run, theirs[run.seed])
        level = min(max(one.curve("val", "accuracy").values(), default=math.nan) for one in pair) - PLATEAU_MARGIN
        found.append(pair[0].epochs_to(level) - pair[1].epochs_to(level))
    return [epochs for epochs in found if math.isfinite(epochs)]


def _shared(by_term: list[dict[int, float]]) -> list[int]:
    return sorted(set.intersection(*(set(of_term) for of_term in by_term)))


def _leads(claim: Claim, arms: Mapping[Term, Sequence[Arm]]) -> list[dict[int, float]]:
    """Return of each shared seed {epoch: the sum of the terms}; a seed without curves is left out."""
    by_term = [{run.seed: _curve(term, run) for run in arms[term][0].runs} for term in claim.terms]
    found = []
    for seed in sorted(set.intersection(*(set(of_term) for of_term in by_term))):
        curves = [of_term[seed] for of_term in by_term]
        shared = set.intersection(*(set(curve) for curve in curves))
        found.append({epoch: sum(curve[epoch] for curve in curves) for epoch in shared})
    return [lead for lead in found if lead]


def _curve(term: Term, run: Run) -> dict[int, float]:
    metric = METRICS[term.metric]
    assert metric.curve is not None
    return {epoch: term.times * metric.scale * value for epoch, value in run.curve(*metric.curve).items()}


def _reported(study: Study, claim: Claim) -> float:
    """Return what the reported values make of a claim: the sum of its terms, or the ratio of two deviations."""
    if claim.kind in ("curve", "convergence"):
        return math.nan
    if claim.kind == STD:
        if any(term.metric != "test_accuracy" for term in claim.terms):  # a reported deviation is of no other
            return math.nan
        first, second = (study.reported.get(term.arm, {}).get(STD, math.nan) for term in claim.terms)
        return first / second if second else math.nan
    values = [
        math.nan if term.spread else study.reported.get(term.arm, {}).get(term.metric, math.nan) for term in claim.terms
    ]
    return sum(term.times * value for term, value in zip(claim.terms, values, strict=True))


def _too_few(claim: Claim, test: Difference) -> str:
    """Say why the test of a claim can decide nothing, "" if it can."""
    of_means = (2, "a paired t-test")
    fewest, name = (MIN_SEEDS_FOR_RATIO, "Pitman's and Morgan's test") if claim.kind == STD else of_means
    if not test.n:
        metrics = " and ".join(dict.fromkeys(term.metric for term in claim.terms))
        return f"no seed has {metrics} in every arm that it needs"
    if test.n < fewest:
        seeds = "one seed" if test.n == 1 else f"{test.n} seeds"
        return f"{seeds} shared, and {name} can never decide below {fewest}"
    no_spread = claim.kind == STD and math.isnan(test.p)
    return "the seeds do not differ, so there is no spread to judge by" if no_spread else ""


def _two_networks(claim: Claim, arms: Mapping[Term, Sequence[Arm]]) -> str:
    """Say what the test images tell of two single networks, if that is what the claim is about."""
    times = {term.times: arms[term][0] for term in claim.terms}
    accuracies = {(term.metric, term.spread) for term in claim.terms} == {("test_accuracy", False)}
    if claim.kind != "mean" or not accuracies or len(claim.terms) != 2 or set(times) != {1, -1} or claim.threshold:
        return ""
    test = paired_runs.same_images_test(times[1], times[-1])
    return (
        paired_runs.in_words(test, times[1].label, times[-1].label)
        if test
        else "Their test images are not the same ones."
    )
