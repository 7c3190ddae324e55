"""Layers of a network that compute by the formulas of this package: modules that replace torch's, in place.

Tensors and their names stay those of torch, so that a checkpoint fits both. Under autocast, matrix products are in its
precision, as torch's are, and all else is in that of the weights; so are the loops, because bf16 cannot hold their sums
of many thousand numbers.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnnexp.reference import functional, normalization
from cnnexp.reference.windows import Geometry, Pair

Impl = Literal["im2col", "loops"]


class ReferenceConv2d(nn.Conv2d):
    """A convolution by loops or by im2col (`impl`)."""

    impl: Impl

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (N, C, H, W)."""
        assert self.padding_mode == "zeros" and not isinstance(self.padding, str)
        geometry = Geometry(_pair(self.stride), _pair(self.padding), _pair(self.dilation), self.groups)
        dtype = self.weight.dtype if self.impl == "loops" else _product_dtype(self.weight)
        x, weight, bias = _cast(dtype, input, self.weight, self.bias)
        return _laid_out(functional.conv2d(x, weight, bias, geometry, self.impl), input)


class ReferenceLinear(nn.Linear):
    """A fully connected layer."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, D) to (N, F)."""
        return functional.linear(*_cast(_product_dtype(self.weight), input, self.weight, self.bias))


class ReferenceBatchNorm1d(nn.BatchNorm1d):
    """Batch normalisation of features."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, D)."""
        return _batch_norm(self, input.to(self.weight.dtype))


class ReferenceBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation of images; each pixel is an example."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        rows = normalization.to_rows(input.to(self.weight.dtype))
        return _laid_out(normalization.from_rows(_batch_norm(self, rows), tuple(input.shape)), input)


class ReferenceLayerNorm(nn.LayerNorm):
    """Layer normalisation of features."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, D)."""
        return functional.layer_norm(input.to(self.weight.dtype), self.weight, self.bias, self.eps)


class ReferenceMaxPool2d(nn.MaxPool2d):
    """Max-pooling by loops or by im2col (`impl`)."""

    impl: Impl

    def forward(self, input: Tensor) -> Tensor:
        """Pool (N, C, H, W)."""
        assert (self.padding, self.dilation, self.ceil_mode) == (0, 1, False)
        y = functional.max_pool2d(input, _pair(self.kernel_size), _pair(self.stride), self.impl)
        return _laid_out(y, input)


class ReferenceReLU(nn.ReLU):
    """ReLU, never in place."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the positive part."""
        return functional.activation(input, "relu")


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
    """Make a network's convolutions, linear layers, norms, ReLUs and max-pools compute by the formulas; in place.

    Their tensors, names and settings stay. impl: of convolutions and max-pools. Layers of other kinds (other
    activations, average pooling, dropout) stay torch's.
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
    """Return the dtype of matrix products."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def _cast(dtype: torch.dtype, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    return x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)


def _laid_out(y: Tensor, x: Tensor) -> Tensor:
    """Return y (N, C, H, W) in the memory layout of x, as torch's layers do: a dropout after it draws in that order."""
    last = x.stride(1) == 1
    return y.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _batch_norm(module: _BatchNorm, rows: Tensor) -> Tensor:
    """Normalise (N, D) by batch statistics, after updating the running ones; in eval mode by the running ones.

    Raises ValueError for the statistics of a single row.
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
    return functional.batch_norm(rows, module.weight, module.bias, module.eps)
