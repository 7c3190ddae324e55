"""Augmentation of complete batches on their device; each image draws its own parameters.

configs/augmentation/*.yaml name `pipeline`: a list of operations, applied in order. An operation is an annotated
function here, whose signature is the schema of its YAML. It returns a callable

    (x: (N, C, H, W) float32 in [0, 1], generator on the CPU) -> x of the same shape

Parameters are drawn on the CPU and have the same effect on every device. An operation may change x in place. A user's
`_target_` can name any callable of this kind.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cnnexp.config import signature
from cnnexp.config.signature import Count, NonNegative, Positive, Probability, Range
from cnnexp.config.sizes import height_width
from cnnexp.data import boxes, transforms
from cnnexp.errors import UserError

if TYPE_CHECKING:
    from torch import Generator, Tensor

    Operation = Callable[[Tensor, Generator], Tensor]
else:
    Operation = Callable  # the annotations of the operations are read without torch

Degrees = Annotated[float, Range(low=0, high=180)]
Hue = Annotated[float, Range(low=0, high=0.5)]
Share = Annotated[float, Range(above=0, high=1)]


def flip(p: Probability) -> Operation:
    """Mirror each image left to right with probability p."""
    return lambda x, generator: transforms.apply_flip(x, draw_mask(len(x), p, generator))


def rotate(degrees: Degrees) -> Operation:
    """Rotate each image by an angle drawn uniformly from [-degrees, degrees]; pixels from outside are 0 (black)."""
    return lambda x, generator: transforms.apply_rotation(x, draw_angles(len(x), degrees, generator))


def flip_and_rotate(p: Probability, degrees: Degrees) -> Operation:
    """Apply `flip`, then `rotate`, with the same draws, in one resampling."""

    def apply(x: "Tensor", generator: "Generator") -> "Tensor":
        mirrored = draw_mask(len(x), p, generator)
        return transforms.apply_rotation(x, draw_angles(len(x), degrees, generator), mirrored)

    return apply


def crop(padding: Count) -> Operation:
    """Pad each image by `padding` zeros (black) on every side and crop it to its size at a random place."""
    return lambda x, generator: transforms.apply_crop(x, draw_offsets(len(x), padding, generator), padding)


def jitter(
    brightness: NonNegative,
    contrast: NonNegative,
    saturation: NonNegative,
    order: Literal["random", "fixed"],
    hue: Hue = 0.0,
) -> Operation:
    """Multiply brightness, contrast and saturation by factors drawn uniformly from [max(0, 1 - v), 1 + v].

    hue: rotate the hue by a fraction of its circle drawn uniformly from [-hue, hue]; 0.5 is half of the circle. order:
    "random" applies these (without hue, the three) in an order drawn for each image, as torchvision's ColorJitter does;
    "fixed" applies them as listed, hue last. Saturation and hue do not change images of one channel.
    """
    strengths = [brightness, contrast, saturation, hue][: 4 if hue else 3]

    def apply(x: "Tensor", generator: "Generator") -> "Tensor":
        factors, orders = draw_jitter(len(x), strengths, generator)
        return transforms.apply_jitter(x, factors, orders if order == "random" else orders.sort(dim=1).values)

    return apply


def grayscale(p: Probability) -> Operation:
    """Convert each image to grayscale with probability p; it keeps its three channels."""
    return lambda x, generator: transforms.apply_grayscale(x, draw_mask(len(x), p, generator))


def blur(kernel: Count, sigma: tuple[Positive, Positive]) -> Operation:
    """Blur each image with a Gaussian whose standard deviation, in pixels, is drawn uniformly from [low, high] = sigma.

    kernel: side of the square of the Gaussian's weights, odd.
    """
    low, high = sigma
    return lambda x, generator: transforms.apply_blur(x, low + (high - low) * _uniform(generator, len(x)), kernel)


def erase(p: Probability, scale: tuple[Share, Share], ratio: tuple[Positive, Positive]) -> Operation:
    """Set a box of each image to 0 (black) with probability p (Zhong et al. 2020, arXiv 1708.04896).

    scale: [low, high] of the box's share of the image. ratio: [low, high] of its height to its width. An image into
    which no box fits stays as it is. The draws are those of torchvision's RandomErasing.
    """

    def apply(x: "Tensor", generator: "Generator") -> "Tensor":
        chosen = draw_mask(len(x), p, generator)
        found, fits = boxes.draw_erased(len(x), x.shape[2], x.shape[3], scale, ratio, generator)
        return boxes.erase(x, found, chosen & fits)

    return apply


def resized_crop(scale: tuple[Share, Share], ratio: tuple[Positive, Positive]) -> Operation:
    """Crop each image to a random box and resize it to its size (Szegedy et al. 2015, arXiv 1409.4842).

    scale: [low, high] of the box's share of the image. ratio: [low, high] of its width to its height. An image into
    which no box fits has its largest centred crop of such a ratio. The draws are those of torchvision's
    RandomResizedCrop.
    """

    def apply(x: "Tensor", generator: "Generator") -> "Tensor":
        found = boxes.draw_crops(len(x), x.shape[2], x.shape[3], scale, ratio, generator)
        return boxes.crop_and_resize(x, found)

    return apply


def randaugment(num_ops: Count, magnitude: Annotated[int, Range(low=0, high=30)]) -> Operation:
    """Apply torchvision's RandAugment (Cubuk et al. 2020, arXiv 1909.13719), an image at a time."""
    from torchvision.transforms import v2

    return _of_torchvision(v2.RandAugment(num_ops, magnitude))


def trivialaugment() -> Operation:
    """Apply torchvision's TrivialAugmentWide (Mueller & Hutter 2021, arXiv 2103.10158), an image at a time."""
    from torchvision.transforms import v2

    return _of_torchvision(v2.TrivialAugmentWide())


def _of_torchvision(transform: Any) -> Operation:
    from cnnexp.data.user_augmentation import UserAugmentation

    return UserAugmentation(transform)


def _check_boxes(where: str, settings: Mapping[str, Any]) -> None:
    for key in ("scale", "ratio"):
        low, high = settings[key]
        if low > high:
            raise UserError(f"{where}.{key}: given [{low}, {high}]; allowed: [low, high], the lower one first")


def _check_blur(where: str, settings: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Check what the signature of `blur` cannot say. Raises UserError."""
    kernel, (low, high) = settings["kernel"], settings["sigma"]
    sides = height_width(config.get("data", {}).get("size"))
    if kernel % 2 == 0:
        raise UserError(
            f"{where}.kernel: given {kernel}; allowed: an odd number, so that there is a pixel in the middle"
        )
    if low > high:
        raise UserError(f"{where}.sigma: given [{low}, {high}]; allowed: [low, high], the lower one first")
    if sides and kernel // 2 >= min(sides):
        side = min(sides)
        raise UserError(f"{where}.kernel: given {kernel}; allowed: below {2 * side}, images are {side} pixels wide")


OPERATIONS: dict[str, Callable[..., Operation]] = {
    o.__name__: o
    for o in (flip, rotate, crop, resized_crop, jitter, grayscale, blur, erase, randaugment, trivialaugment)
}


def merged(ops: list[Any]) -> list[tuple[Callable[..., Operation], Mapping[str, Any]]]:
    """Return each operation with its settings; a flip directly before a rotation is merged with it."""
    found: list[tuple[Callable[..., Operation], Mapping[str, Any]]] = []
    for op in ops:
        ((name, settings),) = op.items()
        if name == "rotate" and found and found[-1][0] is flip:
            found[-1] = (flip_and_rotate, {**found[-1][1], **settings})
        else:
            found.append((OPERATIONS[name], settings))
    return found


def pipeline(ops: list[Any]) -> Operation:
    """Build an augmentation from named operations: `ops: [flip: {p: 0.5}, rotate: {degrees: 10}]`."""
    steps = [operation(**settings) for operation, settings in merged(ops)]

    def apply(x: "Tensor", generator: "Generator") -> "Tensor":
        for step in steps:
            x = step(x, generator)
        return x

    return apply


def flips_only(node: Mapping[str, Any]) -> list[float] | None:
    """Return the probability of each flip of an augmentation's config, or None if it has any other operation."""
    if node["_target_"] != f"{__name__}.pipeline" or any(list(op) != ["flip"] for op in node["ops"]):
        return None
    return [op["flip"]["p"] for op in node["ops"]]


def _uniform(generator: "Generator", *shape: int) -> "Tensor":
    """Draw numbers uniformly from [0, 1), on the CPU."""
    import torch

    return torch.rand(*shape, generator=generator)


def draw_mask(count: int, p: float, generator: "Generator") -> "Tensor":
    """Draw which of `count` images are changed, each with probability p: (count,) bool."""
    return _uniform(generator, count) < p


def draw_angles(count: int, degrees: float, generator: "Generator") -> "Tensor":
    """Draw the rotation of each of `count` images in degrees: (count,)."""
    return (2 * _uniform(generator, count) - 1) * degrees


def draw_offsets(count: int, padding: int, generator: "Generator") -> "Tensor":
    """Draw the top and left pixel of a crop of each of `count` padded images: (2, count) int64."""
    import torch

    return torch.randint(0, 2 * padding + 1, (2, count), generator=generator)


def draw_jitter(count: int, strengths: Sequence[float], generator: "Generator") -> "tuple[Tensor, Tensor]":
    """Draw the factors of the 3 or 4 changes of `jitter` and their order: (count, 3) or (count, 4) each."""
    import torch

    spread, middle = torch.tensor(strengths), torch.tensor([1.0, 1.0, 1.0, 0.0][: len(strengths)])
    low = middle - spread
    low[:3].clamp_(min=0)
    factors = low + (middle + spread - low) * _uniform(generator, count, len(strengths))
    orders = _uniform(generator, count, len(strengths)).argsort(dim=1)
    equal_together = transforms.order_codes(orders).argsort()  # the images of a batch are shuffled already
    return factors, orders[equal_together]


def check(where: str, node: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Check the operations' names and settings. Raises UserError: "augmentation.ops[1]: unknown operation 'rotat'"."""
    for number, op in enumerate(node.get("ops") or []):
        place = f"{where}.ops[{number}]"
        name, settings = signature.named_choice(place, "operation", op, OPERATIONS, "flip: {p: 0.5}")
        signature.check(f"{place}.{name}", settings, OPERATIONS[name], inner=True)
        if name == "blur":
            _check_blur(f"{place}.{name}", settings, config)
        if name in ("erase", "resized_crop"):
            _check_boxes(f"{place}.{name}", settings)


pipeline.check = check  # type: ignore[attr-defined]
