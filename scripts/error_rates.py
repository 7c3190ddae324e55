"""Simulate studies whose truth is known: how often a verdict is false, and how often a true effect is found.

Usage: python scripts/error_rates.py            writes the tables of docs/statistics.md; 3 minutes on a busy core
       python scripts/error_rates.py --paths 2000
"""

import argparse
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from cnnexp.records.study import Plan
from cnnexp.report.analysis.decisions import ANYTIME, limit_of
from cnnexp.report.analysis.outlook import detectable
from cnnexp.report.analysis.sequential import FIRST_LOOK, linear_limits, log_e
from cnnexp.report.analysis.statistics import LEVEL

PAGE = Path(__file__).resolve().parent.parent / "docs" / "statistics.md"
MAX_SEEDS, PLANNED, PATHS, CHUNK = 20, 5, 100_000, 5_000
COMPARISONS = (1, 3, 6, 10)
Array = np.ndarray[Any, Any]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


@dataclass(frozen=True)
class Case:
    """Runs of arms that do not differ: the deviation of the baseline and of the first arm, the others have 1.

    missing: the share of runs that fail.
    """

    name: str
    draw: Draw
    baseline: float = 1.0
    first_arm: float = 1.0
    missing: float = 0.0


def normal(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw normal values of deviation 1."""
    return generator.normal(size=shape)


def heavy(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw from t with 3 degrees of freedom, in units of its deviation."""
    return generator.standard_t(3, shape) / math.sqrt(3)


def skewed(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw exponential values minus their mean."""
    return generator.exponential(size=shape) - 1


CASES = (
    Case("normal, equal spreads", normal),
    Case("normal, one arm four times", normal, first_arm=4),
    Case("normal, baseline four times", normal, baseline=4),
    Case("normal, a tenth of the runs fail", normal, missing=0.1),
    Case("heavy tails (t, 3 degrees)", heavy),
    Case("skewed (exponential), baseline a quarter", skewed, baseline=0.25),
)
RULES: dict[str, Plan | None] = {  # how a person looks: after every seed, up to the first verdict; None: today's rule
    "Holm at 0.05 at every look": None,
    "5 planned, then one more at a time": Plan(tuple(range(PLANNED))),
    "every seed planned, up to 20": Plan(tuple(range(MAX_SEEDS)), every_seed=True),
}


def differences(case: Case, comparisons: int, paths: int, generator: np.random.Generator) -> Array:
    """Return (paths, comparisons, MAX_SEEDS) differences of arms from their shared baseline, nan where a run failed."""
    arms = case.draw(generator, (paths, comparisons, MAX_SEEDS))
    arms[:, 0] *= case.first_arm
    baseline = case.baseline * case.draw(generator, (paths, 1, MAX_SEEDS))
    if case.missing:
        arms[generator.random(arms.shape) < case.missing] = math.nan
        baseline[generator.random(baseline.shape) < case.missing] = math.nan
    return np.asarray(arms - baseline)


def decided(values: Array, plan: Plan | None, share: int) -> Array:
    """Return (..., seeds) bool: whether the look with the first 1, 2, ... seeds decides a test of this share.

    values: (..., seeds), nan of a failed pair. plan: None for a test at LEVEL at every look.
    """
    t, n = _t_values(values)
    last, found = len(plan.seeds) if plan else 0, np.zeros(t.shape, bool)
    planned = n[..., PLANNED - 1] if plan and not plan.every_seed else np.zeros(n.shape[:-1], int)
    for base in np.unique(planned):
        of_base = planned == base
        found[of_base] = t[of_base] > _thresholds(plan, int(base), share)[n[of_base]]
    if plan and not plan.every_seed:
        found[..., : last - 1] = False
    return found


def _t_values(values: Array) -> tuple[Array, Array]:
    """Return |t| and the number of values with the first 1, 2, ... seeds, both (..., seeds)."""
    there = ~np.isnan(values)
    n, kept = there.cumsum(-1), np.where(there, values, 0.0)
    sums, squares = kept.cumsum(-1), (kept**2).cumsum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(sums) / np.sqrt(n) / np.sqrt((squares - sums**2 / n) / (n - 1))
    t[n < 2] = 0.0
    return t, n


def _thresholds(plan: Plan | None, planned: int, share: int) -> Array:
    """Return what |t| must exceed at 0, 1, ... values; inf where nothing can be decided."""
    found = np.full(MAX_SEEDS + 1, math.inf)
    for n in range(FIRST_LOOK, MAX_SEEDS + 1):
        limit, rule = limit_of(plan, planned, n, LEVEL / share) if plan else (LEVEL / share, "")
        if rule == ANYTIME:
            grid = np.linspace(0, 200, 200_001)
            found[n] = grid[np.searchsorted(log_e(n, grid), -math.log(limit))]
        elif limit > 0:
            found[n] = special.stdtrit(n - 1, 1 - limit / 2)
    return found


def false_verdicts(case: Case, comparisons: int, paths: int = PATHS, seed: int = 0) -> dict[str, float]:
    """Return by rule how often a study without any effect gets a verdict at one of its looks.

    The first verdict of a study is one of all its tests that share the level, so no later step of Holm's counts.
    """
    generator, counts = np.random.default_rng(seed), dict.fromkeys(RULES, 0)
    for start in range(0, paths, CHUNK):
        values = differences(case, comparisons, min(CHUNK, paths - start), generator)
        for rule, plan in RULES.items():
            counts[rule] += int(decided(values, plan, comparisons).any((1, 2)).sum())
    return {rule: count / paths for rule, count in counts.items()}


def until_decided(comparisons: int, true: int, paths: int = PATHS, effect: float = 4.0) -> tuple[float, float]:
    """Return how often --until-decided gives a false verdict, and how many runs of arms it makes, of all.

    The first `true` arms differ by `effect` deviations of a run, the others do not. A decided arm stops and keeps its
    verdict; the others share the level, by Holm's method. None stops undecided: that could only prevent verdicts.
    """
    plan, false, runs = RULES["every seed planned, up to 20"], 0, 0
    limits = np.stack([np.full(MAX_SEEDS + 1, math.inf), *(_thresholds(plan, 0, k + 1) for k in range(comparisons))])
    generator = np.random.default_rng(3)
    for start in range(0, paths, CHUNK):
        values = differences(CASES[0], comparisons, min(CHUNK, paths - start), generator)
        values[:, :true] += effect
        t, decided = _t_values(values)[0], np.zeros(values.shape[:2], bool)
        for n in range(1, MAX_SEEDS + 1):
            runs += int((~decided).sum())
            for _ in range(comparisons):  # a decision raises the limits of the others at the same look
                decided |= t[..., n - 1] > limits[(~decided).sum(1), n][:, None]
        false += int(decided[:, true:].any(1).sum())
    return false / paths, runs / (paths * comparisons * MAX_SEEDS)


def found_by(deviation: float, share: int, paths: int = PATHS, effect: float = 5.0) -> dict[str, Array]:
    """Return by rule (MAX_SEEDS,): how often a true difference is found with at most 1, 2, ... seeds.

    "one look": of a test at LEVEL that is made at that number of seeds only.
    """
    values = np.random.default_rng(1).normal(effect, deviation, (paths, MAX_SEEDS))
    found = {rule: np.logical_or.accumulate(decided(values, plan, share), -1).mean(0) for rule, plan in RULES.items()}
    found["one look"] = decided(values, None, share).mean(0)
    return found


def seeds_until(deviation: float, share: int, paths: int = PATHS, effect: float = 5.0) -> tuple[float, float]:
    """Return the mean seeds at the verdict, or MAX_SEEDS, and how many get one: every seed planned."""
    values = np.random.default_rng(2).normal(effect, deviation, (paths, MAX_SEEDS))
    crossed = decided(values, RULES["every seed planned, up to 20"], share)
    first = np.where(crossed.any(-1), crossed.argmax(-1) + 1, MAX_SEEDS)
    return float(first.mean()), float(crossed.any(-1).mean())


def limits_table() -> Iterator[str]:
    """Yield the limits of p at 3 to 10 seeds, when each is a look and the level 0.05 is spent linearly."""
    yield from _head(["Tests", *(f"n = {n}" for n in range(3, 11))])
    for tests in (1, 2, 3):
        limits = linear_limits(LEVEL / tests, 3, 10).values()
        yield _row([f"{tests}", *(f"{limit:.4f}" for limit in limits)])


def rule_table() -> Iterator[str]:
    """Yield what p must be below with five planned seeds, and with twenty looks planned, for 1 and 6 tests."""
    shown = (3, 4, 5, 6, 7, 8, 10, 12, 15, 20)
    yield from _head(["Plan", "Tests", *(f"n = {n}" for n in shown)])
    for name, plan in list(RULES.items())[1:]:
        for tests in (1, 6):
            cells = []
            for n in shown:
                limit, rule = limit_of(plan, PLANNED if plan and not plan.every_seed else 0, n, LEVEL / tests)
                early = plan is not None and not plan.every_seed and n < PLANNED
                cells.append("-" if early else f"e > {1 / limit:,.0f}" if rule == ANYTIME else f"{limit:.4f}")
            yield _row([name, f"{tests}", *cells])


def error_table(paths: int) -> Iterator[str]:
    """Yield the share of studies with a false verdict, in per cent."""
    yield from _head(["Runs", "Tests", *RULES])
    for case in CASES:
        for comparisons in COMPARISONS:
            rates = false_verdicts(case, comparisons, paths)
            yield _row([case.name, f"{comparisons}", *(f"{100 * rate:.1f} %" for rate in rates.values())])


def stops_table(paths: int) -> Iterator[str]:
    """Yield the share of studies with a false verdict of --until-decided, in per cent, by how many arms differ."""
    yield from _head(["Arms", "of these differ", "False verdicts", "Runs made, of 20 seeds for each arm"])
    for comparisons, true in ((1, 0), (6, 0), (6, 1), (6, 3), (6, 5), (10, 5)):
        false, runs = until_decided(comparisons, true, paths)
        yield _row([f"{comparisons}", f"{true}", f"{100 * false:.1f} %", f"{100 * runs:.0f} %"])


def power_table(paths: int) -> Iterator[str]:
    """Yield how often a true difference of 5 points is found, in per cent, in a family of 6."""
    shown = (3, 5, 7, 10, 15, 20)
    yield from _head(["Deviation", "Rule", *(f"n = {n}" for n in shown)])
    for deviation in (1.0, 2.0, 4.0):
        new, old = found_by(deviation, 6, paths), found_by(deviation, 11, paths)
        rows = {
            "before: one look, 11 tests share the level": old["one look"],
            "5 planned, then one more at a time": new["5 planned, then one more at a time"],
            "every seed planned, up to 20": new["every seed planned, up to 20"],
        }
        for name, power in rows.items():
            early = name.startswith("5 planned")
            cells = ["-" if early and n < PLANNED else f"{100 * power[n - 1]:.0f} %" for n in shown]
            yield _row([f"{deviation:g}", name, *cells])


def seeds_table(paths: int) -> Iterator[str]:
    """Yield the seeds until the verdict with every seed planned, in a family of 6, and what 5 and 10 seeds detect."""
    yield from _head(
        ["Deviation", "Seeds at the verdict, mean", "Decided by 20", "Detectable at 5", "Detectable at 10"]
    )
    for deviation in (1.0, 2.0, 4.0):
        seeds, share = seeds_until(deviation, 6, paths)
        smallest = [detectable(n, deviation, limit_of(Plan(tuple(range(n))), n, n, LEVEL / 6)[0]) for n in (5, 10)]
        yield _row([f"{deviation:g}", f"{seeds:.1f}", f"{100 * share:.0f} %", *(f"{d:.1f} points" for d in smallest)])


def _head(names: list[str]) -> Iterator[str]:
    yield _row(names)
    yield "|" + "---|" * len(names)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Write every table of the page between its markers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=int, default=PATHS, help="simulated studies for each number")
    paths = parser.parse_args().paths
    tables = {"limits": limits_table(), "rules": rule_table(), "errors": error_table(paths)}
    tables |= {"stops": stops_table(paths), "power": power_table(paths), "seeds": seeds_table(paths)}
    page = PAGE.read_text(encoding="utf-8")
    for name, lines in tables.items():
        text = "\n".join(lines)
        print(f"{name}\n{text}\n", flush=True)
        markers = rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)"
        page, count = re.subn(markers, rf"\g<1>{text}\n\g<2>", page, flags=re.S)
        assert count == 1, f"{PAGE}: no place for the table {name}"
    PAGE.write_text(re.sub(r"[0-9,]+ simulated studies", f"{paths:,} simulated studies", page), encoding="utf-8")


if __name__ == "__main__":
    main()
