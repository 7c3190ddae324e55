"""How sure the networks of each arm are, and how right: calibration over the seeds, as a table and in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from cnnexp.metrics import ReliabilityBins, mean_bins, reliability_bins
from cnnexp.report.analysis.statistics import Estimate, estimate, summarise
from cnnexp.report.read.study import Arm


@dataclass(frozen=True)
class Calibration:
    """An arm's calibration over its seeds. Fractions, but nll in nats; gap: mean confidence minus accuracy."""

    arm: Arm
    bins: ReliabilityBins
    ece: Estimate
    ece_by_chance: Estimate
    brier: Estimate
    nll: Estimate
    confidence: Estimate
    accuracy: Estimate
    gap: Estimate


def calibrations(arms: Sequence[Arm]) -> list[Calibration]:
    """Return the calibration of every arm that has usable predictions."""
    return [found for arm in arms if (found := calibrate(arm))]


def calibrate(arm: Arm) -> Calibration | None:
    """Return the arm's calibration; None if no seed has predictions that are finite numbers."""
    seeds = [found for run in arm.runs if (found := run.predictions) is not None and found.is_finite]
    if not seeds:
        return None
    bins = [reliability_bins(seed.confidence, seed.right) for seed in seeds]
    confidence = [float(seed.confidence.mean()) for seed in seeds]
    accuracy = [float(seed.right.mean()) for seed in seeds]
    return Calibration(
        arm=arm,
        bins=mean_bins(bins),
        ece=summarise([b.ece for b in bins]),
        ece_by_chance=summarise([b.ece_by_chance for b in bins]),
        brier=summarise([seed.brier for seed in seeds]),
        nll=summarise([seed.nll for seed in seeds]),
        confidence=summarise(confidence),
        accuracy=summarise(accuracy),
        gap=estimate([c - a for c, a in zip(confidence, accuracy, strict=True)]),
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
