"""All figures of a report, in the order of the page."""

from collections.abc import Iterator, Sequence

from cnnexp.report import charts, curves, inside, matrices
from cnnexp.report.collect import Study
from cnnexp.report.compare import Row
from cnnexp.report.probed import probed
from cnnexp.report.style import Figure, looks, style


def draw(study: Study, rows: Sequence[Row]) -> list[Figure]:
    """Draw what the records allow; what they hold no data for is left out."""
    with style():
        return [figure for figure in _all(study, rows) if figure is not None]


def _all(study: Study, rows: Sequence[Row]) -> Iterator[Figure | None]:
    arms = [a for a in study.arms if a.runs]
    look = looks(study.arms, study.baseline)
    yield charts.accuracy(rows, look)
    yield curves.validation(arms, look)
    yield curves.panels(arms, look, "accuracy")
    yield curves.panels(arms, look, "loss")
    yield matrices.side_by_side(arms, look)
    yield charts.cost(rows, look)
    for arm in arms:
        yield matrices.one(arm)
    for arm in study.arms:
        if seen := probed(arm):
            yield from inside.draw(seen)
