"""The blocks of a described network. A block is a function here, and its signature is the schema of its YAML.

A block gets the `Walk`, which knows the shape that reaches it, and adds its layers. To add a kind of block, write its
function, name it in BLOCKS, and add its layer to network.LAYERS if that is a new one. None takes the network's setting.
"""

from collections.abc import Callable
from typing import Any, Literal

from cnnexp.config.signature import Count, Index, Rate
from cnnexp.errors import UserError
from cnnexp.models.choices import activation_of
from cnnexp.models.layers import Walk

Norm = Literal["none", "batch"]
FcNorm = Literal["none", "batch", "layer"]


def conv(
    walk: Walk,
    out: Count,
    kernel: Count,
    stride: Count = 1,
    padding: Literal["same"] | Index = "same",
    dilation: Count = 1,
    groups: Count = 1,
    bias: bool = True,
    norm: Norm | None = None,
    activation: str | dict[str, Any] | None = None,
    dropout: Rate = 0.0,
) -> None:
    """Convolve, normalise, activate, drop out. With padding `same` the output is ceil(input / stride) wide."""
    channels, height, width = walk.need_image()
    window = dilation * (kernel - 1) + 1
    if padding == "same" and window % 2 == 0:
        raise UserError(f"{walk.where}.kernel: {kernel} is even, and padding same needs an odd one; give padding: N")
    pad = window // 2 if padding == "same" else int(padding)
    _fits(walk, kernel, window, pad)
    for key, value in (("out", out), ("the channels that reach it", channels)):
        if value % groups:
            raise UserError(f"{walk.where}.groups: {groups} must divide {key} ({value})")
    size = ((height + 2 * pad - window) // stride + 1, (width + 2 * pad - window) // stride + 1)
    number = walk.number("weights")
    walk.add(
        f"conv{walk.number('conv')}",
        "conv",
        (out, *size),
        channels=channels,
        out=out,
        kernel=kernel,
        stride=stride,
        padding=pad,
        dilation=dilation,
        groups=groups,
        bias=bias,
    )
    _finish(walk, number, norm or _image_norm(walk), activation, dropout)


def pool(walk: Walk, kernel: Count, stride: Count | None = None, kind: Literal["max", "avg"] = "max",
         dropout: Rate | None = None) -> None:  # fmt: skip
    """Pool without padding, then drop out. stride: None is the kernel, so that windows do not overlap."""
    channels, height, width = walk.need_image()
    stride = kernel if stride is None else stride
    _fits(walk, kernel, kernel, 0)
    shape = (channels, (height - kernel) // stride + 1, (width - kernel) // stride + 1)
    walk.add(f"pool{walk.number('pool')}", f"{kind}_pool", shape, kernel=kernel, stride=stride)
    _drop(walk, walk.defaults.pool_dropout if dropout is None else dropout)


def global_pool(walk: Walk) -> None:
    """Average each channel over the complete image: (C, H, W) -> (C, 1, 1)."""
    channels, _, _ = walk.need_image()
    walk.add("global_pool", "global_pool", (channels, 1, 1))


def fc(
    walk: Walk,
    out: Count,
    bias: bool = True,
    norm: FcNorm | None = None,
    activation: str | dict[str, Any] | None = None,
    dropout: Rate | None = None,
) -> None:
    """Connect fully, normalise, activate, drop out.

    The network's norm and dropout.fc apply to the first fc block, or with `fc_layers: all` to every one.
    """
    features = walk.flatten()
    number, place = walk.number("weights"), walk.number("fc")
    walk.add(f"fc{place}", "fc", (out,), features=features, out=out, bias=bias)
    if place > 1 and walk.defaults.fc_layers == "first":
        norm, dropout = norm or "none", dropout or 0.0
    dropout = walk.defaults.fc_dropout if dropout is None else dropout
    _finish(walk, number, norm or walk.defaults.fc_norm, activation, dropout)


def dropout(walk: Walk, p: Rate) -> None:
    """Drop each number with probability p."""
    _drop(walk, p)


BLOCKS: dict[str, Callable[..., None]] = {b.__name__: b for b in (conv, pool, fc, dropout, global_pool)}


def head(walk: Walk, classes: int, norm: Norm) -> None:
    """Connect fully to one logit per class. With norm `batch`, normalise the logits too."""
    walk.add("head", "fc", (classes,), features=walk.flatten(), out=classes, bias=True)
    _norm(walk, "head_norm", norm)


def _fits(walk: Walk, kernel: int, window: int, pad: int) -> None:
    """Raise UserError for a window larger than its padded input or than the network's image, however it is padded."""
    _, height, width = walk.need_image()
    spans = f"{kernel}" if window == kernel else f"{kernel} spans {window} pixels when dilated, and"
    if window > min(height, width) + 2 * pad:
        raise UserError(
            f"{walk.where}.kernel: {spans} is larger than the image that reaches it "
            f"({height}x{width} with padding {pad})"
        )
    if window > min(walk.image[1:]):
        _, height, width = walk.image
        raise UserError(f"{walk.where}.kernel: {spans} is larger than the image ({height}x{width})")


def _image_norm(walk: Walk) -> str:
    """Return the network's norm, for a convolution that sets none. Raises UserError if that is layer norm."""
    if walk.defaults.conv_norm == "layer":
        raise UserError(
            f"{walk.where}.norm: the network's norm is layer, which is for fc blocks; "
            "give this block its own, none or batch"
        )
    return walk.defaults.conv_norm


def _finish(walk: Walk, number: int, norm: str, activation: Any, dropout: float) -> None:
    _norm(walk, f"norm{number}", norm)
    name, settings = activation_of(walk.where, walk.defaults.activation if activation is None else activation)
    if name != "none":
        walk.add(f"act{number}", "activation", walk.shape, activation=name, options=settings)
    _drop(walk, dropout)


def _norm(walk: Walk, name: str, norm: str) -> None:
    if norm != "none":
        width = walk.shape[0]
        kind = "layer_norm" if norm == "layer" else "batch_norm" if len(walk.shape) == 3 else "batch_norm_features"
        walk.add(name, kind, walk.shape, width=width)


def _drop(walk: Walk, p: float) -> None:
    if p > 0:
        walk.add(f"drop{walk.number('drop')}", "dropout", walk.shape, p=p)
