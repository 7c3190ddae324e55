"""The arms of a study beside what its source reports of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnnexp.claims.grammar import STD
from cnnexp.claims.metrics import METRICS
from cnnexp.pages.tables import Table
from cnnexp.report.analysis.evidence import by_seed
from cnnexp.report.analysis.statistics import Summary, summarise
from cnnexp.report.read.collect import Study
from cnnexp.text import plain

DIGITS = {"nats": 3, "epochs": 1, "seconds": 1}  # of all other units: 2
NOTES = (
    "Reproduced: mean ± sample standard deviation over the seeds. The reported number is taken as it is printed: how "
    "far it would move with another seed is its source's to say.",
)


@dataclass(frozen=True)
class ReportedComparison:
    """A reported number and what the seeds here give, in the metric's unit. reported_std: nan if none is reported."""

    arm: str
    metric: str
    reported: float
    reported_std: float
    here: Summary

    @property
    def difference(self) -> float:
        """Return reproduced minus reported."""
        return self.here.mean - self.reported


def compare_reported(study: Study) -> list[ReportedComparison]:
    """Return every reported number with what its arm gives here: n = 0 without finished runs, or of several configs."""
    found = []
    for name, metrics in study.reported.items():
        arms = study.named(name)
        for metric in (m for m in metrics if m != STD):
            here = summarise(list(by_seed(arms[0], metric).values()) if len(arms) == 1 else [])
            std = metrics.get(STD, math.nan) if metric == "test_accuracy" else math.nan
            found.append(ReportedComparison(plain(name), metric, metrics[metric], std, here))
    return found


def amount(value: float, unit: str, signed: bool = False) -> str:
    """Format a number of a unit; a dash where there is none."""
    return "-" if math.isnan(value) else f"{value:{'+' if signed else ''},.{DIGITS.get(unit, 2)}f}"


def with_std(mean: float, std: float, unit: str, signed: bool = False) -> str:
    """Format "75.67 ± 0.34"; without the deviation where there is none."""
    return amount(mean, unit, signed) + ("" if math.isnan(std) else f" ± {amount(std, unit)}")


def table(rows: Sequence[ReportedComparison]) -> Table:
    """Return the numbers as they are read."""
    lines = []
    for row in rows:
        unit = METRICS[row.metric].level
        here = with_std(row.here.mean, row.here.std, unit) if row.here.n else "no finished run"
        difference = amount(row.difference, unit, signed=True)
        reported = with_std(row.reported, row.reported_std, unit)
        lines.append([row.arm, f"{row.metric} ({unit})", reported, here, difference, f"{row.here.n}"])
    return Table(["Arm", "Metric", "Reported", "Reproduced", "Difference", "n"], lines, left=2)


def csv(rows: Sequence[ReportedComparison]) -> tuple[list[str], list[list[str | float | int]]]:
    """Return the numbers in full precision: headings, and rows."""
    headings = ["arm", "metric", "unit", "reported", "reported_std", "mean", "std", "low95", "high95", "n"]
    lines: list[list[str | float | int]] = []
    for row in rows:
        here = [row.here.mean, row.here.std, row.here.low, row.here.high, row.here.n]
        unit = METRICS[row.metric].level
        lines.append([row.arm, row.metric, unit, row.reported, row.reported_std, *here, row.difference])
    return [*headings, "difference"], lines
