"""What `cnnexp ops` compares: each operation, the shapes of its inputs, its implementations here, and torch's."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, optim
from torch.nn import functional as torchs

from cnnexp.reference import functional, update_rules
from cnnexp.reference.activations import ACTIVATIONS
from cnnexp.reference.comparison import Computation, Operation
from cnnexp.reference.convolution import CONVOLUTIONS
from cnnexp.reference.normalization import from_rows, to_rows
from cnnexp.reference.pooling import MAX_POOLS
from cnnexp.reference.update_rules import Memory, Rule
from cnnexp.reference.windows import Geometry

EPS, KEEP, STEPS = 1e-5, 0.75, 3
MOVED = Geometry(stride=(2, 2), padding=(1, 1))
ROWS, FEATURES = (128, 1024), (1024,)
IMAGES, CHANNELS = (16, 32, 16, 16), (32,)


BATCH_NORMS: dict[str, Computation] = {
    "graph": partial(functional.batch_norm, eps=EPS, graph=True),
    "simplified": partial(functional.batch_norm, eps=EPS),
}


def catalogue() -> dict[str, Operation]:
    """Return all operations by their names."""
    return {
        **_layers(),
        **_elementwise(),
        "softmax_cross_entropy": Operation(
            ((128, 10), ()),
            {"formula": lambda z: functional.cross_entropy(z, labels_of(z))},
            lambda z: torchs.cross_entropy(z, labels_of(z)),
        ),
        "sgd": _rule(update_rules.sgd, optim.SGD, {"fused": True}, lr=0.01),
        "momentum": _rule(update_rules.momentum, optim.SGD, {"fused": True}, lr=0.01, momentum=0.9),
        "rmsprop": _rule(update_rules.rmsprop, optim.RMSprop, {}, lr=1e-3, alpha=0.99, eps=1e-8, momentum=0.0),
        "adam": _rule(update_rules.adam, optim.Adam, {"fused": True}, lr=1e-3, betas=(0.9, 0.999), eps=1e-8),
    }


def _layers() -> dict[str, Operation]:
    return {
        "conv": Operation(
            ((1, 3, 31, 31), (25, 3, 3, 3), (25,), (1, 25, 16, 16)),
            {impl: partial(functional.conv2d, geometry=MOVED, impl=impl) for impl in CONVOLUTIONS},
            torch_conv2d(MOVED),
            "stride 2, padding 1",
        ),
        "filter": Operation(
            ((8, 3, 64, 64), (5, 5), (8, 3, 60, 60)),
            {"im2col": functional.filter_channels},
            lambda x, kernel: torchs.conv2d(x, kernel.expand(3, 1, 5, 5), groups=3),
        ),
        "max_pool": Operation(
            ((1, 16, 32, 32), (1, 16, 16, 16)),
            {impl: partial(functional.max_pool2d, kernel=(2, 2), stride=(2, 2), impl=impl) for impl in MAX_POOLS},
            partial(torchs.max_pool2d, kernel_size=2),
            "2x2 windows",
        ),
        "affine": Operation((ROWS, (256, 1024), (256,), (128, 256)), {"formula": functional.linear}, torchs.linear),
        "batch_norm": Operation((ROWS, FEATURES, FEATURES, ROWS), BATCH_NORMS, torch_batch_norm),
        "spatial_batch_norm": Operation(
            (IMAGES, CHANNELS, CHANNELS, IMAGES),
            {name: spatial(norm) for name, norm in BATCH_NORMS.items()},
            torch_batch_norm,
        ),
        "layer_norm": Operation(
            (ROWS, FEATURES, FEATURES, ROWS),
            {"formula": partial(functional.layer_norm, eps=EPS)},
            lambda x, scale, shift: torchs.layer_norm(x, FEATURES, scale, shift, EPS),
        ),
    }


def _elementwise() -> dict[str, Operation]:
    shapes, kept = (ROWS, ROWS), f"keep {KEEP}"
    vanilla: dict[str, Computation] = {"formula": partial(dropout, vanilla=True)}
    activations: dict[str, Computation] = {name: partial(functional.activation, name=name) for name in ACTIVATIONS}
    return {
        "dropout": Operation(shapes, {"inverted": dropout}, torch_dropout, kept),
        "vanilla_dropout": Operation(shapes, vanilla, lambda x: KEEP * torch_dropout(x), kept),
        **{name: Operation(shapes, {"formula": f}, torch_activation(name)) for name, f in activations.items()},
    }


def torch_conv2d(geometry: Geometry) -> Computation:
    """Return torch's convolution of (x, w) or (x, w, b)."""
    g = geometry
    return lambda x, w, b=None: torchs.conv2d(x, w, b, g.stride, g.padding, g.dilation, g.groups)


def spatial(batch_norm: Computation) -> Computation:
    """Make a batch norm of rows (N, D) into one of images (N, C, H, W), whose pixels are the rows."""
    return lambda x, scale, shift: from_rows(batch_norm(to_rows(x), scale, shift), tuple(x.shape))


def torch_batch_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return torch's batch norm, by batch statistics."""
    return torchs.batch_norm(x, None, None, scale, shift, training=True, eps=EPS)


def dropout(x: Tensor, vanilla: bool = False) -> Tensor:
    """Drop the units that `torch_dropout` drops."""
    return functional.dropout(x, torch_dropout(torch.ones_like(x)) > 0, KEEP, vanilla)


def torch_dropout(x: Tensor) -> Tensor:
    """Return torch's dropout, which drops the same units at each call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torchs.dropout(x, 1 - KEEP)


def torch_activation(name: str) -> Computation:
    """Return torch's activation, with its default settings."""
    found: Computation = getattr(torch, name, None) or getattr(torchs, name)
    return found


def labels_of(logits: Tensor) -> Tensor:
    """Return the labels 0, 1, ... K-1, 0, 1, ... for logits (N, K)."""
    return torch.arange(len(logits)) % logits.shape[1]


def _rule(rule: Rule, optimizer: Callable[..., optim.Optimizer], kernel: dict[str, Any], **settings: Any) -> Operation:
    """Return STEPS steps of an update rule, and of torch's optimiser with the kernel that training uses."""

    def steps(weights: Tensor, gradient: Tensor) -> Tensor:
        memory = Memory()
        with torch.no_grad():
            for _ in range(STEPS):
                weights, memory = rule(weights, gradient, memory, **settings)
        return weights

    def torch_steps(weights: Tensor, gradient: Tensor) -> Tensor:
        parameter = torch.nn.Parameter(weights.detach().clone())
        parameter.grad = gradient.detach()
        own = optimizer([parameter], **settings, **kernel)
        with torch.no_grad():
            for _ in range(STEPS):
                inspect.unwrap(type(own).step)(own)  # the wrappers would import torch's compiler, 1.5 s
        return parameter.detach()

    weights = (100_000,)
    return Operation((weights, weights, weights), {"formula": steps}, torch_steps, f"{STEPS} steps")
