"""The comparison: one row per arm, with its results over the seeds and its difference from the baseline."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from cnnexp.report.analysis import paired_runs
from cnnexp.report.analysis.judge import Hypothesis, against_baseline
from cnnexp.report.analysis.statistics import Estimate, McNemar, p_value, paired, summarise, verdict
from cnnexp.report.read.study import Arm, Study
from cnnexp.report.read.tested import same_test_images

VERDICTS = {  # in the order of the summary, which counts every other verdict as not decided
    "better": "Better than {}",
    "worse": "Worse than {}",
    "within noise": "No detectable difference from {}",
    "not decided": "Not decided",
}


@dataclass(frozen=True)
class Row:
    """An arm's line of the comparison. Accuracies are fractions. difference: None without shared seeds or test images.

    mcnemar: of two arms that share one seed. p_holm: nan where nothing is tested. verdict: "" of the baseline.
    """

    arm: Arm
    test: Estimate
    is_baseline: bool = False
    difference: Estimate | None = None
    p_holm: float = math.nan
    verdict: str = ""
    mcnemar: McNemar | None = None

    @property
    def diverged(self) -> int:
        """Return how many runs of the arm diverged: they are in no mean."""
        return len(self.arm.diverged)

    def over_seeds(self, *path: str) -> Estimate:
        """Estimate the mean of a number of run.json over the arm's done runs, such as ("seconds", "train")."""
        return summarise(self.arm.values(*path))

    def mean(self, *path: str) -> float:
        """Return the mean of over_seeds."""
        return self.over_seeds(*path).mean

    @cached_property
    def epochs_to_plateau(self) -> float:
        """Return the mean over the seeds."""
        return summarise([run.epochs_to_plateau() for run in self.arm.runs]).mean

    @property
    def train_seconds(self) -> Estimate:
        """Return the training time of a run."""
        return self.over_seeds("seconds", "train")

    def model(self, name: str) -> float:
        """Return a number of the network, such as "macs"; nan if it is not recorded."""
        return self.arm.first.number("model", name)


def compare(study: Study, corrected: Mapping[Hypothesis, float]) -> list[Row]:
    """Compare every arm with the baseline, paired by seed. corrected: p values from judge.corrected_p_values."""
    return [_row(arm, study.baseline, corrected) for arm in study.arms]


def _row(arm: Arm, base: Arm | None, corrected: Mapping[Hypothesis, float]) -> Row:
    test = summarise(arm.values("result", "test_accuracy"))
    if base is None or arm is base:
        return Row(arm, test, is_baseline=arm is base)
    if not same_test_images(arm, base):
        return Row(arm, test, verdict="other test images: no verdict")
    difference, p_holm = paired(arm.accuracies(), base.accuracies()), corrected[against_baseline(arm, base)]
    words = verdict(difference, p_holm, len(arm.diverged), len(base.diverged)) if arm.runs else "all runs diverged"
    mcnemar = paired_runs.same_images_test(arm, base) if difference.n == 1 else None
    return Row(arm, test, False, difference if difference.n else None, p_holm, words, mcnemar)


def sentences(study: Study, rows: Sequence[Row]) -> list[str]:
    """Describe the result: first the summary, then a sentence for each arm."""
    if not any(row.test.n for row in rows):
        return ["No run is done yet, so there is nothing to compare."]
    if not study.baseline and len(rows) == 1:
        return [f"One arm, {rows[0].arm.label}: nothing to compare it with."]
    if not study.baseline:
        return [f"{len(rows)} arms and no baseline: they are listed, not ranked (name one with --baseline ARM)."]
    baseline, others = study.baseline.label, [row for row in rows if not row.is_baseline]
    if not others:
        return [f"Only the baseline, {baseline}, has finished runs: there is nothing to compare it with."]
    groups: dict[str, list[str]] = {}
    for row in others:
        groups.setdefault(row.verdict if row.verdict in VERDICTS else "not decided", []).append(row.arm.label)
    summary = [f"{words.format(baseline)}: {', '.join(groups[v])}." for v, words in VERDICTS.items() if v in groups]
    return [" ".join(summary), *(_sentence(row, baseline) for row in others)]


def _sentence(row: Row, baseline: str) -> str:
    label, difference = row.arm.label, row.difference
    diverged = f" Runs that diverged and are left out of the mean: {row.diverged}." if row.diverged else ""
    if difference is None:
        return f"{label}: {row.verdict}.{diverged}"
    points = f"{100 * difference.mean:+.2f} points against {baseline}"
    if difference.n == 1:
        pair = f" {paired_runs.in_words(row.mcnemar)}" if row.mcnemar else ""
        return f"{label}: {points} at the one seed they share: no verdict.{pair}{diverged}"
    interval = f"95 % interval {100 * difference.low:+.2f} to {100 * difference.high:+.2f}"
    equal = math.isnan(row.p_holm)
    p = "no p value: the seeds do not differ" if equal else f"p {p_value(row.p_holm, equals=True)} after Holm"
    return f"{label}: {row.verdict}; {points} ({interval}, {difference.n} shared seeds, {p}).{diverged}"
