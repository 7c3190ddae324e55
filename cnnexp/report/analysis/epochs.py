"""Whether a lead lasts: at every epoch, the paired t-test of the lead over the seeds.

That it lasts holds only if it is there at each epoch, so the largest p is the claim's, without correction (an
intersection-union test: Berger 1982, Technometrics 24). That it does not is shown by one epoch where the other side is
ahead, and any of them may be that one: the smallest p of those, times the number of epochs (Bonferroni).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cnnexp.report.analysis.statistics import LEVEL, NO_SPREAD, Difference, against, seeds_needed

TIE = 9  # decimals to which two means are the same: sums in another order round otherwise


@dataclass(frozen=True)
class OverEpochs:
    """What the seeds say at each epoch of a lead that is claimed to lie above (direction 1) or below (-1) `threshold`.

    by_epoch: not empty, rising; its means are of the sum that is compared with the threshold.
    """

    by_epoch: Mapping[int, Difference]
    threshold: float
    direction: int

    @property
    def smallest(self) -> int:
        """Return the epoch that speaks least for the claim, the first of several."""
        return min(self.by_epoch, key=lambda epoch: (round(self._lead(epoch), TIE), epoch))

    @property
    def decisive(self) -> int:
        """Return the epoch whose p is the claim's: of those that speak against it, or else of all."""
        against_it = self._against()
        p_values = {epoch: self.by_epoch[epoch].p for epoch in against_it or self.by_epoch}
        if against_it:
            return min(p_values, key=lambda epoch: math.inf if math.isnan(p_values[epoch]) else p_values[epoch])
        return max(p_values, key=lambda epoch: math.inf if math.isnan(p_values[epoch]) else p_values[epoch])

    @property
    def test(self) -> Difference:
        """Return mean, interval and deviation at the smallest lead, with the claim's p."""
        p = self.by_epoch[self.decisive].p
        if self._against():
            p = p if math.isnan(p) else min(1.0, len(self.by_epoch) * p)
        return replace(self.by_epoch[self.smallest], p=p)

    def seeds_needed(self, level: float = LEVEL) -> int | None:
        """Return at how many seeds p would fall below `level`, if means and deviations stay; None if never."""
        if self._against():
            at = self.by_epoch[self.decisive]
            return seeds_needed(at.mean - self.threshold, at.std, level / len(self.by_epoch))
        each = [seeds_needed(at.mean - self.threshold, at.std, level) for at in self.by_epoch.values()]
        known = [seeds for seeds in each if seeds is not None]
        return max(known) if len(known) == len(each) else None

    def _lead(self, epoch: int) -> float:
        return self.direction * (self.by_epoch[epoch].mean - self.threshold)

    def _against(self) -> list[int]:
        return [epoch for epoch in self.by_epoch if self._lead(epoch) <= NO_SPREAD]


def over_epochs(curves: Sequence[Mapping[int, float]], threshold: float, direction: int) -> OverEpochs | None:
    """Test the leads {epoch: value}, one for each seed, over the epochs that all of them reached; None without any."""
    shared = set.intersection(*(set(curve) for curve in curves)) if curves else set()
    by_epoch = {epoch: against([curve[epoch] for curve in curves], threshold) for epoch in sorted(shared)}
    return OverEpochs(by_epoch, threshold, direction) if by_epoch else None
