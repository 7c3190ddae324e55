"""The choices of a network that can have settings: activations and initialisations. Imports no torch.

YAML gives a choice by its name, `relu`, or with settings, `leaky_relu: {slope: 0.1}`.
"""

from typing import Any

from cnnexp.config import signature
from cnnexp.config.signature import Positive
from cnnexp.errors import unknown

# Each activation with its class in torch.nn, and the defaults of its settings, in the order that the class takes them.
ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "none": ("Identity", {}),
    "relu": ("ReLU", {}),
    "leaky_relu": ("LeakyReLU", {"slope": 0.01}),  # Maas et al. 2013
    "elu": ("ELU", {"alpha": 1.0}),
    "selu": ("SELU", {}),
    "gelu": ("GELU", {}),
    "silu": ("SiLU", {}),
    "mish": ("Mish", {}),
    "hardswish": ("Hardswish", {}),
    "softplus": ("Softplus", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
}
INITS = ("default", "kaiming", "xavier", "normal")


def activation_of(where: str, given: Any) -> tuple[str, dict[str, float]]:
    """Return name and settings of an activation given as `relu` or `{leaky_relu: {slope: 0.1}}`; of None, ("none", {}).

    Raises UserError for an unknown name or setting.
    """
    if given is None:
        return "none", {}
    name, settings = signature.named_choice(where, "activation", given, ACTIVATIONS, "leaky_relu: {slope: 0.1}")
    defaults = ACTIVATIONS[name][1]
    for key, value in settings.items():
        if key not in defaults:
            raise unknown(f"{where}.{name}", "setting", key, defaults)
        signature.check_value(f"{where}.{name}.{key}", value, float)
    return name, defaults | settings


def init_of(where: str, given: Any) -> tuple[str, dict[str, float]]:
    """Return name and settings of an initialisation given as `kaiming` or `{normal: {std: 0.01}}`.

    Raises UserError for an unknown name or setting, and for a std that is missing or not above 0.
    """
    name, settings = signature.named_choice(where, "initialisation", given, INITS, "normal: {std: 0.01}")
    signature.check(f"{where}.{name}", settings, _normal if name == "normal" else _no_settings, inner=True)
    return name, settings


def _no_settings() -> None:
    """State the schema of the initialisations without settings."""


def _normal(std: Positive) -> None:
    """State the schema of `normal`."""
