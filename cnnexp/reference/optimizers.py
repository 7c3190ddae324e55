"""Optimisers by config that step by rules.py, with the settings of those in cnnexp/optim/optimizers.py."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cnnexp.config.signature import NonNegative, Positive, Rate
from cnnexp.errors import UserError

if TYPE_CHECKING:
    from torch.nn import Parameter
    from torch.optim import Optimizer


def adam(
    params: Iterable["Parameter"], lr: Positive, betas: tuple[Rate, Rate], eps: Positive, weight_decay: NonNegative
) -> "Optimizer":
    """Adam (Kingma & Ba 2015) from its formula, with L2 regularisation added to the gradient."""
    from cnnexp.reference import update_rules as rules

    return rules.RuleOptimizer(params, rules.adam, weight_decay, lr=lr, betas=tuple(betas), eps=eps)


def sgd(
    params: Iterable["Parameter"], lr: Positive, momentum: Rate, nesterov: bool, weight_decay: NonNegative
) -> "Optimizer":
    """Stochastic gradient descent from its formula, with momentum if it is above 0."""
    from cnnexp.reference import update_rules as rules

    if not momentum:
        return rules.RuleOptimizer(params, rules.sgd, weight_decay, lr=lr)
    return rules.RuleOptimizer(params, rules.momentum, weight_decay, lr=lr, momentum=momentum, nesterov=nesterov)


def _check_sgd(where: str, node: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    if node["nesterov"] and not node["momentum"]:
        raise UserError(f"{where}.nesterov: given true with {where}.momentum 0; Nesterov's step needs momentum > 0")


sgd.check = _check_sgd  # type: ignore[attr-defined]


def rmsprop(
    params: Iterable["Parameter"], lr: Positive, alpha: Rate, eps: Positive, momentum: Rate, weight_decay: NonNegative
) -> "Optimizer":
    """RMSProp (Tieleman & Hinton 2012) from its formula."""
    from cnnexp.reference import update_rules as rules

    return rules.RuleOptimizer(params, rules.rmsprop, weight_decay, lr=lr, alpha=alpha, eps=eps, momentum=momentum)
