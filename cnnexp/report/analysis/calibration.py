"""Calibration of each arm over its seeds: how far the confidence is from the accuracy."""

from collections.abc import Iterable
from dataclasses import dataclass

from cnnexp.metrics import ReliabilityBins, mean_bins, reliability_bins
from cnnexp.report.analysis.statistics import Estimate, estimate, summarise
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
    found = {run.unit: p for run in arm.runs if (p := run.predictions) is not None and p.is_finite}
    units, seeds = list(found), list(found.values())
    if not seeds:
        return None
    bins = [reliability_bins(seed.confidence, seed.right) for seed in seeds]
    confidence = [float(seed.confidence.mean()) for seed in seeds]
    accuracy = [float(seed.right.mean()) for seed in seeds]

    def over(values: Iterable[float]) -> dict[int, float]:
        return dict(zip(units, values, strict=True))

    return Calibration(
        arm=arm,
        bins=mean_bins(bins),
        ece=summarise(over(b.ece for b in bins)),
        ece_by_chance=summarise(over(b.ece_by_chance for b in bins)),
        brier=summarise(over(seed.brier for seed in seeds)),
        nll=summarise(over(seed.nll for seed in seeds)),
        confidence=summarise(over(confidence)),
        accuracy=summarise(over(accuracy)),
        gap=estimate(over(c - a for c, a in zip(confidence, accuracy, strict=True))),
    )


def sentence(found: Calibration) -> str:
    """Say whether the arm's networks are over-confident or under-confident."""
    gap, words = found.gap, "over-confident" if found.gap.mean > 0 else "under-confident"
    numbers = f"mean confidence {100 * found.confidence.mean:.2f} %, accuracy {100 * found.accuracy.mean:.2f} %"
    if gap.n == 1:
        by = f"{abs(100 * gap.mean):.2f} points"
        one = "fold" if gap.folds else "seed"
        return f"{found.arm.label}: at its one {one} {words} by {by} ({numbers}); no interval."
    interval = f"95 % interval {100 * gap.low:+.2f} to {100 * gap.high:+.2f}"
    numbers += f"; {100 * gap.mean:+.2f} points, {gap.all_equal or interval}"
    if gap.low <= 0 <= gap.high:
        words = "no detectable difference between confidence and accuracy"
    return f"{found.arm.label}: {words} ({numbers})."
