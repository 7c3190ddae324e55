"""The activations that a network can name, and the settings of those that have any. Imports no torch."""

from typing import Any

from cnnexp.config import signature
from cnnexp.errors import unknown
from cnnexp.models.choices import named

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
    name, settings = named(where, "activation", given, ACTIVATIONS, "leaky_relu: {slope: 0.1}")
    for key, value in settings.items():
        if key not in ACTIVATIONS[name]:
            raise unknown(f"{where}.{name}", "setting", key, ACTIVATIONS[name])
        signature.check_value(f"{where}.{name}.{key}", value, float)
    return name, ACTIVATIONS[name] | settings
