"""The other operations of a fully connected network: the affine layer, two kinds of dropout, and the loss.

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


def dropout_vanilla(x: Tensor, mask: Tensor) -> Tensor:
    """Return m x (Srivastava et al. 2014, sec. 4), for a mask m whose units are kept with probability `keep`.

    Its mean is keep x, which is what prediction then has to use. Its gradient is m u, the same function of u.
    """
    return x * mask


def dropout_inverted(x: Tensor, mask: Tensor, keep: float) -> Tensor:
    """Return m x / keep (sec. 10), keep in (0, 1]: its mean is x, so that prediction uses x itself.

    Its gradient is m u / keep, the same function of u.
    """
    return x * mask / keep


def softmax(logits: Tensor) -> Tensor:
    """Return p[n, k] = exp z[n, k] / sum over j of exp z[n, j] (Goodfellow et al. 2016, eq. 6.29).

    The largest z of a row is subtracted first, which changes nothing and avoids overflow.
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
