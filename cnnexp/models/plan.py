"""What a described network is, layer by layer, before torch is imported: shapes, parameters, cost, receptive field.

Shapes leave the batch out: (C, H, W) of an image, (D,) of features. A MAC is one multiplication and addition; as usual,
those of convolutions and fully connected layers are counted, and biases, norms, activations and pooling are not.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnnexp.errors import UserError


def written(*shapes: tuple[int, ...]) -> tuple[str, int]:
    """Write out how many numbers tensors of these shapes hold, and count them.

    Torch's weight shapes read backwards give the textbook order: (32, 3, 7, 7), (32,) -> "7*7*3*32 + 32 = 4,736", 4736.
    """
    count = sum(math.prod(shape) for shape in shapes)
    text = " + ".join("*".join(str(n) for n in reversed(shape)) or "1" for shape in shapes)
    return (text if text == str(count) else f"{text} = {count:,}") if shapes else "", count


@dataclass(frozen=True)
class Layer:
    """One torch module of the network. `kind` and `settings` say which; network.py makes it.

    output: (C, H, W) or (D,). macs: for one image. receptive_field: side of the square of input pixels that one output
    can see, padding included; None where an output sees the whole image.
    """

    name: str
    kind: str
    settings: Mapping[str, Any]
    output: tuple[int, ...]
    parameters: int = 0
    arithmetic: str = ""
    macs: int = 0
    receptive_field: int | None = None


@dataclass(frozen=True)
class Defaults:
    """What the network sets for all its blocks; a block may say otherwise.

    fc_layers: `first` or `all`, the fc blocks that norm and fc_dropout are for.
    """

    norm: str
    activation: Any
    pool_dropout: float
    fc_dropout: float
    fc_layers: str


@dataclass
class Walk:
    """The way through the blocks: what reaches the next one, and the layers so far.

    image: the network's own (C, H, W). shape: what reaches the next block. where: the block that is being laid out
    ("model.blocks[3].conv"), for errors. jump: input pixels between neighbouring outputs.
    """

    image: tuple[int, int, int]
    shape: tuple[int, ...]
    defaults: Defaults
    where: str = ""
    receptive_field: int | None = 1
    jump: int = 1
    layers: list[Layer] = field(default_factory=list)
    numbers: Counter[str] = field(default_factory=Counter)

    def number(self, kind: str) -> int:
        """Return 1 for the first layer of a kind, 2 for the second, and so on."""
        self.numbers[kind] += 1
        return self.numbers[kind]

    def add(
        self,
        name: str,
        kind: str,
        shape: tuple[int, ...],
        weights: tuple[tuple[int, ...], ...] = (),
        macs: int = 0,
        **settings: Any,
    ) -> None:
        """Add a layer that gives `shape`. weights: the shapes of its parameter tensors, as torch has them."""
        arithmetic, parameters = written(*weights)
        seen = None if self.receptive_field is None or len(shape) == 1 else self.receptive_field
        self.layers.append(Layer(name, kind, settings, shape, parameters, arithmetic, macs, seen))
        self.shape, self.receptive_field = shape, seen

    def see(self, window: int, stride: int) -> None:
        """Widen the receptive field by a window of `window` pixels that moves by `stride`."""
        if self.receptive_field is not None:
            self.receptive_field += (window - 1) * self.jump
        self.jump *= stride

    def need_image(self) -> tuple[int, int, int]:
        """Return the (C, H, W) that reaches this block. Raises UserError if it has been flattened already."""
        if len(self.shape) != 3:
            kind = self.where.rsplit(".", 1)[-1]
            raise UserError(f"{self.where}: {kind} needs an image, but an fc block above has flattened it; move it up")
        channels, height, width = self.shape
        return channels, height, width

    def flatten(self) -> int:
        """Flatten what is still an image; return the number of features."""
        if len(self.shape) == 3:
            self.add("flatten", "flatten", (math.prod(self.shape),))
        return self.shape[0]
