"""Networks described in YAML, as in configs/model/custom.yaml. Torch is imported when one is built."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from cnnexp.config import signature
from cnnexp.config.signature import Count, Index, Rate
from cnnexp.config.sizes import height_width
from cnnexp.errors import UserError
from cnnexp.models.blocks import FcNorm, Norm
from cnnexp.models.choices import activation_of, init_of
from cnnexp.models.layers import Defaults, Layer
from cnnexp.models.layout import Block, lay_out, parse
from cnnexp.text import plural

if TYPE_CHECKING:
    from torch import nn

FcLayers = Literal["first", "all"]
STACK = ("channels", "kernels", "stride", "padding", "pool", "fc")  # the short way to describe a network


def convnet(
    image: tuple[int, int, int],
    classes: int,
    blocks: list[Any] | None,
    norm: FcNorm | dict[str, Any],
    dropout: dict[str, Any],
    activation: str | dict[str, Any],
    init: str | dict[str, Any],
    head: dict[str, Any],
    fc_layers: FcLayers = "first",
    impl: Literal["torch", "im2col", "loops"] = "torch",
    channels: list[Count] | None = None,
    kernels: Count | list[Count] = 3,
    stride: Count = 1,
    padding: Literal["same"] | Index = "same",
    pool: dict[str, Any] | None = None,
    fc: list[Count] | None = None,
) -> "nn.Sequential":
    """Build a network of convolutions and fully connected layers that ends in a layer to `classes` logits.

    image: (C, H, W). The layers are given in one of two ways: by `channels`, `kernels`, `stride`, `padding`, `pool` and
    `fc`, or by `blocks`, a list of named blocks (see blocks.py), which replaces these six.
    norm: after each convolution and the first fc layer, before the activation, or {conv, fc} where these differ;
    `layer` is for fc layers only. dropout: {pool, fc}, after each pooling and after the first fc layer's activation.
    fc_layers: `first`, or `all` where norm and dropout.fc apply to every fc layer. init: torch's own, He's, Glorot's,
    or of a given std (see network.py), drawn from torch's global generator. impl: torch's layers, or those of
    cnnexp.reference, equal up to rounding: convolutions by im2col, or by loops, which take thousands of times as long.
    Maps (N, C, H, W) to (N, K). Raises UserError naming the wrong setting.
    """
    from cnnexp.models.network import assemble

    stack = {"channels": channels, "kernels": kernels, "stride": stride, "padding": padding, "pool": pool, "fc": fc}
    rest = {"norm": norm, "dropout": dropout, "activation": activation, "head": head, "fc_layers": fc_layers}
    network = assemble(plan("model", image, classes, {"blocks": blocks, **rest, **stack}), init)
    if impl != "torch":
        from cnnexp.reference.layers import compute_by_formula

        compute_by_formula(network, impl)
    return network


def plan(where: str, image: tuple[int, int, int], classes: int, settings: Mapping[str, Any]) -> list[Layer]:
    """Return the layers that `convnet` builds, without torch.

    image: (C, H, W). settings: those of `convnet`; the optional ones can be missing. Raises UserError naming a wrong
    one.
    """
    blocks, defaults = _read(where, settings)
    try:
        return lay_out(image, classes, blocks, defaults, settings["head"]["norm"])
    except UserError as error:
        if settings["blocks"] is not None:
            raise
        raise UserError(_with_given_key(where, settings.get("kernels", 3), str(error))) from error


def check(where: str, node: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Check a network before torch is imported, with its shapes if the data has a size. Raises UserError.

    Three channels are assumed, because the data is not read yet.
    """
    sides = height_width(config.get("data", {}).get("size"))
    init_of(f"{where}.init", node["init"])
    if sides is None:
        _read(where, node)
        return
    layers = plan(where, (3, *sides), 10, node)
    if config.get("batch_size") == 1 and any(layer.kind == "batch_norm_features" for layer in layers):
        raise UserError("batch_size: given 1; allowed with batch norm after a fully connected layer: 2 or more")


convnet.check = check  # type: ignore[attr-defined]


def _read(where: str, settings: Mapping[str, Any]) -> tuple[list[Block], Defaults]:
    """Check the settings that can be mappings; return the blocks, and the defaults for all of them."""
    norm, dropout, head, activation = (settings[key] for key in ("norm", "dropout", "head", "activation"))
    norms = norm if isinstance(norm, Mapping) else {"conv": norm, "fc": norm}
    if norms is norm:
        signature.check(f"{where}.norm", norm, _norms, inner=True)
    signature.check(f"{where}.dropout", dropout, _dropout, inner=True)
    signature.check(f"{where}.head", head, _head, inner=True)
    activation_of(f"{where}.activation", activation)
    fc_layers = settings.get("fc_layers", "first")
    defaults = Defaults(norms["conv"], norms["fc"], activation, dropout["pool"], dropout["fc"], fc_layers)
    if settings["blocks"] is not None:
        return parse(f"{where}.blocks", settings["blocks"]), defaults
    return _stacked(where, **{key: settings[key] for key in STACK if key in settings}), defaults


def _stacked(
    where: str,
    channels: Sequence[int] | None = None,
    kernels: int | Sequence[int] = 3,
    stride: int = 1,
    padding: str | int = "same",
    pool: Mapping[str, Any] | None = None,
    fc: Sequence[int] | None = None,
) -> list[Block]:
    """Return a convolution for each of `channels`, some of them pooled, then a fully connected layer for each of `fc`.

    kernels: one for all convolutions, or one for each. pool: {kernel, stride, kind, every}, after every `every`-th
    convolution; None for no pooling. Raises UserError for kernels that are not as many as channels.
    """
    channels = list(channels or ())
    sizes = [kernels] * len(channels) if isinstance(kernels, int) else list(kernels)
    if len(sizes) != len(channels):
        raise UserError(
            f"{where}.kernels: given {plural(len(sizes), 'number')} for {plural(len(channels), 'layer')}; allowed: one "
            f"number, or a list of {len(channels)}, one for each of {where}.channels"
        )
    if pool is not None:
        signature.check(f"{where}.pool", pool, _pool, inner=True)
    settings = {key: value for key, value in (pool or {}).items() if key != "every"}
    every, blocks = (pool or {}).get("every", 1), list[Block]()
    for number, (out, kernel) in enumerate(zip(channels, sizes, strict=True), 1):
        conv = {"out": out, "kernel": kernel, "stride": stride, "padding": padding}
        blocks.append((f"{where}.conv{number}", "conv", conv))
        if pool is not None and number % every == 0:
            blocks.append((f"{where}.pool{number // every}", "pool", settings))
    return blocks + [(f"{where}.fc{number}", "fc", {"out": out}) for number, out in enumerate(fc or (), 1)]


def _with_given_key(where: str, kernels: int | Sequence[int], message: str) -> str:
    """Return a message about a block's kernel with the key that gave it: model.kernels.0 for model.conv1.kernel."""
    found = re.fullmatch(rf"{re.escape(where)}\.(conv|pool)(\d+)\.kernel(.*)", message, re.DOTALL)
    if found is None:
        return message
    kind, number, rest = found.groups()
    one_of = f".{int(number) - 1}" if not isinstance(kernels, int) else ""
    return f"{where}.pool.kernel{rest}" if kind == "pool" else f"{where}.kernels{one_of}{rest}"


def _pool(kernel: Count, stride: Count | None = None, kind: Literal["max", "avg"] = "max", every: Count = 1) -> None:
    """State the schema of `pool`."""


def _norms(conv: Norm, fc: FcNorm) -> None:
    """State the schema of `norm` where it is a mapping."""


def _dropout(pool: Rate, fc: Rate) -> None:
    """State the schema of `dropout`."""


def _head(norm: Norm) -> None:
    """State the schema of `head`."""
