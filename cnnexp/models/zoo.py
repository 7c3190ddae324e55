"""Torchvision's classifiers by name, with a new head and optionally pretrained weights. Imports torch when building."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from cnnexp.errors import UserError, did_you_mean, warn_once
from cnnexp.records.find import weights_path

if TYPE_CHECKING:
    from torch import nn

# No auxiliary classifiers: the loss is of one output. Without init_weights, torchvision warns.
EXTRA: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def torchvision_model(
    image: tuple[int, int, int],
    classes: int,
    name: str,
    weights: str | dict[str, str],
    freeze: Literal["none", "backbone"] | list[str],
    bn: Literal["train", "stats", "frozen"],
    strict: bool = True,
) -> "nn.Module":
    """Build a torchvision classifier with a new last layer, the head, of `classes` logits.

    image: (C, H, W); C is 3, or 1: then the first convolution's weights are summed over its channels, which is equal to
    repeating the gray image three times. weights: `none`, `imagenet`, or the path of a checkpoint or run directory (its
    best checkpoint), of which all but the head is loaded. strict: all of that must fit. freeze, bn: see freeze.py.
    Initial weights are drawn from torch's global generator. Raises UserError for a wrong setting, and Skipped if
    ImageNet weights are not available.
    """
    from cnnexp.models.freeze import freeze_weights, set_batch_norm
    from cnnexp.models.weights import from_file, from_imagenet, head_name, load_backbone, to_channels

    model = _bare(name, classes)
    head = head_name(model)
    to_channels(model, image[0])
    if isinstance(weights, Mapping):
        raise UserError(
            f"model.weights: {dict(weights)!r} names a config; its run has to come first (cnnexp train does it)"
        )
    if weights == "imagenet":
        load_backbone(model, from_imagenet(name, partial(_bare, name)), head, "imagenet")
    elif weights != "none":
        load_backbone(model, from_file(weights_path(weights)), head, weights, strict)
    freeze_weights(model, freeze, head)
    set_batch_norm(model, bn)
    return model


def check(where: str, node: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Check without torch that `weights` is a name, an existing file, or {config: NAME}. Raises UserError."""
    weights = node["weights"]
    if isinstance(weights, Mapping):
        if set(weights) != {"config"} or not isinstance(weights["config"], str):
            raise UserError(
                f"{where}.weights: given {dict(weights)!r}; allowed: imagenet, none, a path, {{config: NAME}}"
            )
    elif weights not in ("imagenet", "none"):
        weights_path(weights)
    if isinstance(node["freeze"], list) and not node["freeze"]:
        raise UserError(f"{where}.freeze: given []; allowed: none, backbone, or a list of patterns")
    if weights == "none" and node["freeze"] == "backbone":
        line = f"{where}.freeze=backbone with {where}.weights=none: the frozen layers stay random; name weights"
        warn_once(line, f"cnnexp: {line}")


torchvision_model.check = check  # type: ignore[attr-defined]


def _bare(name: str, classes: int) -> "nn.Module":
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        guess = did_you_mean(name, known)
        choice = guess or f"; choose one of {', '.join(known)}"
        raise UserError(f"model.name: torchvision has no classifier '{name}'{choice}")
    model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes, **EXTRA.get(name, {}))
    return model
