"""What a study claims, read strictly: "combined > batchnorm", "relu - sigmoid >= 5 points".

    claim   = side compare (side | number unit) ["at every epoch"]     about the mean over the seeds
            | "std(" value ")" compare "std(" value ")"                 about the deviation over the seeds
            | side "within" number unit "of" side                       equal but for a margin, over the seeds
            | arm "converges faster than" arm                           fewer epochs to a level that both reach
    side    = value {("+" | "-") value}
    compare = "<" | "<=" | ">" | ">="
    value   = arm ["." metric ["[" class "]"]] | "spread(" arm ["." metric] ")"
              an arm is letters, digits and _, not first a digit, or any name in double quotes; a spread is the
              standard deviation over all arms with this part in their name: spread("norm=batch") is over
              "norm=batch,batch_size=5" and others
    metric  = one of METRICS, without test_ if one likes: a.f1 > b.f1; test_accuracy if none is given
    class   = of precision, recall and f1: a.recall[dog] > b.recall[dog]; other names than letters in double quotes
    unit    = points (a difference of accuracies), % (an accuracy), nats, epochs, seconds

"a within 1 point of b" holds if both one-sided tests (TOST) show that the difference is smaller.

Parsing evaluates nothing: a claim becomes terms, a direction and a threshold, which the report tests on the seeds.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cnnexp.claims.metrics import full_name
from cnnexp.claims.metrics import metric as metric_of
from cnnexp.errors import UserError

STD, SPREAD = "std", "spread"
DIRECTIONS = {">": 1, ">=": 1, "<": -1, "<=": -1}
SINGULAR = {"point": "points", "nat": "nats", "epoch": "epochs", "second": "seconds", "s": "seconds"}
_TOKEN = re.compile(r'\s*("[^"]+"|[0-9]+(?:\.[0-9]+)?|[^\W\d]\w*|<=|>=|[][<>+.()%-])')


@dataclass(frozen=True)
class Term:
    """A value of a claim and its factor: 1 and -1 in "a > b", which is read as a - b > 0.

    spread: the value is the standard deviation over the arms whose names, split at commas, have all parts of `arm`.
    """

    times: int
    arm: str
    metric: str
    spread: bool = False


def members(part: str, names: Iterable[str]) -> list[str]:
    """Return the arms that a spread is over: those whose names, split at commas, have all parts of `part`."""
    return [name for name in dict.fromkeys(names) if set(part.split(",")) <= set(name.split(","))]


@dataclass(frozen=True)
class Claim:
    """The sum of the terms is above (direction 1) or below (-1) the threshold, in `unit`.

    kind: what the claim is about. mean: the mean over the seeds; within: the size of that mean, with direction -1;
    curve: the mean at each epoch; convergence: the epochs to an accuracy that both reach; std: the first term's
    deviation over the seeds, divided by the second's, with threshold 1. or_equal: it is claimed with <= or >=, which no
    test can distinguish from < and >.
    """

    text: str
    kind: Literal["mean", "within", "curve", "convergence", "std"]
    terms: tuple[Term, ...]
    direction: int
    threshold: float
    unit: str
    or_equal: bool = False

    def nearest(self, mean: float) -> float:
        """Return the number that a mean is tested against: the threshold; of a margin, the end on the mean's side."""
        return math.copysign(self.threshold, mean) if self.kind == "within" else self.threshold


def parse(text: str) -> Claim:
    """Read a claim. Raises UserError that names it and says what is wrong."""
    try:
        words = _words(text)
        if words[:2] == [STD, "("]:
            return _deviations(text, words)
        left = _side(words)
        if _skip(words, "converges"):
            return _convergence(text, left, words)
        if _skip(words, "within"):
            return _equivalence(text, left, words)
        return _comparison(text, left, words)
    except UserError as error:
        raise UserError(f"study.claims: '{text}': {error}") from None


def _comparison(text: str, left: list[Term], words: list[str]) -> Claim:
    (direction, or_equal), threshold, given = _direction(words), 0.0, None
    if words and re.fullmatch(r"-|[0-9].*", words[0]):
        threshold, given = _number(words)
        terms = _merged(left)
    else:
        terms = _merged([*left, *(replace(t, times=-t.times) for t in _side(words))])
    unit = _unit(terms, given)
    over_epochs = _skip(words, "at", "every", "epoch")
    _end(words)
    if over_epochs:
        terms = _merged([_at_every_epoch(term) for term in terms])
    return Claim(text, "curve" if over_epochs else "mean", terms, direction, threshold, unit, or_equal)


def _equivalence(text: str, left: list[Term], words: list[str]) -> Claim:
    margin, given = _number(words)
    if not _skip(words, "of"):
        raise UserError("expected 'of' after the margin: a within 1 point of b")
    terms = _merged([*left, *(replace(t, times=-t.times) for t in _side(words))])
    _end(words)
    if margin <= 0:
        raise UserError(f"a margin is above 0, not {margin:g}")
    if sum(term.times for term in terms):
        raise UserError("a value is within a margin of a value, and a difference of a difference")
    return Claim(text, "within", terms, -1, margin, _unit(terms, given))


def _at_every_epoch(term: Term) -> Term:
    if metric_of(term.metric).curve is None or term.spread:
        raise UserError(f"{'a spread' if term.spread else term.metric} has no value at every epoch")
    return replace(term, metric=term.metric.replace("test_", "val_"))


def _deviations(text: str, words: list[str]) -> Claim:
    first = _deviation(words)
    direction, or_equal = _direction(words)
    second = _deviation(words)
    _end(words)
    if first.spread or second.spread:
        raise UserError("std(...) is over the seeds of one arm; a spread is over arms: spread(a) < spread(b)")
    terms = _merged([first, replace(second, times=-1)])
    _unit(terms, None)
    return Claim(text, "std", terms, direction, 1.0, "ratio", or_equal)


def _deviation(words: list[str]) -> Term:
    if not _skip(words, STD, "("):
        raise UserError("a deviation is compared with another one: std(a) < std(b)")
    term = _value(1, words)
    if not _skip(words, ")"):
        raise UserError(f"expected ')' after {term.arm}; std(...) holds one value")
    return term


def _convergence(text: str, left: list[Term], words: list[str]) -> Claim:
    if not _skip(words, "faster", "than"):
        raise UserError("expected 'converges faster than'")
    sides = [*left, *_side(words)]
    _end(words)
    if len(sides) != 2 or {t.metric for t in sides} != {"test_accuracy"} or any(t.spread for t in sides):
        raise UserError("'converges faster than' compares two arms, without metrics")
    terms = _merged([Term(sign, t.arm, "epochs_to_plateau") for sign, t in zip((1, -1), sides, strict=True)])
    return Claim(text, "convergence", terms, -1, 0.0, "epochs")


def _words(text: str) -> list[str]:
    words, at, text = [], 0, text.strip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise UserError(
                f"cannot read '{text[at:].strip()[:12]}'; compare with <, <=, > or >=, and put a name that is not of "
                "letters, digits and _ in double quotes"
            )
        words.append(found[1])
        at = found.end()
    return words


def _skip(words: list[str], *phrase: str) -> bool:
    """Remove a phrase from the front of the words if it is there; return whether it was."""
    if words[: len(phrase)] != list(phrase):
        return False
    del words[: len(phrase)]
    return True


def _side(words: list[str]) -> list[Term]:
    terms = [_value(1, words)]
    while words and words[0] in ("+", "-"):
        terms.append(_value(1 if words.pop(0) == "+" else -1, words))
    return terms


def _value(times: int, words: list[str]) -> Term:
    if _skip(words, SPREAD, "("):
        term = _value(times, words)
        if term.spread or not _skip(words, ")"):
            raise UserError(f"expected ')' after {term.arm}; spread(...) holds one value")
        return replace(term, spread=True)
    arm = words.pop(0) if words else "the end"
    if arm == "the end" or not re.match(r'"|[^\W\d]', arm):
        fix = "; put a name that begins with a digit in double quotes" if arm[0].isdigit() else ""
        raise UserError(f"expected an arm, found {arm if arm == 'the end' else repr(arm)}{fix}")
    metric = "test_accuracy"
    if _skip(words, "."):
        metric = full_name(words.pop(0) if words else "")
        if _skip(words, "["):
            of_class = words.pop(0) if words else ""
            if not of_class.strip('"[]') or not _skip(words, "]"):
                named = metric.removeprefix("test_")
                raise UserError(f'expected one class in brackets: {named}[dog] or {named}["my dog"]')
            metric = full_name(metric, of_class.strip('"'))
    return Term(times, arm.strip('"'), metric)


def _direction(words: list[str]) -> tuple[int, bool]:
    if not words or words[0] not in DIRECTIONS:
        raise UserError(f"expected <, <=, > or >=, found {repr(words[0]) if words else 'the end'}")
    compare = words.pop(0)
    return DIRECTIONS[compare], compare.endswith("=")


def _number(words: list[str]) -> tuple[float, str]:
    sign = -1 if _skip(words, "-") else 1
    if not words or not words[0][0].isdigit():
        raise UserError(f"expected a number, found {repr(words[0]) if words else 'the end'}")
    number = sign * float(words.pop(0))
    unit = words.pop(0) if words and words[0] not in ("at", "of") else ""
    return number, SINGULAR.get(unit, unit)


def _merged(terms: Sequence[Term]) -> tuple[Term, ...]:
    """Add up the factors of each value: a - c > b - c becomes a > b."""
    times: dict[tuple[str, str, bool], int] = {}
    for term in terms:
        value = (term.arm, term.metric, term.spread)
        times[value] = times.get(value, 0) + term.times
    kept = tuple(Term(count, *value) for value, count in times.items() if count)
    if not kept:
        raise UserError("compares a value with itself")
    return kept


def _unit(terms: Sequence[Term], given: str | None) -> str:
    """Return the unit of the sum of the terms. given: the unit of the number it is compared with, None without one."""
    metrics = [metric_of(t.metric) for t in terms]
    if len({m.difference for m in metrics}) > 1:
        raise UserError(f"{' and '.join(dict.fromkeys(t.metric for t in terms))} have different units")
    net = sum(t.times for t in terms)
    if net and given is None:
        raise UserError("a difference is compared with a difference or a number, and a value with a value")
    if net not in (0, 1):
        raise UserError("a number is compared with one value, or with a difference")
    unit = metrics[0].level if net and not any(t.spread for t in terms) else metrics[0].difference
    if given not in (None, unit):
        raise UserError(f"the number is in '{given}', not in {unit}" if given else f"the number lacks its unit, {unit}")
    return unit


def _end(words: list[str]) -> None:
    if words and words[0] in DIRECTIONS:
        raise UserError("has two comparisons; write two claims")
    if words:
        raise UserError(f"unexpected {words[0]!r}; a claim may end in 'at every epoch'")
