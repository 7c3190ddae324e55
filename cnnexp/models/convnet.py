"""Networks described in YAML, as in configs/model/custom.yaml. Torch is imported when one is built."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from cnnexp.config import signature
from cnnexp.config.signature import Count, Index, Rate
from cnnexp.errors import UserError
from cnnexp.models.blocks import FcNorm, Norm
from cnnexp.models.choices import activation_of, init_of
from cnnexp.models.layout import Block, lay_out, parse
from cnnexp.models.plan import Defaults, Layer
from cnnexp.models.stack import STACK, stacked

if TYPE_CHECKING:
    from torch import nn

FcLayers = Literal["first", "all"]


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
    `fc` (see stack.py), or by `blocks`, a list of named blocks (see blocks.py), which replaces these six.
    norm: after each convolution and the first fc layer, before the activation, or {conv, fc} where these differ;
    `layer` is for fc layers only. dropout: {pool, fc}, after each pooling and after the first fc layer's activation.
    fc_layers: `first`, or `all` where norm and dropout.fc apply to every fc layer. init: torch's own, He's, Glorot's,
    or of a given std (see network.py), drawn from torch's global generator. impl: torch's layers, or those of
    cnnexp.reference, equal up to rounding: convolutions by im2col, or by loops, which take thousands of times as long.
    Maps (N, C, H, W) to (N, K). Raises UserError naming the wrong setting.
    """
    from cnnexp.models.network import assemble

    stack = {"channels": channels, "kernels": kernels, "stride": stride, "padding": padding, "pool": pool, "fc": fc}
    layers = plan("model", image, classes, blocks, norm, dropout, activation, head, fc_layers, **stack)
    network = assemble(layers, init)
    if impl != "torch":
        from cnnexp.reference.layers import compute_by_formula

        compute_by_formula(network, impl)
    return network


def plan(
    where: str,
    image: tuple[int, int, int],
    classes: int,
    blocks: list[Any] | None,
    norm: str | Mapping[str, Any],
    dropout: Mapping[str, Any],
    activation: str | Mapping[str, Any],
    head: Mapping[str, Any],
    fc_layers: FcLayers = "first",
    **stack: Any,
) -> list[Layer]:
    """Return the layers that `convnet` builds, without torch. image: (C, H, W). Raises UserError naming the mistake."""
    defaults = _defaults(where, norm, dropout, activation, head, fc_layers)
    return lay_out(image, classes, _blocks(where, blocks, stack), defaults, head["norm"])


def check(where: str, node: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Check a network before torch is imported; its shapes too, where the config says how large an image is.

    `data.size` is the height and width; three channels are assumed, as the true ones are known only with the data.
    """
    size = config.get("data", {}).get("size")
    settings = {key: node[key] for key in ("norm", "dropout", "activation", "head", "fc_layers") if key in node}
    stack = {key: node[key] for key in STACK if key in node}
    init_of(f"{where}.init", node["init"])
    if isinstance(size, int):
        layers = plan(where, (3, size, size), 10, node["blocks"], **settings, **stack)
        if config.get("batch_size") == 1 and any(layer.kind == "batch_norm_features" for layer in layers):
            raise UserError("batch_size: given 1; allowed with batch norm after a fully connected layer: 2 or more")
    else:
        _defaults(where, **settings)
        _blocks(where, node["blocks"], stack)


convnet.check = check  # type: ignore[attr-defined]


def _blocks(where: str, blocks: list[Any] | None, stack: Mapping[str, Any]) -> list[Block]:
    return stacked(where, **stack) if blocks is None else parse(f"{where}.blocks", blocks)


def _defaults(
    where: str,
    norm: str | Mapping[str, Any],
    dropout: Mapping[str, Any],
    activation: str | Mapping[str, Any],
    head: Mapping[str, Any],
    fc_layers: str = "first",
) -> Defaults:
    norms = norm if isinstance(norm, Mapping) else {"conv": norm, "fc": norm}
    if norms is norm:
        signature.check(f"{where}.norm", norm, _norms, inner=True)
    signature.check(f"{where}.dropout", dropout, _dropout, inner=True)
    signature.check(f"{where}.head", head, _head, inner=True)
    activation_of(f"{where}.activation", activation)
    return Defaults(norms["conv"], norms["fc"], activation, dropout["pool"], dropout["fc"], fc_layers)


def _norms(conv: Norm, fc: FcNorm) -> None:
    """State the schema of `norm` where it is a mapping."""


def _dropout(pool: Rate, fc: Rate) -> None:
    """State the schema of `dropout`."""


def _head(norm: Norm) -> None:
    """State the schema of `head`."""
