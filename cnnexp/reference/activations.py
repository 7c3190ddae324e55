"""Activations and their slopes: y = f(z), element by element, and dL/dz = dL/dy f'(z).

If f has a kink at 0, f'(0) is the slope on the left side, as in torch. At -3 and 3 hardswish has the
slopes of its outer pieces, 0 and 1, as in torch. Default settings are torch's.
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


def elu(z: Tensor, alpha: float = 1.0) -> Tensor:
    """Return z if z > 0, else alpha (e^z - 1)."""
    return torch.where(z > 0, z, alpha * (z.exp() - 1))


def elu_slope(z: Tensor, alpha: float = 1.0) -> Tensor:
    """Return 1 if z > 0, else alpha e^z."""
    return torch.where(z > 0, 1.0, alpha * z.exp())


def sigmoid(z: Tensor) -> Tensor:
    """Return s(z) = 1 / (1 + e^-z)."""
    return 1 / (1 + (-z).exp())


def sigmoid_slope(z: Tensor) -> Tensor:
    """Return s (1 - s)."""
    return sigmoid(z) * (1 - sigmoid(z))


def tanh(z: Tensor) -> Tensor:
    """Return (e^z - e^-z) / (e^z + e^-z) = 2 s(2 z) - 1, which cannot overflow."""
    return 2 * sigmoid(2 * z) - 1


def softplus(z: Tensor) -> Tensor:
    """Return log(1 + e^z) = max(z, 0) + log(1 + e^-|z|)."""
    return z.clamp_min(0) + (1 + (-z.abs()).exp()).log()


def normal_cdf(z: Tensor) -> Tensor:
    """Return Phi(z) = (1 + erf(z / sqrt 2)) / 2, the cumulative distribution of the standard normal."""
    return (1 + torch.erf(z / math.sqrt(2))) / 2


def mish_slope(z: Tensor) -> Tensor:
    """Return t + z s(z) (1 - t^2) with t = tanh(softplus z)."""
    t = tanh(softplus(z))
    return t + z * sigmoid(z) * (1 - t * t)


ACTIVATIONS = {
    # Nair & Hinton 2010
    "relu": Activation(lambda z: z.clamp_min(0), lambda z: (z > 0).to(z.dtype)),
    # Maas, Hannun & Ng 2013
    "leaky_relu": Activation(
        lambda z, slope=0.01: torch.where(z > 0, z, slope * z),
        lambda z, slope=0.01: torch.where(z > 0, 1.0, torch.full_like(z, slope)),
    ),
    # Clevert et al. 2016, arXiv 1511.07289
    "elu": Activation(elu, elu_slope),
    # Klambauer et al. 2017
    "selu": Activation(lambda z: SELU_SCALE * elu(z, SELU_ALPHA), lambda z: SELU_SCALE * elu_slope(z, SELU_ALPHA)),
    # Hendrycks & Gimpel 2016, arXiv 1606.08415, not approximated
    "gelu": Activation(
        lambda z: z * normal_cdf(z), lambda z: normal_cdf(z) + z * (-z * z / 2).exp() / math.sqrt(2 * math.pi)
    ),
    # Elfwing, Uchibe & Doya 2018, arXiv 1702.03118
    "silu": Activation(lambda z: z * sigmoid(z), lambda z: sigmoid(z) * (1 + z * (1 - sigmoid(z)))),
    # Misra 2020, arXiv 1908.08681
    "mish": Activation(lambda z: z * tanh(softplus(z)), mish_slope),
    # Howard et al. 2019, arXiv 1905.02244
    "hardswish": Activation(
        lambda z: z * (z + 3).clamp(0, 6) / 6,
        lambda z: torch.where(z <= -3, 0.0, torch.where(z >= 3, 1.0, (2 * z + 3) / 6)),
    ),
    # Dugas et al. 2001
    "softplus": Activation(softplus, sigmoid),
    "sigmoid": Activation(sigmoid, sigmoid_slope),
    "tanh": Activation(tanh, lambda z: 1 - tanh(z) ** 2),
}
