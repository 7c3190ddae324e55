"""The keys of a config, by their dotted names."""

from collections.abc import Iterable, Mapping
from typing import Any


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Return {"model.norm": "none", ...}: the leaves of a config by dotted key; lists are leaves."""
    if not isinstance(node, Mapping) or not node:
        return {prefix: node}
    found: dict[str, Any] = {}
    for key, value in node.items():
        found.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return found


def is_below(key: str, parents: Iterable[str]) -> bool:
    """Tell whether a dotted key is one of the parents or lies below one."""
    return any(key == parent or key.startswith((f"{parent}.", f"{parent}[")) for parent in parents)
