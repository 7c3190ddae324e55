"""Cost against accuracy: which arms no other beats in both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cnnexp.report.analysis.compare import Row
from cnnexp.report.read.runs import Run


@dataclass(frozen=True)
class Cost:
    """A cost, nan where it is not recorded. path: of its field in run.json."""

    heading: str
    path: tuple[str, str]

    def of_run(self, run: Run) -> float:
        """Return the cost of one run."""
        return run.number(*self.path)

    def of_arm(self, row: Row) -> float:
        """Return the mean over the arm's done runs."""
        return row.mean(*self.path)


COSTS: Mapping[str, Cost] = {
    "seconds": Cost("Training time (s)", ("seconds", "train")),
    "parameters": Cost("Parameters", ("model", "parameters")),
    "macs": Cost("Multiply-accumulates (MACs)", ("model", "macs")),
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
    found: list[str] = []
    for name in sorted(known, key=lambda name: (known[name][0], -known[name][1])):
        if not found or known[name][1] > known[found[-1]][1] or known[name] == known[found[-1]]:
            found.append(name)
    return found
