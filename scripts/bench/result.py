"""What a row of the benchmark gives, and the arithmetic of repeats: all pure.

A case is one thing that is measured (cnnexp in fp32, the plain loop in fp32); a series holds what came out of it, a
number a repeat. A check compares two cases, or a case with a limit, and has a target.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal

Numbers = dict[str, float]  # metric -> value
Series = dict[str, dict[str, list[float]]]  # case -> metric -> a value a repeat
Kind = Literal["rate", "seconds", "share", "limit", "percent"]


class NotMeasured(Exception):
    """A row that cannot be measured here; the text says why."""


class Failed(Exception):
    """A process that was measured did not do its work; the text is the last line that it wrote."""


@dataclass(frozen=True)
class Case:
    """A thing to measure. command: what is run, for the reader; run: takes the number of the repeat."""

    name: str
    command: str
    run: Callable[[int], Numbers]


@dataclass(frozen=True)
class Check:
    """A claim about medians.

    kind: rate (ours / theirs, at least target), seconds (theirs / ours, at least), share (ours / theirs, at most),
    limit (ours alone, at most) or percent (what ours is above theirs, at most). target None: told, but no claim.
    """

    label: str
    kind: Kind
    target: float | None
    metric: str
    ours: str
    theirs: str | None = None


@dataclass
class Result:
    """What a row gives. problems: why a case is missing, by its name. facts: what else the reader should know."""

    series: Series
    checks: list[Check] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, other: "Result") -> None:
        """Take in what another part of the row gives."""
        self.series |= other.series
        self.checks += other.checks
        self.problems |= other.problems
        self.commands |= other.commands
        self.facts |= other.facts


def orders(names: Sequence[str], repeats: int) -> list[list[str]]:
    """Return the order of every repeat: A B C, C B A, A B C, ... so that a drift of the machine meets all alike."""
    return [list(names) if repeat % 2 == 0 else list(reversed(names)) for repeat in range(repeats)]


def measure(cases: Sequence[Case], repeats: int, tell: Callable[[str], None]) -> tuple[Series, dict[str, str]]:
    """Run the cases in turn, `repeats` times; return their series, and why those are missing that failed.

    A case that fails is left out of the repeats that follow.
    """
    by_name = {case.name: case for case in cases}
    series: Series = {case.name: {} for case in cases}
    problems: dict[str, str] = {}
    for repeat, order in enumerate(orders(list(by_name), repeats)):
        for name in order:
            if name in problems:
                continue
            try:
                numbers = by_name[name].run(repeat)
            except Failed as failure:
                problems[name] = str(failure)
                tell(f"{name}: failed: {failure}")
                continue
            for metric, value in numbers.items():
                series[name].setdefault(metric, []).append(value)
            tell(f"{name}: repeat {repeat + 1} of {repeats}: {brief(numbers)}")
    return {name: metrics for name, metrics in series.items() if metrics}, problems


def brief(numbers: Numbers) -> str:
    """Return the first few numbers as text."""
    return ", ".join(f"{metric} {value:.4g}" for metric, value in list(numbers.items())[:4])


def compare(
    cases: Sequence[Case],
    repeats: int,
    checks: Sequence[Check],
    tell: Callable[[str], None],
    facts: dict[str, Any] | None = None,
) -> Result:
    """Measure the cases and bundle what came out."""
    series, problems = measure(cases, repeats, tell)
    return Result(series, list(checks), problems, {case.name: case.command for case in cases}, facts or {})


def quotient(kind: Kind, ours: float, theirs: float) -> float:
    """Return the number that a check of this kind is about."""
    if kind == "limit":
        return ours
    if kind == "percent":
        return 100 * (ours / theirs - 1)
    return theirs / ours if kind == "seconds" else ours / theirs


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the least, the greatest and the number of values."""
    return {"median": median(values), "low": min(values), "high": max(values), "n": len(values)}


def outcome(check: Check, series: Series) -> dict[str, Any] | None:
    """Return {value, low, high, n, met} of a check, and over the repeats. None if a case is missing.

    The value is that of the medians; a few percent are less than a machine drifts, and are the median of the repeats'
    own, each of runs that followed one another.
    """
    ours = series.get(check.ours, {}).get(check.metric)
    theirs = series.get(check.theirs, {}).get(check.metric) if check.theirs else ours
    if not ours or not theirs:
        return None
    each = [quotient(check.kind, a, b) for a, b in zip(ours, theirs, strict=False)]
    value = median(each) if check.kind == "percent" else quotient(check.kind, median(ours), median(theirs))
    met = None
    if check.target is not None:
        met = value >= check.target if check.kind in ("rate", "seconds") else value <= check.target
    return {"value": value, "low": min(each), "high": max(each), "n": len(each), "met": met}


def entry(result: Result, **about: Any) -> dict[str, Any]:
    """Return a row's entry in performance.json: every repeat, their medians and ranges, and the checks' outcomes."""
    return summarised({**asdict(result), **about})


def summarised(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry with `summary` and the outcomes of `checks` computed anew from its series."""
    series: Series = row["series"]
    summary = {name: {m: spread(values) for m, values in metrics.items()} for name, metrics in series.items()}
    names = Check.__dataclass_fields__
    checks = [Check(**{name: c[name] for name in names}) for c in row["checks"]]
    return {**row, "summary": summary, "checks": [{**asdict(c), "outcome": outcome(c, series)} for c in checks]}


def merged(old: Mapping[str, Any], new: Mapping[str, Any], append: bool = False) -> dict[str, Any]:
    """Return the rows of a performance.json with new entries in place of old ones.

    What was measured stays where the new entry could not be measured. append: put the repeats of an entry behind those
    that are there, if both were made with the same commands.
    """
    rows = {**old}
    for name, entry in new.items():
        before = old.get(name)
        if before and entry.get("not_measured") and not before.get("not_measured"):
            continue
        if append and before and before.get("commands") == entry.get("commands") and before.get("series"):
            entry = {**entry, "series": joined(before["series"], entry["series"])}
            entry["repeats"] += before["repeats"]
            entry = summarised(entry)
        rows[name] = entry
    return rows


def joined(first: Series, second: Series) -> Series:
    """Return two series, one behind the other."""
    names = [*first, *(name for name in second if name not in first)]
    return {
        name: {
            metric: [*first.get(name, {}).get(metric, []), *second.get(name, {}).get(metric, [])]
            for metric in [*first.get(name, {}), *(m for m in second.get(name, {}) if m not in first.get(name, {}))]
        }
        for name in names
    }
