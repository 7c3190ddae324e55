"""What a number of seeds could have shown, and what more seeds would: power, and the chance of a decision."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import special

from cnnexp.report.analysis.decisions import ANYTIME, BOTH_SIDES, Decision, Family, Test, limit_of
from cnnexp.report.analysis.sequential import FIRST_LOOK, log_e
from cnnexp.report.analysis.statistics import LEVEL, NO_SPREAD

POWER = 0.8
MAX_MORE = 20  # seeds that are considered
MOST_SEEDS = 1000  # of `enough`
PATHS = 2000  # simulated for each test: the chance has a standard error of 0.01


@dataclass(frozen=True)
class Outlook:
    """What is known of an undecided test. detectable: the smallest difference found with POWER at this n and limit.

    more: the fewest further seeds that decide with a chance of POWER, or MAX_MORE; of a plan that is not done, the
    seeds that it lacks. 0 without an estimate. chance: that these decide it. chances: of 1, 2, ... further seeds; of a
    test of every epoch, no larger ones. enough: with how many seeds in all the test is decided with a chance of about
    POWER if the observed mean and deviation are the true ones; inf above MOST_SEEDS, nan without an estimate. A test
    that is biased has chances, of a decision for a side that is not barred, but neither `more` nor `enough`.
    """

    detectable: float = math.nan
    more: int = 0
    chance: float = math.nan
    chances: tuple[float, ...] = ()
    enough: float = math.nan

    @property
    def advice(self) -> str:
        """Return "5 more seeds would decide it with probability about 0.8", "" without an estimate."""
        if not self.more:
            return ""
        about = "below 0.1" if self.chance < 0.05 else f"about {self.chance:.1f}"
        return f"{self.more} more seed{'s' * (self.more > 1)} would decide it with probability {about}"


NO_OUTLOOK, NO_CHANCE = Outlook(), Outlook(chances=(0.0,))


def outlooks(family: Family, decisions: Mapping[str, Decision]) -> dict[str, Outlook]:
    """Return the outlook of every undecided test of a family that is about a mean of independent seeds.

    A test that diverged runs keep from deciding for either side has one too, in which nothing has a chance.
    """
    found = {}
    for name, test in family.now.items():
        decision = decisions[name]
        if (
            not decision.side
            and test.sample
            and not test.folds
            and test.n >= FIRST_LOOK
            and test.sample.std > NO_SPREAD
        ):
            two_sided = not math.isnan(decision.limit) and not test.one_sided and decision.rule != ANYTIME
            smallest = detectable(test.n, test.sample.std, decision.limit) if two_sided else math.nan
            outlook = Outlook(
                smallest, *_more_seeds(family, name, decision.share), _enough(family, name, decision.share)
            )
            if test.of_epoch or test.biased:
                outlook = Outlook(math.nan if test.of_epoch else smallest, chances=outlook.chances)
            found[name] = outlook
        elif test.barred == BOTH_SIDES and not decision.side:
            found[name] = NO_CHANCE
    return found


def _enough(family: Family, name: str, share: int) -> float:
    test = family.now[name]
    assert test.sample is not None
    level = (2 if test.one_sided else 1) * LEVEL / share
    reference = math.copysign(test.reference, test.sample.mean) if test.one_sided else test.reference
    distance = abs(test.sample.mean - reference) / test.sample.std
    shift = float(special.ndtri(POWER))
    for n in range(test.n + 1, MOST_SEEDS + 1):
        t = distance * math.sqrt(n) - shift
        limit, rule = limit_of(family.plan, family.at_plan(name), n, level)
        if rule == ANYTIME:  # from here on, with the same limit
            later = np.arange(n, MOST_SEEDS + 1)
            scores = distance * np.sqrt(later) - shift
            decided = (scores > 0) & (log_e(later, scores) > -math.log(limit))
            return int(later[decided.argmax()]) if decided.any() else math.inf
        if t > 0 and 2 * float(special.stdtr(n - 1, -t)) < limit:
            return n
    return math.inf


def detectable(n: int, std: float, limit: float) -> float:
    """Return the difference that the t test of n >= 3 values with this deviation finds, in its direction, with POWER.

    limit: what the two-sided p must be below. The deviation is the observed one, so this is an estimate.
    """
    return _detectable_effect(n, limit) * std


@cache
def _detectable_effect(n: int, limit: float) -> float:
    from scipy import optimize  # its import takes 0.2 s, which a report without comparisons does not need

    t = special.stdtrit(n - 1, 1 - limit / 2)  # under an effect t has the noncentral t distribution
    shift = optimize.brentq(lambda x: special.nctdtr(n - 1, x, t) - (1 - POWER), 0.0, 2 * t + 4.0)
    return float(shift) / math.sqrt(n)


def _more_seeds(family: Family, name: str, share: int) -> tuple[int, float, tuple[float, ...]]:
    """Return how many more seeds are advised, their chance of a decision, and the chances of 1, 2, ... more."""
    test, plan = family.now[name], family.plan
    lacking = len(test.waits & set(plan.seeds)) if plan and not plan.every_seed else 0
    chances = _chances(test, family, family.at_plan(name) + lacking, share, lacking or MAX_MORE)
    if lacking:
        return lacking, chances[-1], tuple(chances)
    enough = [more for more, chance in enumerate(chances, start=1) if chance >= POWER]
    more = enough[0] if enough else MAX_MORE
    return more, chances[more - 1], tuple(chances)


def _chances(test: Test, family: Family, planned: int, share: int, most: int) -> list[float]:
    """Return the chance that 1, 2, ... further seeds decide, with a look after each that the rule allows.

    The unknown mean and deviation are drawn from what the seeds say of them (the posterior of a flat prior), and then
    the values of further seeds.
    """
    assert test.sample is not None
    n, mean, std = test.n, test.sample.mean, test.sample.std
    generator = np.random.default_rng(0)
    sigma = std * np.sqrt((n - 1) / generator.chisquare(n - 1, (PATHS, 1)))
    centre = mean + sigma / math.sqrt(n) * generator.normal(size=(PATHS, 1))
    values = centre + sigma * generator.normal(size=(PATHS, most))
    sizes = n + np.arange(1, most + 1)
    means = (n * mean + values.cumsum(1)) / sizes
    squares = (n - 1) * std**2 + n * mean**2 + (values**2).cumsum(1)
    variances = (squares - sizes * means**2) / (sizes - 1)
    reference = np.copysign(test.reference, means) if test.one_sided else test.reference
    t = np.abs(means - reference) / np.sqrt(variances / sizes)
    as_now = (means > test.reference) == (mean > test.reference)
    t = np.where(np.where(as_now, test.biased, -test.side in test.barred), 0.0, t)  # a barred side decides nothing
    decided, found = np.zeros(PATHS, bool), []
    for place, size in enumerate(sizes.tolist()):
        fixed = family.plan is None or not family.plan.every_seed
        if not (fixed and size < planned):
            level = (2 if test.one_sided else 1) * LEVEL / share
            limit, rule = limit_of(family.plan, planned, size, level)
            if rule == ANYTIME:
                decided |= log_e(size, t[:, place]) > -math.log(limit)
            elif limit > 0:
                decided |= t[:, place] > special.stdtrit(size - 1, 1 - limit / 2)
        found.append(float(decided.mean()))
    return found
