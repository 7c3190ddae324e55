"""A choice with or without settings, as YAML gives it: `relu`, or `leaky_relu: {slope: 0.1}`. Imports no torch."""

from collections.abc import Iterable, Mapping
from typing import Any

from cnnexp.config import signature
from cnnexp.errors import UserError, unknown


def named(where: str, what: str, given: Any, known: Iterable[str], example: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the settings of `given`, the settings unchecked; {} where there are none.

    what: what is chosen ("activation"); known: the names; example: one with settings, for the error.
    Raises UserError for an unknown name, several of them, or settings that are no mapping.
    """
    if isinstance(given, Mapping) and len(given) != 1:
        raise UserError(f"{where}: given {dict(given)!r}; allowed: a name, or one as `{example}`")
    name, settings = next(iter(given.items())) if isinstance(given, Mapping) else (given, {})
    if name not in known:
        raise unknown(where, what, name, known)
    settings = {} if settings is None else settings
    signature.check_value(f"{where}.{name}", settings, dict[str, Any])
    return str(name), dict(settings)
