"""Decode an image file to a uint8 array of 1 or 3 channels and one size."""

import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from cnnexp.data.images import Pixels
from cnnexp.errors import UserError, one_line

MAX_PIXELS = 89_478_485  # of an image: Pillow's own limit, 256 MiB as RGB
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # by content; no others: EPS would run a program
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # open_image raises an error instead
reading = threading.local()  # its `path`: the file that a thread is decoding
show_any = warnings.showwarning


def show(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: str | None = None) -> None:
    """Print a warning of Pillow's in one line that names the image; any other as before."""
    if getattr(reading, "path", None) is None or file is not None:
        show_any(message, category, filename, lineno, file, line)
    else:
        print(one_line(f"cnnexp: {reading.path}: {message}"), file=sys.stderr)


warnings.showwarning = show
GRAY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")


def decode(path: Path, size: int, resize: str, channels: int) -> Pixels:
    """Read an image file as (size, size, channels) uint8. Raises UserError naming the file if it cannot be read.

    The EXIF orientation is applied, transparency is blended with white, 16-bit gray keeps its upper 8 bits, CMYK and
    palettes become RGB, and of an animation the first frame is used. resize "crop" takes the centred square, as scaling
    the shorter side and then cropping does; "squash" takes the full image. Both are scaled by one antialiased bilinear
    resampling, or not at all if they have the size. Large JPEG files are decoded at 1/2, 1/4 or 1/8 of their size
    where that is at least twice the requested size.
    """
    reading.path = path
    try:
        with open_image(path) as opened:
            opened.draft(None, (2 * size, 2 * size))
            image = flatten(ImageOps.exif_transpose(opened), "L" if channels == 1 else "RGB")
        image = square(image, size, resize)
    except Exception as error:  # Pillow's plugins raise many kinds for a damaged file
        reason = "the file is empty" if path.is_file() and not path.stat().st_size else f"{error}"
        raise UserError(f"{path}: cannot be read as an image ({reason})") from error
    finally:
        reading.path = None
    return np.asarray(image).reshape(size, size, channels)


def open_image(path: Path) -> Image.Image:
    """Open an image file and read its header. The content must be of one of FORMATS, whatever the file's name.

    Raises ValueError or OSError for another format, more than MAX_PIXELS, and for a pipe or device, which may not end.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is not a file")
    opened = Image.open(path, formats=FORMATS)
    if opened.width * opened.height > MAX_PIXELS:
        opened.close()
        raise ValueError(f"it has {opened.width} x {opened.height} pixels; allowed: {MAX_PIXELS:,}")
    return opened


def is_gray(path: Path) -> bool:
    """Return whether an image file is stored as grayscale, from its header; True for a file that cannot be read."""
    try:
        with open_image(path) as image:
            return image.mode in GRAY_MODES
    except Exception:  # decode() says what is wrong with it
        return True


def flatten(image: Image.Image, mode: str) -> Image.Image:
    """Convert an image to mode "L" or "RGB", on white. Raises ValueError for pixels without a known range."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its pixels are not 8 or 16 bits")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, of unknown range")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def square(image: Image.Image, size: int, resize: str) -> Image.Image:
    """Scale an image to size x size: its centred square ("crop") or the full image ("squash")."""
    width, height = image.size
    if resize == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        box = (left, top, left + side, top + side)
    else:
        box = (0, 0, width, height)
    if box[2] - box[0] == size == box[3] - box[1]:
        return image.crop(box)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)
