"""Calibration of each arm over its seeds: how far the confidence is from the accuracy."""

from dataclasses import dataclass

from cnnexp.metrics import ReliabilityBins, mean_bins, reliability_bins
from cnnexp.report.analysis.statistics import Estimate, paired, summarise
from cnnexp.report.read.study import Arm


@dataclass(frozen=True)
class Calibration:
    """An arm's calibration: fractions, but nll in nats. gap: mean confidence minus accuracy."""

    arm: Arm
    bins: ReliabilityBins
    ece: Estimate
    ece_by_chance: Estimate
    brier: Estimate
    nll: Estimate
    confidence: Estimate
    accuracy: Estimate
    gap: Estimate


def calibrate(arm: Arm) -> Calibration | None:
    """Return the arm's calibration; None if no seed has predictions that are finite numbers."""
    seeds = {run.unit: p for run in arm.runs if (p := run.predictions) is not None and p.is_finite}
    if not seeds:
        return None
    bins = {unit: reliability_bins(seed.confidence, seed.right) for unit, seed in seeds.items()}
    confidence = {unit: float(seed.confidence.mean()) for unit, seed in seeds.items()}
    accuracy = {unit: float(seed.right.mean()) for unit, seed in seeds.items()}
    return Calibration(
        arm=arm,
        bins=mean_bins(list(bins.values())),
        ece=summarise({unit: b.ece for unit, b in bins.items()}),
        ece_by_chance=summarise({unit: b.ece_by_chance for unit, b in bins.items()}),
        brier=summarise({unit: seed.brier for unit, seed in seeds.items()}),
        nll=summarise({unit: seed.nll for unit, seed in seeds.items()}),
        confidence=summarise(confidence),
        accuracy=summarise(accuracy),
        gap=paired(confidence, accuracy),
    )


def sentence(found: Calibration) -> str:
    """Say whether the arm's networks are over-confident or under-confident."""
    gap, words = found.gap, "over-confident" if found.gap.mean > 0 else "under-confident"
    numbers = f"mean confidence {100 * found.confidence.mean:.2f} %, accuracy {100 * found.accuracy.mean:.2f} %"
    if gap.n == 1:
        by = f"{abs(100 * gap.mean):.2f} points"
        return f"{found.arm.label}: at its one {gap.unit} {words} by {by} ({numbers}); no interval."
    interval = f"95 % interval {100 * gap.low:+.2f} to {100 * gap.high:+.2f}"
    numbers += f"; {100 * gap.mean:+.2f} points, {gap.all_equal or interval}"
    if gap.low <= 0 <= gap.high:
        words = "no detectable difference between confidence and accuracy"
    return f"{found.arm.label}: {words} ({numbers})."
