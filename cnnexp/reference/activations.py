"""Activations and their slopes: y = f(z), element by element, and dL/dz = dL/dy f'(z).

If f has a kink at 0, f'(0) is the slope on the left side, as in torch. Default settings are torch's.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848, 1.0507009873554804934  # Klambauer et al. 2017, arXiv 1706.02515


class Activation(NamedTuple):
    """An activation: value(z, **settings) is y, slope(z, **settings) is dy/dz, both of the shape of z."""

    value: Callable[..., Tensor]
    slope: Callable[..., Tensor]


def relu(z: Tensor) -> Tensor:
    """Return max(z, 0) (Nair & Hinton 2010)."""
    return z.clamp_min(0)


def leaky_relu(z: Tensor, slope: float = 0.01) -> Tensor:
    """Return z where it is above 0, else slope z (Maas, Hannun & Ng 2013)."""
    return torch.where(z > 0, z, slope * z)


def leaky_relu_slope(z: Tensor, slope: float = 0.01) -> Tensor:
    """Return 1 where z is above 0, else slope."""
    return torch.where(z > 0, torch.ones_like(z), torch.full_like(z, slope))


def elu(z: Tensor, alpha: float = 1.0) -> Tensor:
    """Return z where it is above 0, else alpha (e^z - 1) (Clevert et al. 2016, arXiv 1511.07289)."""
    return torch.where(z > 0, z, alpha * (z.exp() - 1))


def elu_slope(z: Tensor, alpha: float = 1.0) -> Tensor:
    """Return 1 where z is above 0, else alpha e^z."""
    return torch.where(z > 0, torch.ones_like(z), alpha * z.exp())


def sigmoid(z: Tensor) -> Tensor:
    """Return s(z) = 1 / (1 + e^-z); its slope is s (1 - s)."""
    return 1 / (1 + (-z).exp())


def tanh(z: Tensor) -> Tensor:
    """Return (e^z - e^-z) / (e^z + e^-z) = 2 s(2 z) - 1, which cannot overflow; its slope is 1 - tanh^2."""
    return 2 * sigmoid(2 * z) - 1


def softplus(z: Tensor) -> Tensor:
    """Return log(1 + e^z) = max(z, 0) + log(1 + e^-|z|) (Dugas et al. 2001); its slope is s(z)."""
    return z.clamp_min(0) + (1 + (-z.abs()).exp()).log()


def normal_cdf(z: Tensor) -> Tensor:
    """Return the probability that a standard normal number is below z, (1 + erf(z / sqrt 2)) / 2."""
    return (1 + torch.erf(z / math.sqrt(2))) / 2


def gelu(z: Tensor) -> Tensor:
    """Return z Phi(z) (Hendrycks & Gimpel 2016, arXiv 1606.08415), not approximated."""
    return z * normal_cdf(z)


def gelu_slope(z: Tensor) -> Tensor:
    """Return Phi(z) + z phi(z), with the normal density phi."""
    return normal_cdf(z) + z * (-z * z / 2).exp() / math.sqrt(2 * math.pi)


def silu(z: Tensor) -> Tensor:
    """Return z s(z) (Elfwing, Uchibe & Doya 2018, arXiv 1702.03118)."""
    return z * sigmoid(z)


def silu_slope(z: Tensor) -> Tensor:
    """Return s + z s (1 - s)."""
    return sigmoid(z) * (1 + z * (1 - sigmoid(z)))


def mish(z: Tensor) -> Tensor:
    """Return z tanh(softplus z) (Misra 2020, arXiv 1908.08681)."""
    return z * tanh(softplus(z))


def mish_slope(z: Tensor) -> Tensor:
    """Return t + z s(z) (1 - t^2) with t = tanh(softplus z)."""
    t = tanh(softplus(z))
    return t + z * sigmoid(z) * (1 - t * t)


def hardswish(z: Tensor) -> Tensor:
    """Return z min(max(z + 3, 0), 6) / 6 (Howard et al. 2019, arXiv 1905.02244)."""
    return z * (z + 3).clamp(0, 6) / 6


def hardswish_slope(z: Tensor) -> Tensor:
    """Return 0 below -3, 1 above 3, and (2 z + 3) / 6 between."""
    return torch.where(z < -3, torch.zeros_like(z), torch.where(z > 3, torch.ones_like(z), (2 * z + 3) / 6))


ACTIVATIONS = {
    "relu": Activation(relu, lambda z: (z > 0).to(z.dtype)),
    "leaky_relu": Activation(leaky_relu, leaky_relu_slope),
    "elu": Activation(elu, elu_slope),
    "selu": Activation(lambda z: SELU_SCALE * elu(z, SELU_ALPHA), lambda z: SELU_SCALE * elu_slope(z, SELU_ALPHA)),
    "gelu": Activation(gelu, gelu_slope),
    "silu": Activation(silu, silu_slope),
    "mish": Activation(mish, mish_slope),
    "hardswish": Activation(hardswish, hardswish_slope),
    "softplus": Activation(softplus, sigmoid),
    "sigmoid": Activation(sigmoid, lambda z: sigmoid(z) * (1 - sigmoid(z))),
    "tanh": Activation(tanh, lambda z: 1 - tanh(z) ** 2),
}
