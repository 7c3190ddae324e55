"""Classifiers of torchvision and timm by name, with a new head and optionally pretrained weights.

Imports torch when building.
"""

import socket
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

from cnnexp.config.sizes import as_size
from cnnexp.errors import Skipped, UserError, did_you_mean, reason_of, warn_once
from cnnexp.records.find import weights_path
from cnnexp.version import version_of

if TYPE_CHECKING:
    from torch import nn

# No auxiliary classifiers: the loss is of one output. Without init_weights, torchvision warns.
EXTRA: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}
HALVES = ("googlenet", "inception_v3")  # their ImageNet weights are for (p - 0.5) / 0.5, which torchvision does inside


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
    if weights == "imagenet":
        load_backbone(model, from_imagenet(name, partial(_bare, name)), head, "imagenet")
    elif weights != "none":
        load_backbone(model, from_file(weights_path(weights)), head, str(weights), strict)
    freeze_weights(model, freeze, head)
    set_batch_norm(model, bn)
    return model


def timm_model(
    image: tuple[int, int, int],
    classes: int,
    name: str,
    weights: str | dict[str, str],
    freeze: Literal["none", "backbone"] | list[str],
    bn: Literal["train", "stats", "frozen"],
    strict: bool = True,
) -> "nn.Module":
    """Build a classifier of timm, as `torchvision_model` does one of torchvision.

    weights: `imagenet` are those of the name's tag, or timm's default. strict: all of a checkpoint must fit. Raises
    Skipped if timm's weights are not available.
    """
    check_timm()
    import timm

    from cnnexp.models.freeze import freeze_weights, set_batch_norm
    from cnnexp.models.weights import from_file, load_backbone

    settings = timm_settings(name, image, classes)
    if weights == "imagenet" and not _timm_config(name).has_weights:
        raise UserError(f"model.weights: timm has no weights for {name}; give none or a path")
    try:
        if weights == "imagenet":
            _quiet_hub()
        model: nn.Module = timm.create_model(name, pretrained=weights == "imagenet", **settings)
    except Exception as error:  # of its hub's client, or of a network that refuses a setting
        reason = reason_of(error)[:200]
        if weights != "imagenet":
            raise UserError(f"model.name: timm cannot build {name} for images of {image} ({reason})") from error
        raise Skipped(
            f"model.weights=imagenet: the weights of {name} are not available ({reason}); give model.weights=PATH"
        ) from error
    heads = timm_heads(model)
    if weights not in ("none", "imagenet"):
        load_backbone(model, from_file(weights_path(weights)), heads, str(weights), strict)
    freeze_weights(model, freeze, heads)
    set_batch_norm(model, bn)
    return model


def timm_heads(model: Any) -> tuple[str, ...]:
    """Return the names of the last layers of a network of timm.

    A distilled DeiT has two, whose mean are its logits; a VOLO has one for its class token and one for the others.
    """
    from cnnexp.models.weights import head_name

    given = model.get_classifier() if callable(model.get_classifier) else None
    found, modules = given if isinstance(given, tuple) else (given,), dict(model.named_modules())
    heads = [name for name, module in modules.items() if any(module is one for one in found)] or [head_name(model)]
    named = (getattr(model, "pretrained_cfg", None) or {}).get("classifier")
    for name in named if isinstance(named, (tuple, list)) else ():
        if name in modules and not f"{name}.".startswith(tuple(f"{head}." for head in heads)):
            heads.append(name)
    return tuple(heads)


def timm_settings(name: str, image: tuple[int, int, int], classes: int) -> dict[str, Any]:
    """Return what timm's create_model gets. Raises UserError for an unknown name."""
    fixed = {"img_size": tuple(image[1:])} if _timm_config(name).fixed_input_size else {}  # of a vision transformer
    return {"num_classes": classes, "in_chans": image[0], **fixed}


def _quiet_hub() -> None:
    """Let the client of timm's weights not retry, and print, for most of a minute where there is no network."""
    from huggingface_hub import constants
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()
    try:
        if not getproxies():
            socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        constants.HF_HUB_OFFLINE = True


def _timm_config(name: str) -> Any:
    """Return timm's own config of a network. Raises UserError for an unknown name."""
    import timm

    known = timm.list_models() + timm.list_models(pretrained=True)
    if name not in known:
        guess = did_you_mean(name, known) or "; cnnexp models lists them"
        raise UserError(f"model.name: timm has no network '{name}'{guess}")
    return timm.models.get_pretrained_cfg(name)


def timm_images(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the images that a network of timm was trained on: {size, normalize}, as the settings of the data."""
    check_timm()
    config = _timm_config(str(node.get("name")))
    _, height, width = config.input_size
    normalize = {"mean": list(config.mean), "std": list(config.std)} if config.mean and config.std else "dataset"
    return {"size": as_size(height, width), "normalize": normalize}


def torchvision_images(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the images that torchvision's ImageNet weights of a network are for, as `timm_images` does.

    Mean and standard deviation are those that the first layer gets, which for HALVES are not those of `transforms()`.
    """
    from cnnexp.models.weights import imagenet_weights

    check_name(name := str(node.get("name")))
    found = imagenet_weights(name).transforms()
    mean, std = ([0.5] * 3, [0.5] * 3) if name in HALVES else (list(found.mean), list(found.std))
    return {"size": found.crop_size[0], "normalize": {"mean": mean, "std": std}}


def check_timm() -> None:
    """Raise UserError if timm is not installed."""
    if version_of("timm") is None:
        raise UserError("model=timm: timm is not installed; type: pip install 'cnnexp[timm]'")


def check_of_timm(where: str, node: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Check without torch that timm is installed, and what `check` does."""
    check_timm()
    check(where, node, config)


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


vars(torchvision_model).update(check=check, images=torchvision_images)
vars(timm_model).update(check=check_of_timm, images=timm_images)


def check_name(name: str) -> None:
    """Raise UserError if torchvision has no classifier of that name."""
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        choice = did_you_mean(name, known) or f"; choose one of {', '.join(known)}"
        raise UserError(f"model.name: torchvision has no classifier '{name}'{choice}")


def _bare(name: str, classes: int) -> "nn.Module":
    import torchvision

    check_name(name)
    model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes, **EXTRA.get(name, {}))
    return model
