"""The data set "textures", to pretrain on: which of ten textures, at any two colours, scale, angle and light.

Frozen, as data/postcards.py is.
"""

import numpy as np
from numpy.typing import NDArray

from cnnexp.data import canvas, counter
from cnnexp.data.canvas import Draws
from cnnexp.data.images import Integers, Pixels

TEXTURES = ["bricks", "checks", "clouds", "dots", "grain", "grid", "rings", "stripes", "waves", "zigzag"]
TASK = 2


def draw_texture(label: int, image: tuple[int, int], size: int) -> Pixels:
    """Draw image (part, i) as (size, size, 3) uint8. label: its class, an index into TEXTURES."""
    draws = Draws(TASK, image)
    texture = TEXTURES[label]
    first = draws.colour()
    second = canvas.contrasting(draws, first, least=60)
    x, y = canvas.grid(size if texture == "clouds" else size * canvas.OVERSAMPLE)
    u, v = canvas.rotated(x, y, draws.between(0, 359))
    u, v = u + draws.between(0, 8191) + 4 * canvas.SIDE, v + draws.between(0, 8191) + 4 * canvas.SIDE
    if texture == "clouds":
        share = np.clip(canvas.value_noise(u - 4 * canvas.SIDE, v, draws.between(500, 1000), (*draws.key, 1)), 0, 255)
        return canvas.finish(canvas.blend(first, second, share[..., None], 255), draws)
    if texture == "rings":
        u, v = x + draws.between(-1600, 1600), y + draws.between(-1600, 1600)
    share = canvas.coverage(pattern(texture, u, v, draws))
    return canvas.finish(canvas.blend(first, second, share, canvas.OVERSAMPLE**2), draws)


def pattern(texture: str, u: Integers, v: Integers, draws: Draws) -> NDArray[np.bool_]:
    """Return which points have the second colour. A period is 4 to 10 of 32 pixels. u, v >= 0, except for rings."""
    period, duty = draws.between(520, 1280), draws.between(35, 65)
    along, across = u % period, v % period
    if texture == "stripes":
        return np.asarray(along * 100 < period * duty)
    if texture == "checks":
        half = period * 2 // 3
        return np.asarray((u // half + v // half) % 2 == 0)
    if texture == "dots":
        middle, radius = period // 2, period * draws.between(26, 38) // 100
        return (along - middle) ** 2 + (across - middle) ** 2 <= radius * radius
    if texture == "grid":
        width = max(150, period * 22 // 100)
        return (along < width) | (across < width)
    if texture == "rings":
        radii = np.arange(1, 40) * period // 2
        return np.asarray(np.searchsorted(radii * radii, u * u + v * v) % 2 == 0)
    if texture == "grain":
        cell = draws.between(130, 260)
        return np.asarray(counter.below(100, *draws.key, 1, u // cell, v // cell) < duty)
    long, width = period * 2, max(140, period * 18 // 100)
    if texture == "bricks":
        return ((u + (v // period) % 2 * period) % long < width) | (across < width)
    if texture == "waves":
        bend = period * draws.between(35, 60) // 100
        return (u + (bend * canvas.SINE[v * 360 // long % 360] >> 14)) % period * 100 < period * duty
    return (u + np.abs(v % long - period)) % period * 100 < period * duty
