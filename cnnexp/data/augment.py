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
        return apply_rotation(x, draw_angles(len(x), degrees, generator))

    return apply


def flip_and_rotate(p: Probability, degrees: Degrees) -> Operation:
    """Do what `flip` and then `rotate` do, with the same draws, in one resampling."""

    def apply(x: "Tensor", generator: "Generator") -> "Tensor":
        mirrored = draw_flips(len(x), p, generator)
        return apply_rotation(x, draw_angles(len(x), degrees, generator), mirrored)

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
        orders = orders[order_codes(orders).argsort()]  # a batch is in random order, so who gets which stays random
        if order == "fixed":
            orders = torch.arange(3).expand(len(x), 3)
        return apply_jitter(x, factors, orders)

    return apply


OPERATIONS: dict[str, Callable[..., Operation]] = {"flip": flip, "rotate": rotate, "crop": crop, "jitter": jitter}
MERGED: dict[str, Callable[..., Operation]] = {"flip, rotate": flip_and_rotate}


def merged(ops: list[Any]) -> list[Any]:
    """Put neighbours together that one operation of MERGED does at once."""
    found: list[Any] = []
    for op in ops:
        ((name, settings),) = op.items()
        before = next(iter(found[-1])) if found else ""
        if f"{before}, {name}" in MERGED:
            found[-1] = {f"{before}, {name}": {**found[-1][before], **settings}}
        else:
            found.append(op)
    return found


def pipeline(ops: list[Any]) -> Operation:
    """Build an augmentation from named operations: `ops: [flip: {p: 0.5}, rotate: {degrees: 10}]`."""
    known = OPERATIONS | MERGED
    steps = [known[name](**(settings or {})) for op in merged(ops) for name, settings in op.items()]

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


def draw_angles(count: int, degrees: float, generator: "Generator") -> "Tensor":
    """Draw by how much each of `count` images is turned: (count,), in degrees, on the CPU."""
    import torch

    return (2 * torch.rand(count, generator=generator) - 1) * degrees


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


def apply_rotation(x: "Tensor", degrees: "Tensor", mirrored: "Tensor | None" = None) -> "Tensor":
    """Turn the images of x (N, C, H, W) counter-clockwise by degrees (N,), bilinearly, in one resampling.

    mirrored: (N,) bool; these images are mirrored first, in the same resampling. Both are on the CPU.
    What comes from outside is 0. To sample from images with a frame of zeros, and to clamp to that frame, gives the
    same numbers as grid_sample's own zeros in half of the time on a CPU.
    """
    import torch

    height, width = x.shape[-2:]
    angle = degrees.to(torch.float64).deg2rad()
    side = 1.0 if mirrored is None else 1.0 - 2.0 * mirrored.to(torch.float64)
    # a pixel of the framed image is 2 / (width + 2) of grid_sample's coordinates, from -1 to 1
    wide, high = 2 / (width + 2), 2 / (height + 2)
    scaled = (side * angle.cos() * wide, -side * angle.sin() * wide, angle.sin() * high, angle.cos() * high)
    across_x, down_x, across_y, down_y = (_send(t.to(torch.float32), x).view(-1, 1, 1) for t in scaled)
    across = torch.arange(width, dtype=x.dtype, device=x.device) - (width - 1) / 2
    down = torch.arange(height, dtype=x.dtype, device=x.device).view(-1, 1) - (height - 1) / 2
    grid = torch.empty(len(x), height, width, 2, device=x.device)
    torch.add(across_x * across, down_x * down, out=grid[..., 0])
    torch.add(across_y * across, down_y * down, out=grid[..., 1])
    framed = torch.nn.functional.pad(x, (1, 1, 1, 1))
    return torch.nn.functional.grid_sample(
        framed, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


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
    which of the three comes first, second and third. Both on the CPU.
    """
    codes = order_codes(orders)
    places = codes.argsort(stable=True)
    moved = bool((codes[1:] < codes[:-1]).any())
    together = x.index_select(0, _send(places, x)) if moved else x
    together, factors = together.contiguous(), _send(factors[places], x).view(-1, 3, 1, 1, 1)
    start = 0
    for code, count in enumerate(codes.bincount().tolist()):  # images of one order go together: no blend is thrown away
        first, second = divmod(code, 3)
        for kind in (first, second, 3 - first - second) if count else ():
            _blend(together[start : start + count], kind, factors[start : start + count, kind])
        start += count
    return together.index_select(0, _send(places.argsort(), x)) if moved else together


def order_codes(orders: "Tensor") -> "Tensor":
    """Return a number (N,) for each permutation of 0, 1, 2 in `orders` (N, 3)."""
    return orders[:, 0] * 3 + orders[:, 1]


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
