"""What else a fully connected network needs: the affine layer, dropout in two ways, and the loss.

Shape letters: N examples, D features in, F features out, K classes.
"""

import torch
from torch import Tensor


def affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return y = x w^T + b. x: (N, D), weight: (F, D) as torch has it, bias: (F,). Gives (N, F)."""
    y = x @ weight.T
    return y if bias is None else y + bias


def affine_backward(upstream: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return dL/dx = u w, dL/dw = u^T x and dL/db = sum over n of u[n] (Goodfellow et al. 2016, sec. 6.5.6).

    upstream: u = dL/dy (N, F). The three have the shapes of x, weight and bias.
    """
    return upstream @ weight, upstream.T @ x, upstream.sum(0)


def draw_mask(shape: tuple[int, ...], keep: float, generator: torch.Generator) -> Tensor:
    """Return which units are kept, each with probability `keep` in (0, 1], as booleans."""
    return torch.rand(shape, generator=generator) < keep


def dropout_vanilla(x: Tensor, mask: Tensor) -> Tensor:
    """Return m x in training (Srivastava et al. 2014, sec. 4); its gradient is m u, the same function of u."""
    return x * mask


def predict_vanilla(x: Tensor, keep: float) -> Tensor:
    """Return keep x: at prediction every unit counts as much as it did in training on average (sec. 4, last lines)."""
    return keep * x


def dropout_inverted(x: Tensor, mask: Tensor, keep: float) -> Tensor:
    """Return m x / keep in training (sec. 10): its mean is x, so that prediction leaves x alone.

    keep in (0, 1]. Its gradient is m u / keep, the same function of u. In training and in prediction it is what the
    vanilla kind gives there, over keep.
    """
    return x * mask / keep


def softmax(logits: Tensor) -> Tensor:
    """Return p[n, k] = exp z[n, k] / sum over j of exp z[n, j], with the largest z of a row taken off first: the same.

    Goodfellow et al. 2016, eq. 6.29. Numbers of any size are allowed.
    """
    powers = (logits - logits.amax(1, keepdim=True)).exp()
    return powers / powers.sum(1, keepdim=True)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over n of -log p[n, y[n]] = log sum over j of exp z[n, j] - z[n, y[n]], a scalar.

    logits: z (N, K). labels: y (N,) of 0..K-1. (Bishop 2006, eq. 4.108, over N.)
    """
    shifted = logits - logits.amax(1, keepdim=True)
    chosen = shifted[torch.arange(len(labels)), labels]
    return (shifted.exp().sum(1).log() - chosen).mean()


def cross_entropy_backward(upstream: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Return dL/dz = u (p - one-hot y) / N (Bishop 2006, eq. 4.109). upstream: u, a scalar. Gives (N, K)."""
    gradient = softmax(logits)
    gradient[torch.arange(len(labels)), labels] -= 1
    return upstream * gradient / len(labels)
