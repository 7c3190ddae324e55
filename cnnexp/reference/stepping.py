"""The update rules as a torch optimiser, so that schedules, checkpoints and the loop take them like any other."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from cnnexp.reference.update_rules import Rule


class ByRule(Optimizer):
    """Steps by one of the rules of update_rules.py, with L2 regularisation added to the gradient.

    settings: the rule's own, `lr` among them; every parameter group holds them, and may be given its own.
    """

    def __init__(self, params: Iterable[Parameter], rule: Rule, weight_decay: float, **settings: Any):
        super().__init__(params, {"weight_decay": weight_decay, **settings})
        self.rule, self.settings = rule, tuple(settings)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take a step for every parameter that has a gradient."""
        assert closure is None, "the loop computes the loss"
        for group in self.param_groups:
            settings = {name: group[name] for name in self.settings}
            for weights in group["params"]:
                if weights.grad is not None:
                    gradient = weights.grad + group["weight_decay"] * weights
                    new, self.state[weights] = self.rule(weights, gradient, self.state[weights], **settings)
                    weights.copy_(new)
