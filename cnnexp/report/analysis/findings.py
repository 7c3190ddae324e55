"""Everything that a report states about a study, computed once: what tables, figures and sentences are made from."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from cnnexp.records.study import ADVICE
from cnnexp.report.analysis import classes, convergence
from cnnexp.report.analysis.calibration import Calibration, calibrate
from cnnexp.report.analysis.classes import ClassResults
from cnnexp.report.analysis.compare import Row, compare
from cnnexp.report.analysis.decisions import NO_TEST, Decision, Family, Test
from cnnexp.report.analysis.disagreement import Disagreement, disagreements
from cnnexp.report.analysis.effects import Effect, effect_tests, effects, judge_effect
from cnnexp.report.analysis.evidence import Evidence, gather_evidence
from cnnexp.report.analysis.examples import Examples, find_examples
from cnnexp.report.analysis.judge import Judged, against_baseline, claim_tests, comparison_tests, hypothesis_of, judge
from cnnexp.report.analysis.outlook import NO_CHANCE, NO_OUTLOOK, Outlook, outlooks
from cnnexp.report.analysis.reported_comparison import ReportedComparison, compare_reported
from cnnexp.report.analysis.sequential import FIRST_LOOK
from cnnexp.report.analysis.statistics import NO_SPREAD, Estimate
from cnnexp.report.read.predictions import Predictions, predictions_of
from cnnexp.report.read.probes import Probes, read_probes
from cnnexp.report.read.study import Arm, Study


@dataclass(frozen=True)
class Findings:
    """The results of one study. What needs predictions or probes is computed when it is first asked for.

    rows: the comparison with the baseline, an arm each. judged: the study's claims with their verdicts, in its order.
    effects: [] unless an arm combines others. reported: [] if the study reports no numbers. families: of the tests:
    comparison, claims, effects. decisions: on them, and outlooks of those that are undecided, by hypothesis. Other
    mappings are by arm.key.
    """

    study: Study
    rows: Sequence[Row]
    judged: Sequence[Judged]
    effects: Sequence[Effect]
    reported: Sequence[ReportedComparison]
    families: Sequence[Family] = ()
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    outlooks: Mapping[str, Outlook] = field(default_factory=dict)

    @property
    def arms(self) -> list[Arm]:
        """Return the arms of the study, the baseline first."""
        return self.study.arms

    @property
    def baseline(self) -> Arm | None:
        """Return the arm that the others are compared with."""
        return self.study.baseline

    @cached_property
    def warnings(self) -> list[str]:
        """Return what a reader must know: how to choose a setting, which arms have not converged, the study's notes."""
        advice = [ADVICE] if self.study.is_choice else []
        return [*advice, *convergence.sentences(self.arms), *self.study.notes]

    @cached_property
    def predictions(self) -> Mapping[str, Predictions]:
        """Return the predictions of every arm that has usable ones."""
        return {arm.key: found for arm in self.arms if (found := predictions_of(arm))}

    @cached_property
    def classes(self) -> Mapping[str, ClassResults]:
        """Return confusion matrix and class accuracies of every arm that has usable predictions."""
        return {arm.key: found for arm in self.arms if (found := classes.class_results(arm))}

    @cached_property
    def class_differences(self) -> Mapping[str, list[Estimate]]:
        """Return each arm's difference from the baseline by class, of the arms that have the baseline's classes."""
        return classes.class_differences(self.classes, self.baseline)

    @cached_property
    def calibrations(self) -> list[Calibration]:
        """Return the calibration of every arm that has usable predictions, in the order of the arms."""
        return [found for arm in self.arms if (found := calibrate(arm))]

    @cached_property
    def disagreements(self) -> list[Disagreement]:
        """Return the image-by-image comparison of every arm with the baseline; [] without one."""
        return disagreements(self.predictions, self.baseline)

    @cached_property
    def examples(self) -> Examples:
        """Return the test images worth showing. Reads the predictions of the first arms a second time."""
        return find_examples(self.predictions, self.disagreements, self.baseline)

    @cached_property
    def probes(self) -> list[Probes]:
        """Return what the probes measured, of every arm that has any, in the order of the arms."""
        return [found for arm in self.arms if (found := read_probes(arm))]


def analyse(study: Study) -> Findings:
    """Compare the arms, judge the claims and compute the effects of a study."""
    now = _tests(study)
    plan = study.schedule.plan
    beyond = plan is not None and any(run.seed not in plan.seeds for arm in study.arms for run in arm.runs)
    planned = _tests(study.only(plan.seeds)) if plan and beyond else now
    families = [
        Family(
            tests,
            {name: planned.families[place].get(name, NO_TEST) for name in tests},
            plan,
            study.schedule.decided,
            study.schedule.tested,
        )
        for place, tests in enumerate(now.families)
    ]
    decisions = {name: decision for family in families for name, decision in family.decide().items()}
    found = {name: outlook for family in families for name, outlook in outlooks(family, decisions).items()}
    return Findings(
        study=study,
        rows=[compare(arm, study.baseline, decisions, found) for arm in study.arms],
        judged=[judge(evidence, decisions, found) for evidence in now.evidence],
        effects=[judge_effect(study, effect, decisions) for effect in now.effects],
        reported=compare_reported(study),
        families=families,
        decisions=decisions,
        outlooks=found,
    )


def tests_with(study: Study, seeds: Collection[int]) -> dict[str, Test]:
    """Return the tests of a study by hypothesis, as they are with these seeds."""
    return {name: test for family in _tests(study.only(seeds)).families for name, test in family.items()}


@dataclass(frozen=True)
class _Tests:
    """What a study tests. families: tests that share a level: of the comparison, the claims, the effects."""

    evidence: Sequence[Evidence]
    effects: Sequence[Effect]
    families: Sequence[Mapping[str, Test]]


def _tests(study: Study) -> _Tests:
    evidence = [gather_evidence(study, text) for text in study.claims]
    found, compared = effects(study), comparison_tests(study)
    claimed, tested = claim_tests(study, evidence, compared), effect_tests(study, found)
    return _Tests(evidence, found, (compared, claimed, tested))


@dataclass(frozen=True)
class Question:
    """A comparison or a claim of a study, and whether it is decided.

    text: the arm's label or the claim. arms: the names of its arms. rule: that judges it, "" if nothing can be compared
    yet. n: its seeds. outlook: what further seeds would decide; where no seed differs, none do. hypothesis: that is
    tested: a claim may be the same test as a comparison.
    """

    text: str
    arms: tuple[str, ...]
    decided: bool
    verdict: str
    rule: str
    n: int
    outlook: Outlook = NO_OUTLOOK
    hypothesis: str = ""


def questions(findings: Findings) -> list[Question]:
    """Return what a study asks, decided or not: its comparisons with the baseline, then its claims."""
    found = []
    for row in findings.rows:
        if findings.baseline and not row.is_baseline:
            pair, test = (row.arm.name, findings.baseline.name), row.difference or Estimate()
            name, _ = against_baseline(row.arm, findings.baseline)
            decided, rule = bool(row.decision.side), row.decision.rule
            outlook = _outlook(row.outlook, test)
            found.append(Question(row.arm.label, pair, decided, row.verdict, rule, test.n, outlook, name))
    for judged in findings.judged:
        arms = tuple(dict.fromkeys(arm.name for arms in judged.evidence.arms.values() for arm in arms))
        name, _ = hypothesis_of(judged.evidence)
        decided, rule, test = bool(judged.decision.side), judged.decision.rule, judged.evidence.test
        outlook = _outlook(findings.outlooks.get(name, NO_OUTLOOK), test)
        found.append(Question(judged.evidence.text, arms, decided, judged.verdict, rule, test.n, outlook, name))
    return found


def _outlook(outlook: Outlook, test: Estimate) -> Outlook:
    """Return the outlook of a test; where no seed differs, there is no chance."""
    if test.n >= FIRST_LOOK and test.std <= NO_SPREAD and test.p == 1.0:  # a difference without a spread may get one
        return NO_CHANCE
    return outlook
