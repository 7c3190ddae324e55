"""Batch and layer normalisation, forward and backward; batch norm simplified, and step by step through its graph.

    mu = mean x,  v = mean (x - mu)^2,  r = 1 / sqrt(v + eps),  h = (x - mu) r,  y = gamma h + beta

Batch norm takes the means over the N examples, for each feature (Ioffe & Szegedy 2015, arXiv 1502.03167, algorithm 1);
layer norm over the D features, for each example (Ba, Kiros & Hinton 2016, arXiv 1607.06450, eq. 3 and 4). x and y are
(N, D), scale gamma and shift beta (D,), eps > 0. u = dL/dy; dz below is short for dL/dz. A forward function returns y
and the tensors that its backward function takes after u.
"""

import torch
from torch import Tensor

Saved = tuple[Tensor, ...]


def batch_norm_graph(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Saved]:
    """Return y, computed one operation at a time, and x - mu, sqrt(v + eps), r, h and gamma."""
    mean = x.sum(0) / len(x)
    centred = x - mean
    squares = centred**2
    variance = squares.sum(0) / len(x)
    deviation = (variance + eps).sqrt()
    inverse = 1 / deviation
    normalised = centred * inverse
    scaled = scale * normalised
    return scaled + shift, (centred, deviation, inverse, normalised, scale)


def batch_norm_graph_backward(
    upstream: Tensor, centred: Tensor, deviation: Tensor, inverse: Tensor, normalised: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dL/dx, dL/dgamma and dL/dbeta by the chain rule, back through one operation at a time."""
    number = len(upstream)
    d_shift = upstream.sum(0)  # y = scaled + beta
    d_scale = (upstream * normalised).sum(0)  # scaled = gamma h
    d_normalised = upstream * scale
    d_inverse = (d_normalised * centred).sum(0)  # h = centred r
    d_centred = d_normalised * inverse
    d_deviation = -d_inverse / deviation**2  # r = 1 / deviation
    d_variance = d_deviation / (2 * deviation)  # deviation = sqrt(v + eps)
    d_squares = torch.ones_like(upstream) * d_variance / number  # v = sum of squares / N
    d_centred = d_centred + 2 * centred * d_squares  # squares = centred^2, the second way to centred
    d_mean = -d_centred.sum(0)  # centred = x - mu
    d_x = d_centred + torch.ones_like(upstream) * d_mean / number  # mu = sum of x / N, the second way to x
    return d_x, d_scale, d_shift


def standardise(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return h (N, D) and r (D,), with the means over the first axis."""
    centred = x - x.mean(0)
    inverse = ((centred**2).mean(0) + eps) ** -0.5
    return centred * inverse, inverse


def standardise_backward(upstream: Tensor, normalised: Tensor, inverse: Tensor) -> Tensor:
    """Return dL/dx = r (dh - mean dh - h mean(dh h)) for upstream dh (N, D): the graph's steps, simplified.

    From the equations of Ioffe & Szegedy 2015, sec. 3; their dL/dmu through v is 0.
    """
    return inverse * (upstream - upstream.mean(0) - normalised * (upstream * normalised).mean(0))


def batch_norm(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Saved]:
    """Return y, and h, r and gamma."""
    normalised, inverse = standardise(x, eps)
    return scale * normalised + shift, (normalised, inverse, scale)


def batch_norm_backward(
    upstream: Tensor, normalised: Tensor, inverse: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dL/dx, dL/dgamma = sum u h and dL/dbeta = sum u, simplified."""
    d_x = standardise_backward(upstream * scale, normalised, inverse)
    return d_x, (upstream * normalised).sum(0), upstream.sum(0)


def batch_norm_predict(x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
    """Return y by the running statistics instead of the batch's (Ioffe & Szegedy 2015, algorithm 2)."""
    return scale * (x - mean) / (variance + eps).sqrt() + shift


def running(kept: Tensor, new: Tensor, momentum: float) -> Tensor:
    """Return (1 - momentum) kept + momentum new, as torch defines momentum. A new variance is a sum over N - 1."""
    return (1 - momentum) * kept + momentum * new


def layer_norm(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Saved]:
    """Return y, and h (N, D), r (N,) and gamma: `standardise` of the transposed."""
    normalised, inverse = standardise(x.T, eps)
    return scale * normalised.T + shift, (normalised.T, inverse, scale)


def layer_norm_backward(
    upstream: Tensor, normalised: Tensor, inverse: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dL/dx, dL/dgamma and dL/dbeta: as for batch norm, with the means over each example's features."""
    d_x = standardise_backward((upstream * scale).T, normalised.T, inverse).T
    return d_x, (upstream * normalised).sum(0), upstream.sum(0)


def to_rows(x: Tensor) -> Tensor:
    """Return images (N, C, H, W) as (N H W, C): spatial batch norm is batch norm of these, each pixel an example."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def from_rows(rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return (N H W, C) as images of shape (N, C, H, W): the inverse of `to_rows`."""
    images, channels, height, width = shape
    return rows.reshape(images, height, width, channels).permute(0, 3, 1, 2).contiguous()
