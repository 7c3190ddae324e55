"""How a report writes statistics: means with deviations, intervals and differences."""

import math
from collections.abc import Callable
from typing import Any

from cnnexp import text
from cnnexp.pages.tables import Column
from cnnexp.report.analysis.decisions import Decision
from cnnexp.report.analysis.statistics import Estimate, beside_limit
from cnnexp.text import DASH

DIGITS = {"nats": 3, "epochs": 1, "seconds": 1}  # of a number in these units; of all others 2


def decimals(digits: int) -> Callable[[float], str]:
    """Return a format for numbers with so many decimals; a dash for nan."""
    return lambda value: text.number(value, digits)


def or_dash(words: str) -> str:
    """Format words, a dash where there are none."""
    return words or DASH


def percent(summary: Estimate) -> str:
    """Format fractions as "75.67 ± 0.34"; without a deviation at n = 1."""
    if not summary.n:
        return DASH
    return f"{100 * summary.mean:.2f}" + ("" if summary.n < 2 else f" ± {100 * summary.std:.2f}")


def score(summary: Estimate) -> str:
    """Format a mean with four decimals and its deviation, if there is one."""
    return text.number(summary.mean, 4) + ("" if math.isnan(summary.std) else f" ± {summary.std:.4f}")


def interval(summary: Estimate) -> str:
    """Format the 95 % interval of accuracies as "[75.10, 76.24]", cut at 0 and 100; words where there is none."""
    if summary.n < 2 or summary.all_equal:
        return summary.all_equal or f"n = {summary.n}"
    return f"[{100 * max(summary.low, 0):.2f}, {100 * min(summary.high, 1):.2f}]"


def points(difference: Estimate | None) -> str:
    """Format a difference of fractions as "+1.20 [+0.40, +2.00]", or "+1.20 (all 3 seeds equal)"; "+1.20" at n = 1."""
    if difference is None or not difference.n:
        return DASH
    mean, low, high = (100 * x for x in (difference.mean, difference.low, difference.high))
    if difference.all_equal:
        return f"{mean:+.2f} ({difference.all_equal})"
    return f"{mean:+.2f}" + ("" if math.isnan(low) else f" [{low:+.2f}, {high:+.2f}]")


def amount(value: float, unit: str, signed: bool = False) -> str:
    """Format a number of a unit; a dash for nan."""
    return DASH if math.isnan(value) else f"{value:{'+' if signed else ''},.{DIGITS.get(unit, 2)}f}"


def with_std(mean: float, std: float, unit: str, signed: bool = False) -> str:
    """Format "75.67 ± 0.34"; without the deviation if it is nan."""
    return amount(mean, unit, signed) + ("" if math.isnan(std) else f" ± {amount(std, unit)}")


def limits(test: Estimate, unit: str, signed: bool = True) -> str:
    """Format "[+1.10, +3.90]"; "n = 1" or "all 3 seeds equal" where there is no interval."""
    if math.isnan(test.low) or test.all_equal:
        return test.all_equal or f"n = {test.n}"
    return f"[{amount(test.low, unit, signed)}, {amount(test.high, unit, signed)}]"


def decision_columns(of: Callable[[Any], tuple[Decision, float]]) -> list[Column[Any]]:
    """Return the columns of a test's decision; of: its decision, and p of all seeds.

    For readers the p that was compared with the limit; in the CSV file the rule, and the number of seeds, too.
    """

    def compared(row: Any) -> float:
        decision, p = of(row)
        return p if math.isnan(decision.p) else decision.p

    def texts(row: Any) -> tuple[str, str]:
        return beside_limit(compared(row), of(row)[0].limit)

    return [
        Column("p", "", lambda row: texts(row)[0]),
        Column("Limit", "", lambda row: texts(row)[1]),
        Column("", "p_limit", lambda row: of(row)[0].limit),
        Column("", "p_compared", lambda row: of(row)[0].p),
        Column("", "seeds_compared", lambda row: of(row)[0].n),
        Column("", "rule", lambda row: of(row)[0].rule),
    ]
