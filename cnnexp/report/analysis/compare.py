"""The comparison: one row per arm, with what its seeds show beside the baseline's."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cnnexp.report.analysis import paired_runs
from cnnexp.report.analysis.judge import Hypothesis, against_baseline
from cnnexp.report.analysis.statistics import Estimate, McNemar, p_value, paired, summarise, verdict
from cnnexp.report.read.study import Arm, Study

FEWEST_FOR_WORDS = 2


@dataclass(frozen=True)
class Row:
    """An arm's line of the comparison. Accuracies are fractions, times seconds; nan where nothing is recorded."""

    arm: Arm
    test: Estimate
    is_baseline: bool
    difference: Estimate | None
    p_holm: float
    verdict: str
    mcnemar: McNemar | None
    best_epoch: float
    epochs_to_plateau: float
    train_accuracy: Estimate
    val_accuracy: Estimate
    train_seconds: Estimate
    images_per_second: float
    peak_memory_mib: float
    parameters: float
    trainable_parameters: float
    macs: float

    @property
    def diverged(self) -> int:
        """Return how many runs of the arm diverged: they are in no mean."""
        return len(self.arm.diverged)


def compare(study: Study, corrected: Mapping[Hypothesis, float]) -> list[Row]:
    """Compare every arm with the baseline, paired by seed. corrected: p values from judge.corrected_p_values."""
    return [_row(arm, study.baseline, corrected) for arm in study.arms]


def _row(arm: Arm, base: Arm | None, corrected: Mapping[Hypothesis, float]) -> Row:
    def mean(*path: str) -> float:
        return summarise(arm.values(*path)).mean

    words, difference, p_holm = "", None, math.nan
    if base and arm is not base:
        difference = paired(arm.accuracies(), base.accuracies())
        p_holm = corrected[against_baseline(arm, base)]
        words = verdict(difference, p_holm, len(arm.diverged), len(base.diverged))
        if not arm.runs:
            words = "all runs diverged"
    one_seed = difference is not None and difference.n == 1
    return Row(
        arm=arm,
        test=summarise(arm.values("result", "test_accuracy")),
        is_baseline=arm is base,
        difference=difference if difference and difference.n else None,
        p_holm=p_holm,
        verdict=words,
        mcnemar=paired_runs.same_images_test(arm, base) if one_seed and base else None,
        best_epoch=mean("result", "best_epoch"),
        epochs_to_plateau=summarise([run.epochs_to_plateau() for run in arm.runs]).mean,
        train_accuracy=summarise(arm.values("result", "train_accuracy")),
        val_accuracy=summarise(arm.values("result", "val_accuracy")),
        train_seconds=summarise(arm.values("seconds", "train")),
        images_per_second=mean("result", "images_per_second"),
        peak_memory_mib=mean("result", "peak_memory_mib"),
        parameters=arm.first.number("model", "parameters"),
        trainable_parameters=arm.first.number("model", "trainable_parameters"),
        macs=arm.first.number("model", "macs"),
    )


def sentences(study: Study, rows: Sequence[Row]) -> list[str]:
    """Say the outcome in words: first the summary, then a sentence for each arm."""
    if not any(row.test.n for row in rows):
        return ["No run is done yet, so there is nothing to compare."]
    if not study.baseline:
        return [_without_baseline(rows)]
    others = [row for row in rows if not row.is_baseline]
    if not others:
        return [f"Only the baseline, {study.baseline.label}, has finished runs: there is nothing to compare it with."]
    return [_summary(study.baseline.label, others), *(_sentence(row, study.baseline.label) for row in others)]


def _without_baseline(rows: Sequence[Row]) -> str:
    if len(rows) == 1:
        return f"One arm, {rows[0].arm.label}: nothing to compare it with."
    return f"{len(rows)} arms and no baseline: they are listed, not ranked (name one with --baseline ARM)."


def _summary(baseline: str, others: list[Row]) -> str:
    groups: dict[str, list[str]] = {}
    for row in others:
        kind = row.verdict if row.verdict in ("better", "worse", "within noise") else "not decided"
        groups.setdefault(kind, []).append(row.arm.label)
    phrases = {
        "better": f"Better than {baseline}",
        "worse": f"Worse than {baseline}",
        "within noise": f"Not to be told apart from {baseline}",
        "not decided": "Not decided",
    }
    return " ".join(f"{phrase}: {', '.join(groups[kind])}." for kind, phrase in phrases.items() if kind in groups)


def _sentence(row: Row, baseline: str) -> str:
    label, difference = row.arm.label, row.difference
    diverged = f" Runs that diverged and are left out of the mean: {row.diverged}." if row.diverged else ""
    if difference is None:
        return f"{label}: {row.verdict}.{diverged}"
    points = f"{100 * difference.mean:+.2f} points against {baseline}"
    if difference.n < FEWEST_FOR_WORDS:
        tail = f" {paired_runs.in_words(row.mcnemar)}" if row.mcnemar else ""
        return f"{label}: {points} at the one seed they share: no verdict.{tail}{diverged}"
    interval = f"95 % interval {100 * difference.low:+.2f} to {100 * difference.high:+.2f}"
    p = (
        "no p value: the seeds do not differ"
        if math.isnan(row.p_holm)
        else f"p {p_value(row.p_holm, equals=True)} after Holm"
    )
    return f"{label}: {row.verdict}; {points} ({interval}, {difference.n} shared seeds, {p}).{diverged}"
