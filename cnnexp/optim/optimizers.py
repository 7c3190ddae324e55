"""Optimisers by config: torch's, with their fused kernels where the parameters allow them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cnnexp.config.signature import NonNegative, Positive, Rate
from cnnexp.errors import UserError

if TYPE_CHECKING:
    from torch.nn import Parameter
    from torch.optim import Optimizer


def _flat(params: list[Any]) -> list["Parameter"]:
    """Return the parameters of a list of parameters, or of groups of them."""
    return [p for group in params for p in (group["params"] if isinstance(group, dict) else [group])]


def _fused(params: list[Any]) -> dict[str, Any]:
    """Choose torch's fused update if it exists for the parameters: faster, and equal to the others up to rounding."""
    fusible = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in _flat(params))
    return {"fused": True} if fusible else {}


def adam(
    params: Iterable["Parameter"], lr: Positive, betas: tuple[Rate, Rate], eps: Positive, weight_decay: NonNegative
) -> "Optimizer":
    """Adam (Kingma & Ba 2015) with L2 regularisation added to the gradient."""
    from torch.optim import Adam

    params = list(params)
    return Adam(params, lr, (betas[0], betas[1]), eps, weight_decay, **_fused(params))


def adamw(
    params: Iterable["Parameter"], lr: Positive, betas: tuple[Rate, Rate], eps: Positive, weight_decay: NonNegative
) -> "Optimizer":
    """AdamW (Loshchilov & Hutter 2019): weight decay applied to the weights, not added to the gradient."""
    from torch.optim import AdamW

    params = list(params)
    return AdamW(params, lr, (betas[0], betas[1]), eps, weight_decay, **_fused(params))


def sgd(
    params: Iterable["Parameter"], lr: Positive, momentum: Rate, nesterov: bool, weight_decay: NonNegative
) -> "Optimizer":
    """Stochastic gradient descent, with momentum if it is above 0 (torch's form: lr outside the velocity)."""
    from torch.optim import SGD

    params = list(params)
    # torch's fused step cannot mix parameters with and without a velocity, as when some are freed later.
    fused = _fused(params) if all(p.requires_grad for p in _flat(params)) else {}
    return SGD(params, lr, momentum, weight_decay=weight_decay, nesterov=nesterov, **fused)


def _check_sgd(where: str, node: dict[str, Any], config: dict[str, Any]) -> None:
    if node["nesterov"] and not node["momentum"]:
        raise UserError(f"{where}.nesterov: given true with {where}.momentum 0; Nesterov's step needs momentum > 0")


sgd.check = _check_sgd  # type: ignore[attr-defined]


def rmsprop(
    params: Iterable["Parameter"], lr: Positive, alpha: Rate, eps: Positive, momentum: Rate, weight_decay: NonNegative
) -> "Optimizer":
    """RMSprop (Tieleman & Hinton 2012): the gradient over the root of its running mean square."""
    from torch.optim import RMSprop

    return RMSprop(list(params), lr, alpha, eps, weight_decay, momentum)


def adagrad(
    params: Iterable["Parameter"], lr: Positive, lr_decay: NonNegative, eps: Positive, weight_decay: NonNegative
) -> "Optimizer":
    """Adagrad (Duchi et al. 2011): the gradient over the root of the sum of its squares."""
    from torch.optim import Adagrad

    params = list(params)
    fused = _fused(params) if all(p.device.type == "cpu" for p in _flat(params)) else {}  # not in every CUDA build
    return Adagrad(params, lr, lr_decay, weight_decay, eps=eps, **fused)
