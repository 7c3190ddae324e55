"""Cost against accuracy: which arms no other beats in both."""

from collections.abc import Callable, Mapping, Sequence

from cnnexp.pages.plotly import rounded
from cnnexp.report.analysis.compare import Row

COSTS = {  # the heading of each, and its field in run.json
    "seconds": ("Training time (s)", ("seconds", "train")),
    "parameters": ("Parameters", ("model", "parameters")),
    "macs": ("Multiply-accumulates (MACs)", ("model", "macs")),
}
COST_HEADINGS = {name: heading for name, (heading, _) in COSTS.items()}
COST_DIGITS = 12  # of the data of a figure, where seconds, parameters and operations are shown in full


def front(rows: Sequence[Row], cost: str) -> list[str]:
    """Return the keys of the arms on the Pareto front of mean test accuracy against a cost, the cheapest first."""
    _, path = COSTS[cost]
    return pareto({row.arm.key: (row.mean(*path), row.test.mean) for row in rows if row.test.n})


def costs_of(number: Callable[..., float]) -> dict[str, float | None]:
    """Return every cost for a figure, None where it is not recorded. number: of a field of run.json."""
    return {name: rounded(number(*path), COST_DIGITS) for name, (_, path) in COSTS.items()}


def pareto(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the names of those (cost, accuracy) that no other beats in one and equals in the other, by cost.

    Points with nan are on no front.
    """
    known = {name: point for name, point in points.items() if point[0] == point[0] and point[1] == point[1]}
    found: list[str] = []
    for name in sorted(known, key=lambda name: (known[name][0], -known[name][1])):
        if not found or known[name][1] > known[found[-1]][1] or known[name] == known[found[-1]]:
            found.append(name)
    return found
