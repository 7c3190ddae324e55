"""The data set "shapes": which of ten shapes is drawn, at any colour, place, size, angle, background and light.

Frozen: it was designed once and checked by eye, and must not be tuned to results.
"""

import numpy as np
from numpy.typing import NDArray

from cnnexp.data import canvas
from cnnexp.data.canvas import Draws
from cnnexp.data.images import Integers, Pixels

SHAPES = ["arrow", "bar", "crescent", "cross", "disc", "frame", "ring", "square", "star", "triangle"]
TASK = 1


def inside(shape: str, u: Integers, v: Integers) -> NDArray[np.bool_]:
    """Return which points (u, v) are inside a shape of circumradius about 1000, centred on the origin."""
    across, up = np.abs(u), np.abs(v)
    square, widest = u * u + v * v, np.maximum(across, up)
    if shape == "disc":
        return square <= 900**2
    if shape == "ring":
        return (square <= 960**2) & (square >= 580**2)
    if shape == "square":
        return widest <= 760
    if shape == "frame":
        return (widest <= 820) & (widest >= 470)
    if shape == "bar":
        return (across <= 260) & (up <= 980)
    if shape == "cross":
        return (np.minimum(across, up) <= 270) & (widest <= 950)
    if shape == "crescent":
        return (square <= 980**2) & ((u - 480) ** 2 + v * v >= 780**2)
    if shape == "arrow":
        return ((across <= 230) & (v <= 150) & (v >= -980)) | ((v >= 50) & (across * 4 <= (1000 - v) * 3))
    sides, distance, needed = (5, 320, 4) if shape == "star" else (3, 500, 3)
    within = [canvas.rotated(u, v, 90 + 360 * k // sides)[0] <= distance for k in range(sides)]
    return np.asarray(np.sum(within, axis=0) >= needed)


def draw_shape(label: int, image: tuple[int, int], size: int) -> Pixels:
    """Draw image (part, i) as (size, size, 3) uint8. label: its class, an index into SHAPES."""
    draws = Draws(TASK, image)
    x, y = canvas.grid(size * canvas.OVERSAMPLE)
    whole = canvas.OVERSAMPLE**2
    picture, ground = _background(draws, size)
    for _ in range(draws.between(0, 3)):  # distractors, always smaller than the smallest shape and behind it
        picture = canvas.blend(picture, draws.colour(), canvas.coverage(_distractor(draws, x, y)), whole)
    colour = canvas.contrasting(draws, ground, least=70)
    left, top, radius = draws.between(-640, 640), draws.between(-640, 640), draws.between(800, 1400)
    u, v = canvas.rotated(x - left, y - top, draws.between(0, 359))
    mask = inside(SHAPES[label], u * 1000 // radius, v * 1000 // radius)
    return canvas.finish(canvas.blend(picture, colour, canvas.coverage(mask), whole), draws)


def _background(draws: Draws, size: int) -> tuple[Integers, Integers]:
    """Draw a gradient of two similar colours, plain or with stripes or clouds; return it and its mean colour."""
    x, y = canvas.grid(size)
    first = draws.colour()
    second = np.clip(first + np.array([draws.between(-60, 60) for _ in range(3)]), 0, 255)
    along, _ = canvas.rotated(x, y, draws.between(0, 359))
    share = np.clip(along + canvas.SIDE // 2, 0, canvas.SIDE)
    picture = canvas.blend(first, second, share[..., None], canvas.SIDE)
    kind, amplitude, period = draws.between(0, 2), draws.between(8, 40), draws.between(500, 1500)
    along, _ = canvas.rotated(x, y, draws.between(0, 359))
    if kind == 1:
        picture = picture + (amplitude * canvas.SINE[along * 360 // period % 360] >> 14)[..., None]
    if kind == 2:
        noise = canvas.value_noise(x, y, period, (*draws.key, 1 << 21))
        picture = picture + (amplitude * (noise - 128) >> 6)[..., None]
    return np.clip(picture, 0, 255), (first + second) // 2


def _distractor(draws: Draws, x: Integers, y: Integers) -> NDArray[np.bool_]:
    """Draw the mask of a small ellipse or a thin line."""
    kind, radius, degrees = draws.between(0, 1), draws.between(120, 300), draws.between(0, 359)
    u, v = canvas.rotated(x - draws.between(-1900, 1900), y - draws.between(-1900, 1900), degrees)
    if kind:
        return u * u + 2 * v * v <= radius * radius
    return (np.abs(u) <= 60) & (np.abs(v) <= 3 * radius)
