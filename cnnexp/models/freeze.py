"""Freeze parts of a network: weights by name (`freeze`), and batch normalisation in one of three modes (`bn`).

    bn      running statistics              affine parameters (scale, shift)
    train   updated in training             trained, in a frozen backbone too
    stats   updated in training             fixed
    frozen  fixed, and used in training     fixed

`freeze` does not apply to batch normalisation. `model.train()` does not unfreeze anything, and weight decay does not
change frozen weights, because the optimiser skips parameters without a gradient.

`unfreeze` frees frozen weights at a step (`unfreezing`): the optimiser has them from the start, and its state of them
begins with their first gradient.
"""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal, Self

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnnexp.config.signature import steps
from cnnexp.errors import UserError


class _EvalMode(nn.Module):
    def train(self, mode: bool = True) -> Self:
        return super().train(False)

    def __reduce__(self) -> tuple[Any, ...]:
        return _blank, (type(self).__mro__[2],), self.__dict__


FROZEN: dict[type[_BatchNorm], type[_BatchNorm]] = {}  # made by `frozen`


def frozen(kind: type[_BatchNorm]) -> type[_BatchNorm]:
    """Return the class of batch normalisation `kind` that stays in eval mode, even after `.train()`."""
    return FROZEN.setdefault(kind, type(f"Frozen{kind.__name__}", (_EvalMode, kind), {}))


def _blank(kind: type[_BatchNorm]) -> _BatchNorm:
    """Return a frozen batch normalisation without attributes, for pickle and deepcopy."""
    return frozen(kind).__new__(frozen(kind))


def freeze_weights(model: nn.Module, freeze: str | list[str], head: str | tuple[str, ...]) -> list[str]:
    """Freeze the weights that `freeze` names, except those of batch normalisation; return their names.

    freeze: `none`; `backbone`, all but the module named `head`, or the modules; or patterns of modules or parameters,
    as [conv1, "layer[12].*"]. Raises UserError if a pattern matches nothing.
    """
    weights = _weights(model)
    if freeze == "none":
        return []
    if freeze == "backbone":
        heads = tuple(f"{name}." for name in ((head,) if isinstance(head, str) else head))
        chosen = [name for name in weights if not name.startswith(heads)]
    else:
        chosen = []
        for pattern in freeze:
            matched = _matched(pattern, weights)
            if not matched:
                parts = ", ".join(name for name, _ in model.named_children())
                raise UserError(f"model.freeze: '{pattern}' matches no weight (batch norm is left to bn) in {parts}")
            chosen += matched
    for name in chosen:
        weights[name].requires_grad_(False)
    return list(dict.fromkeys(chosen))


def unfreezing(model: nn.Module, when: Mapping[str, int | str], steps_per_epoch: int) -> dict[str, int]:
    """Return {frozen weight: number of steps after which it learns}, of the weights that `when` names.

    when: {pattern, as in `freeze`, or `backbone` for all frozen weights: a duration}. The earliest of several counts.
    Raises UserError if a pattern matches no frozen weight.
    """
    found: dict[str, int] = {}
    frozen = [name for name, p in _weights(model).items() if not p.requires_grad]
    for pattern, duration in when.items():
        matched = frozen if pattern == "backbone" else _matched(pattern, frozen)
        if not matched:
            parts = ", ".join(dict.fromkeys(name.partition(".")[0] for name in frozen)) or "nothing; set model.freeze"
            raise UserError(
                f"unfreeze: '{pattern}' matches no frozen weight (batch norm is left to bn); frozen: {parts}"
            )
        for name in matched:
            found[name] = min(steps(duration, steps_per_epoch), found.get(name, 2**63))
    return found


def set_batch_norm(model: nn.Module, mode: Literal["train", "stats", "frozen"]) -> None:
    """Set the mode of all batch normalisation layers of a new network, in place.

    Raises UserError for `stats` if the network has none, and for `frozen` if one stores no statistics, or if it has
    none and learns: of a network without batch norm whose backbone is frozen, nothing below the head adapts.
    """
    if mode == "train":
        return
    norms = _batch_norms(model)
    if not norms and mode == "frozen" and not all(p.requires_grad for p in model.parameters()):
        return
    if not norms:
        raise UserError(f"model.bn: given {mode}, but the network has no batch normalisation; allowed here: train")
    for _, norm in norms:
        for parameter in norm.parameters():
            parameter.requires_grad_(False)
        if mode == "frozen":
            if not norm.track_running_stats:
                raise UserError(f"model.bn: frozen is not possible for {type(norm).__name__} without stored statistics")
            norm.__class__ = frozen(type(norm))  # keeps its tensors, settings, hooks and all references to it
            norm.eval()


def _weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that `freeze` is about: all but those of batch normalisation."""
    norms = {name for name, _ in _batch_norms(model)}
    return {name: p for name, p in model.named_parameters() if name.rpartition(".")[0] not in norms}


def _matched(pattern: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")]


def _batch_norms(model: nn.Module) -> list[tuple[str, _BatchNorm]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
