"""The fingerprint of a run: a hash of what can change its numbers. Imports no torch."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from cnnexp.config import signature
from cnnexp.config.checks import target
from cnnexp.config.keys import counts
from cnnexp.config.schema import CLOSED, GIVEN, RunConfig

DIGITS = 10  # hexadecimal ones
COMPARED = ("validation",)  # drawn by the names of files
NEUTRAL: tuple[dict[str, Any], ...] = ({}, {"_target_": "cnnexp.optim.losses.cross_entropy"})  # nodes that say nothing


def canonical(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a config can change a number, without what equals its builder's neutral default.

    So a parameter that is added to a builder later, with the old behaviour as its default, changes no fingerprint.
    """
    kept = _unlike_neutral({k: v for k, v in config.items() if counts(k, "fingerprint")}, RunConfig)
    for name, given in GIVEN.items():
        counting = {k: v for k, v in config[name].items() if counts(f"{name}.{k}", "fingerprint")}
        kept[name] = _unlike_neutral(counting, target(name, config[name]), given)
    for name in ("mix", "ema", "param_groups"):
        kept[name] = _unlike_neutral(config[name], CLOSED[name])
    kept = {key: value for key, value in kept.items() if value not in NEUTRAL}
    kept["epochs"] = str(config["epochs"]) + ("" if str(config["epochs"]).endswith(("ep", "st")) else "ep")
    return kept


def _unlike_neutral(
    node: Mapping[str, Any], builder: Callable[..., Any], given: tuple[str, ...] = ()
) -> dict[str, Any]:
    neutral = {name: parameter.default for name, parameter in signature.settings(builder, given).items()}
    return {key: value for key, value in node.items() if not (key in neutral and neutral[key] == value)}


def fingerprint_of(config: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Hash what can change a number, except the seed, to DIGITS hexadecimal digits.

    facts: what is known only on this machine: precision, device kind, threads, channels_last, the fingerprints of the
    data and of upstream weights. What of them is COMPARED is not hashed: a run directory with another value is refused.
    """
    content = canonical(config)
    if facts.get("weights") is not None:
        content["model"] = {**content["model"], "weights": None}
    hashed = {name: fact for name, fact in facts.items() if name not in COMPARED}
    text = json.dumps({"config": content, "facts": hashed}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
