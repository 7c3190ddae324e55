"""Freeze parts of a network: weights by name (`freeze`), and batch normalisation in one of three modes (`bn`).

    bn      running statistics              affine parameters (scale, shift)
    train   updated in training             trained, in a frozen backbone too
    stats   updated in training             fixed
    frozen  fixed, and used in training     fixed

`freeze` does not apply to batch normalisation. `model.train()` does not unfreeze anything, and weight decay does not
change frozen weights, because the optimiser only gets the parameters that require gradients.
"""

from fnmatch import fnmatchcase
from typing import Literal, Self

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnnexp.errors import UserError


class _EvalMode(nn.Module):
    def train(self, mode: bool = True) -> Self:
        return super().train(False)


class FrozenBatchNorm1d(_EvalMode, nn.BatchNorm1d):
    """BatchNorm1d that stays in eval mode, even after `.train()`."""


class FrozenBatchNorm2d(_EvalMode, nn.BatchNorm2d):
    """BatchNorm2d that stays in eval mode, even after `.train()`."""


FROZEN: dict[type[_BatchNorm], type[_BatchNorm]] = {
    nn.BatchNorm1d: FrozenBatchNorm1d,
    nn.BatchNorm2d: FrozenBatchNorm2d,
}


def freeze_weights(model: nn.Module, freeze: str | list[str], head: str) -> list[str]:
    """Freeze the weights that `freeze` names, except those of batch normalisation; return their names.

    freeze: `none`; `backbone`, all but the module named `head`; or patterns of modules or parameters, as
    [conv1, "layer[12].*"]. Raises UserError if a pattern matches nothing.
    """
    norms = {name for name, _ in _batch_norms(model)}
    weights = {n: p for n, p in model.named_parameters() if n.rpartition(".")[0] not in norms}
    if freeze == "none":
        return []
    if freeze == "backbone":
        chosen = [name for name in weights if not name.startswith(f"{head}.")]
    else:
        chosen = []
        for pattern in freeze:
            matched = [n for n in weights if fnmatchcase(n, pattern) or fnmatchcase(n, f"{pattern}.*")]
            if not matched:
                parts = ", ".join(name for name, _ in model.named_children())
                raise UserError(f"model.freeze: '{pattern}' matches no weight (batch norm is left to bn) in {parts}")
            chosen += matched
    for name in chosen:
        weights[name].requires_grad_(False)
    return list(dict.fromkeys(chosen))


def set_batch_norm(model: nn.Module, mode: Literal["train", "stats", "frozen"]) -> None:
    """Set the mode of all batch normalisation layers of a new network, in place.

    Raises UserError for `stats` and `frozen` if the network has none, and for `frozen` if one stores no statistics.
    """
    if mode == "train":
        return
    norms = _batch_norms(model)
    if not norms:
        raise UserError(f"model.bn: given {mode}, but the network has no batch normalisation; allowed here: train")
    for _, norm in norms:
        for parameter in norm.parameters():
            parameter.requires_grad_(False)
        if mode == "frozen":
            if type(norm) not in FROZEN or not norm.track_running_stats:
                raise UserError(f"model.bn: frozen is not possible for {type(norm).__name__} without stored statistics")
            norm.__class__ = FROZEN[type(norm)]  # keeps its tensors, settings, hooks and all references to it
            norm.eval()


def _batch_norms(model: nn.Module) -> list[tuple[str, _BatchNorm]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
