"""The layers of a network computed by the formulas of this room: modules that take the place of torch's, in place.

Forward and backward passes are those of convolution.py, dense.py, normalization.py, pooling.py and activations.py;
torch's autograd only hands the gradients from one to the next. Tensors and their names stay those of torch, so a
checkpoint of either serves both. Where autocast is on, matrix products are in its precision, as torch's are, and all
else is in that of the weights; so are the loops, whose sums of many thousand numbers bf16 could not hold.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnnexp.reference import dense, normalization
from cnnexp.reference.activations import ACTIVATIONS
from cnnexp.reference.convolution import CONVOLUTIONS, bias_gradient
from cnnexp.reference.formula import Gradients, Kept, by_formula
from cnnexp.reference.pooling import MAX_POOLS
from cnnexp.reference.windows import Geometry, Pair

Impl = Literal["im2col", "loops"]


class ReferenceConv2d(nn.Conv2d):
    """A convolution by loops or by im2col, as `impl` says."""

    impl: Impl

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (N, C, H, W)."""
        assert self.padding_mode == "zeros" and not isinstance(self.padding, str)
        geometry = Geometry(_pair(self.stride), _pair(self.padding), _pair(self.dilation), self.groups)
        way, size, kernel = CONVOLUTIONS[self.impl], _pair(tuple(input.shape[2:])), _pair(self.kernel_size)
        learns_below = input.requires_grad  # the images that a network begins with need no gradient

        def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Kept:
            return way.forward(x, weight, bias, geometry), (x, weight)

        def backward(upstream: Tensor, x: Tensor, weight: Tensor) -> Gradients:
            return (
                way.input_gradient(upstream, weight, size, geometry) if learns_below else None,
                way.weight_gradient(upstream, x, kernel, geometry),
                bias_gradient(upstream),
            )

        dtype = self.weight.dtype if self.impl == "loops" else _product_dtype(self.weight)
        return _laid_out(by_formula(forward, backward, *_cast(dtype, input, self.weight, self.bias)), input)


class ReferenceLinear(nn.Linear):
    """A fully connected layer."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, D) to (N, F)."""

        def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Kept:
            return dense.affine(x, weight, bias), (x, weight)

        given = _cast(_product_dtype(self.weight), input, self.weight, self.bias)
        return by_formula(forward, dense.affine_backward, *given)


class ReferenceBatchNorm1d(nn.BatchNorm1d):
    """Batch normalisation of features."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, D)."""
        return _batch_norm(self, input.to(self.weight.dtype))


class ReferenceBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation of images, each pixel an example."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        rows = normalization.to_rows(input.to(self.weight.dtype))
        return _laid_out(normalization.from_rows(_batch_norm(self, rows), tuple(input.shape)), input)


class ReferenceLayerNorm(nn.LayerNorm):
    """Layer normalisation of features."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, D)."""

        def forward(x: Tensor, scale: Tensor, shift: Tensor) -> Kept:
            y, normalised, inverse = normalization.layer_norm(x, scale, shift, self.eps)
            return y, (normalised, inverse, scale)

        x = input.to(self.weight.dtype)
        return by_formula(forward, normalization.layer_norm_backward, x, self.weight, self.bias)


class ReferenceMaxPool2d(nn.MaxPool2d):
    """Max-pooling by loops or by patches, as `impl` says."""

    impl: Impl

    def forward(self, input: Tensor) -> Tensor:
        """Pool (N, C, H, W)."""
        assert (self.padding, self.dilation, self.ceil_mode) == (0, 1, False)
        way, kernel, stride = MAX_POOLS[self.impl], _pair(self.kernel_size), _pair(self.stride)
        y = by_formula(
            lambda x: (way.forward(x, kernel, stride), (x,)),
            lambda upstream, x: (way.backward(upstream, x, kernel, stride),),
            input,
        )
        return _laid_out(y, input)


class ReferenceReLU(nn.ReLU):
    """ReLU, never in place."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the positive part."""
        relu = ACTIVATIONS["relu"]
        return by_formula(lambda z: (relu.value(z), (z,)), lambda upstream, z: (relu.backward(upstream, z),), input)


BY_FORMULA: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: ReferenceConv2d,
    nn.Linear: ReferenceLinear,
    nn.BatchNorm1d: ReferenceBatchNorm1d,
    nn.BatchNorm2d: ReferenceBatchNorm2d,
    nn.LayerNorm: ReferenceLayerNorm,
    nn.MaxPool2d: ReferenceMaxPool2d,
    nn.ReLU: ReferenceReLU,
}


def compute_by_formula(network: nn.Module, impl: Impl) -> None:
    """Let a network's convolutions, affine layers, norms, ReLUs and max-pools compute by the formulas here.

    In place; their tensors, names and settings stay. impl: how convolutions and max-pools do it. Layers of other
    kinds (other activations, average pooling, dropout) stay torch's.
    """
    for module in network.modules():
        formula = next((formula for kind, formula in BY_FORMULA.items() if isinstance(module, kind)), None)
        if formula is not None:
            module.__class__ = formula
            if isinstance(module, (ReferenceConv2d, ReferenceMaxPool2d)):
                module.impl = impl


def _pair(size: Any) -> Pair:
    height, width = size if isinstance(size, tuple) else (size, size)
    return height, width


def _product_dtype(weight: Tensor) -> torch.dtype:
    """Return the type that matrix products are in."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def _cast(dtype: torch.dtype, *tensors: Tensor | None) -> list[Tensor | None]:
    return [None if tensor is None else tensor.to(dtype) for tensor in tensors]


def _laid_out(y: Tensor, x: Tensor) -> Tensor:
    """Return y (N, C, H, W) in the order of x in memory, as torch's layers do: dropout after it draws in that order."""
    last = x.stride(1) == 1
    return y.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _batch_norm(module: _BatchNorm, rows: Tensor) -> Tensor:
    """Normalise (N, D) with its own statistics, which the running ones follow, or in eval mode with the running ones.

    Raises ValueError if there is one row only to take statistics of.
    """
    mean, variance, count = module.running_mean, module.running_var, module.num_batches_tracked
    assert mean is not None and variance is not None and count is not None
    if not module.training:
        return normalization.batch_norm_predict(rows, module.weight, module.bias, mean, variance, module.eps)
    if len(rows) < 2:
        raise ValueError("batch norm needs more than 1 value per channel to train")
    with torch.no_grad():
        count += 1
        momentum = 1 / float(count) if module.momentum is None else module.momentum
        mean.copy_(normalization.running(mean, rows.mean(0), momentum))
        variance.copy_(normalization.running(variance, rows.var(0), momentum))

    def forward(x: Tensor, scale: Tensor, shift: Tensor) -> Kept:
        y, normalised, inverse = normalization.batch_norm(x, scale, shift, module.eps)
        return y, (normalised, inverse, scale)

    return by_formula(forward, normalization.batch_norm_backward, rows, module.weight, module.bias)
