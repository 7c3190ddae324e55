"""The tables of test images and confidence: mistakes, disagreement with the baseline, calibration."""

import math
from collections.abc import Sequence
from typing import Any

from cnnexp.pages.tables import Column, Table, csv_columns, csv_fields
from cnnexp.report.analysis.calibration import Calibration
from cnnexp.report.analysis.disagreement import Disagreement
from cnnexp.report.analysis.examples import Example
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.analysis.units import in_words
from cnnexp.report.read.study import Arm
from cnnexp.report.render.formats import decimals, percent, points, score
from cnnexp.text import number, plain, plural

DISAGREEMENT_NOTES = (
    "For the two networks of {one}, in % of the test images: both right, only one of them right, both wrong; mean ± "
    "sample standard deviation over the {shared}.",
    "Two {runs} of one arm: the share of images that one gets right and the other wrong, mean over all pairs of its "
    "{runs}. Two arms that disagree no more than that differ as much as two trainings of one arm do.",
    "Right {at_every}: images that all networks of one arm get right and all of the other get wrong. With few {runs} "
    "some of these are chance.",
)
CALIBRATION_NOTES = (
    "Confidence: the softmax probability of the predicted class. ECE: the expected calibration error of Guo et "
    "al. (2017), 15 equal-width bins; computed per run, then mean ± sample standard deviation {over}.",
    "ECE by chance: about the value for so many test images if every confidence were true. An ECE is never 0.",
    "Brier: squared error of all class probabilities (0 to 2). NLL: negative log-likelihood. Lower is better for both.",
    "Overconfident by: mean confidence minus accuracy, in points, with {interval} over the {units}.",
)
CONFIDENT: list[Column[tuple[str, int, Example]]] = [
    Column("", "arm", lambda r: r[0]),
    Column("", "rank", lambda r: r[1]),
    Column("Image", "image", lambda r: plain(r[2].id), kind="label"),
    Column("True class", "true_class", lambda r: r[2].true, kind="label"),
    Column("Predicted", "predicted_class", lambda r: r[2].predicted, kind="label"),
    Column("Confidence (%)", "confidence_percent", lambda r: 100 * r[2].confidence, decimals(1)),
]


def _mistakes(folds: int) -> list[Column[tuple[str, int, Example]]]:
    return [
        *CONFIDENT,
        Column(f"Wrong at ({'runs' if folds else 'seeds'})", "", lambda r: f"{r[2].wrong} of {r[2].seeds}"),
        Column("", "seeds_wrong", lambda r: r[2].wrong),
        Column("", "seeds", lambda r: r[2].seeds),
    ]


def images_of(findings: Findings) -> str:
    """Say of which fold the images of mistakes and disagreements are, where every fold has its own; "" otherwise."""
    found = list(findings.predictions.values())
    folds = sorted({one.fold for one in found if one.fold is not None})
    if not folds:
        return ""
    used, of = max((len(one.runs) for one in found), default=0), max(len(one.arm.runs) for one in found)
    named = " and ".join(map(str, folds))
    return f"Images of fold {named} only, by {plural(used, 'run')} of {of} of an arm: every fold has other test images."


def mistakes(arm: Arm, examples: Sequence[Example]) -> Table[tuple[str, int, Example]]:
    """Return an arm's most confident mistakes, the most confident first."""
    return Table(_mistakes(arm.folds), [(arm.label, rank, example) for rank, example in enumerate(examples, start=1)])


def all_mistakes(findings: Findings) -> Table[Any]:
    """Return the most confident mistakes of all arms."""
    rows = [row for arm, of in findings.examples.mistakes for row in mistakes(arm, of).rows]
    return Table(_mistakes(findings.study.folds), rows)


def never_agreed(findings: Findings) -> Table[Any]:
    """Return the images that one of two arms gets right at every seed and the other at none."""
    names = ("arm", "baseline", "right_at_every_seed", "rank", "image", "true_class", "predicted_by_the_other")
    rows = [
        (d.arm.arm.label, d.base.arm.label, of.arm.label, rank, plain(e.id), e.true, e.predicted, 100 * e.confidence)
        for d, by_arm, by_base in findings.examples.never_agreed
        for of, side in ((d.arm, by_arm), (d.base, by_base))
        for rank, e in enumerate(side, start=1)
    ]
    return Table(csv_fields(*names, "confidence_percent"), rows)


def _shares(heading: str, name: str) -> list[Column[Disagreement]]:
    def share(row: Disagreement) -> Any:
        return getattr(row, name)

    return csv_columns(f"{name}_{{}}_percent", ("mean", "std"), share, 100, heading, percent)


def disagreement(findings: Findings) -> Table[Disagreement]:
    """Return how often each arm and the baseline are right on the same images."""
    base, folds = findings.baseline.label if findings.baseline else "", findings.study.folds
    two, always = in_words(["Two {runs} of", "{at_every} (images)"], folds)
    columns: list[Column[Disagreement]] = [
        Column("Arm", "arm", lambda d: d.arm.arm.label, kind="label"),
        Column("", "baseline", lambda d: d.base.arm.label),
        Column("", "images", lambda d: len(d.base.ids)),
        Column("n", "n", lambda d: d.both.n),
        *_shares("Both right (%)", "both"),
        *_shares("Only the arm (%)", "only_arm"),
        *_shares(f"Only {base} (%)", "only_base"),
        *_shares("Both wrong (%)", "neither"),
        Column(f"{two} the arm (%)", "two_seeds_of_arm_percent", lambda d: 100 * d.within_arm, decimals(2)),
        Column(f"{two} {base} (%)", "two_seeds_of_baseline_percent", lambda d: 100 * d.within_base, decimals(2)),
        Column(f"Only the arm, {always}", "only_arm_at_every_seed_images", lambda d: len(d.always_arm), number),
        Column(f"Only {base}, {always}", "only_baseline_at_every_seed_images", lambda d: len(d.always_base), number),
    ]
    notes = in_words(DISAGREEMENT_NOTES, folds)
    return Table(columns, findings.disagreements, [note for note in (images_of(findings), *notes) if note])


CALIBRATION: list[Column[Calibration]] = [
    Column("Arm", "arm", lambda c: c.arm.label, kind="label"),
    Column("", "fingerprint", lambda c: c.arm.fingerprint),
    Column("n", "n", lambda c: c.ece.n),
    *csv_columns("ece_{}_percent", ("mean", "std", "low", "high"), lambda c: c.ece, 100, "ECE (%)", percent),
    Column("ECE by chance (%)", "ece_by_chance_percent", lambda c: 100 * c.ece_by_chance.mean, decimals(2)),
    *csv_columns("brier_{}", ("mean", "std"), lambda c: c.brier, 1, "Brier", score),
    *csv_columns("nll_{}_nats", ("mean", "std"), lambda c: c.nll, 1, "NLL (nats)", score),
    *csv_columns("confidence_{}_percent", ("mean",), lambda c: c.confidence, 100, "Mean confidence (%)", percent),
    *csv_columns("accuracy_{}_percent", ("mean",), lambda c: c.accuracy, 100, "Accuracy (%)", percent),
    Column("Overconfident by (points)", "", lambda c: c.gap, points),
    Column("", "confidence_minus_accuracy_points", lambda c: 100 * c.gap.mean),
    *csv_columns("confidence_minus_accuracy_{}_points", ("low", "high"), lambda c: c.gap, 100),
]


def calibration_bins(findings: Findings) -> Table[Any]:
    """Return the reliability bins, means over the seeds, a row per arm and bin; empty cells of an empty bin."""
    names = ("arm", "bin", "confidence_above_percent", "confidence_up_to_percent", "images_per_seed")
    rows = []
    for c in findings.calibrations:
        size = len(c.bins.count)
        for m, (count, right, sure) in enumerate(zip(c.bins.count, c.bins.right, c.bins.confidence, strict=True)):
            shares = [100 * float(total) / float(count) if count else math.nan for total in (sure, right)]
            rows.append((c.arm.label, m + 1, 100 * m / size, 100 * (m + 1) / size, float(count), *shares))
    return Table(csv_fields(*names, "confidence_mean_percent", "accuracy_percent"), rows)
