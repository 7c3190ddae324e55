"""All figures of a report, in the order of the page."""

from collections.abc import Iterator

from cnnexp.pages.style import Figure, style
from cnnexp.report.analysis.examples import MAX_ARMS
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.figures import charts, curves, grids, matrices, probe_figures, reliability
from cnnexp.report.figures.images import TestImages
from cnnexp.report.figures.looks import looks

MATRICES = 24  # arms with a confusion matrix of their own: more cannot be read, and take minutes to draw


def draw(findings: Findings, images: TestImages) -> list[Figure]:
    """Draw every figure that there is data for. images: of the examples."""
    with style():
        return [figure for figure in _all(findings, images) if figure is not None]


def _all(findings: Findings, images: TestImages) -> Iterator[Figure | None]:
    rows, arms = findings.rows, [arm for arm in findings.arms if arm.runs]
    classes = [findings.classes[arm.key] for arm in arms[:MATRICES] if arm.key in findings.classes]
    compared = [findings.classes[arm.key] for arm in arms[:MAX_ARMS] if arm.key in findings.classes]
    look = looks([*findings.arms, *findings.study.under_way], findings.baseline)
    with_curves = [arm for arm in [*findings.arms, *findings.study.under_way] if arm.runs or arm.unfinished]
    yield charts.accuracy(rows, look)
    yield curves.validation(with_curves, look)
    yield curves.panels(with_curves, look, "accuracy")
    yield curves.panels(with_curves, look, "loss")
    yield matrices.side_by_side(compared, look)
    yield charts.cost(rows, look)
    yield reliability.diagrams(findings.calibrations[:MAX_ARMS], look)
    yield from grids.grids(findings.examples, images, look)
    yield from map(matrices.one, classes)
    for probes in findings.probes:
        yield from probe_figures.draw(probes)
