"""The comparison: one row per arm, with what its seeds show beside the baseline's."""

import math
from dataclasses import dataclass

from cnnexp.report.collect import Arm, Study
from cnnexp.report.statistics import Difference, McNemar, Summary, holm, mcnemar, paired, summarise, verdict

FEWEST_FOR_WORDS = 2


@dataclass(frozen=True)
class Row:
    """An arm's line of the comparison. Accuracies are fractions, times seconds; nan where nothing is recorded."""

    arm: Arm
    test: Summary
    is_baseline: bool
    difference: Difference | None
    p_holm: float
    verdict: str
    mcnemar: McNemar | None
    best_epoch: float
    epochs_to_converge: float
    train_accuracy: Summary
    val_accuracy: Summary
    train_seconds: Summary
    images_per_second: float
    peak_memory_mib: float
    parameters: float
    trainable_parameters: float
    macs: float

    @property
    def diverged(self) -> int:
        """Return how many runs of the arm diverged: they are in no mean."""
        return len(self.arm.diverged)


def compare(study: Study) -> list[Row]:
    """Compare every arm with the baseline, paired by seed; p values are Holm-corrected over the study's arms."""
    others = [a for a in study.arms if a is not study.baseline]
    base = study.baseline
    differences = [paired(a.accuracies(), base.accuracies()) for a in others] if base else []
    adjusted = holm([d.p for d in differences])
    compared = {id(a): (d, p) for a, d, p in zip(others, differences, adjusted, strict=base is not None)}
    return [_row(arm, base, *compared.get(id(arm), (None, math.nan))) for arm in study.arms]


def _row(arm: Arm, base: Arm | None, difference: Difference | None, p_holm: float) -> Row:
    def mean(*path: str) -> float:
        return summarise(arm.values(*path)).mean

    words = ""
    if difference and base:
        words = verdict(difference, p_holm, len(arm.diverged), len(base.diverged))
        if not arm.runs:
            words = "all runs diverged"
    single = difference is not None and difference.n == 1
    return Row(
        arm=arm,
        test=summarise(arm.values("result", "test_accuracy")),
        is_baseline=arm is base,
        difference=difference if difference and difference.n else None,
        p_holm=p_holm,
        verdict=words,
        mcnemar=same_images_test(arm, base) if single and base else None,
        best_epoch=mean("result", "best_epoch"),
        epochs_to_converge=summarise([run.epochs_to_converge() for run in arm.runs]).mean,
        train_accuracy=summarise(arm.values("result", "train_accuracy")),
        val_accuracy=summarise(arm.values("result", "val_accuracy")),
        train_seconds=summarise(arm.values("seconds", "train")),
        images_per_second=mean("result", "images_per_second"),
        peak_memory_mib=mean("result", "peak_memory_mib"),
        parameters=arm.first.number("model", "parameters"),
        trainable_parameters=arm.first.number("model", "trainable_parameters"),
        macs=arm.first.number("model", "macs"),
    )


def same_images_test(arm: Arm, base: Arm) -> McNemar | None:
    """Return McNemar's exact test of two arms that share one seed; None unless both answered the same test images."""
    mine, theirs = ({r.seed: r for r in a.runs} for a in (arm, base))
    seed = min(mine.keys() & theirs.keys())
    first, second = mine[seed].answers, theirs[seed].answers
    if first is None or second is None or len(first["ids"]) != len(second["ids"]):
        return None
    order, other = first["ids"].argsort(kind="stable"), second["ids"].argsort(kind="stable")
    if any((first[k][order] != second[k][other]).any() for k in ("ids", "labels")):
        return None
    right = [(a["predicted"] == a["labels"])[o] for a, o in ((first, order), (second, other))]
    return mcnemar(right[0], right[1])


def sentences(study: Study, rows: list[Row]) -> list[str]:
    """Say the outcome in words: first the summary, then a sentence for each arm."""
    if not any(row.test.n for row in rows):
        return ["No run is done yet, so there is nothing to compare."]
    if not study.baseline:
        return [_without_baseline(rows)]
    others = [row for row in rows if not row.is_baseline]
    if not others:
        return [f"Only the baseline, {study.baseline.label}, has finished runs: there is nothing to compare it with."]
    return [_summary(study.baseline.label, others), *(_sentence(row, study.baseline.label) for row in others)]


def _without_baseline(rows: list[Row]) -> str:
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
        tail = f" {mcnemar_words(row.mcnemar)}" if row.mcnemar else ""
        return f"{label}: {points} at the one seed they share: no verdict.{tail}{diverged}"
    interval = f"95 % interval {100 * difference.low:+.2f} to {100 * difference.high:+.2f}"
    p = (
        "no p value: the seeds do not differ"
        if math.isnan(row.p_holm)
        else f"p {p_value(row.p_holm, equals=True)} after Holm"
    )
    return f"{label}: {row.verdict}; {points} ({interval}, {difference.n} shared seeds, {p}).{diverged}"


def mcnemar_words(test: McNemar) -> str:
    """Say what McNemar's test of two single networks found, and what it does not speak of."""
    return (
        f"These two networks alone: {test.only_first} test images only this one has right, {test.only_second} only the "
        f"baseline's (McNemar's exact p {p_value(test.p, equals=True)}); another seed may say otherwise."
    )


def p_value(p: float, equals: bool = False) -> str:
    """Format a p value as "0.012" or "< 0.0001"; with `equals` as "= 0.012"; a dash where there is none."""
    if math.isnan(p):
        return "-"
    return "< 0.0001" if p < 0.0001 else ("= " if equals else "") + (f"{p:.4f}" if p < 0.001 else f"{p:.2g}")
