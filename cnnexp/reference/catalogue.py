"""What `cnnexp ops` compares: each operation, its shapes, the ways to compute it here, and torch's own."""

from typing import Any

from torch import Tensor, nn, optim
from torch.nn import functional

from cnnexp.reference import operations, update_rules
from cnnexp.reference.comparison import Operation, Run, by_autograd
from cnnexp.reference.convolution import CONVOLUTIONS
from cnnexp.reference.operations import EPS
from cnnexp.reference.pooling import MAX_POOLS
from cnnexp.reference.windows import Geometry

MOVED = Geometry(stride=(2, 2), padding=(1, 1))
ROWS, IMAGES, WEIGHTS = (128, 1024), (16, 32, 16, 16), (100_000,)
ACTIVATIONS: dict[str, tuple[nn.Module, dict[str, float]]] = {
    "relu": (nn.ReLU(), {}),
    "leaky_relu": (nn.LeakyReLU(0.01), {"slope": 0.01}),
    "elu": (nn.ELU(1.0), {"alpha": 1.0}),
    "selu": (nn.SELU(), {}),
    "gelu": (nn.GELU(), {}),
    "silu": (nn.SiLU(), {}),
    "mish": (nn.Mish(), {}),
    "hardswish": (nn.Hardswish(), {}),
    "softplus": (nn.Softplus(), {}),
    "sigmoid": (nn.Sigmoid(), {}),
    "tanh": (nn.Tanh(), {}),
}
ADAM: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8}
RMSPROP: dict[str, Any] = {"lr": 1e-3, "alpha": 0.99, "eps": 1e-8, "momentum": 0.0}
MOMENTUM: dict[str, Any] = {"lr": 0.01, "momentum": 0.9}


def catalogue() -> dict[str, Operation]:
    """Return all operations by their names."""
    return {
        **_windows(),
        "affine": Operation(
            (ROWS, (256, 1024), (256,), (128, 256)), {"formula": operations.affine}, by_autograd(functional.linear)
        ),
        **_norms(),
        "dropout": Operation(
            (ROWS, ROWS),
            {"inverted": operations.dropout_inverted},
            by_autograd(operations.torch_dropout),
            "keep 0.75",
        ),
        "vanilla_dropout": Operation(
            (ROWS, ROWS),
            {"formula": operations.dropout_vanilla},
            operations.torch_dropout_vanilla,
            "keep 0.75, and prediction",
        ),
        **{
            name: Operation((ROWS, ROWS), {"formula": operations.activation(name, **settings)}, by_autograd(module))
            for name, (module, settings) in ACTIVATIONS.items()
        },
        "softmax_cross_entropy": Operation(
            ((128, 10), ()),
            {"formula": operations.cross_entropy},
            by_autograd(lambda z: functional.cross_entropy(z, operations.labels_of(z))),
        ),
        **_rules(),
    }


def _windows() -> dict[str, Operation]:
    """Return the operations of moving windows."""
    convolutions = {way: operations.convolution(way, MOVED) for way in CONVOLUTIONS}
    pools = {way: operations.max_pool(way, (2, 2), (2, 2)) for way in MAX_POOLS}
    return {
        "conv": Operation(
            ((1, 3, 31, 31), (25, 3, 3, 3), (25,), (1, 25, 16, 16)),
            convolutions,
            operations.torch_convolution(MOVED),
            "stride 2, padding 1",
        ),
        "filter": Operation(
            ((8, 3, 64, 64), (5, 5), (8, 3, 60, 60)), {"im2col": operations.blur}, operations.torch_blur
        ),
        "max_pool": Operation(
            ((1, 16, 32, 32), (1, 16, 16, 16)),
            pools,
            by_autograd(lambda x: functional.max_pool2d(x, 2)),
            "2x2 windows",
        ),
    }


def _norms() -> dict[str, Operation]:
    """Return the normalisations; batch norm the long way through its graph too."""
    batch_norms: dict[str, Run] = {"graph": operations.batch_norm_graph, "simplified": operations.batch_norm}
    spatial = {way: operations.spatial(run) for way, run in batch_norms.items()}

    def batch_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return functional.batch_norm(x, None, None, scale, shift, training=True, eps=EPS)

    def layer_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return functional.layer_norm(x, scale.shape, scale, shift, EPS)

    width, channels = ROWS[1:], IMAGES[1:2]
    return {
        "batch_norm": Operation((ROWS, width, width, ROWS), batch_norms, by_autograd(batch_norm)),
        "spatial_batch_norm": Operation((IMAGES, channels, channels, IMAGES), spatial, by_autograd(batch_norm)),
        "layer_norm": Operation(
            (ROWS, width, width, ROWS), {"formula": operations.layer_norm}, by_autograd(layer_norm)
        ),
    }


def _rules() -> dict[str, Operation]:
    """Return the update rules, beside torch's optimisers with the kernels that training uses."""
    rules: dict[str, tuple[Any, Any, dict[str, Any], dict[str, Any]]] = {
        "sgd": (update_rules.sgd, optim.SGD, {"lr": 0.01}, {"fused": True}),
        "momentum": (update_rules.momentum, optim.SGD, MOMENTUM, {"fused": True}),
        "rmsprop": (update_rules.rmsprop, optim.RMSprop, RMSPROP, {}),
        "adam": (update_rules.adam, optim.Adam, ADAM, {"fused": True}),
    }
    return {
        name: Operation(
            (WEIGHTS, WEIGHTS),
            {"formula": operations.stepped(rule, **settings)},
            operations.torch_stepped(optimizer, **settings, **more),
            "3 steps",
        )
        for name, (rule, optimizer, settings, more) in rules.items()
    }
