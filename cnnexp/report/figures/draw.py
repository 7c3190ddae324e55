"""All figures of a report, in the order of the page."""

from collections.abc import Iterator, Sequence

from cnnexp.pages.style import Figure, style
from cnnexp.report.analysis.compare import Row
from cnnexp.report.analysis.confidence import calibrations
from cnnexp.report.analysis.examples import ARMS, Examples
from cnnexp.report.figures import charts, curves, grids, matrices, probe_figures, reliability
from cnnexp.report.figures.images import TestImages
from cnnexp.report.figures.looks import looks
from cnnexp.report.read.collect import Study
from cnnexp.report.read.probed import probed

MATRICES = 24  # arms with a confusion matrix of their own: a page of more cannot be read, and takes minutes to draw


def draw(study: Study, rows: Sequence[Row], examples: Examples, images: TestImages) -> list[Figure]:
    """Draw what the records allow; what they hold no data for is left out. images: the pictures of the examples."""
    with style():
        return [figure for figure in _all(study, rows, examples, images) if figure is not None]


def _all(study: Study, rows: Sequence[Row], examples: Examples, images: TestImages) -> Iterator[Figure | None]:
    arms = [a for a in study.arms if a.runs]
    look = looks(study.arms, study.baseline)
    yield charts.accuracy(rows, look)
    yield curves.validation(arms, look)
    yield curves.panels(arms, look, "accuracy")
    yield curves.panels(arms, look, "loss")
    yield matrices.side_by_side(arms[:ARMS], look)
    yield charts.cost(rows, look)
    yield reliability.diagrams(calibrations(arms)[:ARMS], look)
    yield from grids.grids(examples, images, look)
    for arm in arms[:MATRICES]:
        yield matrices.one(arm)
    for arm in study.arms:
        if seen := probed(arm):
            yield from probe_figures.draw(seen)
