"""Drawing in integers: coordinates, rotation, colours, light and noise for the data sets that the package draws.

A canvas is 4096 x 4096 units with its origin in the middle, for any number of pixels. All numbers are integers and all
draws are hashes of counters, so that an image is the same on every machine. The images are frozen: a change makes a new
data set, which needs a new name.
"""

import math

import numpy as np
from numpy.typing import NDArray

from cnnexp.data import counter
from cnnexp.data.images import Integers, Pixels

SIDE = 4096
OVERSAMPLE = 3  # samples per pixel and direction
ONE = 1 << 14  # 1.0 of the sine table, and 1.0 of light
# No entry is within 1e-4 of a half before rounding, so the last bit of a platform's sine has no effect.
SINE = np.array([round(math.sin(math.radians(degree)) * ONE) for degree in range(360)], np.int64)


class Draws:
    """The random numbers of one image, drawn in order; those of two images are independent."""

    def __init__(self, task: int, image: tuple[int, int]):
        self.key = (task, *image)
        words: list[int] = counter.bits(*self.key, np.arange(128)).tolist()
        self.words = iter(words)

    def between(self, low: int, high: int) -> int:
        """Draw an integer in [low, high], both included."""
        return low + ((next(self.words) >> 32) * (high - low + 1) >> 32)

    def colour(self) -> Integers:
        """Draw red, green and blue, each in [0, 255]."""
        return np.array([self.between(0, 255) for _ in range(3)], np.int64)


def luminance(colour: Integers) -> int:
    """Return the brightness of a colour, 0 to 255 (ITU-R BT.601 weights in thousandths)."""
    red, green, blue = colour.tolist()
    return int(299 * red + 587 * green + 114 * blue) // 1000


def contrasting(draws: Draws, other: Integers, least: int) -> Integers:
    """Draw a colour whose luminance differs by `least` from that of `other`: the best of 6 if none does."""
    colours = [draws.colour() for _ in range(6)]
    far = [abs(luminance(c) - luminance(other)) for c in colours]
    return next((c for c, f in zip(colours, far, strict=True) if f >= least), colours[far.index(max(far))])


def grid(samples: int) -> tuple[Integers, Integers]:
    """Return x (1, samples) and y (samples, 1): the canvas coordinates of the middle of every sample."""
    middle = (2 * np.arange(samples, dtype=np.int64) + 1) * SIDE // (2 * samples) - SIDE // 2
    return middle[None, :], middle[:, None]


def rotated(x: Integers, y: Integers, degrees: int) -> tuple[Integers, Integers]:
    """Return the coordinates of points in a frame that is rotated by an integer number of degrees."""
    sine, cosine = SINE[degrees % 360], SINE[(degrees + 90) % 360]
    return (x * cosine + y * sine) >> 14, (y * cosine - x * sine) >> 14


def value_noise(x: Integers, y: Integers, cell: int, key: tuple[int, ...]) -> Integers:
    """Return smooth noise in [0, 255]: random values on a lattice of `cell` units, blended bilinearly."""
    x, y = x + 2 * SIDE, y + 2 * SIDE
    left, right, top, bottom = x // cell, x % cell, y // cell, y % cell
    corner = [[counter.below(256, *key, top + j, left + i) for i in (0, 1)] for j in (0, 1)]
    rows = [a * (cell - right) + b * right for a, b in corner]
    return np.asarray((rows[0] * (cell - bottom) + rows[1] * bottom) // (cell * cell), np.int64)


def coverage(mask: NDArray[np.bool_]) -> Integers:
    """Count each pixel's samples in a mask: (S * OVERSAMPLE, S * OVERSAMPLE) to (S, S, 1), 0 to OVERSAMPLE**2."""
    size = mask.shape[0] // OVERSAMPLE
    counts: Integers = mask.reshape(size, OVERSAMPLE, size, OVERSAMPLE).sum(axis=(1, 3), dtype=np.int64)
    return counts[..., None]


def blend(below: Integers, above: Integers, share: Integers, total: int) -> Integers:
    """Blend colours: `share` parts of `above` out of `total`, the others of `below`."""
    colours: Integers = (below * (total - share) + above * share) // total
    return colours


def finish(image: Integers, draws: Draws) -> Pixels:
    """Light an image (size, size, 3) from one side, add noise, and round to uint8."""
    size = image.shape[0]
    x, y = grid(size)
    along, _ = rotated(x, y, draws.between(0, 359))
    strength = draws.between(0, ONE // 3)
    light = draws.between(ONE * 3 // 4, ONE * 5 // 4) + strength * along // (SIDE // 2)
    lit = image * light[..., None] >> 14
    spread = draws.between(2, 16)
    noise = counter.between(-spread, spread, *draws.key, 1 << 20, np.arange(size * size * 3).reshape(size, size, 3))
    pixels: Pixels = np.clip(lit + noise, 0, 255).astype(np.uint8)
    return pixels
