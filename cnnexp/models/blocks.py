"""The blocks that networks are described with. A block is a function here, and its signature is its schema.

A block gets the `Walk`, which knows what reaches it, and adds its layers. To add a kind of block, write its function,
name it in BLOCKS, and teach network.py its layer if that is a new one. `None` means "as the network says".
"""

from collections.abc import Callable
from typing import Any, Literal

from cnnexp.config.signature import Count, Index, Rate
from cnnexp.errors import UserError
from cnnexp.models.activations import activation_of
from cnnexp.models.plan import Walk

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
    """Convolve, then normalise, activate, drop out. With padding `same` the output is ceil(input / stride) wide."""
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
    weight = (out, channels // groups, kernel, kernel)
    walk.see(window, stride)
    number = walk.number("weights")
    walk.add(
        f"conv{walk.number('conv')}",
        "conv",
        (out, *size),
        weights=(weight, (out,)) if bias else (weight,),
        macs=kernel * kernel * (channels // groups) * out * size[0] * size[1],
        channels=channels,
        out=out,
        kernel=kernel,
        stride=stride,
        padding=pad,
        dilation=dilation,
        groups=groups,
        bias=bias,
    )
    _finish(walk, number, _image_norm(walk) if norm is None else norm, activation, dropout)


def pool(walk: Walk, kernel: Count, stride: Count | None = None, kind: Literal["max", "avg"] = "max",
         dropout: Rate | None = None) -> None:  # fmt: skip
    """Pool without padding, the windows side by side unless `stride` says otherwise; then drop out."""
    channels, height, width = walk.need_image()
    stride = kernel if stride is None else stride
    _fits(walk, kernel, kernel, 0)
    walk.see(kernel, stride)
    shape = (channels, (height - kernel) // stride + 1, (width - kernel) // stride + 1)
    walk.add(f"pool{walk.number('pool')}", f"{kind}_pool", shape, kernel=kernel, stride=stride)
    _drop(walk, walk.defaults.pool_dropout if dropout is None else dropout)


def global_pool(walk: Walk) -> None:
    """Average each channel over the whole image: (C, H, W) -> (C, 1, 1)."""
    channels, _, _ = walk.need_image()
    walk.receptive_field = None
    walk.add("global_pool", "global_pool", (channels, 1, 1))


def fc(
    walk: Walk,
    out: Count,
    bias: bool = True,
    norm: FcNorm | None = None,
    activation: str | dict[str, Any] | None = None,
    dropout: Rate | None = None,
) -> None:
    """Connect fully, then normalise, activate, drop out.

    The network's norm and dropout.fc are the first one's, or with `fc_layers: all` every one's.
    """
    features = walk.flatten()
    number, own = walk.number("weights"), walk.number("fc")
    meant = own == 1 or walk.defaults.fc_layers == "all"
    _linear(walk, f"fc{own}", features, out, bias)
    default_norm, default_dropout = (walk.defaults.norm, walk.defaults.fc_dropout) if meant else ("none", 0.0)
    _finish(
        walk,
        number,
        default_norm if norm is None else norm,
        activation,
        default_dropout if dropout is None else dropout,
    )


def dropout(walk: Walk, p: Rate) -> None:
    """Drop each number with probability p."""
    _drop(walk, p)


BLOCKS: dict[str, Callable[..., None]] = {
    "conv": conv,
    "pool": pool,
    "fc": fc,
    "dropout": dropout,
    "global_pool": global_pool,
}


def head(walk: Walk, classes: int, norm: Norm) -> None:
    """End in one number per class. With norm `batch` these logits are normalised too."""
    features = walk.flatten()
    _linear(walk, "head", features, classes, bias=True)
    _norm(walk, "head_norm", norm)


def _fits(walk: Walk, kernel: int, window: int, pad: int) -> None:
    """Refuse a window larger than what reaches it, or than the network's own image: padding must not hide that."""
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
    """Return the network's norm for a convolution that names none of its own."""
    if walk.defaults.norm == "layer":
        raise UserError(
            f"{walk.where}.norm: the network's norm is layer, which is for fc blocks; "
            "give this block its own, none or batch"
        )
    return walk.defaults.norm


def _linear(walk: Walk, name: str, features: int, out: int, bias: bool) -> None:
    weights = ((out, features), (out,)) if bias else ((out, features),)
    walk.add(name, "fc", (out,), weights=weights, macs=features * out, features=features, out=out, bias=bias)


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
        walk.add(name, kind, walk.shape, weights=((width,), (width,)), width=width)


def _drop(walk: Walk, p: float) -> None:
    if p > 0:
        walk.add(f"drop{walk.number('drop')}", "dropout", walk.shape, p=p)
