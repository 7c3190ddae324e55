"""Receptive fields, followed from layer to layer through the tensors between them.

With k the dilated window, s the stride, j the distance in input pixels between neighbouring elements and r the side of
the field (Araujo et al. 2019, eq. 2): r' = r + (k - 1) j,  j' = s j. The field is known while each layer's input is the
output of another layer. A sum of branches, a function between two modules, and a layer over the full image end that.
"""

from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.modules import activation
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

POINTWISE = (
    _BatchNorm,
    _DropoutNd,
    nn.Identity,
    *(getattr(activation, name) for name in activation.__all__ if name not in ("MultiheadAttention", "Softmax2d")),
)
WINDOWED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


class Field(NamedTuple):
    """The input pixels of one element: a square of side `side`; the neighbour's is `jump` pixels further."""

    side: int
    jump: int


class Fields:
    """The fields of the layers' outputs, each with the version of its tensor, which counts in-place changes."""

    def __init__(self, image: Tensor):
        self._known: dict[int, tuple[Tensor, int, Field]] = {}
        self._remember(image, Field(1, 1))

    def of(self, inputs: tuple[Any, ...]) -> Field | None:
        """Return the field of a layer's input; None if no layer's output is that tensor, or if it was changed since."""
        if not inputs or id(inputs[0]) not in self._known:
            return None
        tensor, version, field = self._known[id(inputs[0])]
        return field if tensor._version == version else None

    def after(self, field: Field | None, module: nn.Module, output: Any) -> int | None:
        """Record the output of `module` for an input of this field; return its side, None if it is not known."""
        if field is None or not isinstance(output, Tensor) or output.dim() != 4:
            return None
        if isinstance(module, WINDOWED):
            window, stride = _window(module), _square(module.stride)
            if window is None or stride is None:
                return None
            field = Field(field.side + (window - 1) * field.jump, field.jump * stride)
        elif not isinstance(module, POINTWISE):
            return None
        self._remember(output, field)
        return field.side

    def _remember(self, tensor: Tensor, field: Field) -> None:
        self._known[id(tensor)] = (tensor, tensor._version, field)


def _window(module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> int | None:
    kernel, dilation = _square(module.kernel_size), _square(getattr(module, "dilation", 1))
    return None if kernel is None or dilation is None else dilation * (kernel - 1) + 1


def _square(size: Any) -> int | None:
    sides = set(size) if isinstance(size, tuple) else {size}
    return int(sides.pop()) if len(sides) == 1 else None
