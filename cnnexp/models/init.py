"""The ways to draw first weights that a network can name, and the settings of those that have any. Imports no torch."""

from collections.abc import Callable
from typing import Any

from cnnexp.config import signature
from cnnexp.config.signature import Positive
from cnnexp.models.choices import named


def _no_settings() -> None:
    """State the schema of `default`, `kaiming` and `xavier`."""


def _normal(std: Positive) -> None:
    """State the schema of `normal`, the weight scale of the course's fully connected nets."""


INITS: dict[str, Callable[..., None]] = {
    "default": _no_settings,
    "kaiming": _no_settings,
    "xavier": _no_settings,
    "normal": _normal,
}


def init_of(where: str, given: Any) -> tuple[str, dict[str, float]]:
    """Return name and settings of an initialisation given as `kaiming` or `{normal: {std: 0.01}}`.

    Raises UserError for an unknown name or setting, and for a std that is missing or not above 0.
    """
    name, settings = named(where, "initialisation", given, INITS, "normal: {std: 0.01}")
    signature.check(f"{where}.{name}", settings, INITS[name], inner=True)
    return name, settings
