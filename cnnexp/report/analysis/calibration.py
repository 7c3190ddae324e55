"""How sure the networks of each arm are, and how right: calibration over the seeds, as a table and in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnexp.metrics import ReliabilityBins, mean_bins, reliability_bins
from cnnexp.pages.tables import Table
from cnnexp.report.analysis.statistics import Difference, Summary, against, summarise
from cnnexp.report.read.collect import Arm
from cnnexp.report.render.columns import number, percent

NOTES = (
    "Confidence: the softmax probability of the class that is answered. ECE: the expected calibration error of Guo et "
    "al. (2017), 15 equal-width bins; of each seed, then mean ± sample standard deviation over the seeds.",
    "ECE by chance: about what so many test images would give if every confidence were true; an ECE is never 0.",
    "Brier: squared error of all class probabilities (0 to 2); NLL: negative log-likelihood; lower is better for both.",
    "Too sure by: mean confidence minus accuracy, in points, with Student's 95 % interval over the seeds.",
)


@dataclass(frozen=True)
class Calibration:
    """An arm's calibration over its seeds. Fractions, but nll in nats; gap: mean confidence minus accuracy."""

    arm: Arm
    bins: ReliabilityBins
    ece: Summary
    ece_by_chance: Summary
    brier: Summary
    nll: Summary
    confidence: Summary
    accuracy: Summary
    gap: Difference


def calibrations(arms: Sequence[Arm]) -> list[Calibration]:
    """Return the calibration of every arm that has usable predictions."""
    return [found for arm in arms if (found := calibrate(arm))]


def calibrate(arm: Arm) -> Calibration | None:
    """Return the arm's calibration; None if no seed has predictions that are finite numbers."""
    answers = [a for run in arm.runs if (a := run.answers) is not None and np.isfinite(a["confidence"]).all()]
    if not answers:
        return None
    right = [a["predicted"] == a["labels"] for a in answers]
    bins = [reliability_bins(a["confidence"], r) for a, r in zip(answers, right, strict=True)]
    sure = [float(a["confidence"].mean()) for a in answers]
    accuracy = [float(r.mean()) for r in right]
    return Calibration(
        arm=arm,
        bins=mean_bins(bins),
        ece=summarise([b.ece for b in bins]),
        ece_by_chance=summarise([b.ece_by_chance for b in bins]),
        brier=summarise([float(a["brier"]) for a in answers]),
        nll=summarise([float(a["nll"]) for a in answers]),
        confidence=summarise(sure),
        accuracy=summarise(accuracy),
        gap=against([s - a for s, a in zip(sure, accuracy, strict=True)]),
    )


def sentence(found: Calibration) -> str:
    """Say whether the arm's networks are too sure of themselves, or not sure enough."""
    gap, label = found.gap, found.arm.label
    told = f"mean confidence {100 * found.confidence.mean:.2f} %, accuracy {100 * found.accuracy.mean:.2f} %"
    if gap.n == 1:
        side = "over" if gap.mean > 0 else "under"
        return f"{label}: at its one seed {side}-confident by {abs(100 * gap.mean):.2f} points ({told}); no interval."
    told += f"; {100 * gap.mean:+.2f} points, 95 % interval {100 * gap.low:+.2f} to {100 * gap.high:+.2f}"
    if gap.low <= 0 <= gap.high:
        return f"{label}: confidence and accuracy are not to be told apart ({told})."
    return f"{label}: {'over' if gap.mean > 0 else 'under'}-confident ({told})."


def table(found: Sequence[Calibration]) -> Table:
    """Return the calibration of the arms as it is read."""
    headings = ["Arm", "n", "ECE (%)", "ECE by chance (%)", "Brier", "NLL (nats)", "Mean confidence (%)"]
    rows = [
        [
            c.arm.label,
            f"{c.ece.n}",
            percent(c.ece),
            number(100 * c.ece_by_chance.mean, 2),
            _plus_minus(c.brier),
            _plus_minus(c.nll),
            percent(c.confidence),
            percent(c.accuracy),
            _gap(c.gap),
        ]
        for c in found
    ]
    return Table([*headings, "Accuracy (%)", "Too sure by (points)"], rows)


def _plus_minus(summary: Summary) -> str:
    spread = "" if math.isnan(summary.std) else f" ± {summary.std:.4f}"
    return number(summary.mean, 4) + spread


def _gap(gap: Difference) -> str:
    interval = "" if math.isnan(gap.low) else f" [{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]"
    return f"{100 * gap.mean:+.2f}{interval}"


def csv(found: Sequence[Calibration]) -> tuple[list[str], list[list[str | float | int]]]:
    """Return the calibration of the arms in full precision: headings with units, and rows."""
    headings = ["arm", "fingerprint", "n", "ece_mean_percent", "ece_std_percent", "ece_low95_percent"]
    headings += ["ece_high95_percent", "ece_by_chance_percent", "brier_mean", "brier_std", "nll_mean_nats"]
    headings += ["nll_std_nats", "confidence_mean_percent", "accuracy_mean_percent", "confidence_minus_accuracy_points"]
    headings += ["confidence_minus_accuracy_low95_points", "confidence_minus_accuracy_high95_points"]
    rows: list[list[str | float | int]] = []
    for c in found:
        shares = [c.ece.mean, c.ece.std, c.ece.low, c.ece.high, c.ece_by_chance.mean]
        row: list[str | float | int] = [c.arm.label, c.arm.fingerprint, c.ece.n, *(100 * s for s in shares)]
        row += [c.brier.mean, c.brier.std, c.nll.mean, c.nll.std]
        rows.append(row + [100 * x for x in (c.confidence.mean, c.accuracy.mean, c.gap.mean, c.gap.low, c.gap.high)])
    return headings, rows


def bins_csv(found: Sequence[Calibration]) -> tuple[list[str], list[list[str | float | int]]]:
    """Return the reliability bins of the arms, means over the seeds: headings with units, and a row a bin and arm."""
    headings = ["arm", "bin", "confidence_above_percent", "confidence_up_to_percent", "images_per_seed"]
    rows: list[list[str | float | int]] = []
    for c in found:
        for m, (count, right, sure) in enumerate(zip(c.bins.count, c.bins.right, c.bins.confidence, strict=True)):
            shares = [100 * float(x) / float(count) if count else math.nan for x in (sure, right)]
            edges = [100 * m / len(c.bins.count), 100 * (m + 1) / len(c.bins.count)]
            rows.append([c.arm.label, m + 1, *edges, float(count), *shares])
    return [*headings, "confidence_mean_percent", "accuracy_percent"], rows
