"""Cost against accuracy: which arms no other beats in both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cnnexp.report.analysis.compare import Row
from cnnexp.report.read.runs import Run


@dataclass(frozen=True)
class Cost:
    """A cost of an arm. of_arm: its mean over the seeds; of_run: of one run; nan where it is not recorded."""

    heading: str
    of_run: Callable[[Run], float]
    path: tuple[str, str]

    def of_arm(self, row: Row) -> float:
        """Return the mean over the arm's done runs."""
        return row.mean(*self.path)


def _cost(heading: str, *path: str) -> Cost:
    return Cost(heading, lambda run: run.number(*path), (path[0], path[1]))


COSTS: Mapping[str, Cost] = {
    "seconds": _cost("Training time (s)", "seconds", "train"),
    "parameters": _cost("Parameters", "model", "parameters"),
    "macs": _cost("Multiply-accumulates (MACs)", "model", "macs"),
}

COST_DIGITS = 12  # of the data of a figure, where seconds, parameters and operations are shown in full


def front(rows: Sequence[Row], cost: str) -> list[str]:
    """Return the keys of the arms on the Pareto front of mean test accuracy against a cost, the cheapest first."""
    points = {row.arm.key: (COSTS[cost].of_arm(row), row.test.mean) for row in rows if row.test.n}
    return pareto(points)


def pareto(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the names of those (cost, accuracy) that no other beats in one and equals in the other, by cost.

    Points with nan are on no front.
    """
    known = {name: point for name, point in points.items() if point[0] == point[0] and point[1] == point[1]}
    ordered = sorted(known, key=lambda name: (known[name][0], -known[name][1]))
    found: list[str] = []
    for name in ordered:
        if not found or known[name][1] > known[found[-1]][1] or known[name] == known[found[-1]]:
            found.append(name)
    return found
