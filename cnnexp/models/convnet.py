"""Networks described in YAML by named blocks, as in configs/model/custom.yaml. Torch is imported when one is built."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from cnnexp.config import signature
from cnnexp.config.signature import Rate
from cnnexp.errors import UserError
from cnnexp.models.blocks import FcNorm, Norm
from cnnexp.models.choices import activation_of, init_of
from cnnexp.models.layout import lay_out, parse
from cnnexp.models.plan import Defaults, Layer

if TYPE_CHECKING:
    from torch import nn

FcLayers = Literal["first", "all"]


def convnet(
    image: tuple[int, int, int],
    classes: int,
    blocks: list[Any],
    norm: FcNorm,
    dropout: dict[str, Any],
    activation: str | dict[str, Any],
    init: str | dict[str, Any],
    head: dict[str, Any],
    fc_layers: FcLayers = "first",
    impl: Literal["torch", "im2col", "loops"] = "torch",
) -> "nn.Sequential":
    """Build a network of named blocks that ends in a fully connected layer to `classes` logits.

    image: (C, H, W). norm: after each convolution and the first fc layer, before the activation; `layer` where no
    convolution takes it. dropout: {pool, fc}, after each pooling and after the first fc layer's activation. fc_layers:
    `first`, or `all` where norm and dropout.fc are for every fc block. init: torch's own, He's, Glorot's, or of a given
    std (see network.py), drawn from torch's global generator. impl: torch's layers, or to rounding the same ones from
    cnnexp.reference: convolutions by im2col, or by loops, which take thousands of times as long.
    Maps (N, C, H, W) to (N, K). Raises UserError naming the block that is wrong.
    """
    from cnnexp.models.network import assemble

    network = assemble(plan("model", image, classes, blocks, norm, dropout, activation, head, fc_layers), init)
    if impl != "torch":
        from cnnexp.reference.layers import compute_by_formula

        compute_by_formula(network, impl)
    return network


def plan(
    where: str,
    image: tuple[int, int, int],
    classes: int,
    blocks: list[Any],
    norm: FcNorm,
    dropout: Mapping[str, Any],
    activation: str | Mapping[str, Any],
    head: Mapping[str, Any],
    fc_layers: FcLayers = "first",
) -> list[Layer]:
    """Return the layers that `convnet` builds, without torch. image: (C, H, W). Raises UserError naming the mistake."""
    defaults = _defaults(where, norm, dropout, activation, head, fc_layers)
    return lay_out(where, image, classes, blocks, defaults, head["norm"])


def check(where: str, node: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Check a network before torch is imported; its shapes too, where the config says how large an image is.

    `data.size` is the height and width; three channels are assumed, as the true ones are known only with the data.
    """
    size = config.get("data", {}).get("size")
    settings = {key: node[key] for key in ("norm", "dropout", "activation", "head", "fc_layers") if key in node}
    init_of(f"{where}.init", node["init"])
    if isinstance(size, int):
        layers = plan(where, (3, size, size), 10, node["blocks"], **settings)
        if config.get("batch_size") == 1 and any(layer.kind == "batch_norm_features" for layer in layers):
            raise UserError("batch_size: given 1; allowed with batch norm after a fully connected layer: 2 or more")
    else:
        _defaults(where, **settings)
        parse(f"{where}.blocks", node["blocks"])


convnet.check = check  # type: ignore[attr-defined]


def _defaults(
    where: str,
    norm: str,
    dropout: Mapping[str, Any],
    activation: str | Mapping[str, Any],
    head: Mapping[str, Any],
    fc_layers: str = "first",
) -> Defaults:
    signature.check(f"{where}.dropout", dropout, _dropout, inner=True)
    signature.check(f"{where}.head", head, _head, inner=True)
    activation_of(f"{where}.activation", activation)
    return Defaults(norm, activation, dropout["pool"], dropout["fc"], fc_layers)


def _dropout(pool: Rate, fc: Rate) -> None:
    """State the schema of `dropout`."""


def _head(norm: Norm) -> None:
    """State the schema of `head`."""
