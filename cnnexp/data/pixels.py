"""Make an image 8 bits a channel, as it is seen, and of one size."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cnnexp.config.sizes import height_width

Seen = Callable[[int], None]
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # a tag of TIFF files


def flatten(image: Image.Image, mode: str, bits: int | None = None, seen: Seen | None = None) -> Image.Image:
    """Convert an image to mode "L" or "RGB", 8 bits a channel, as it is seen.

    The EXIF orientation is applied, transparency is blended with white, CMYK and palettes become RGB, and of an
    animation the first frame is used. Of more than 8 bits the upper 8 are kept: of `bits`, else of 16. seen: gets the
    largest value of such an image. Raises ValueError for pixels without a known range.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, of unknown range")
    deep, steps = _deep_values(image, bits), _steps(image)
    turned = ImageOps.exif_transpose(image)
    if steps != 1 and isinstance(turned.info.get("transparency"), int):
        turned.info["transparency"] *= steps
    if deep is not None:
        deep, alpha = _split_alpha(deep, image.info.get("transparency"), bits or 16)
        low, high = int(deep.min()), int(deep.max())
        if low < 0 or high >= 1 << (bits or 16):
            allowed = f"data.bits={bits} allows {(1 << bits) - 1}" if bits else "its pixels are not 8 or 16 bits"
            fix = "add what makes them positive" if low < 0 else f"data.bits={high.bit_length()} allows these"
            raise ValueError(f"{allowed}: its values are {low} to {high}; {fix}")
        if seen:
            seen(high)
        shift = (bits or 16) - 8
        if getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO:  # Pillow turns over 8 bits only
            deep = (1 << (bits or 16)) - 1 - deep.astype(np.int64)
        orientation = image.getexif().get(0x0112)
        turned = Image.fromarray((deep >> shift).astype(np.uint8))
        if alpha is not None:
            turned.putalpha(Image.fromarray(alpha))
        if orientation:
            turned.getexif()[0x0112] = orientation
            turned = ImageOps.exif_transpose(turned)
    if turned.has_transparency_data:
        turned = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned)
    return turned.convert(mode)


def _steps(image: Image.Image) -> int:
    """Return by how much Pillow multiplies the values of a PNG file of 2 or 4 bits, but not the transparent one."""
    kinds = [str(tile.args) for tile in getattr(image, "tile", [])] if image.format == "PNG" else []
    return {"L;2": 85, "L;4": 17}.get(kinds[0], 1) if kinds else 1


def _deep_values(image: Image.Image, bits: int | None) -> NDArray[Any] | None:
    """Return the values (H, W) or (H, W, C) of an image with more than 8 bits a channel; None of 8 bits.

    Pillow keeps the upper 8 of the 16 bits of a colour; the lower 8 are read by decoding the file once more, with its
    bytes swapped, or as the four bytes of gray and alpha.
    """
    if image.mode.startswith("I"):
        return np.asarray(image)
    tiles = getattr(image, "tile", [])
    kinds = {str(tile.args).lstrip("('")[:4] for tile in tiles if ";16" in str(tile.args)}
    if not any(kind.startswith(("RGB", "LA")) and kind != "RGBa" for kind in kinds):
        return None
    file: Any = getattr(image, "fp", None)
    place = file.tell()
    file.seek(0)
    swapped: Any = Image.open(file, formats=(image.format or "",))
    if any(kind.startswith("LA") for kind in kinds):  # Pillow opens it as RGBA
        swapped.tile = [tile._replace(args="RGBA") for tile in swapped.tile]
        four = np.asarray(swapped).astype(np.int32)
        file.seek(place)
        return four[..., ::2] << 8 | four[..., 1::2]
    swapped.tile = [tile._replace(args=_other_byte(tile.args)) for tile in swapped.tile]
    lower = np.asarray(swapped).astype(np.int32)
    file.seek(place)
    return (np.asarray(image).astype(np.int32) << 8) | lower


def _split_alpha(deep: NDArray[Any], transparent: Any, bits: int) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """Return the colours of 16-bit values, and their alpha (H, W) uint8, None without. transparent: the value that is.

    bits: of the colours. Alpha has as many, or all 16.
    """
    if deep.ndim == 3 and deep.shape[2] in (2, 4):
        colours = deep[..., 0] if deep.shape[2] == 2 else deep[..., :3]
        alpha = deep[..., -1]
        return colours, (alpha >> (bits if alpha.max() < 1 << bits else 16) - 8).astype(np.uint8)
    if transparent is None:
        return deep, None
    same = deep == np.array(transparent)
    return deep, np.where(same.all(2) if deep.ndim == 3 else same, 0, 255).astype(np.uint8)


def _other_byte(args: Any) -> Any:
    """Return a decoder's arguments with the other order of bytes: RGB;16B for RGB;16L."""
    if not isinstance(args, str):
        return (_other_byte(args[0]), *args[1:])
    mode, order = args[:-1], args[-1]
    native = "L" if sys.byteorder == "little" else "B"
    return f"{mode}{'B' if (native if order == 'N' else order) == 'L' else 'L'}"


def fit(image: Image.Image, size: Any, resize: str) -> Image.Image:
    """Scale an image to `size`, see config/sizes.py: its largest centred part of that shape ("crop"), or all of it."""
    height, width = height_width(size) or (0, 0)
    box = (0, 0, image.width, image.height)
    if resize == "crop":
        wide = min(image.width, max(image.height * width // height, 1))
        high = min(image.height, max(image.width * height // width, 1))
        left, top = (image.width - wide) // 2, (image.height - high) // 2
        box = (left, top, left + wide, top + high)
    if (box[2] - box[0], box[3] - box[1]) == (width, height):
        return image.crop(box)
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box)


def stretched(pixels: NDArray[np.uint8], size: Any) -> NDArray[np.uint8]:
    """Return pixels (H, W, 3) scaled to `size`: themselves if they have it."""
    same = height_width(size) == pixels.shape[:2]
    return pixels if same else np.asarray(fit(Image.fromarray(pixels), size, "squash"))
