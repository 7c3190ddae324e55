"""Update rules, and an optimiser that steps by one of them.

A rule is a pure function rule(weights, gradient, memory, **settings) -> (new weights, new memory). memory: the state
of one tensor between steps, {} before the first. All tensors have the shape of the weights.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

Memory = dict[str, Any]
Rule = Callable[..., tuple[Tensor, Memory]]


def sgd(weights: Tensor, gradient: Tensor, memory: Memory, lr: float) -> tuple[Tensor, Memory]:
    """Stochastic gradient descent: w - lr g (Robbins & Monro 1951)."""
    return weights - lr * gradient, memory


def momentum(
    weights: Tensor, gradient: Tensor, memory: Memory, lr: float, momentum: float, nesterov: bool = False
) -> tuple[Tensor, Memory]:
    """Heavy ball: velocity v = m v + g, then w - lr v (Polyak 1964; lr outside the velocity, as in torch).

    nesterov: w - lr (g + m v), with the gradient as of one step ahead (Bengio et al. 2013, arXiv 1212.0901).
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
    m' = m / (1 - b1^t) and s' = s / (1 - b2^t), which correct for their start at 0.
    """
    step = memory.get("step", 0) + 1
    mean = betas[0] * memory.get("mean", 0.0) + (1 - betas[0]) * gradient
    square = betas[1] * memory.get("square", 0.0) + (1 - betas[1]) * gradient**2
    corrected_mean, corrected_square = mean / (1 - betas[0] ** step), square / (1 - betas[1] ** step)
    change = lr * corrected_mean / (corrected_square.sqrt() + eps)
    return weights - change, {"step": step, "mean": mean, "square": square}


class RuleOptimizer(Optimizer):
    """A torch optimiser that steps by an update rule, with L2 regularisation added to the gradient.

    settings: the rule's, including `lr`; they are the defaults of every parameter group.
    """

    def __init__(self, params: Iterable[Parameter], rule: Rule, weight_decay: float, **settings: Any):
        super().__init__(params, {"weight_decay": weight_decay, **settings})
        self.rule, self.settings = rule, tuple(settings)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take a step for each parameter that has a gradient."""
        assert closure is None, "the loop computes the loss"
        for group in self.param_groups:
            settings = {name: group[name] for name in self.settings}
            for weights in group["params"]:
                if weights.grad is not None:
                    gradient = weights.grad + group["weight_decay"] * weights
                    new, self.state[weights] = self.rule(weights, gradient, self.state[weights], **settings)
                    weights.copy_(new)
