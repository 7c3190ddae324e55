"""All figures of a report, in the order of the page."""

from collections.abc import Iterator

from cnnexp.pages.style import Figure, style
from cnnexp.report.analysis.examples import ARMS
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.figures import charts, curves, grids, matrices, probe_figures, reliability
from cnnexp.report.figures.images import TestImages
from cnnexp.report.figures.looks import looks

MATRICES = 24  # arms with a confusion matrix of their own: a page of more cannot be read, and takes minutes to draw


def draw(findings: Findings, images: TestImages) -> list[Figure]:
    """Draw what the records allow; what they hold no data for is left out. images: the pictures of the examples."""
    with style():
        return [figure for figure in _all(findings, images) if figure is not None]


def _all(findings: Findings, images: TestImages) -> Iterator[Figure | None]:
    rows, arms = findings.rows, [arm for arm in findings.arms if arm.runs]
    classes = list(findings.classes.values())
    look = looks(findings.arms, findings.baseline)
    yield charts.accuracy(rows, look)
    yield curves.validation(arms, look)
    yield curves.panels(arms, look, "accuracy")
    yield curves.panels(arms, look, "loss")
    yield matrices.side_by_side([found for found in classes if found.arm in arms[:ARMS]], look)
    yield charts.cost(rows, look)
    yield reliability.diagrams(findings.calibrations[:ARMS], look)
    yield from grids.grids(findings.examples, images, look)
    for found in classes:
        if found.arm in arms[:MATRICES]:
            yield matrices.one(found)
    for seen in findings.probes:
        yield from probe_figures.draw(seen)
