"""Transforms of complete batches of images in [0, 1], each image with its own parameters, on the batch's device."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, device

GRAY = (0.2989, 0.587, 0.114)  # ITU-R BT.601, as torchvision rounds it


def send(tensor: "Tensor", device: "device") -> "Tensor":
    """Copy a tensor from the CPU to a device; on CUDA from pinned memory, without waiting for the copy."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def apply_flip(x: "Tensor", mirrored: "Tensor") -> "Tensor":
    """Mirror the images of x (N, C, H, W) where `mirrored` (N,) bool, on the CPU, is true; in place."""
    chosen = send(mirrored.nonzero().flatten(), x.device)
    return x.index_copy_(0, chosen, x.index_select(0, chosen).flip(-1))


def apply_rotation(x: "Tensor", degrees: "Tensor", mirrored: "Tensor | None" = None) -> "Tensor":
    """Rotate the images of x (N, C, H, W) counter-clockwise by degrees (N,), bilinearly; return a new tensor.

    mirrored: (N,) bool; these images are mirrored first, in the same resampling. Both are on the CPU. Pixels from
    outside are 0. A frame of zeros around the image, to which coordinates are clamped, gives the same numbers as
    grid_sample's padding_mode="zeros"; which of the two is faster depends on the CPU.
    """
    import torch

    height, width = x.shape[-2:]
    angle = degrees.to(torch.float64).deg2rad()
    side = 1.0 if mirrored is None else 1.0 - 2.0 * mirrored.to(torch.float64)
    # a pixel of the framed image is 2 / (width + 2) of grid_sample's coordinates, from -1 to 1
    wide, high = 2 / (width + 2), 2 / (height + 2)
    scaled = (side * angle.cos() * wide, -side * angle.sin() * wide, angle.sin() * high, angle.cos() * high)
    across_x, down_x, across_y, down_y = (send(t.to(torch.float32), x.device).view(-1, 1, 1) for t in scaled)
    across = torch.arange(width, dtype=x.dtype, device=x.device) - (width - 1) / 2
    down = torch.arange(height, dtype=x.dtype, device=x.device).view(-1, 1) - (height - 1) / 2
    grid = torch.empty(len(x), height, width, 2, device=x.device)
    torch.add(across_x * across, down_x * down, out=grid[..., 0])
    torch.add(across_y * across, down_y * down, out=grid[..., 1])
    framed = torch.nn.functional.pad(x, (1, 1, 1, 1))
    return torch.nn.functional.grid_sample(framed, grid, mode="bilinear", padding_mode="border", align_corners=False)


def apply_crop(x: "Tensor", offsets: "Tensor", padding: int) -> "Tensor":
    """Pad x (N, C, H, W) by `padding` zeros and crop each image to (H, W) at offsets (2, N): its top and left pixel."""
    import torch

    padded = torch.nn.functional.pad(x, (padding,) * 4)
    windows = padded.unfold(2, x.shape[2], 1).unfold(3, x.shape[3], 1)  # a view: (N, C, top, left, H, W)
    top, left = (send(t, x.device) for t in offsets)
    return windows[torch.arange(len(x), device=x.device), :, top, left]


def apply_jitter(x: "Tensor", factors: "Tensor", orders: "Tensor") -> "Tensor":
    """Blend the images of x (N, C, H, W) with black, their mean gray and their gray: clamp(f x + (1 - f) other, 0, 1).

    factors: (N, 3), of brightness, contrast and saturation, or (N, 4): the fourth rotates the hue by that fraction of
    the circle. orders: (N, 3) or (N, 4), a permutation of 0, 1, 2 (3) for each image: which change comes first, second,
    and so on. Both are on the CPU. Saturation and hue do not change images of one channel.
    """
    kinds = orders.shape[1]
    codes = order_codes(orders)
    places = codes.argsort(stable=True)
    moved = bool((codes[1:] < codes[:-1]).any())
    together = x.index_select(0, send(places, x.device)) if moved else x
    together, factors = together.contiguous(), send(factors[places], x.device).view(-1, kinds, 1, 1, 1)
    start, orders = 0, orders[places]
    for count in codes.bincount().tolist():  # all images of one order at once
        for kind in orders[start].tolist() if count else ():
            _adjust(together[start : start + count], kind, factors[start : start + count, kind])
        start += count
    return together.index_select(0, send(places.argsort(), x.device)) if moved else together


def order_codes(orders: "Tensor") -> "Tensor":
    """Return a number (N,) for each permutation of 0 ... K - 1 in `orders` (N, K): its first K - 1 entries, base K."""
    kinds = orders.shape[1]
    return orders[:, :-1] @ orders.new_tensor([kinds**power for power in reversed(range(kinds - 1))])


def _adjust(x: "Tensor", kind: int, factor: "Tensor") -> None:
    """Change brightness, contrast, saturation or hue (kinds 0-3) of x (N, C, H, W) by factor (N, 1, 1, 1); in place."""
    colour = x.shape[1] == 3
    if kind == 0:
        x.mul_(factor).clamp_(0, 1)
    elif kind == 1:
        mean = x.mean(dim=(2, 3), keepdim=True)
        mean = _gray(mean) if colour else mean
        x.mul_(factor).add_((1 - factor) * mean).clamp_(0, 1)
    elif kind == 2 and colour:
        gray = _gray(x).mul_(1 - factor)
        x.mul_(factor).add_(gray).clamp_(0, 1)
    elif colour:
        _rotate_hue(x, factor[:, 0])


def _rotate_hue(x: "Tensor", turn: "Tensor") -> None:
    """Rotate the hue of x (N, 3, H, W) by turn (N, 1, 1), as a fraction of the circle, in place.

    Value and saturation stay (hexcone model, Smith 1978): with V the largest channel, C = V - smallest and h the hue
    in sixths of the circle, a channel is V - C clamp(min(k, 4 - k), 0, 1), k = (n + h) mod 6, n = 5, 3, 1 for red,
    green, blue.
    """
    import torch

    red, green, blue = x.unbind(1)
    value = x.amax(dim=1)
    chroma = value - x.amin(dim=1)
    scale = torch.where(chroma > 0, chroma, 1.0)
    hue = torch.where(
        value == red,
        (green - blue) / scale,
        torch.where(value == green, (blue - red) / scale + 2, (red - green) / scale + 4),
    ).add_(6 * turn)
    for channel, place in enumerate((5, 3, 1)):
        k = (hue + place).remainder_(6)
        x[:, channel] = value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1)


def apply_grayscale(x: "Tensor", chosen: "Tensor") -> "Tensor":
    """Convert the images of x (N, C, H, W) to grayscale where `chosen` (N,) bool, on the CPU, is true; in place.

    They keep their channels. Images of one channel do not change.
    """
    if x.shape[1] != 3:
        return x
    places = send(chosen.nonzero().flatten(), x.device)
    return x.index_copy_(0, places, _gray(x.index_select(0, places)).expand(-1, 3, -1, -1))


def apply_blur(x: "Tensor", sigma: "Tensor", kernel: int) -> "Tensor":
    """Blur the images of x (N, C, H, W) with Gaussians of standard deviation sigma (N,) > 0 pixels, on the CPU.

    kernel: side of the square of weights, odd; they sum to 1. At the border the image is mirrored, so kernel // 2 must
    be below H and W. Separable: first along columns, then along rows.
    """
    import torch

    half = kernel // 2
    away = torch.arange(-half, half + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (away / sigma.view(-1, 1)) ** 2)
    weights = send(weights / weights.sum(dim=1, keepdim=True), x.device).view(-1, kernel, 1, 1, 1)
    blurred = torch.nn.functional.pad(x, (half,) * 4, mode="reflect")
    for axis in (2, 3):
        framed, size = blurred, x.shape[axis]
        blurred = framed.narrow(axis, 0, size) * weights[:, 0]
        for place in range(1, kernel):
            blurred.addcmul_(framed.narrow(axis, place, size), weights[:, place])
    return blurred


def _gray(x: "Tensor") -> "Tensor":
    gray = x[:, :1] * GRAY[0]
    return gray.add_(x[:, 1:2], alpha=GRAY[1]).add_(x[:, 2:3], alpha=GRAY[2])
