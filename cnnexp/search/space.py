"""The space of a search: the settings that are tried, and their values. Imports no optuna.

search.space: {optimizer.lr: {low: 1e-4, high: 1e-1, log: true}, model.norm: [none, batch]}
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from cnnexp.config.keys import counts, is_below
from cnnexp.config.words import ALIASES, as_word
from cnnexp.errors import UserError, unknown

EXAMPLE = "search.space='{optimizer.lr: {low: 1e-4, high: 1e-1, log: true}, model.norm: [none, batch]}'"
DIGITS = 4  # of a proposed number
FORMS = "a list of values, or {low: 0.001, high: 0.1}, with log: true or step: 0.1"
NOT_COMPARABLE = (  # what decides on which images, and by what, trials are compared
    *("data", "data.val_fraction", "data.val_limit", "data.split_seed", "data.test_limit", "data.test_fraction"),
    *("data.folds", "data.fold", "data.group", "data.file", "data.path", "data.name", "data.splits"),
    *("validate_on", "monitor", "keep_epoch", "final_test", "shift_pixels"),
)


@dataclass(frozen=True)
class Numbers:
    """Numbers from `low` to `high`, both included. integers: whole numbers only. log: uniform in the logarithm."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    integers: bool = False

    def rounded(self, value: float) -> float | int:
        """Return a proposed number with few digits, so that it can be read and typed."""
        if self.integers:
            return int(value)
        digits = 10 if self.step else DIGITS
        return min(max(float(f"{value:.{digits}g}"), self.low), self.high)

    def as_node(self) -> dict[str, Any]:
        """Return the mapping that this is read from."""
        further = {"log": True} if self.log else {"step": self.step} if self.step else {}
        return {"low": self.low, "high": self.high, **further}

    def corners(self) -> list[Any]:
        """Return the values that are checked before the search."""
        return [int(self.low), int(self.high)] if self.integers else [self.low, self.high]

    def __len__(self) -> int:
        """Return how many values there are; 0 if they are not counted."""
        step = self.step or (1 if self.integers else 0)
        return math.floor((self.high - self.low) / step + 1e-9) + 1 if step else 0

    def values(self) -> list[Any]:
        """Return all values; [] if they are not counted."""
        step = self.step or 1
        return [self.rounded(self.low + n * step) for n in range(len(self))]

    def __str__(self) -> str:
        ends = f"{self.low:g} to {self.high:g}"
        how = ", by ratio" if self.log else f", in steps of {self.step:g}" if self.step else ""
        return ends + ("" if not self.integers else ", whole numbers") + how


@dataclass(frozen=True)
class Choice:
    """One of several values, without an order."""

    options: tuple[Any, ...]

    def as_node(self) -> list[Any]:
        """Return the list that this is read from."""
        return list(self.options)

    def corners(self) -> list[Any]:
        """Return the values that are checked before the search."""
        return list(self.options)

    values = corners

    def __len__(self) -> int:
        return len(self.options)

    def __str__(self) -> str:
        return "one of " + ", ".join(map(as_word, self.options))


Dimension = Numbers | Choice
Params = dict[str, Any]


def read_space(node: Any) -> dict[str, Dimension]:
    """Read `search.space`: {key: values}, with nested or dotted keys. Raises UserError for what is wrong in it."""
    found = dict(_dimensions("", node)) if isinstance(node, Mapping) else {}
    if not found:
        given = "is empty" if not node else f"given {node!r}"
        raise UserError(f"search.space: {given}; name what to try, such as {EXAMPLE}")
    for key in found:
        if key == "seed" or key.startswith("study"):
            fix = "the winner is retrained on new ones" if key == "seed" else "arms are compared without a search"
            raise UserError(f"search.space.{key}: is not a setting to choose; leave it out: {fix}")
        if key in NOT_COMPARABLE or is_below(key, ("search", "hydra", "data.columns")):
            raise UserError(f"search.space.{key}: trials that differ in it cannot be compared; leave it out")
        if not counts(key, "fingerprint"):
            raise UserError(f"search.space.{key}: changes no result; leave it out")
        if above := [other for other in found if other != key and is_below(key, (other,)) and key.count(".") > 1]:
            raise UserError(f"search.space.{key}: is a part of {above[0]}, which is in the space too")
    return found


def _dimensions(prefix: str, node: Mapping[Any, Any]) -> list[tuple[str, Dimension]]:
    found: list[tuple[str, Dimension]] = []
    for name, content in node.items():
        key = f"{prefix}.{name}" if prefix else str(name)
        first, dot, rest = key.partition(".")
        key = ALIASES.get(first, first) + dot + rest
        if isinstance(content, (list, tuple)):
            found.append((key, _choice(key, list(content))))
        elif isinstance(content, Mapping) and {"low", "high"} & set(content):
            found.append((key, _numbers(key, content)))
        elif isinstance(content, Mapping) and content:
            found += _dimensions(key, content)
        else:
            raise UserError(f"search.space.{key}: given {content!r}; allowed: {FORMS}")
    return found


def _choice(key: str, options: list[Any]) -> Choice:
    words = [as_word(option) for option in options]
    if len(set(words)) < max(len(words), 2):
        what = "twice the same" if len(set(words)) < len(words) else "a single value" if options else "an empty list"
        raise UserError(f"search.space.{key}: given {what} in {options!r}; allowed: two or more different values")
    return Choice(tuple(options))


def _numbers(key: str, node: Mapping[Any, Any]) -> Numbers:
    where = f"search.space.{key}"
    for name, value in node.items():
        if name not in ("low", "high", "log", "step"):
            raise unknown(f"{where}.{name}", "key", str(name), ("low", "high", "log", "step"))
        kind = bool if name == "log" else (int, float)
        if not isinstance(value, kind) or (name != "log" and (isinstance(value, bool) or not math.isfinite(value))):
            allowed = "true or false" if name == "log" else "a number"
            raise UserError(f"{where}.{name}: given {value!r}; allowed: {allowed}")
    if missing := {"low", "high"} - set(node):
        raise UserError(f"{where}.{missing.pop()}: is missing; allowed: {FORMS}")
    low, high, log, step = node["low"], node["high"], node.get("log", False), node.get("step")
    if not low < high:
        raise UserError(f"{where}: given low {low} and high {high}; low must be below high")
    if log and low <= 0:
        raise UserError(f"{where}.low: given {low} with log: true; allowed: a number > 0")
    if step is not None and (log or not 0 < step <= high - low):
        fix = "leave out log or step" if log else f"allowed: a number > 0, at most {high - low:g}"
        raise UserError(f"{where}.step: given {step}{' with log: true' if log else ''}; {fix}")
    if step is not None and (rest := (exact(high) - exact(low)) % exact(step)):
        fix = f"type high: {(exact(high) - rest).normalize():f}, which is the last value, or another step"
        raise UserError(f"{where}.step: given {step}, which does not divide the range from {low} to {high}; {fix}")
    integers = all(type(value) is int for value in (low, high, *([] if step is None else [step])))
    return Numbers(low, high, bool(log), step, integers)


def exact(number: float) -> Decimal:
    """Return a number as it is written: 0.6 is six times 0.1."""
    return Decimal(str(number))


def as_words(params: Params) -> list[str]:
    """Return settings as overrides, groups first: a group's choice does not replace a setting below it."""
    return [f"{key}={as_word(params[key])}" for key in sorted(params, key=lambda key: "." in key)]
