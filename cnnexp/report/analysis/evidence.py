"""The evidence for each claim of a study: the values over the seeds and their test, or why it cannot be tested."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import stdev

from cnnexp.claims.grammar import STD, Claim, Term, members, parse
from cnnexp.claims.metrics import metric as metric_of
from cnnexp.errors import UserError, did_you_mean
from cnnexp.report.analysis import paired_runs, statistics
from cnnexp.report.analysis.sequential import anytime_p
from cnnexp.report.analysis.statistics import EpochTests, Estimate, estimate
from cnnexp.report.read.comparable import NOT_COMPARABLE, why_not_all
from cnnexp.report.read.folds import count_of
from cnnexp.report.read.runs import PLATEAU_MARGIN, Run
from cnnexp.report.read.study import Arm, Study
from cnnexp.report.read.tested import same_test_images, same_validation_images
from cnnexp.text import plain

Arms = Mapping[Term, Sequence[Arm]]


@dataclass(frozen=True)
class Evidence:
    """A claim and its test, in the claim's unit. claim: None if it cannot be parsed.

    arms: of each term, its one arm, or those that a spread is over. seeds: that all of them have. samples: over these,
    the sum of the terms; of a claim about deviations, the values of each side. test: of the mean of the sum, or of the
    ratio of the deviations. epochs: of a claim about every epoch, in place of samples. reported: the same of the
    reported values, nan if one is missing. reason: why it is not tested, "" if it is. paired_runs: what two single runs
    show.
    """

    text: str
    claim: Claim | None
    arms: Arms = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    samples: tuple[list[float], ...] = ()
    test: Estimate = field(default_factory=Estimate)
    epochs: EpochTests | None = None
    reported: float = math.nan
    reason: str = ""
    paired_runs: str = ""

    @property
    def is_apart(self) -> bool:
        """Tell whether the claim is about arms that have different settings, which none of them sets."""
        return self.reason.startswith(NOT_COMPARABLE)

    @property
    def decisive(self) -> Estimate:
        """Return the numbers that p is of: of one epoch, if the claim is about every epoch."""
        return self.epochs.by_epoch[self.epochs.decisive] if self.epochs else self.test

    @property
    def anytime_p(self) -> float:
        """Return p of the claim's e-process; nan of a claim about deviations, which has none."""
        assert self.claim is not None
        if self.claim.kind == STD or self.test.folds:
            return math.nan
        if self.epochs is None:
            return anytime_p(self.test, self.claim.nearest(self.test.mean))
        if self.epochs.opposed:
            return min(1.0, len(self.epochs.by_epoch) * anytime_p(self.decisive, self.claim.threshold))
        return max(anytime_p(test, self.claim.threshold) for test in self.epochs.by_epoch.values())


def gather_evidence(study: Study, text: str) -> Evidence:
    """Return the evidence for a claim of the study. text: of the claim."""
    try:
        claim = parse(text)
    except UserError as error:
        return Evidence(text, None, reason=f"cannot be read: {plain(error)}")
    found = Evidence(text, claim, reported=_reported(study, claim))
    names = {term: _names(study, term) for term in claim.terms}
    if missing := [reason for term in claim.terms for reason in _missing(study, term, names[term])]:
        return replace(found, reason="; ".join(dict.fromkeys(missing)))
    arms = {term: [study.named(name)[0] for name in names[term]] for term in claim.terms}
    if other := why_not_all([arm for of_term in arms.values() for arm in of_term]) or _other_images(claim, arms):
        return replace(found, arms=arms, reason=other)
    if claim.kind == "curve":
        leads = _leads(claim, arms)
        epochs = statistics.over_epochs(leads, claim.threshold, claim.direction)
        test = epochs.test if epochs else Estimate()
        return replace(found, arms=arms, seeds=tuple(leads), test=test, epochs=epochs, reason=_too_few(claim, test))
    seeds, samples = _samples(claim, arms)
    if claim.kind == STD:
        if any(map(count_of, seeds)):
            return replace(found, arms=arms, reason="folds share training images: no test of deviations is valid")
        test = statistics.ratio_of_deviations(*samples)
    else:
        test = _test_of_mean(claim, dict(zip(seeds, samples[0], strict=True)))
    pair = _paired_runs(claim, arms) if len(seeds) == 1 else ""
    found = replace(found, arms=arms, seeds=tuple(seeds), samples=samples, test=test, paired_runs=pair)
    return replace(found, reason=_too_few(claim, test))


def _test_of_mean(claim: Claim, sample: Mapping[int, float]) -> Estimate:
    """Test the mean against the claimed number; of a margin, on one side, against its nearer end.

    Inside it, two one-sided tests (Schuirmann 1987, J. Pharmacokinetics and Biopharmaceutics 15): the larger p is the
    margin's. Outside, the sign of the mean chooses the end, so that p has two sides.
    """
    if claim.kind != "within":
        return estimate(sample, claim.threshold)
    found = estimate(sample)
    of_end = estimate(sample, claim.nearest(found.mean)).p
    return replace(found, p=of_end / 2 if abs(found.mean) <= claim.threshold else of_end)


def _names(study: Study, term: Term) -> list[str]:
    """Return the names of a term's arms, finished or not: without those that failed, a spread would look smaller."""
    if not term.spread:
        return [term.arm]
    return members(term.arm, [*(arm.name for arm in study.arms), *(run.arm for run in study.left_out)])


def _missing(study: Study, term: Term, names: Sequence[str]) -> list[str]:
    """Return why a term has no value, [] if it has."""
    if term.spread and len(names) < 2:
        return [f"fewer than two arms have '{plain(term.arm)}' in their name"]
    return [reason for name in names if (reason := _missing_arm(study, name))]


def _missing_arm(study: Study, name: str) -> str:
    """Return why an arm has no values, "" if it has."""
    found, shown = study.named(name), plain(name)
    if len(found) > 1:
        return f"{shown} has several configs: {', '.join(arm.label for arm in found)}"
    if found:
        return "" if found[0].runs else f"all runs of {shown} diverged"
    if others := Counter(run.status for run in study.left_out if run.arm == shown):
        return f"no finished run of {shown} ({', '.join(f'{n} {status}' for status, n in others.items())})"
    return f"no finished run of {shown}{did_you_mean(shown, [arm.label for arm in study.arms])}"


def by_seed(arm: Arm, metric: str) -> dict[int, float]:
    """Return {unit: value} of a metric of the arm's done runs, in the metric's unit, where it is recorded."""
    values = {run.unit: metric_of(metric).scale * run.metric(metric) for run in arm.runs}
    return {seed: value for seed, value in values.items() if math.isfinite(value)}


def _values(term: Term, arms: Sequence[Arm]) -> dict[int, float]:
    """Return {seed: value} of a term: of its one arm, or the sample standard deviation over the arms of a spread."""
    values = [by_seed(arm, term.metric) for arm in arms]
    if not term.spread:
        return values[0]
    return {seed: stdev(value[seed] for value in values) for seed in _shared(values)}


def _shared(by_seed: Sequence[Mapping[int, object]]) -> list[int]:
    return sorted(set.intersection(*(set(values) for values in by_seed)))


def _samples(claim: Claim, arms: Arms) -> tuple[list[int], tuple[list[float], ...]]:
    """Return the shared seeds and the values over them; of a claim about deviations, those of each side."""
    if claim.kind == "convergence":
        first, second = (arms[term][0] for term in claim.terms)
        extra = _extra_epochs(first, second)
        return list(extra), (list(extra.values()),)
    values = [_values(term, arms[term]) for term in claim.terms]
    seeds = _shared(values)
    if claim.kind == STD:
        return seeds, tuple([value[seed] for seed in seeds] for value in values)
    pairs = list(zip(claim.terms, values, strict=True))
    return seeds, ([sum(term.times * value[seed] for term, value in pairs) for seed in seeds],)


def _extra_epochs(first: Arm, second: Arm) -> dict[int, float]:
    """Return for each shared seed how many epochs more the first arm takes to a level that both reach.

    The level is a point below the best validation accuracy of the run whose best is lower: otherwise the run that
    reaches a higher accuracy would look slow.
    """
    mine, theirs = ({run.unit: run for run in arm.runs} for arm in (first, second))
    found = {}
    for seed in _shared([mine, theirs]):
        pair = (mine[seed], theirs[seed])
        level = min(max(one.curve("val", "accuracy").values(), default=math.nan) for one in pair) - PLATEAU_MARGIN
        found[seed] = pair[0].epochs_to(level) - pair[1].epochs_to(level)
    return {seed: epochs for seed, epochs in found.items() if math.isfinite(epochs)}


def _leads(claim: Claim, arms: Arms) -> dict[int, dict[int, float]]:
    """Return of each shared seed {epoch: the sum of the terms}; a seed without curves is left out."""
    by_term = [{run.unit: _curve(term, run) for run in arms[term][0].runs} for term in claim.terms]
    found = {}
    for seed in _shared(by_term):
        curves = [of_term[seed] for of_term in by_term]
        found[seed] = {epoch: sum(curve[epoch] for curve in curves) for epoch in _shared(curves)}
    return {seed: lead for seed, lead in found.items() if lead}


def _curve(term: Term, run: Run) -> dict[int, float]:
    metric = metric_of(term.metric)
    assert metric.curve is not None
    return {epoch: term.times * metric.scale * value for epoch, value in run.curve(*metric.curve).items()}


def _other_images(claim: Claim, arms: Arms) -> str:
    """Return which two arms of a claim about test or validation images had others, "" if none."""
    tested = [a for t in claim.terms if t.metric.startswith(("test_", "shift_")) for a in arms[t]]
    validated = [arm for term in claim.terms if _is_of_validation(claim, term) for arm in arms[term]]
    for arm in tested[1:] if claim.kind != "curve" else ():
        if not same_test_images(tested[0], arm):
            return f"{tested[0].label} and {arm.label} were not tested on the same images"
    for arm in validated[1:]:
        if not same_validation_images(validated[0], arm):
            return f"{validated[0].label} and {arm.label} were not validated on the same images"
    return ""


def _is_of_validation(claim: Claim, term: Term) -> bool:
    """Tell whether a term's values come from validation images: curves of test metrics do."""
    if claim.kind == "curve":
        curve = metric_of(term.metric).curve
        return curve is not None and curve[0] == "val"
    return claim.kind == "convergence" or term.metric.startswith("val_") or term.metric == "epochs_to_plateau"


def _reported(study: Study, claim: Claim) -> float:
    """Return the sum of a claim's terms, or the ratio of its deviations, of the reported values; nan without."""

    def value(term: Term, metric: str) -> float:
        return study.reported.get(term.arm, {}).get(metric, math.nan)

    if claim.kind == STD and all(term.metric == "test_accuracy" for term in claim.terms):  # no other is reported
        first, second = (value(term, STD) for term in claim.terms)
        return first / second if second else math.nan
    if claim.kind not in ("mean", "within") or any(term.spread for term in claim.terms):
        return math.nan
    return sum(term.times * value(term, term.metric) for term in claim.terms)


def _too_few(claim: Claim, test: Estimate) -> str:
    """Return why the test of a claim can decide nothing, "" if it can."""
    name = "Pitman's and Morgan's test" if claim.kind == STD else "a paired t-test"
    fewest = statistics.MIN_SEEDS_FOR_RATIO if claim.kind == STD else 2
    if not test.n:
        metrics = " and ".join(dict.fromkeys(term.metric for term in claim.terms))
        return f"no seed has {metrics} in every arm that it needs"
    if test.n < fewest:
        units = test.units.replace("1 ", "one ") if test.n == 1 else test.units
        return f"{units} shared, and {name} can never decide below {fewest}"
    no_spread = claim.kind == STD and math.isnan(test.p)
    return "the seeds do not differ, so there is no spread to judge by" if no_spread else ""


def _paired_runs(claim: Claim, arms: Arms) -> str:
    """Compare two single networks on the test images, if the claim is about their test accuracies."""
    times = {term.times: arms[term][0] for term in claim.terms}
    accuracies = {(term.metric, term.spread) for term in claim.terms} == {("test_accuracy", False)}
    if claim.kind != "mean" or not accuracies or len(claim.terms) != 2 or set(times) != {1, -1} or claim.threshold:
        return ""
    test = paired_runs.same_images_test(times[1], times[-1])
    return paired_runs.in_words(test, times[1].label, times[-1].label) if test else "Their test images differ."
