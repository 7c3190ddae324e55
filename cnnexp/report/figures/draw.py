"""All figures of a report, in the order of the page."""

from collections.abc import Iterator

from cnnexp.pages.style import Figure, style
from cnnexp.report.analysis.examples import ARMS
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.figures import charts, curves, grids, matrices, probe_figures, reliability
from cnnexp.report.figures.images import TestImages
from cnnexp.report.figures.looks import looks

MATRICES = 24  # arms with a confusion matrix of their own: more cannot be read, and take minutes to draw


def draw(found: Findings, images: TestImages) -> list[Figure]:
    """Draw every figure that there is data for. images: of the examples."""
    with style():
        return [figure for figure in _all(found, images) if figure is not None]


def _all(found: Findings, images: TestImages) -> Iterator[Figure | None]:
    rows, arms = found.rows, [arm for arm in found.arms if arm.runs]
    classes = [found.classes[arm.key] for arm in arms[:MATRICES] if arm.key in found.classes]
    compared = [found.classes[arm.key] for arm in arms[:ARMS] if arm.key in found.classes]
    look = looks(found.arms, found.baseline)
    yield charts.accuracy(rows, look)
    yield curves.validation(arms, look)
    yield curves.panels(arms, look, "accuracy")
    yield curves.panels(arms, look, "loss")
    yield matrices.side_by_side(compared, look)
    yield charts.cost(rows, look)
    yield reliability.diagrams(found.calibrations[:ARMS], look)
    yield from grids.grids(found.examples, images, look)
    yield from map(matrices.one, classes)
    for probed in found.probes:
        yield from probe_figures.draw(probed)
