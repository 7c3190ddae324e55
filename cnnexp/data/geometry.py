"""Flips, rotations and crops of whole batches, each image with its own parameters, on the batch's device."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, device


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


def send(tensor: "Tensor", device: "device") -> "Tensor":
    """Copy a tensor from the CPU to a device; on CUDA from pinned memory, without waiting for the copy."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
