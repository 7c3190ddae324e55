"""Augmentation of whole batches, on their device, every image drawing its own parameters.

`pipeline` is what configs/augmentation/*.yaml name: a list of operations, applied in order. An operation is an
annotated function here (its signature is the schema of its YAML) that returns a callable

    (x: (N, C, H, W) float32 in [0, 1], generator on the CPU) -> x of the same shape

Parameters are drawn from the generator, so on the CPU, and mean the same on every device. Operations may change x in
place. Any callable of that kind serves as a person's own `_target_`.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cnnexp import signature
from cnnexp.errors import UserError, unknown
from cnnexp.signature import Count, NonNegative, Probability, Range

if TYPE_CHECKING:
    from torch import Generator, Tensor

    Operation = Callable[[Tensor, Generator], Tensor]
else:
    Operation = Callable  # the annotations of the operations are read without torch

Degrees = Annotated[float, Range(low=0, high=180)]


def flip(p: Probability) -> Operation:
    """Mirror each image left to right with probability p."""

    def apply(x: "Tensor", generator: "Generator") -> "Tensor":
        return apply_flip(x, draw_flips(len(x), p, generator))

    return apply


def rotate(degrees: Degrees) -> Operation:
    """Turn each image by an angle drawn uniformly from [-degrees, degrees]; what comes from outside is 0 (black)."""

    def apply(x: "Tensor", generator: "Generator") -> "Tensor":
        import torch

        return apply_rotation(x, (2 * torch.rand(len(x), generator=generator) - 1) * degrees)

    return apply


def crop(padding: Count) -> Operation:
    """Shift each image by up to `padding` pixels either way in both directions; what comes from outside is 0 (black).

    The same as padding by that much and cropping at random to the old size.
    """

    def apply(x: "Tensor", generator: "Generator") -> "Tensor":
        import torch

        return apply_crop(x, torch.randint(0, 2 * padding + 1, (2, len(x)), generator=generator), padding)

    return apply


def jitter(
    brightness: NonNegative, contrast: NonNegative, saturation: NonNegative, order: Literal["random", "fixed"]
) -> Operation:
    """Change brightness, contrast and saturation by factors drawn uniformly from [max(0, 1 - v), 1 + v].

    order: "random" takes the three in an order drawn for each image, as torchvision's ColorJitter does; "fixed" takes
    them as they are named. Images of one channel have no saturation to change.
    """

    def apply(x: "Tensor", generator: "Generator") -> "Tensor":
        import torch

        spread = torch.tensor([brightness, contrast, saturation])
        low = (1 - spread).clamp_(min=0)
        factors = low + (1 + spread - low) * torch.rand(len(x), 3, generator=generator)
        orders = torch.rand(len(x), 3, generator=generator).argsort(dim=1)
        if order == "fixed":
            orders = torch.arange(3).expand(len(x), 3)
        return apply_jitter(x, factors, orders)

    return apply


OPERATIONS: dict[str, Callable[..., Operation]] = {"flip": flip, "rotate": rotate, "crop": crop, "jitter": jitter}


def pipeline(ops: list[Any]) -> Operation:
    """Build an augmentation from named operations: `ops: [flip: {p: 0.5}, rotate: {degrees: 10}]`."""
    steps = [OPERATIONS[name](**(settings or {})) for op in ops for name, settings in op.items()]

    def apply(x: "Tensor", generator: "Generator") -> "Tensor":
        for step in steps:
            x = step(x, generator)
        return x

    return apply


def flips_only(node: Mapping[str, Any]) -> list[float] | None:
    """Return the probability of every mirroring if an augmentation's config does nothing else, or None."""
    if node["_target_"] != f"{__name__}.pipeline" or any(list(op) != ["flip"] for op in node["ops"]):
        return None
    return [op["flip"]["p"] for op in node["ops"]]


def draw_flips(count: int, p: float, generator: "Generator") -> "Tensor":
    """Draw which of `count` images are mirrored: (count,) bool, on the CPU."""
    import torch

    return torch.rand(count, generator=generator) < p


def check(where: str, node: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Check the operations' names and settings. Raises UserError: "augmentation.ops[1]: unknown operation 'rotat'"."""
    for number, op in enumerate(node.get("ops") or []):
        place = f"{where}.ops[{number}]"
        if not isinstance(op, Mapping) or len(op) != 1:
            raise UserError(f"{place}: given {op!r}; allowed: one operation and its settings, as in flip: {{p: 0.5}}")
        ((name, settings),) = op.items()
        if name not in OPERATIONS:
            raise unknown(place, "operation", name, OPERATIONS)
        if not isinstance(settings, Mapping | None):
            raise UserError(f"{place}.{name}: given {settings!r}; allowed: a mapping of its settings")
        signature.check(f"{place}.{name}", settings or {}, OPERATIONS[name])


pipeline.check = check  # type: ignore[attr-defined]


def apply_flip(x: "Tensor", mirrored: "Tensor") -> "Tensor":
    """Mirror the images of x (N, C, H, W) where `mirrored` (N,) bool, on the CPU, says so; in place."""
    chosen = _send(mirrored.nonzero().flatten(), x)
    return x.index_copy_(0, chosen, x.index_select(0, chosen).flip(-1))


def apply_rotation(x: "Tensor", degrees: "Tensor") -> "Tensor":
    """Turn the images of x (N, C, H, W) counter-clockwise by degrees (N,), bilinearly, in one resampling."""
    import torch

    height, width = x.shape[-2:]
    angle = degrees.to(torch.float64).deg2rad()
    sine, cosine = (_send(t.to(torch.float32), x).view(-1, 1, 1) for t in (angle.sin(), angle.cos()))
    across = torch.arange(width, dtype=x.dtype, device=x.device) - (width - 1) / 2
    down = torch.arange(height, dtype=x.dtype, device=x.device).view(-1, 1) - (height - 1) / 2
    grid = torch.empty(len(x), height, width, 2, device=x.device)
    torch.add(cosine * (2 / width) * across, -sine * (2 / width) * down, out=grid[..., 0])
    torch.add(sine * (2 / height) * across, cosine * (2 / height) * down, out=grid[..., 1])
    return torch.nn.functional.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def apply_crop(x: "Tensor", offsets: "Tensor", padding: int) -> "Tensor":
    """Cut from x (N, C, H, W), padded by `padding` zeros, windows of the old size at offsets (2, N): top and left."""
    import torch

    padded = torch.nn.functional.pad(x, (padding,) * 4)
    windows = padded.unfold(2, x.shape[2], 1).unfold(3, x.shape[3], 1)  # a view: (N, C, top, left, H, W)
    top, left = (_send(t, x) for t in offsets)
    return windows[torch.arange(len(x), device=x.device), :, top, left]


GRAY = (0.2989, 0.587, 0.114)  # ITU-R BT.601, as torchvision rounds it


def apply_jitter(x: "Tensor", factors: "Tensor", orders: "Tensor") -> "Tensor":
    """Blend the images of x (N, C, H, W) with black, their mean gray and their gray: clamp(f x + (1 - f) other, 0, 1).

    factors: (N, 3), of brightness, contrast and saturation. orders: (N, 3), a permutation of 0, 1, 2 for each image:
    which of the three comes first, second and third. Both on the CPU. In place.
    """
    codes = orders[:, 0] * 3 + orders[:, 1]
    for code in sorted(set(codes.tolist())):  # images of one order go together: no blend is computed and thrown away
        members = (codes == code).nonzero().flatten()
        first, second = divmod(code, 3)
        chosen, group_factors = _send(members, x), _send(factors[members], x).view(-1, 3, 1, 1, 1)
        group = x.index_select(0, chosen).contiguous()
        for kind in (first, second, 3 - first - second):
            _blend(group, kind, group_factors[:, kind])
        x.index_copy_(0, chosen, group)
    return x


def _blend(x: "Tensor", kind: int, factor: "Tensor") -> None:
    """Change brightness (0), contrast (1) or saturation (2) of x (N, C, H, W) by factor (N, 1, 1, 1), in place."""
    colour = x.shape[1] == 3
    if kind == 0:
        x.mul_(factor).clamp_(0, 1)
    elif kind == 1:
        mean = x.mean(dim=(2, 3), keepdim=True)
        mean = _gray(mean) if colour else mean
        x.mul_(factor).add_((1 - factor) * mean).clamp_(0, 1)
    elif colour:
        gray = _gray(x).mul_(1 - factor)
        x.mul_(factor).add_(gray).clamp_(0, 1)


def _gray(x: "Tensor") -> "Tensor":
    gray = x[:, :1] * GRAY[0]
    return gray.add_(x[:, 1:2], alpha=GRAY[1]).add_(x[:, 2:3], alpha=GRAY[2])


def _send(parameters: "Tensor", x: "Tensor") -> "Tensor":
    """Move what was drawn on the CPU to where x is, without waiting for it."""
    if x.device.type == "cuda":
        return parameters.pin_memory().to(x.device, non_blocking=True)
    return parameters.to(x.device)
