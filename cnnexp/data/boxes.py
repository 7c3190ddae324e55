"""Random boxes in images: erasing them, and cropping to them. The draws are those of torchvision, for complete batches.

A box has an area drawn uniformly from `scale`, as a fraction of the image's, and a ratio of its sides drawn
log-uniformly from `ratio`. As in torchvision, up to ten are drawn for an image until one fits into it.
"""

import math
from typing import TYPE_CHECKING

from cnnexp.data.transforms import send

if TYPE_CHECKING:
    from torch import Generator, Tensor

TRIES = 10
Bounds = tuple[float, float]


def draw_crops(count: int, height: int, width: int, scale: Bounds, ratio: Bounds, generator: "Generator") -> "Tensor":
    """Draw the crop of each of `count` images: (count, 4) int64 top, left, height, width, on the CPU.

    ratio: of width to height, as in torchvision's RandomResizedCrop. An image into which no box fits has its largest
    centred crop of a ratio in `ratio`: the complete image if its own ratio is allowed.
    """
    import torch

    sides, place = _draw(count, height, width, scale, ratio, generator)
    fits = ((sides >= 1) & (sides <= torch.tensor([height, width]))).all(-1)
    found, box = _first(sides, fits, place, height, width)
    middle_height = min(height, max(round(width / ratio[0]), 1))
    middle_width = min(width, max(round(height * ratio[1]), 1))
    top_left = [(height - middle_height) // 2, (width - middle_width) // 2]
    return torch.where(found[:, None], box, torch.tensor([*top_left, middle_height, middle_width]))


def draw_erased(
    count: int, height: int, width: int, scale: Bounds, ratio: Bounds, generator: "Generator"
) -> "tuple[Tensor, Tensor]":
    """Draw the box to erase of each of `count` images: (count, 4) int64 top, left, height, width, on the CPU.

    ratio: of height to width, as in torchvision's RandomErasing and Zhong et al.; a box fits if both sides are shorter
    than the image's. Also returns which images have one that fits: (count,) bool.
    """
    import torch

    sides, place = _draw(count, height, width, scale, (1 / ratio[1], 1 / ratio[0]), generator)
    found, box = _first(sides, (sides < torch.tensor([height, width])).all(-1), place, height, width)
    return box, found


def _draw(
    count: int, height: int, width: int, scale: Bounds, ratio: Bounds, generator: "Generator"
) -> "tuple[Tensor, Tensor]":
    """Draw heights and widths (count, TRIES, 2) int64 and places (2, count) in [0, 1). ratio: of width to height."""
    import torch

    area, shape = torch.rand(2, count, TRIES, generator=generator)
    place = torch.rand(2, count, generator=generator)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * area)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = (low + (high - low) * shape).exp()
    return torch.stack([(area / shape).sqrt(), (area * shape).sqrt()], dim=-1).round().long(), place


def _first(sides: "Tensor", fits: "Tensor", place: "Tensor", height: int, width: int) -> "tuple[Tensor, Tensor]":
    """Return which images have a box that fits (N,), and the first such box (N, 4), put at `place`."""
    import torch

    chosen = sides[torch.arange(len(sides)), fits.int().argmax(1)]
    start = (place.T * (torch.tensor([height, width]) - chosen + 1)).long()
    return fits.any(1), torch.cat([start, chosen], dim=1)


def erase(x: "Tensor", boxes: "Tensor", chosen: "Tensor") -> "Tensor":
    """Set a box of the images of x (N, C, H, W) to 0 (black) where `chosen` (N,) bool is true; in place.

    boxes: (N, 4) as `draw_erased` gives them. Both are on the CPU.
    """
    import torch

    top, left, height, width = (send(t, x.device).view(-1, 1, 1) for t in (boxes * chosen[:, None]).T.contiguous())
    down = torch.arange(x.shape[2], device=x.device).view(1, -1, 1)
    across = torch.arange(x.shape[3], device=x.device).view(1, 1, -1)
    inside = (down >= top) & (down < top + height) & (across >= left) & (across < left + width)
    return x.masked_fill_(inside[:, None], 0)


def crop_and_resize(x: "Tensor", boxes: "Tensor") -> "Tensor":
    """Crop each image of x (N, C, H, W) to its box and resize it to H x W, bilinearly; return a new tensor.

    boxes: (N, 4) on the CPU. Equal to torchvision's resized_crop, which takes no pixel from outside the box either.
    """
    import torch

    count, _, height, width = x.shape
    top, left, high, wide = (send(t, x.device).view(-1, 1) for t in boxes.to(x.dtype).T.contiguous())
    rows = _positions(height, top, high)
    columns = _positions(width, left, wide)
    # the centre of pixel i is at (2 i + 1) / size - 1 in grid_sample's coordinates
    grid = torch.empty(count, height, width, 2, device=x.device, dtype=x.dtype)
    grid[..., 0] = ((2 * columns + 1) / width - 1)[:, None, :]
    grid[..., 1] = ((2 * rows + 1) / height - 1)[:, :, None]
    return torch.nn.functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _positions(size: int, start: "Tensor", length: "Tensor") -> "Tensor":
    """Return where `size` pixels lie in an image when a part of it (N, 1) is resized to them: (N, size)."""
    import torch

    steps = torch.arange(size, device=start.device, dtype=start.dtype)
    inside = ((steps + 0.5) * length / size - 0.5).clamp(min=0)
    return start + torch.minimum(inside, length - 1)
