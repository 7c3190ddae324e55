"""The layers of a described network, in order, planned before torch is imported.

Shapes leave the batch out: (C, H, W) of an image, (D,) of features.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnnexp.errors import UserError


@dataclass(frozen=True)
class Layer:
    """One torch module of the network, by its name (conv1, norm1, ...). network.py builds it from kind and settings."""

    name: str
    kind: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Defaults:
    """What the network sets for all its blocks; a block may set its own.

    fc_layers: `first` or `all`, the fc blocks to which norm and fc_dropout apply.
    """

    conv_norm: str
    fc_norm: str
    activation: Any
    pool_dropout: float
    fc_dropout: float
    fc_layers: str


@dataclass
class Walk:
    """The state while the blocks are laid out one after another: the shape that reaches the next one, and the layers.

    image: the network's input (C, H, W). shape: the input of the next block. where: the current block, for errors
    ("model.blocks[3].conv").
    """

    image: tuple[int, int, int]
    shape: tuple[int, ...]
    defaults: Defaults
    where: str = ""
    layers: list[Layer] = field(default_factory=list)
    numbers: Counter[str] = field(default_factory=Counter)

    def number(self, kind: str) -> int:
        """Return 1 for the first layer of a kind, 2 for the second, and so on."""
        self.numbers[kind] += 1
        return self.numbers[kind]

    def add(self, name: str, kind: str, shape: tuple[int, ...], **settings: Any) -> None:
        """Add a layer whose output has this shape."""
        self.layers.append(Layer(name, kind, settings))
        self.shape = shape

    def need_image(self) -> tuple[int, int, int]:
        """Return the (C, H, W) that reaches this block. Raises UserError if it has been flattened already."""
        if len(self.shape) != 3:
            kind = self.where.rsplit(".", 1)[-1]
            raise UserError(f"{self.where}: {kind} needs an image, but an fc block above has flattened it; move it up")
        channels, height, width = self.shape
        return channels, height, width

    def flatten(self) -> int:
        """Flatten an image, if the shape is one; return the number of features."""
        if len(self.shape) == 3:
            self.add("flatten", "flatten", (math.prod(self.shape),))
        return self.shape[0]
