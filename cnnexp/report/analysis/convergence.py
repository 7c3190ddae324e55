"""Which arms have not converged, in sentences. The rule: records/convergence.py."""

from collections.abc import Iterator

import numpy as np

from cnnexp.records.convergence import AT_CHANCE, of_curve
from cnnexp.report.read.runs import Run
from cnnexp.report.read.study import Arm
from cnnexp.text import listed

MAX_NAMED = 8  # arms of one sentence


def sentences(arms: list[Arm]) -> list[str]:
    """Return a sentence for each kind of problem, with the arms that have it; then the runs at chance, by arm."""
    found: dict[str, list[str]] = {}
    for arm in arms:
        for said in _of_arm(arm):
            found.setdefault(said, []).append(arm.label)
    return [f"{listed(labels, MAX_NAMED)}: {said}." for said, labels in found.items()]


def _of_arm(arm: Arm) -> Iterator[str]:
    lost = [run for run in arm.runs if run.at_chance]
    if lost and len(lost) == len(arm.runs):
        yield AT_CHANCE
        return
    if lost:
        seeds = f"seed{'s' * (len(lost) > 1)} {', '.join(run.seed_name for run in lost)}"
        yield (
            f"{len(lost)} of {len(arm.runs)} runs at chance ({seeds}): mean and interval mix runs that learned with "
            "runs that did not"
        )
    if said := _of_curves([run for run in arm.runs if run.text("result", "stopped") != "early"]):
        yield said


def _of_curves(runs: list[Run]) -> str:
    """Apply the rule to the mean curves over the runs, up to the last epoch that all of them reached."""
    accuracies, losses = ([list(run.curve("val", name).values()) for run in runs] for name in ("accuracy", "loss"))
    return of_curve(_mean(accuracies), _mean(losses))


def _mean(curves: list[list[float]]) -> list[float]:
    length = min((len(curve) for curve in curves if curve), default=0)
    return list(map(float, np.mean([curve[:length] for curve in curves if curve] or [[]], axis=0)))
