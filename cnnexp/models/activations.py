"""The activations that a network can name, and the settings of those that have any. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from cnnexp import signature
from cnnexp.errors import UserError, unknown

# Each activation with its settings, as in {leaky_relu: {slope: 0.1}}, and their usual values.
ACTIVATIONS: dict[str, dict[str, float]] = {
    "none": {},
    "relu": {},
    "leaky_relu": {"slope": 0.01},  # Maas et al. 2013
    "elu": {"alpha": 1.0},
    "selu": {},
    "gelu": {},
    "silu": {},
    "mish": {},
    "hardswish": {},
    "softplus": {},
    "sigmoid": {},
    "tanh": {},
}


def activation_of(where: str, given: Any) -> tuple[str, dict[str, float]]:
    """Return name and settings of an activation given as `relu` or `{leaky_relu: {slope: 0.1}}`; of None, ("none", {}).

    Raises UserError for an unknown name or setting.
    """
    if given is None:
        return "none", {}
    if isinstance(given, Mapping) and len(given) != 1:
        raise UserError(f"{where}: given {dict(given)!r}; allowed: a name, or one as `leaky_relu: {{slope: 0.1}}`")
    name, settings = next(iter(given.items())) if isinstance(given, Mapping) else (given, {})
    if name not in ACTIVATIONS:
        raise unknown(where, "activation", name, ACTIVATIONS)
    settings = {} if settings is None else settings
    signature.check_value(f"{where}.{name}", settings, dict[str, Any])
    for key, value in settings.items():
        if key not in ACTIVATIONS[name]:
            raise unknown(f"{where}.{name}", "setting", key, ACTIVATIONS[name])
        signature.check_value(f"{where}.{name}.{key}", value, float)
    return name, ACTIVATIONS[name] | dict(settings)
