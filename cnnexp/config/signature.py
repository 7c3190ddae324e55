"""The schema of an open config node is the signature of the function that its `_target_` names.

Builders annotate their parameters with plain types, `Literal`, unions, `list[...]`, and the ranges below. The defaults
of settings are in YAML. A parameter's own default is the value with which it changes nothing, so that configs without
it still build and keep their fingerprint.
"""

import functools
import inspect
import math
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from cnnexp.errors import UserError, unknown

MAX_NUMBER = int(sys.float_info.max)


@dataclass(frozen=True)
class Range:
    """Bounds of a number: `low`/`high` are allowed values, `above`/`below` are not."""

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None

    def holds(self, value: float) -> bool:
        """Tell whether `value` is within the bounds. NaN is not."""
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
            and value == value
        )

    def __str__(self) -> str:
        signs = ((self.low, ">="), (self.above, ">"), (self.high, "<="), (self.below, "<"))
        given = ((sign, bound) for bound, sign in signs if bound is not None)
        return " and ".join(f"{sign} {bound if isinstance(bound, int) else f'{bound:g}'}" for sign, bound in given)


@dataclass(frozen=True)
class Duration:
    """A length of training: epochs ("15ep", or 15) or optimiser steps ("500st"), at least `low` of them."""

    low: int = 1

    def holds(self, value: int | str) -> bool:
        """Tell whether `value` is a duration of at least `low` epochs or steps."""
        found = re.fullmatch(r"([0-9]{1,12})(ep|st)?", str(value))
        return found is not None and int(found.group(1)) >= self.low

    def __str__(self) -> str:
        return f"a duration of at least {self.low}, in epochs (15ep) or steps (500st)"


def steps(duration: int | str, steps_per_epoch: int) -> int:
    """Return a duration in optimiser steps: "3ep" is 3 * steps_per_epoch, "500st" is 500."""
    text = str(duration)
    return int(text[:-2]) if text.endswith("st") else int(text.removesuffix("ep")) * steps_per_epoch


Span = Annotated[int | str, Duration()]
SpanOrNone = Annotated[int | str, Duration(low=0)]
Positive = Annotated[float, Range(above=0, below=math.inf)]
NonNegative = Annotated[float, Range(low=0, below=math.inf)]
Count = Annotated[int, Range(low=1)]
Monitored = Literal["accuracy", "loss", "balanced_accuracy", "precision", "recall", "f1", "top5"]
Index = Annotated[int, Range(low=0)]
Probability = Annotated[float, Range(low=0, high=1)]
Rate = Annotated[float, Range(low=0, below=1)]


def describe(kind: Any) -> str:
    """Describe the values that a type allows: "a number > 0", "one of none, batch", "true or false"."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        if isinstance(arguments[1], Duration):
            return str(arguments[1])
        bounds = " and ".join(map(str, arguments[1:]))
        return f"{describe(arguments[0])} {bounds}".replace(" and < inf", "").replace(" < inf", "").strip()
    if origin is Literal:
        return ("one of " if len(arguments) > 1 else "") + ", ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join("null" if a is type(None) else describe(a) for a in arguments)
    if origin in (list, tuple):
        inner = [a for a in arguments if a is not Ellipsis]
        size = f"{len(arguments)} values, each " if origin is tuple and Ellipsis not in arguments else ""
        if not inner:
            return "a list"
        return f"a list of {size}{describe(inner[0])}" if size else f"a list of {_several(describe(inner[0]))}"
    if origin is dict or kind is dict:
        return "a mapping"
    names = {
        float: "a number",
        int: "a whole number",
        str: "text",
        bool: "true or false",
        list: "a list",
        Path: "a path",
    }
    named = f"{kind.__module__}.{kind.__qualname__}" if isinstance(kind, type) else str(kind)
    return names.get(kind, "anything" if kind in (Any, inspect.Parameter.empty) else named)


def _several(words: str) -> str:
    """Return the plural of what `describe` says of one value: "whole numbers >= 1"."""
    for one, many in (("a whole number", "whole numbers"), ("a number", "numbers"), ("text", "texts")):
        if words.startswith(one) and " or " not in words:
            return words.replace(one, many, 1)
    return words


def matches(value: Any, kind: Any) -> bool:
    """Tell whether `value`, as read from YAML, is allowed by `kind`. A whole number is a number; true is not."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in (Any, inspect.Parameter.empty):
        return True
    if origin is Annotated:
        return matches(value, arguments[0]) and all(a.holds(value) for a in arguments[1:])
    if origin is Literal:
        return any(value == a and type(value) is type(a) for a in arguments)
    if origin in (Union, types.UnionType):
        return any(matches(value, a) for a in arguments)
    if origin is tuple and Ellipsis not in arguments:
        pairs = zip(value, arguments, strict=True) if _is_list(value, len(arguments)) else ()
        return _is_list(value, len(arguments)) and all(matches(v, a) for v, a in pairs)
    if origin in (list, tuple):
        return _is_list(value) and all(matches(v, arguments[0]) for v in value)
    if origin is dict or kind is dict:
        return isinstance(value, Mapping)
    if kind is float:  # an integer of 400 digits is not
        return isinstance(value, (int, float)) and not isinstance(value, bool) and not abs(value) > MAX_NUMBER
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is type(None):
        return value is None
    if origin in (Sequence, Iterable):
        return _is_list(value) and all(matches(v, arguments[0]) for v in value)
    plain = origin or kind
    return not isinstance(plain, type) or isinstance(value, plain)  # a type variable is not checked


def _names_builder(value: Any) -> bool:
    nested = value if _is_list(value) else [value]
    return any(isinstance(node, Mapping) and "_target_" in node for node in nested)


def _is_list(value: Any, length: int | None = None) -> bool:
    return isinstance(value, (list, tuple)) and length in (None, len(value))


@functools.lru_cache(maxsize=512)  # a thousand runs are checked against the same builders
def parameters_of(builder: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a builder by name. Raises ValueError or TypeError if it does not say them."""
    return inspect.signature(builder).parameters


@functools.lru_cache(maxsize=512)
def settings(builder: Callable[..., Any], given: tuple[str, ...] = ()) -> dict[str, inspect.Parameter]:
    """Return the parameters of a builder that a config sets: all but those that the caller gives by name."""
    parameters = [p for p in parameters_of(builder).values() if p.name not in given]
    names = getattr(inspect.unwrap(builder), "__globals__", {})
    return {p.name: p.replace(annotation=_hint(p.annotation, names)) for p in parameters}


def _hint(annotation: Any, names: dict[str, Any]) -> Any:
    """Evaluate an annotation that is a string; if it names something that is not imported, it is not checked."""
    if not isinstance(annotation, str):
        return annotation
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return get_type_hints(holder, names, include_extras=True)["it"]
    except NameError:
        return inspect.Parameter.empty


def check(
    where: str, node: Mapping[str, Any], builder: Callable[..., Any], given: tuple[str, ...] = (), inner: bool = False
) -> None:
    """Check a config node against a builder's signature.

    inner: it is inside another node and names no builder: a block of a network, an augmentation's step.
    Raises UserError with the key, what is given and what is allowed.
    """
    known = settings(builder, given)
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
    named = {n: p for n, p in known.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    for key, value in node.items():
        if key in ("_target_", "_partial_") and not inner:
            continue
        if key not in named:
            if open_ended:
                continue
            if key in given:
                raise UserError(f"{where}.{key}: cnnexp gives it, from the data and the config; leave it out")
            raise unknown(f"{where}.{key}" if where else str(key) or "''", "key", key, named)
        if not builder.__module__.startswith("cnnexp.") and _names_builder(value):
            continue  # it is built first; what it gives is not known here
        place, parameter = f"{where}.{key}" if where else str(key), named[key]
        check_value(place, value, parameter.annotation)
        if parameter.annotation is parameter.empty and isinstance(value, str) and matches(parameter.default, float):
            raise UserError(f"{place}: given {value!r}; allowed: a number, as its default is ({parameter.default})")
    missing = [n for n, p in named.items() if p.default is p.empty and n not in node]
    if missing:
        key = f"{where}.{missing[0]}" if where else missing[0]
        raise UserError(f"{key}: is missing; allowed: {describe(named[missing[0]].annotation)}")


def named_choice(where: str, what: str, given: Any, known: Iterable[str], example: str) -> tuple[str, dict[str, Any]]:
    """Return the name and settings of a choice given as `relu` or `{leaky_relu: {slope: 0.1}}`; settings unchecked.

    what: what is chosen ("activation"). known: the names. example: a choice with settings, for the error.
    Raises UserError for an unknown name, several of them, or settings that are no mapping.
    """
    choice = {given: {}} if isinstance(given, str) else given
    if not isinstance(choice, Mapping) or len(choice) != 1:
        raise UserError(f"{where}: given {given!r}; allowed: one {what} by its name, or with settings, as `{example}`")
    ((name, settings),) = choice.items()
    if name not in known:
        raise unknown(where, what, name, known)
    settings = {} if settings is None else settings
    check_value(f"{where}.{name}", settings, dict[str, Any])
    return str(name), dict(settings)


def check_value(where: str, value: Any, kind: Any) -> None:
    """Check one value. Raises UserError: "optimizer.lr: given 'abc'; allowed: a number > 0"."""
    if not matches(value, kind):
        shown = {None: "null", True: "true", False: "false"}.get(value) if _is_word(value) else repr(value)
        raise UserError(f"{where}: given {shown}; allowed: {describe(kind)}")


def _is_word(value: Any) -> bool:
    return value is None or isinstance(value, bool)
