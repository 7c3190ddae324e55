"""Decode an image file to a uint8 array of 1 or 3 channels and one size."""

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnexp.config.sizes import Size, height_width
from cnnexp.data.images import Pixels
from cnnexp.data.pixels import Seen, fit, flatten
from cnnexp.errors import UserError, one_line
from cnnexp.storage import TRANSIENT, StorageError

try:
    import pillow_heif  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    HEIF: tuple[str, ...] = ()
else:
    pillow_heif.register_heif_opener()
    HEIF = ("HEIF",)

MAX_PIXELS = 89_478_485  # of an image: Pillow's own limit, 256 MiB as RGB
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".avif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
)  # fmt: skip
HEIC = (".heic", ".heif", ".hif")
ENOUGH = 3  # times the wanted size
RAW = (".dng", ".cr2", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".pef", ".srw")  # Pillow would read their small preview
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "AVIF", "TIFF", "PPM", "JPEG2000", *HEIF)  # by content; EPS runs code
reading = threading.local()  # its `path`: the file that a thread is decoding
GRAY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")


@contextmanager
def warnings_that_name_images() -> Iterator[None]:
    """Print warnings of Pillow's in one line that names the image while the block runs, in every thread."""

    def show(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
        if getattr(reading, "path", None) is None or file is not None:
            before(message, category, filename, lineno, file, line)
        else:
            print(one_line(f"cnnexp: {reading.path}: {message}"), file=sys.stderr)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # open_image raises an error instead
        before, warnings.showwarning = warnings.showwarning, show
        yield


def decode(
    path: Path, size: Size, resize: str, channels: int, bits: int | None = None, seen: Seen | None = None
) -> Pixels:
    """Read an image file as (H, W, channels) uint8. Raises UserError naming the file if it cannot be read.

    That is a StorageError if it may be readable at the next try.

    size: see config/sizes.py. resize "crop" takes the largest centred part of that shape, "squash" takes the full
    image. Both are scaled by one antialiased bilinear resampling, or not at all if they have the size. A large JPEG is
    decoded at 1/2 or 1/4 of its size before that, see `reduce`. bits, seen: as for `flatten`, which says what becomes
    of other kinds of pixels.
    """
    reading.path = path
    try:
        with open_image(path) as opened:
            reduce(opened, size)
            image = flatten(opened, "L" if channels == 1 else "RGB", bits, seen)
        image = fit(image, size, resize)
    except Exception as error:  # Pillow's plugins raise many kinds for a damaged file
        raise_if_transient(path, error)
        reason = "the file is empty" if path.is_file() and not path.stat().st_size else f"{error}"
        if path.suffix.lower() in HEIC and not HEIF:
            reason = "install pillow-heif"
        raise UserError(f"{path}: cannot be read as an image ({reason})") from error
    finally:
        reading.path = None
    return np.asarray(image).reshape(image.height, image.width, channels)


def reduce(image: Image.Image, size: Size) -> None:
    """Let an opened JPEG be decoded at 1/2 or 1/4 of its size, if that is still ENOUGH times `size` or more.

    Measured for 12 megapixels at 64 to 224 px: less than half the time, and 99 % of the values differ by at most 1 of
    256 from those of a full decoding. At 1/8 they would differ by up to 16.
    """
    side = ENOUGH * max(height_width(size) or image.size)
    image.draft(None, (max(side, image.width // 8 + 1), max(side, image.height // 8 + 1)))


def is_image(path: Path) -> bool:
    """Return whether a file counts as an image: by its suffix, or if that says nothing, by its content."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES or suffix in RAW or (HEIF and suffix in HEIC):
        return suffix not in RAW
    try:
        with open_image(path):
            return True
    except Exception as error:  # of any kind, by Pillow
        raise_if_transient(path, error)
        return False


def raise_if_transient(path: Path, error: Exception) -> None:
    """Raise StorageError if an error of reading a file says nothing about its content."""
    if isinstance(error, OSError) and error.errno in TRANSIENT:
        raise StorageError(path, error, "read") from error


def open_image(path: Path) -> Image.Image:
    """Open an image file and read its header. The content must be of one of FORMATS, whatever the file's name.

    Raises ValueError or OSError for another format, more than MAX_PIXELS, and for a pipe or device, which may not end.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is not a file")
    opened = Image.open(path, formats=FORMATS)
    if opened.format == "TIFF":
        opened.filename = ""  # else Pillow maps uncompressed gray into memory, with the sides of the turned image
    if opened.width * opened.height > MAX_PIXELS:
        opened.close()
        raise ValueError(f"it has {opened.width} x {opened.height} pixels; allowed: {MAX_PIXELS:,}")
    return opened


def is_gray(path: Path) -> bool:
    """Return whether an image file is stored as grayscale, from its header; True for a file that cannot be read."""
    try:
        with open_image(path) as image:
            return image.mode in GRAY_MODES
    except Exception as error:  # decode() says what is wrong with it
        raise_if_transient(path, error)
        return True
