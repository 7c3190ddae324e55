"""The arms of a study beside what its source reports of them."""

import math
from dataclasses import dataclass

from cnnexp.claims.grammar import STD
from cnnexp.report.analysis.evidence import by_seed
from cnnexp.report.analysis.statistics import Estimate, summarise
from cnnexp.report.read.study import Study
from cnnexp.text import plain


@dataclass(frozen=True)
class ReportedComparison:
    """A reported number and what the seeds here give, in the metric's unit. reported_std: nan if none is reported."""

    arm: str
    metric: str
    reported: float
    reported_std: float
    here: Estimate

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
            here = summarise(by_seed(arms[0], metric) if len(arms) == 1 else [])
            std = metrics.get(STD, math.nan) if metric == "test_accuracy" else math.nan
            found.append(ReportedComparison(plain(name), metric, metrics[metric], std, here))
    return found
