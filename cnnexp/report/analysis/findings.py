"""Everything that a report states about a study, computed once: what tables, figures and sentences are made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from cnnexp.records.choice import ADVICE
from cnnexp.report.analysis import classes, convergence
from cnnexp.report.analysis.calibration import Calibration, calibrate
from cnnexp.report.analysis.classes import ClassResults
from cnnexp.report.analysis.compare import Row, compare
from cnnexp.report.analysis.disagreement import Disagreement, disagreements
from cnnexp.report.analysis.effects import Effect, effects
from cnnexp.report.analysis.evidence import gather_evidence
from cnnexp.report.analysis.examples import Examples, find_examples
from cnnexp.report.analysis.judge import Judged, corrected_p_values, judge
from cnnexp.report.analysis.reported_comparison import ReportedComparison, compare_reported
from cnnexp.report.analysis.statistics import Estimate
from cnnexp.report.read.predictions import Predictions, predictions_of
from cnnexp.report.read.probes import Probes, read_probes
from cnnexp.report.read.study import Arm, Study


@dataclass(frozen=True)
class Findings:
    """The results of one study. What needs predictions or probes is computed when it is first asked for.

    rows: the comparison with the baseline, an arm each. judged: the study's claims with their verdicts, in its order.
    effects: [] unless an arm combines others. reported: [] if the study reports no numbers. Mappings are by arm.key.
    """

    study: Study
    rows: Sequence[Row]
    judged: Sequence[Judged]
    effects: Sequence[Effect]
    reported: Sequence[ReportedComparison]

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
    evidence = gather_evidence(study)
    corrected = corrected_p_values(study, evidence)
    rows, judged = compare(study, corrected), judge(evidence, corrected)
    return Findings(study, rows, judged, effects(study), compare_reported(study))
