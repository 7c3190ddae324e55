"""Where an arm and the baseline disagree: the same test images, right in one and wrong in the other.

Shapes: N images, K classes, S seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnexp.pages.tables import Table
from cnnexp.report.analysis.classes import class_names
from cnnexp.report.analysis.statistics import Difference, Summary, summarise
from cnnexp.report.read.collect import Arm
from cnnexp.report.read.predictions import Predictions, rows_of
from cnnexp.report.render.columns import number, percent

if TYPE_CHECKING:
    from cnnexp.report.analysis.findings import Findings

NOTES = (
    "Of the same seed's two networks, in % of the test images: both right, only one of them right, both wrong; mean ± "
    "sample standard deviation over the shared seeds.",
    "Two seeds of one arm: on how many images one is right and the other wrong, mean over all pairs of its seeds. "
    "Where arms disagree no more than that, the images differ as they do by training again.",
    "At every seed: images that all networks of one arm have right and all of the other wrong. At few seeds some are "
    "chance.",
)
CLASS_NOTE = (
    "Points of accuracy against {baseline}, paired by seed, with 95 % intervals that are not corrected for the number "
    "of classes: where to look, not a test. About one in 20 would leave out 0 by chance."
)


@dataclass(frozen=True)
class Disagreement:
    """An arm beside the baseline. Summaries: shares of the test images, over the shared seeds (n = 0: none shared).

    always_arm, always_base: rows of `base`'s images that every seed of one has right and every seed of the other wrong.
    within_arm, within_base: the share on which two seeds of one arm disagree, nan of one seed.
    """

    arm: Predictions
    base: Predictions
    both: Summary
    only_arm: Summary
    only_base: Summary
    neither: Summary
    within_arm: float
    within_base: float
    always_arm: np.ndarray[Any, Any]
    always_base: np.ndarray[Any, Any]


def disagreements(predictions: Mapping[str, Predictions], baseline: Arm | None) -> list[Disagreement]:
    """Compare every arm with the baseline; [] without one. predictions: by arm.key.

    An arm that was tested on other images or classes is left out.
    """
    base = predictions.get(baseline.key) if baseline else None
    if base is None:
        return []
    others = [other for other in predictions.values() if other is not base]
    return [found for other in others if (found := compare_predictions(other, base))]


def compare_predictions(arm: Predictions, base: Predictions) -> Disagreement | None:
    """Compare two arms image by image; None unless both answered the same images with the same classes."""
    rows = rows_of(base.ids, arm.ids)
    if rows is None or (arm.labels[rows] != base.labels).any() or class_names(arm.arm) != class_names(base.arm):
        return None
    mine, theirs = arm.right[:, rows], base.right
    places = {run.seed: i for i, run in enumerate(base.runs)}
    pairs = [(mine[i], theirs[places[run.seed]]) for i, run in enumerate(arm.runs) if run.seed in places]
    return Disagreement(
        arm=arm,
        base=base,
        both=summarise([float((a & b).mean()) for a, b in pairs]),
        only_arm=summarise([float((a & ~b).mean()) for a, b in pairs]),
        only_base=summarise([float((b & ~a).mean()) for a, b in pairs]),
        neither=summarise([float((~a & ~b).mean()) for a, b in pairs]),
        within_arm=between_seeds(mine),
        within_base=between_seeds(theirs),
        always_arm=np.flatnonzero(mine.all(0) & ~theirs.any(0)),
        always_base=np.flatnonzero(theirs.all(0) & ~mine.any(0)),
    )


def between_seeds(right: np.ndarray[Any, Any]) -> float:
    """Return the share of images on which two seeds differ, mean over all pairs; nan of one. right: (S, N) bool."""
    seeds, times = len(right), right.sum(0)
    return float((times * (seeds - times)).mean() / (seeds * (seeds - 1) / 2)) if seeds > 1 else float("nan")


def table(found: Sequence[Disagreement]) -> Table:
    """Return the disagreements as they are read."""
    if not found:
        return Table(["Arm"], [])
    base = found[0].base.arm.label
    headings = ["Arm", "n", "Both right (%)", "Only the arm (%)", f"Only {base} (%)", "Both wrong (%)"]
    headings += ["Two seeds of the arm (%)", f"Two seeds of {base} (%)", "Only the arm, at every seed (images)"]
    rows = []
    for d in found:
        shares = [percent(s) for s in (d.both, d.only_arm, d.only_base, d.neither)]
        within = [number(100 * share, 2) for share in (d.within_arm, d.within_base)]
        always = [f"{len(d.always_arm):,}", f"{len(d.always_base):,}"]
        rows.append([d.arm.arm.label, f"{d.both.n}", *shares, *within, *always])
    return Table([*headings, f"Only {base}, at every seed (images)"], rows)


def csv(found: Sequence[Disagreement]) -> tuple[list[str], list[list[str | float | int]]]:
    """Return the disagreements in full precision: headings with units, and rows."""
    parts = ("both", "only_arm", "only_base", "neither")
    headings = ["arm", "baseline", "images", "n"]
    headings += [f"{part}_{what}_percent" for part in parts for what in ("mean", "std")]
    headings += ["two_seeds_of_arm_percent", "two_seeds_of_baseline_percent"]
    rows: list[list[str | float | int]] = []
    for d in found:
        row: list[str | float | int] = [d.arm.arm.label, d.base.arm.label, len(d.base.ids), d.both.n]
        row += [100 * x for part in parts for x in (getattr(d, part).mean, getattr(d, part).std)]
        rows.append([*row, 100 * d.within_arm, 100 * d.within_base, len(d.always_arm), len(d.always_base)])
    return [*headings, "only_arm_at_every_seed_images", "only_baseline_at_every_seed_images"], rows


def class_table(findings: "Findings") -> Table:
    """Return the difference of each class to the baseline, a column an arm; without rows if there is none."""
    found = findings.class_differences
    if not found or findings.baseline is None:
        return Table(["Class"], [])
    names = findings.classes[findings.baseline.key].names
    rows = [[name, *(_points(d[k]) for d in found.values())] for k, name in enumerate(names)]
    return Table(["Class", *(arm.label for arm in findings.arms if arm.key in found)], rows)


def _points(difference: Difference) -> str:
    if not difference.n:
        return "-"
    interval = "" if difference.n < 2 else f" [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]"
    return f"{100 * difference.mean:+.2f}{interval}"


def class_csv(findings: "Findings") -> tuple[list[str], list[list[str | float | int]]]:
    """Return the differences of each arm and class in full precision: headings with units, and rows."""
    headings = ["arm", "baseline", "class", "n", "difference_mean_points", "difference_low95_points"]
    rows: list[list[str | float | int]] = []
    labels = {arm.key: arm.label for arm in findings.arms}
    for key, differences in findings.class_differences.items():
        assert findings.baseline is not None
        for name, d in zip(findings.classes[key].names, differences, strict=True):
            rows.append([labels[key], findings.baseline.label, name, d.n, 100 * d.mean, 100 * d.low, 100 * d.high])
    return [*headings, "difference_high95_points"], rows
