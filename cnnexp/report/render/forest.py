"""The figure of the first screen: each arm's difference from the baseline with its interval, or each arm's accuracy."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cnnexp.report.analysis.compare import Row, kind_of
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.analysis.statistics import Estimate

KINDS = {"better": "better", "worse": "worse", "within noise": "noise", "not decided": "open", "provisional": "open"}
WITHIN_NOISE = ("within noise", "no detectable difference")  # a verdict's words where they are read for the first time
LEVELS = ("Test accuracy (%)", "Validation accuracy (%)")
TICKS = 4  # wanted on the axis


@dataclass(frozen=True)
class Bar:
    """A line of the figure. at, start, width: the mean and the interval, in % of the axis; nan where there is none."""

    label: str
    verdict: str
    kind: str
    value: str
    interval: str
    at: float = math.nan
    start: float = math.nan
    width: float = math.nan


@dataclass(frozen=True)
class Forest:
    """The figure. heading: of its values. zero: where no difference is, in %; nan without one. ticks: (in %, label)."""

    heading: str
    bars: Sequence[Bar]
    zero: float
    ticks: Sequence[tuple[float, str]]


def forest(findings: Findings) -> Forest | None:
    """Return the figure of a study's arms; None if no arm has a result."""
    compared = findings.baseline is not None and any(row.difference for row in findings.rows)
    rows = [row for row in findings.rows if not (compared and row.is_baseline)]
    choice = findings.study.is_choice  # test accuracies are not what a setting is chosen by
    levels = [row.over_seeds("result", "val_accuracy") if choice else row.test for row in rows]
    values = [(row, row.difference if compared else level) for row, level in zip(rows, levels, strict=True)]
    numbers = [100 * value.mean for _, value in values if value and value.n]
    if not numbers:
        return None
    ends = [100 * end for _, v in values if v for end in (v.low, v.high) if math.isfinite(end)]
    low, high = _limits(numbers, ends, compared)

    def place(value: float) -> float:
        return round(100 * (min(max(value, low), high) - low) / (high - low), 2)

    bars = [_bar(row, value, place, compared) for row, value in values]
    base = findings.baseline.label if findings.baseline and compared else ""
    heading = f"Difference from {base} in points of test accuracy" if compared else LEVELS[choice]
    ticks = [(place(tick), f"{tick:+g}" if compared and tick else f"{tick:g}") for tick in _ticks(low, high)]
    return Forest(heading, bars, place(0.0) if compared else math.nan, ticks)


def _limits(means: Sequence[float], ends: Sequence[float], compared: bool) -> tuple[float, float]:
    """Return the ends of the axis. An interval much wider than the distance between the means is cut."""
    inner = [*means, 0.0] if compared else means
    spread = max(max(inner) - min(inner), 1.0)
    low = max(min([*inner, *ends]), min(inner) - spread)
    high = min(max([*inner, *ends]), max(inner) + spread)
    margin = 0.04 * (high - low) or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [round(k * step, 10) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _bar(row: Row, value: Estimate | None, place: Callable[[float], float], compared: bool) -> Bar:
    kind = KINDS.get(kind_of(row.verdict), "open") if row.verdict else "plain"
    verdict = row.verdict.replace(*WITHIN_NOISE).replace("n = ", "n\u00a0=\u00a0")
    if value is None or not value.n:
        return Bar(row.arm.label, verdict, kind, "-", "")
    mean, low, high = (100 * x for x in (value.mean, value.low, value.high))
    words = f"{mean:+.2f}" if compared else f"{mean:.2f}"
    if math.isnan(low) or value.all_equal:
        return Bar(row.arm.label, verdict, kind, words, value.all_equal or f"n = {value.n}", place(mean))
    interval = f"{low:+.2f} to {high:+.2f}" if compared else f"{low:.2f} to {high:.2f}"
    at, start = place(mean), place(low)
    return Bar(row.arm.label, verdict, kind, words, interval, at, start, round(place(high) - start, 2))
