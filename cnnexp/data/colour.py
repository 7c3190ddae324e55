"""Whole batches of images in [0, 1] recoloured or blurred, each image by its own parameters, on their device."""

from typing import TYPE_CHECKING

from cnnexp.data.geometry import send

if TYPE_CHECKING:
    from torch import Tensor


GRAY = (0.2989, 0.587, 0.114)  # ITU-R BT.601, as torchvision rounds it


def apply_jitter(x: "Tensor", factors: "Tensor", orders: "Tensor") -> "Tensor":
    """Blend the images of x (N, C, H, W) with black, their mean gray and their gray: clamp(f x + (1 - f) other, 0, 1).

    factors: (N, 3), of brightness, contrast and saturation, or (N, 4): the fourth turns the hue by so much of the
    circle. orders: as many, a permutation of 0, 1, 2 (3) for each image: which comes first, second, and so on. Both on
    the CPU. Images of one channel have neither saturation nor hue.
    """
    kinds = orders.shape[1]
    codes = order_codes(orders)
    places = codes.argsort(stable=True)
    moved = bool((codes[1:] < codes[:-1]).any())
    together = x.index_select(0, send(places, x.device)) if moved else x
    together, factors = together.contiguous(), send(factors[places], x.device).view(-1, kinds, 1, 1, 1)
    start = 0
    for code, count in enumerate(codes.bincount().tolist()):  # images of one order go together: no blend is thrown away
        for kind in order_of(code, kinds) if count else ():
            _adjust(together[start : start + count], kind, factors[start : start + count, kind])
        start += count
    return together.index_select(0, send(places.argsort(), x.device)) if moved else together


def order_codes(orders: "Tensor") -> "Tensor":
    """Return a number (N,) for each permutation of 0 ... K - 1 in `orders` (N, K): K-ary digits, all but the last."""
    kinds = orders.shape[1]
    codes = orders[:, 0]
    for place in range(1, kinds - 1):
        codes = codes * kinds + orders[:, place]
    return codes


def order_of(code: int, kinds: int) -> tuple[int, ...]:
    """Return the permutation of 0 ... kinds - 1 whose number is `code`."""
    digits = tuple(code // kinds**power % kinds for power in reversed(range(kinds - 1)))
    return (*digits, kinds * (kinds - 1) // 2 - sum(digits))


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
        _turn_hue(x, factor[:, 0])


def _turn_hue(x: "Tensor", turn: "Tensor") -> None:
    """Turn the hue of x (N, 3, H, W) by turn (N, 1, 1), 1 being the whole circle, in place.

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
    """Give the images of x (N, C, H, W) their gray in all channels where `chosen` (N,) bool, on the CPU, says so.

    In place. Images of one channel are left as they are.
    """
    if x.shape[1] != 3:
        return x
    places = send(chosen.nonzero().flatten(), x.device)
    return x.index_copy_(0, places, _gray(x.index_select(0, places)).expand(-1, 3, -1, -1))


def apply_blur(x: "Tensor", sigma: "Tensor", kernel: int) -> "Tensor":
    """Blur the images of x (N, C, H, W) with Gaussians of standard deviation sigma (N,) pixels, on the CPU, above 0.

    kernel: side of the square of pixels that are averaged, odd; its weights add up to 1. At the border the image is
    mirrored, so kernel // 2 is below H and W. Separable: first along columns, then along rows.
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
