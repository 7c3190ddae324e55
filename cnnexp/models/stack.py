"""The short way to describe a network, by channels, kernels, pooling and fc widths. It becomes a list of blocks."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from cnnexp.config import signature
from cnnexp.config.signature import Count
from cnnexp.errors import UserError
from cnnexp.models.layout import Block
from cnnexp.text import plural

STACK = ("channels", "kernels", "stride", "padding", "pool", "fc")


def stacked(
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


def with_given_key(where: str, kernels: int | Sequence[int], message: str) -> str:
    """Return a message about a block's kernel with the key that gave it: model.kernels.0 for model.conv1.kernel."""
    found = re.fullmatch(rf"{re.escape(where)}\.(conv|pool)(\d+)\.kernel(.*)", message, re.DOTALL)
    if found is None:
        return message
    kind, number, rest = found.groups()
    one_of = f".{int(number) - 1}" if not isinstance(kernels, int) else ""
    return f"{where}.pool.kernel{rest}" if kind == "pool" else f"{where}.kernels{one_of}{rest}"


def _pool(kernel: Count, stride: Count | None = None, kind: Literal["max", "avg"] = "max", every: Count = 1) -> None:
    """State the schema of `pool`."""
