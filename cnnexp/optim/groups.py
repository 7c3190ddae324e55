"""Parameter groups: learning rate and weight decay by the place and the kind of a parameter (`param_groups`)."""

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from cnnexp.config.signature import Positive, check_value
from cnnexp.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn


def parameters(
    model: "nn.Module", node: Mapping[str, Any] | None, optimizer: Mapping[str, Any], later: Collection[str] = ()
) -> "list[Any]":
    """Return the parameters that learn: a list, or a list of groups with their own lr and weight_decay.

    node: `param_groups`, None for no groups. optimizer: its settings, of which groups change lr and weight_decay.
    no_decay: parameters of one dimension, as biases, and those of norms have no weight decay. layer_decay: the last
    layer that learns keeps lr, each layer before it has that of the next one times this (Clark et al. 2020, arXiv
    2003.10555); see `layer_numbers`. rates: {part of a parameter's name: factor}; all that match multiply. Raises
    UserError for a part that no name has, and for an optimiser without lr. later: names of frozen parameters that learn
    later.
    """
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad or name in later}
    if node is None or not any(node.values()):
        return list(learning.values())
    rates, decay = node["rates"] or {}, node["layer_decay"]
    if not isinstance(optimizer.get("lr"), (int, float)):
        raise UserError("param_groups: the optimizer has no lr that groups could change")
    for part, times in rates.items():
        check_value(f"param_groups.rates.{part}", times, Positive)
    if unused := [part for part in rates if not any(_is_part(part, name) for name in learning)]:
        names = ", ".join(dict.fromkeys(name.rpartition(".")[0] or name for name in learning))
        raise UserError(
            f"param_groups.rates: no parameter that learns has the part '{unused[0]}' in its name; layers: {names}"
        )
    numbers = {} if decay is None else layer_numbers(model)
    last = max((numbers[name] for name in learning), default=0) if numbers else 0
    groups: dict[tuple[float, bool], list[Tensor]] = {}
    dimensions = _dimensions(model)
    for name, parameter in learning.items():
        factor = 1.0 if decay is None else decay ** (last - numbers[name])
        for part, times in rates.items():
            factor *= times if _is_part(part, name) else 1.0
        groups.setdefault((factor, bool(node["no_decay"]) and dimensions[name] < 2), []).append(parameter)
    return [
        {"params": found, "lr": factor * optimizer["lr"], **({"weight_decay": 0.0} if spared else {})}
        for (factor, spared), found in groups.items()
    ]


def layer_numbers(model: "nn.Module") -> dict[str, int]:
    """Return the number of each parameter's layer, from the input; a residual block or a transformer block is one.

    A network of timm numbers its own. Elsewhere names tell: a layer is named up to its first number, as layer1.0 of
    layer1.0.conv2.weight, conv1 and features.3; and further in a sequence of modules of one class, as the
    block2.block2-0 of a RegNet and the denseblock1.denselayer1 of a DenseNet. Norms belong to the layer before them.
    torchvision's MaxViT has its blocks within numbered stages: each stage is one layer.
    """
    if callable(matcher := getattr(model, "group_matcher", None)):
        from timm.models import group_parameters

        found: dict[str, int] = group_parameters(model, matcher(coarse=False), reverse=True)
        return found
    members: dict[str, list[str]] = {}
    dimensions = _dimensions(model)
    stages = {name for name, module in model.named_modules() if _is_stage(module)}
    for name in dimensions:
        members.setdefault(_layer(name, stages), []).append(name)
    numbers, count = dict[str, int](), -1
    for names in members.values():
        count += count < 0 or any(dimensions[name] > 1 for name in names)
        numbers.update(dict.fromkeys(names, count))
    return numbers


def _dimensions(model: "nn.Module") -> dict[str, int]:
    """Return the number of dimensions of each parameter; 1 of a norm, also of a LayerNorm over images (C, H, W)."""
    from torch import nn

    norms = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
    owners = {name for name, module in model.named_modules() if isinstance(module, norms)}
    return {name: 1 if name.rpartition(".")[0] in owners else p.ndim for name, p in model.named_parameters()}


def _layer(name: str, stages: Collection[str]) -> str:
    """Return the name of a parameter's layer: to the end of its first number, else without its last part.

    stages: modules in which each module with a number in its name is a layer.
    """
    found = re.match(r"(?:[^.\d]+\.)*[^.\d]*\d[^.]*(?:\.\d+)*(?=\.)", name)
    if not found:
        return name.rpartition(".")[0] or name
    layer = found[0]
    while layer in stages and (within := re.match(r"\.[^.]*\d[^.]*(?=\.)", name[len(layer) :])):
        layer += within[0]
    return layer


def _is_stage(module: "nn.Module") -> bool:
    """Return whether a module applies two or more modules of one class in turn, as a RegNet's stage its blocks.

    That is a Sequential that does nothing else, or a ModuleDict with its own `forward`, as a DenseNet's dense block.
    """
    from torch import nn

    inside, kind = list(module.children()), type(module)
    is_sequential = getattr(kind, "forward", None) is nn.Sequential.forward
    in_turn = is_sequential or (isinstance(module, nn.ModuleDict) and kind is not nn.ModuleDict)
    return in_turn and len(inside) > 1 and len({type(child) for child in inside}) == 1


def _is_part(part: str, name: str) -> bool:
    """Return whether a text is a part of a parameter's name, from dot to dot: `fc` of `fc.weight`, not of `fc1`."""
    return re.search(rf"(^|\.){re.escape(part)}(\.|$)", name) is not None
