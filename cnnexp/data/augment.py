"""Augmentation of whole batches, on their device, every image drawing its own parameters.

`pipeline` is what configs/augmentation/*.yaml name: a list of operations, applied in order. An operation is an
annotated function here (its signature is the schema of its YAML) that returns a callable

    (x: (N, C, H, W) float32 in [0, 1], generator on the CPU) -> x of the same shape

Parameters are drawn from the generator, so on the CPU, and mean the same on every device. Operations may change x in
place. Any callable of that kind serves as a person's own `_target_`.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cnnexp.config import signature
from cnnexp.config.signature import Count, NonNegative, Positive, Probability, Range
from cnnexp.data.colour import apply_blur, apply_grayscale, apply_jitter, order_codes
from cnnexp.data.geometry import apply_crop, apply_flip, apply_rotation
from cnnexp.errors import UserError, unknown

if TYPE_CHECKING:
    from torch import Generator, Tensor

    Operation = Callable[[Tensor, Generator], Tensor]
else:
    Operation = Callable  # the annotations of the operations are read without torch

Degrees = Annotated[float, Range(low=0, high=180)]
Hue = Annotated[float, Range(low=0, high=0.5)]


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
    brightness: NonNegative,
    contrast: NonNegative,
    saturation: NonNegative,
    order: Literal["random", "fixed"],
    hue: Hue = 0.0,
) -> Operation:
    """Change brightness, contrast and saturation by factors drawn uniformly from [max(0, 1 - v), 1 + v].

    hue: the colours are turned by a part of their circle drawn uniformly from [-hue, hue]; 0.5 is half of it. order:
    "random" takes these, without hue the three, in an order drawn for each image, as torchvision's ColorJitter does;
    "fixed" takes them as they are named, hue last. Images of one channel have neither saturation nor hue to change.
    """
    kinds = 4 if hue else 3

    def apply(x: "Tensor", generator: "Generator") -> "Tensor":
        import torch

        spread = torch.tensor([brightness, contrast, saturation, hue][:kinds])
        middle = torch.tensor([1.0, 1.0, 1.0, 0.0][:kinds])
        low = middle - spread
        low[:3].clamp_(min=0)
        factors = low + (middle + spread - low) * torch.rand(len(x), kinds, generator=generator)
        orders = torch.rand(len(x), kinds, generator=generator).argsort(dim=1)
        orders = orders[order_codes(orders).argsort()]  # a batch is in random order, so who gets which stays random
        if order == "fixed":
            orders = torch.arange(kinds).expand(len(x), kinds)
        return apply_jitter(x, factors, orders)

    return apply


def grayscale(p: Probability) -> Operation:
    """Take the colour out of each image with probability p; it keeps its three channels."""

    def apply(x: "Tensor", generator: "Generator") -> "Tensor":
        import torch

        return apply_grayscale(x, torch.rand(len(x), generator=generator) < p)

    return apply


def blur(kernel: Count, sigma: tuple[Positive, Positive]) -> Operation:
    """Blur each image with a Gaussian whose standard deviation, in pixels, is drawn uniformly from [low, high] = sigma.

    kernel: side of the square that is averaged, odd.
    """
    low, high = sigma

    def apply(x: "Tensor", generator: "Generator") -> "Tensor":
        import torch

        return apply_blur(x, low + (high - low) * torch.rand(len(x), generator=generator), kernel)

    return apply


def _check_blur(where: str, settings: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Check what the signature of `blur` cannot say. Raises UserError."""
    kernel, (low, high) = settings["kernel"], settings["sigma"]
    size = config.get("data", {}).get("size")
    if kernel % 2 == 0:
        raise UserError(
            f"{where}.kernel: given {kernel}; allowed: an odd number, so that there is a pixel in the middle"
        )
    if low > high:
        raise UserError(f"{where}.sigma: given [{low}, {high}]; allowed: [low, high], the lower one first")
    if isinstance(size, int) and kernel // 2 >= size:
        raise UserError(
            f"{where}.kernel: given {kernel}; allowed: below {2 * size}, for the image is {size} pixels wide"
        )


blur.check = _check_blur  # type: ignore[attr-defined]

OPERATIONS: dict[str, Callable[..., Operation]] = {
    "flip": flip,
    "rotate": rotate,
    "crop": crop,
    "jitter": jitter,
    "grayscale": grayscale,
    "blur": blur,
}
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
        signature.check(f"{place}.{name}", settings or {}, OPERATIONS[name], inner=True)
        further = getattr(OPERATIONS[name], "check", None)
        if callable(further):
            further(f"{place}.{name}", settings, config)


pipeline.check = check  # type: ignore[attr-defined]
