"""The checks of a study's claims, and of the numbers that its source reports, before anything is trained."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from cnnexp.claims.grammar import STD, members, parse
from cnnexp.claims.metrics import METRICS, full_name
from cnnexp.errors import UserError, unknown

MAX_REPORTED = 1e30  # arithmetic on larger numbers would overflow


def check(study: Mapping[str, Any]) -> None:
    """Check a study's reported values and claims, except for the names of arms. Raises UserError for the first mistake.

    study: the node of a config, checked against its schema.
    """
    read_reported(study.get("reported"))
    for text in study.get("claims") or ():
        parse(text)


def check_arms(study: Mapping[str, Any], arms: Iterable[str]) -> None:
    """Check that a study reports and claims something of its `arms` only. Raises UserError."""
    arms = list(dict.fromkeys(arms))
    named = [("study.reported", arm) for arm in read_reported(study.get("reported"))]
    for text in study.get("claims") or ():
        for term in parse(text).terms:
            if not term.spread:
                named.append((f"study.claims: '{text}'", term.arm))
            elif len(members(term.arm, arms)) < 2:
                raise UserError(f"study.claims: '{text}': fewer than two arms have '{term.arm}' in their name")
    for where, arm in named:
        if arm not in arms:
            raise unknown(where, "arm", arm, arms)


def read_reported(node: Any) -> dict[str, dict[str, float]]:
    """Return {arm: {metric: number}} of `study.reported`, where a number alone is a test accuracy in per cent.

    Metrics are in the units of METRICS, and `std` in points. Raises UserError naming the arm.
    """
    if not isinstance(node, Mapping | None):
        raise UserError(f"study.reported: given {node!r}; allowed: a mapping of arms to numbers")
    found: dict[str, dict[str, float]] = {}
    for arm, given in (node or {}).items():
        where = f"study.reported.{arm}"
        values = given if isinstance(given, Mapping) else {"test_accuracy": given}
        values = {_metric(where, str(metric)): value for metric, value in values.items()}
        for metric, value in values.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf
            most = 100 if metric in METRICS and METRICS[metric].level == "%" else MAX_REPORTED
            if not number or not 0 <= value <= most:
                raise UserError(
                    f"{where}: given {value!r} for {metric}; allowed: a number >= 0, accuracies and scores in per cent"
                )
        found[str(arm)] = {metric: float(value) for metric, value in values.items()}
    return found


def _metric(where: str, given: str) -> str:
    if given == STD:
        return given
    try:
        return full_name(given)
    except UserError:
        raise unknown(where, "metric", given, (*METRICS, STD)) from None
