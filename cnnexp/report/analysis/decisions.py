"""Which tests of a study are decided, by its planned seeds and the looks at it.

A family of tests errs with probability LEVEL at most, with looks at any time, and stops at the first verdict or later:
- planned: when all planned seeds are done, with 80 % of the level. Nothing is decided before.
- extended: with more seeds, up to twice the plan (ten at least), what is spent rises linearly to 95 %.
- every seed: of a study that planned to look at each number of seeds, it rises linearly from 0 to 95 % at the last.
  So too, up to ten seeds, without a recorded plan: nobody knows how often those seeds were looked at.
- anytime: beyond that, the rest is for an e-process, which may be looked at forever.
- folds: of cross-validation, when all folds are done at all planned seeds, with 80 % of the level, and never again: the
  values of folds are not independent, as all other rules need.
Within a family by Holm (1979): of k tests that are still undecided, each has level / k; what is decided stays so, and
leaves its share to the others (Maurer & Bretz 2013, Statistics in Biopharmaceutical Research 5).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from cnnexp.records.study import Crossing, Plan
from cnnexp.report.analysis.sequential import FIRST_LOOK, linear_limits, spending_limits
from cnnexp.report.analysis.statistics import LEVEL, Estimate, beside_limit
from cnnexp.report.read.folds import count_of, fold_of
from cnnexp.text import plural

AT_PLAN, WITH_LOOKS = 0.8, 0.95  # of the level: spent when the plan is done, and up to the last look
MIN_LAST_LOOK = 10
PLANNED, EXTENDED, EVERY_SEED, ANYTIME = "planned seeds", "extended plan", "every seed", "e-process"
FOLDS = "all folds"


@dataclass(frozen=True)
class Test:
    """A test over shared seeds. p: two-sided; anytime: of its e-process, nan if it has none; side: what it points to.

    one_sided: p is of one side only, of a hypothesis that has no other. barred: the sides that it cannot decide for,
    because diverged runs are left out of what would win. waits: seeds that are planned for it and not done. total:
    all of them. sample: of a test of a mean, what is compared with `reference`; if one_sided, with it and its negative.
    of_epoch: it is of the epoch that decides, of a test of every epoch, which is decided later than that of one. seeds:
    of runs, or their folds and seeds (`Run.unit`).
    """

    seeds: tuple[int, ...]
    p: float
    anytime: float
    side: int
    one_sided: bool = False
    barred: frozenset[int] = frozenset()
    waits: frozenset[int] = frozenset()
    total: int = 0
    sample: Estimate | None = None
    reference: float = 0.0
    of_epoch: bool = False

    @property
    def biased(self) -> bool:
        """Tell whether it decides nothing, because diverged runs are left out of the side that it points to."""
        return self.side in self.barred

    @property
    def folds(self) -> int:
        """Return how many folds there are; 0 without cross-validation."""
        return max(map(count_of, self.seeds), default=0)

    @property
    def n(self) -> int:
        """Return the number of seeds, or of folds."""
        return len(set(map(fold_of, self.seeds))) if self.folds else len(self.seeds)


@dataclass(frozen=True)
class Decision:
    """What a family's rule says of a test: its side, 0 if it is undecided.

    p was or is compared with `limit` by `rule`, with n seeds; nan and "" where nothing is compared. share: how many
    tests share the level. done, total: planned seeds, or folds if `folds` is not 0; while some are not done, an
    undecided test is provisional.
    """

    side: int = 0
    p: float = math.nan
    limit: float = math.nan
    rule: str = ""
    n: int = 0
    share: int = 1
    done: int = 0
    total: int = 0
    folds: int = 0

    @property
    def crossed(self) -> bool:
        """Tell whether p is below its limit; with a side of 0, diverged runs keep it from deciding."""
        return self.p < self.limit

    @property
    def provisional(self) -> str:
        """Return "provisional: 2 of 5 seeds" of an undecided test whose seeds are not all done, "" of others."""
        units = "folds" if self.folds else "seeds"
        return "" if self.side or self.done >= self.total else f"provisional: {self.done} of {self.total} {units}"


BOTH_SIDES = frozenset({1, -1})
BEFORE_NOTE = "(at ... seeds): decided at a look with so many; what is decided stays, whatever later seeds say."
NO_TEST, NO_DECISION = Test((), math.nan, math.nan, 0), Decision()


@dataclass(frozen=True)
class Family:
    """Tests that share a level. now: with all seeds; planned: with the planned ones. Both are by hypothesis.

    decided: recorded crossings. plan: None if none is recorded. tested: how many runs of each side a test had when it
    was made with the planned seeds. A planned run that failed then, and was made again, belongs to the extension.
    """

    now: Mapping[str, Test]
    planned: Mapping[str, Test]
    plan: Plan | None = None
    decided: Mapping[str, Crossing] | None = None
    tested: Mapping[str, int] = field(default_factory=dict)

    def decide(self) -> dict[str, Decision]:
        """Return the decision on every test."""
        found = {name: self._recorded(name) for name in self.now if name in (self.decided or {})}
        undecided = [name for name in self.now if name not in found and self._can_be_made(name)]
        while True:
            share = len(undecided)
            looked = {name: list(self._looks(name, share)) for name in undecided}
            crossed = {name: look for name in undecided for look in reversed(looked[name]) if look.side}
            if not crossed:
                break
            found |= crossed
            undecided = [name for name in undecided if name not in crossed]
        found |= {name: looks[-1] for name, looks in looked.items() if looks}
        return {name: self._with_seeds(name, found.get(name, Decision(share=share))) for name in self.now}

    @property
    def tests(self) -> int:
        """Return how many tests can be made, now or with the planned seeds."""
        return sum(self._can_be_made(name) for name in self.now)

    def limit(self, name: str, n: int, share: int) -> tuple[float, str]:
        """Return what p of a test must be below at n seeds, if `share` tests share the level, and by which rule."""
        level, planned = LEVEL / share, self.at_plan(name)
        if self.now[name].folds:
            first = planned == len(self.planned[name].seeds)
            return AT_PLAN * level if first and FIRST_LOOK <= n == self.now[name].folds else math.nan, FOLDS
        if self.now[name].one_sided:  # the limits are two-sided ones; one side of twice the level has them halved
            limit, rule = limit_of(self.plan, planned, n, 2 * level)
            return limit / 2, rule
        return limit_of(self.plan, planned, n, level)

    def at_plan(self, name: str) -> int:
        """Return how many runs of each side the planned test of a hypothesis has, or had when it was first made."""
        runs = len(self.planned[name].seeds)
        return min(runs, self.tested.get(name, runs))

    def planned_tests(self) -> dict[str, int]:
        """Return how many runs of each side the tests have that can be made now with the planned seeds."""
        made = (name for name in self.now if self.plan and not self.plan.every_seed and any(self._looks(name, 1)))
        return {name: runs for name in made if (runs := len(self.planned[name].seeds)) >= FIRST_LOOK}

    def _looks(self, name: str, share: int) -> Iterator[Decision]:
        """Yield what can decide a test now: its planned seeds, and all of them if they are more."""
        now, planned = self.now[name], self.planned[name]
        every_seed = self.plan is not None and self.plan.every_seed
        if now.folds and planned.n < planned.folds:
            return
        if (now.folds or (self.plan and not every_seed)) and self._planned_waits(name):
            return
        for test in [planned] if now.folds else [now] if every_seed or now.n == planned.n else [planned, now]:
            limit, rule = self.limit(name, test.n, share)
            p = test.anytime if rule == ANYTIME else test.p
            crosses = p < limit and not test.biased
            yield Decision(test.side if crosses else 0, p, limit, rule, test.n, share)

    def _planned_waits(self, name: str) -> frozenset[int]:
        """Return the planned seeds that a test waits for, without those of an extension."""
        return self.now[name].waits & (frozenset(self.plan.seeds) if self.plan else self.now[name].waits)

    def _can_be_made(self, name: str) -> bool:
        test = self.now[name]
        return bool(test.waits) or 0 < test.n < test.folds or (test.n >= FIRST_LOOK and not math.isnan(test.p))

    def _recorded(self, name: str) -> Decision:
        crossing = (self.decided or {})[name]
        biased = self.now[name].biased and crossing.side == self.now[name].side
        side = 0 if biased else crossing.side
        of_folds = len(set(map(fold_of, crossing.seeds)) - {-1})
        return Decision(side, crossing.p, crossing.limit, crossing.rule, of_folds or len(crossing.seeds))

    def _with_seeds(self, name: str, decision: Decision) -> Decision:
        test = self.now[name]
        if 0 < test.n < test.folds:
            return replace(decision, done=test.n, total=test.folds, folds=test.folds)
        if test.folds and self.plan:  # an extension changes no verdict over folds
            planned = len(self.plan.seeds)
            return replace(decision, done=planned - len(self._planned_waits(name)), total=planned)
        return replace(decision, done=test.total - len(test.waits), total=test.total)


def limit_of(plan: Plan | None, planned: int, n: int, level: float) -> tuple[float, str]:
    """Return what p must be below at n seeds for a test alone at `level`, nan if nothing can be, and the rule's name.

    planned: how many of the planned seeds the test has.
    """
    if every_seed := plan is None or plan.every_seed:
        last, spent = len(plan.seeds) if plan else MIN_LAST_LOOK, 0.0
    else:
        last = max(2 * len(plan.seeds), MIN_LAST_LOOK)
        spent = AT_PLAN * level if planned >= FIRST_LOOK else 0.0
        if n <= planned:
            return spent or math.nan, PLANNED
    if n > last:
        return (1 - WITH_LOOKS) * level, ANYTIME
    rule = EVERY_SEED if every_seed else EXTENDED
    if n < FIRST_LOOK:
        return math.nan, rule
    if not spent:
        return linear_limits(WITH_LOOKS * level, FIRST_LOOK, last)[n], rule
    rise = (WITH_LOOKS * level - spent) / (last - planned)
    return spending_limits(tuple((k, spent + rise * (k - planned)) for k in range(planned, n + 1)))[n], rule


def why_undecided(test: Estimate) -> str:
    """Return the verdict on a test that all its seeds leave undecided."""
    if test.n < 2:
        return f"one {test.unit}: no verdict" if test.n else f"no shared {test.unit}: no verdict"
    if math.isnan(test.p):
        return f"not decided (n = {test.n}, no spread)"
    return f"not decided (n = {test.n})" if test.p < LEVEL or test.n < FIRST_LOOK else f"within noise{over_folds(test)}"


def in_words(test: Estimate, decision: Decision, side: int, words: tuple[str, str], diverged: int) -> str:
    """Return the verdict on a difference, by words for above and below 0. side: of the difference, if it is decided.

    diverged: runs on the side that would win. They are left out of the mean, which flatters the arm that they are of.
    """
    if side:
        return (words[0] if side > 0 else words[1]) + over_folds(test) + decided_before(test.n, decision)
    if decision.crossed and diverged:
        return f"not decided ({diverged} diverged)"
    return decision.provisional or why_undecided(test)


def over_folds(test: Estimate) -> str:
    """Return " over 5 folds"; "" without cross-validation."""
    return f" over {test.units}" if test.folds else ""


def decided_before(n: int, decision: Decision) -> str:
    """Return " (at 3 seeds)" of a verdict that stays from a look with fewer than the n seeds of now; else ""."""
    return f" (at {plural(decision.n, 'seed')})" if 0 < decision.n < n and decision.rule != FOLDS else ""


def compared_with(decision: Decision) -> str:
    """Return "; at 5 seeds p = 0.012, and a verdict needs p < 0.02 (rule: planned seeds)"; "" without a limit."""
    if math.isnan(decision.limit) or math.isnan(decision.p):
        return ""
    p, limit = beside_limit(decision.p, decision.limit)
    at = f"{decision.n} {'folds' if decision.rule == FOLDS else 'seeds'}"
    p = p if p.startswith("<") else f"= {p}"
    return f"; at {at} p {p}, and a verdict needs p < {limit.removeprefix('< ')} (rule: {decision.rule})"


def crossings(family: Family, decisions: Mapping[str, Decision]) -> dict[str, Crossing]:
    """Return the decisions of a family as a look records them."""
    found = {}
    for name in family.now:
        if (decision := decisions[name]).side and name not in (family.decided or {}):
            test = family.planned[name] if decision.rule in (PLANNED, FOLDS) else family.now[name]
            found[name] = Crossing(decision.side, decision.p, decision.limit, decision.rule, test.seeds)
    return found
