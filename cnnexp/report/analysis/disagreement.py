"""Where an arm and the baseline disagree: test images that one classifies correctly and the other does not.

Shapes: N images, K classes, S seeds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnexp.report.analysis.statistics import Estimate, summarise
from cnnexp.report.read.comparable import settings_apart
from cnnexp.report.read.predictions import Predictions, rows_of
from cnnexp.report.read.run_predictions import Array
from cnnexp.report.read.study import Arm


@dataclass(frozen=True)
class Disagreement:
    """An arm and the baseline. Estimates: shares of the test images, over the shared seeds (n = 0: none shared).

    always_arm, always_base: rows of `base`'s images that every seed of one classifies correctly, and none of the other.
    within_arm, within_base: the share on which two seeds of one arm disagree, nan of one seed.
    """

    arm: Predictions
    base: Predictions
    both: Estimate
    only_arm: Estimate
    only_base: Estimate
    neither: Estimate
    within_arm: float
    within_base: float
    always_arm: np.ndarray[Any, Any]
    always_base: np.ndarray[Any, Any]


def disagreements(predictions: Mapping[str, Predictions], baseline: Arm | None) -> list[Disagreement]:
    """Compare every arm with the baseline; [] without one. predictions: by arm.key.

    An arm that was tested on other images or classes, or has other settings than it sets, is left out.
    """
    base = predictions.get(baseline.key) if baseline else None
    if base is None:
        return []
    others = [other for other in predictions.values() if other is not base and not settings_apart(other.arm, base.arm)]
    return [found for other in others if (found := compare_predictions(other, base))]


def compare_predictions(arm: Predictions, base: Predictions) -> Disagreement | None:
    """Compare two arms image by image; None unless both have the same images and classes."""
    rows = rows_of(base.ids, arm.ids)
    if rows is None or (arm.labels[rows] != base.labels).any() or arm.names != base.names:
        return None
    mine, theirs = arm.right[:, rows], base.right
    places = {run.unit: i for i, run in enumerate(base.runs)}
    pairs = {run.unit: (mine[i], theirs[places[run.unit]]) for i, run in enumerate(arm.runs) if run.unit in places}

    def share(of: Callable[[Array, Array], Array]) -> Estimate:
        return summarise({unit: float(of(*pair).mean()) for unit, pair in pairs.items()})

    return Disagreement(
        arm=arm,
        base=base,
        both=share(lambda a, b: a & b),
        only_arm=share(lambda a, b: a & ~b),
        only_base=share(lambda a, b: b & ~a),
        neither=share(lambda a, b: ~a & ~b),
        within_arm=between_seeds(mine),
        within_base=between_seeds(theirs),
        always_arm=np.flatnonzero(mine.all(0) & ~theirs.any(0)),
        always_base=np.flatnonzero(theirs.all(0) & ~mine.any(0)),
    )


def between_seeds(right: np.ndarray[Any, Any]) -> float:
    """Return the share of images on which two seeds differ, mean over all pairs; nan of one. right: (S, N) bool."""
    seeds, times = len(right), right.sum(0)
    return float((times * (seeds - times)).mean() / (seeds * (seeds - 1) / 2)) if seeds > 1 else float("nan")
