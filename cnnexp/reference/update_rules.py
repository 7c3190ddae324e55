"""Update rules: weights and their gradient g in, new weights out. Nothing is changed in place.

A rule is a function rule(weights, gradient, memory, **settings) -> (new weights, new memory). memory: what the rule
remembers of a tensor from step to step, {} before the first. All tensors have the shape of the weights.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

Memory = dict[str, Any]
Rule = Callable[..., tuple[Tensor, Memory]]


def sgd(weights: Tensor, gradient: Tensor, memory: Memory, lr: float) -> tuple[Tensor, Memory]:
    """Stochastic gradient descent: w - lr g (Robbins & Monro 1951)."""
    return weights - lr * gradient, memory


def momentum(
    weights: Tensor, gradient: Tensor, memory: Memory, lr: float, momentum: float, nesterov: bool = False
) -> tuple[Tensor, Memory]:
    """Heavy ball: velocity v = m v + g, then w - lr v (Polyak 1964, with lr outside the velocity, as torch has it).

    nesterov: w - lr (g + m v), as if the gradient were that of one step ahead (Bengio et al. 2013, arXiv 1212.0901).
    """
    velocity = momentum * memory.get("velocity", 0.0) + gradient
    change = gradient + momentum * velocity if nesterov else velocity
    return weights - lr * change, {"velocity": velocity}


def rmsprop(
    weights: Tensor, gradient: Tensor, memory: Memory, lr: float, alpha: float, eps: float, momentum: float
) -> tuple[Tensor, Memory]:
    """RMSProp: s = alpha s + (1 - alpha) g^2, then w - lr g / (sqrt s + eps) (Tieleman & Hinton 2012, lecture 6.5).

    With momentum m: v = m v + g / (sqrt s + eps), then w - lr v.
    """
    square = alpha * memory.get("square", 0.0) + (1 - alpha) * gradient**2
    velocity = momentum * memory.get("velocity", 0.0) + gradient / (square.sqrt() + eps)
    return weights - lr * velocity, {"square": square, "velocity": velocity}


def adam(
    weights: Tensor, gradient: Tensor, memory: Memory, lr: float, betas: tuple[float, float], eps: float
) -> tuple[Tensor, Memory]:
    """Adam with bias correction (Kingma & Ba 2015, arXiv 1412.6980, algorithm 1).

    At step t: m = b1 m + (1 - b1) g, s = b2 s + (1 - b2) g^2, then w - lr m' / (sqrt s' + eps) with
    m' = m / (1 - b1^t) and s' = s / (1 - b2^t), which undo that both began at 0.
    """
    step = memory.get("step", 0) + 1
    mean = betas[0] * memory.get("mean", 0.0) + (1 - betas[0]) * gradient
    square = betas[1] * memory.get("square", 0.0) + (1 - betas[1]) * gradient**2
    corrected_mean, corrected_square = mean / (1 - betas[0] ** step), square / (1 - betas[1] ** step)
    change = lr * corrected_mean / (corrected_square.sqrt() + eps)
    return weights - change, {"step": step, "mean": mean, "square": square}
