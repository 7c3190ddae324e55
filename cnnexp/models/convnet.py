"""Networks described in YAML by named blocks, as in configs/model/custom.yaml. Torch is imported when one is built."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from cnnexp import signature
from cnnexp.errors import UserError
from cnnexp.models.activations import activation_of
from cnnexp.models.blocks import Norm, lay_out, parse
from cnnexp.models.plan import Defaults, Layer
from cnnexp.signature import Rate

if TYPE_CHECKING:
    from torch import nn


def convnet(
    image: tuple[int, int, int],
    classes: int,
    blocks: list[Any],
    norm: Norm,
    dropout: dict[str, Any],
    activation: str | dict[str, Any],
    init: Literal["default", "kaiming", "xavier"],
    head: dict[str, Any],
) -> "nn.Sequential":
    """Build a network of named blocks that ends in a fully connected layer to `classes` logits.

    image: (C, H, W). norm: after each convolution and the first fc layer, before the activation. dropout: {pool, fc},
    after each pooling and after the first fc layer's activation. init: torch's own, He's or Glorot's (see network.py),
    drawn from torch's global generator. Maps (N, C, H, W) to (N, K). Raises UserError naming the block that is wrong.
    """
    from cnnexp.models.network import assemble

    return assemble(plan("model", image, classes, blocks, norm, dropout, activation, head), init)


def plan(
    where: str,
    image: tuple[int, int, int],
    classes: int,
    blocks: list[Any],
    norm: Norm,
    dropout: Mapping[str, Any],
    activation: str | Mapping[str, Any],
    head: Mapping[str, Any],
) -> list[Layer]:
    """Return the layers that `convnet` builds, without torch. image: (C, H, W). Raises UserError naming the mistake."""
    defaults = _defaults(where, norm, dropout, activation, head)
    return lay_out(where, image, classes, blocks, defaults, head["norm"])


def check(where: str, node: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Check a network before torch is imported; its shapes too, where the config says how large an image is.

    `data.size` is the height and width; three channels are assumed, as the true ones are known only with the data.
    """
    size = config.get("data", {}).get("size")
    settings = {key: node[key] for key in ("norm", "dropout", "activation", "head")}
    if isinstance(size, int):
        layers = plan(where, (3, size, size), 10, node["blocks"], **settings)
        if config.get("batch_size") == 1 and any(layer.kind == "norm" and len(layer.output) == 1 for layer in layers):
            raise UserError("batch_size: given 1; allowed with batch norm after a fully connected layer: 2 or more")
    else:
        _defaults(where, **settings)
        parse(f"{where}.blocks", node["blocks"])


convnet.check = check  # type: ignore[attr-defined]


def _defaults(
    where: str, norm: str, dropout: Mapping[str, Any], activation: str | Mapping[str, Any], head: Mapping[str, Any]
) -> Defaults:
    signature.check(f"{where}.dropout", dropout, _dropout)
    signature.check(f"{where}.head", head, _head)
    activation_of(f"{where}.activation", activation)
    return Defaults(norm, activation, dropout["pool"], dropout["fc"])


def _dropout(pool: Rate, fc: Rate) -> None:
    """State the schema of `dropout`."""


def _head(norm: Norm) -> None:
    """State the schema of `head`."""
