"""The embedded task: ten kinds of small postcards, five sceneries with one of two things in each.

The scenery is an easy cue: colour and layout. The thing is a harder one: a shape of any place, size and colour.
Mirror images, a tilt of up to 9 degrees and the light change no class, so augmentation has something to teach. The
images are drawn in integers and are the same on every machine. Frozen: a change is a new task, with a new name.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cnnexp.data import canvas, counter
from cnnexp.data.canvas import Draws
from cnnexp.data.images import Integers, Pixels

POSTCARDS = ["sailboat", "steamer", "house", "tree", "cactus", "palm", "moon", "planet", "snowman", "fir"]
TASK = 3
SEA, NIGHT = 0, 3  # sceneries with parts of their own
Mask = NDArray[np.bool_]
Colour = tuple[int, int, int]
# Sky above, sky at the horizon, land at the horizon, land in front.
SCENERIES: list[tuple[Colour, Colour, Colour, Colour]] = [
    ((70, 140, 215), (200, 225, 240), (40, 110, 170), (20, 70, 130)),  # sea
    ((95, 165, 230), (215, 235, 245), (110, 180, 80), (60, 130, 50)),  # meadow
    ((240, 160, 90), (250, 220, 160), (225, 180, 110), (190, 135, 75)),  # desert
    ((15, 15, 50), (60, 45, 100), (30, 30, 55), (15, 15, 30)),  # night
    ((160, 180, 205), (220, 228, 235), (200, 212, 230), (175, 188, 212)),  # snow
]
PAINTS: list[Colour] = [
    (200, 50, 50), (230, 140, 40), (240, 210, 80), (70, 150, 70), (60, 110, 180), (120, 70, 150), (240, 240, 235),
    (90, 60, 45), (40, 40, 50), (230, 130, 160),
]  # fmt: skip


def draw_postcard(label: int, image: tuple[int, int], size: int) -> Pixels:
    """Draw image number (part, i) of a class as (size, size, 3) uint8."""
    draws = Draws(TASK, image)
    samples = size * canvas.OVERSAMPLE
    x, y = (np.broadcast_to(c, (samples, samples)) for c in canvas.grid(samples))
    x, y = canvas.rotated(x, y, draws.between(-9, 9))
    scenery = label // 2
    horizon = draws.between(-100, 700)
    picture = _scenery(scenery, draws, x, y, horizon)
    width = draws.between(620, 1150)
    middle = draws.between(-1300, 1300)
    base = draws.between(-1300, -300) if scenery == NIGHT else horizon + draws.between(150, 700)
    u, v = (x - middle) * 1000 // width, (y - base) * 1000 // width
    if draws.between(0, 1):
        u = -u
    for mask, colour in THINGS[label](u, v, draws):
        picture[mask] = colour
    for _ in range(draws.between(0, 4)):  # stones, tufts, foam: small and anywhere in front
        left, top, radius = draws.between(-2000, 2000), horizon + draws.between(300, 1700), draws.between(60, 200)
        picture[(x - left) ** 2 + 3 * (y - top) ** 2 <= radius * radius] = _paint(draws)
    small = picture.reshape(size, canvas.OVERSAMPLE, size, canvas.OVERSAMPLE, 3).sum(axis=(1, 3))
    return canvas.finish(small // canvas.OVERSAMPLE**2, draws)


def _scenery(kind: int, draws: Draws, x: Integers, y: Integers, horizon: int) -> Integers:
    """Paint sky and land at every sample: (S, S, 3) colours. x, y: (S, S) canvas coordinates."""
    cast = np.array([draws.between(-30, 30) for _ in range(3)])
    top, low, far, near = (np.array(colour) + cast + draws.between(-20, 20) for colour in SCENERIES[kind])
    share = np.clip((y + canvas.SIDE // 2) * 256 // (horizon + canvas.SIDE // 2), 0, 256)[..., None]
    picture = canvas.blend(top, low, share, 256)
    if kind == NIGHT:
        picture[counter.below(1000, *draws.key, 7, x // 110 + 64, y // 110 + 64) < 12] = (235, 235, 210)  # stars
    else:
        _weather(picture, draws, x, y, low)
    swing, period, phase = draws.between(60, 420), draws.between(1800, 4200), draws.between(0, 359)
    hills = horizon - (swing * canvas.SINE[(x * 360 // period + phase) % 360] >> 14) - swing
    picture[y >= hills] = (far * 3 + low) // 4 if kind != SEA else low
    share = np.clip((y - horizon) * 256 // (canvas.SIDE // 2 + 200 - horizon), 0, 256)[..., None]
    land = canvas.blend(far, near, share, 256)
    if kind == SEA:
        land[(y + (60 * canvas.SINE[(x * 360 // 700 + phase) % 360] >> 14)) // 130 % 4 == 0] += 18  # waves
    picture = np.where((y >= horizon)[..., None], land, picture)
    if kind == NIGHT:
        _skyline(picture, draws, x, y, horizon, cast)
    return np.asarray(picture, np.int64)


def _weather(picture: Integers, draws: Draws, x: Integers, y: Integers, low: Integers) -> None:
    """Paint up to three clouds and, in half of the images, a sun. low: the sky's colour at the horizon."""
    for _ in range(draws.between(0, 3)):
        left, up, long = draws.between(-2000, 2000), draws.between(-1900, -500), draws.between(250, 700)
        picture[((x - left) ** 2 + 9 * (y - up) ** 2) <= long * long] = np.clip(low + 25, 0, 255)
    if draws.between(0, 1):
        left, up, radius = draws.between(-1900, 1900), draws.between(-1900, -700), draws.between(150, 330)
        picture[(x - left) ** 2 + (y - up) ** 2 <= radius * radius] = (255, 240, 180)


def _skyline(picture: Integers, draws: Draws, x: Integers, y: Integers, horizon: int, cast: Integers) -> None:
    """Paint houses of several heights, with some windows lit. cast: the image's colour cast."""
    houses = y >= horizon - counter.below(700, *draws.key, 9, x // 330 + 64)
    picture[houses] = np.array((25, 25, 40)) + cast // 3
    picture[houses & (counter.below(100, *draws.key, 11, x // 130 + 64, y // 130 + 64) < 8)] = (240, 200, 100)


def _paint(draws: Draws) -> Colour:
    return PAINTS[draws.between(0, len(PAINTS) - 1)]


def _disc(u: Integers, v: Integers, left: int, up: int, radius: int) -> Mask:
    return np.asarray((u - left) ** 2 + (v - up) ** 2 <= radius * radius)


def _box(u: Integers, v: Integers, left: int, right: int, top: int, bottom: int) -> Mask:
    return np.asarray((u >= left) & (u <= right) & (v >= top) & (v <= bottom))


def _peak(u: Integers, v: Integers, left: int, up: int, half: int, height: int) -> Mask:
    """Return the points in a triangle with its tip at (left, up) and a base of width 2 * half, `height` below."""
    return np.asarray((v >= up) & (v <= up + height) & (np.abs(u - left) * height <= half * (v - up)))


def _sailboat(u: Integers, v: Integers, draws: Draws) -> list[tuple[Mask, Colour]]:
    hull = (v >= -150) & (v <= 250) & (np.abs(u) <= 850 - (v + 150) * 6 // 10)
    main = (u >= 40) & (v >= -1350) & (v <= -220) & (u - 40 <= (v + 1350) * 6 // 10)
    jib = (u <= -40) & (v >= -1100) & (v <= -220) & (-u - 40 <= (v + 1100) * 6 // 10)
    sail = _paint(draws)
    return [(_box(u, v, -30, 30, -1400, -150), (80, 60, 50)), (main, sail), (jib, sail), (hull, _paint(draws))]


def _steamer(u: Integers, v: Integers, draws: Draws) -> list[tuple[Mask, Colour]]:
    hull = (v >= -150) & (v <= 250) & (np.abs(u) <= 950 - (v + 150) * 6 // 10)
    funnel = draws.between(-200, 300)
    smoke = [(_disc(u, v, funnel - 150 * k, -1000 - 130 * k, 110 + 40 * k), (205, 205, 205)) for k in range(1, 4)]
    return [
        *smoke,
        (_box(u, v, funnel - 110, funnel + 110, -950, -450), _paint(draws)),
        (_box(u, v, -550, 500, -480, -150), (240, 240, 235)),
        (hull, _paint(draws)),
    ]


def _house(u: Integers, v: Integers, draws: Draws) -> list[tuple[Mask, Colour]]:
    return [
        (_box(u, v, -620, 620, -650, 250), _paint(draws)),
        (_peak(u, v, 0, -1250, 850, 620), _paint(draws)),
        (_box(u, v, -140, 140, -250, 250), (70, 50, 40)),
        (_box(u, v, -480, -260, -450, -200), (170, 210, 240)),
        (_box(u, v, 260, 480, -450, -200), (170, 210, 240)),
    ]


def _tree(u: Integers, v: Integers, draws: Draws) -> list[tuple[Mask, Colour]]:
    crown = _leaves(draws)
    discs = [(_disc(u, v, left, up, 480), crown) for left, up in ((-320, -750), (320, -750), (0, -1050))]
    return [(_box(u, v, -110, 110, -700, 250), (100, 70, 45)), *discs]


def _cactus(u: Integers, v: Integers, draws: Draws) -> list[tuple[Mask, Colour]]:
    green = _leaves(draws)
    left, right = draws.between(-700, -400), draws.between(-900, -500)
    return [
        (_box(u, v, -150, 150, -1200, 250), green),
        (_box(u, v, -560, -150, left, left + 200), green),
        (_box(u, v, -560, -380, left - 400, left + 200), green),
        (_box(u, v, 150, 560, right, right + 200), green),
        (_box(u, v, 380, 560, right - 350, right + 200), green),
    ]


def _palm(u: Integers, v: Integers, draws: Draws) -> list[tuple[Mask, Colour]]:
    green = _leaves(draws)
    bend = draws.between(-200, 200)
    trunk = (np.abs(u - bend * (250 - v) // 1300) <= 100) & (v <= 250) & (v >= -1000)
    fronds = []
    for degrees in (20, 65, 115, 160, -20, 200):
        along, across = canvas.rotated(u - bend, v + 1000, -degrees)
        fronds.append(((along >= 0) & (along <= 750) & (np.abs(across) * 5 <= (750 - along) + 100), green))
    return [(trunk, (120, 85, 55)), *fronds]


def _moon(u: Integers, v: Integers, draws: Draws) -> list[tuple[Mask, Colour]]:
    return [(_disc(u, v, 0, 0, 620) & ~_disc(u, v, 330, -120, 560), _pale(draws))]


def _planet(u: Integers, v: Integers, draws: Draws) -> list[tuple[Mask, Colour]]:
    along, across = canvas.rotated(u, v, draws.between(-30, 30))
    ring = along**2 + 10 * across**2
    return [
        (_disc(u, v, 0, 0, 480), _pale(draws)),
        ((ring <= 950**2) & (ring >= 700**2) & (across > -60), _pale(draws)),
    ]


def _snowman(u: Integers, v: Integers, draws: Draws) -> list[tuple[Mask, Colour]]:
    white, hat = (248, 248, 250), _paint(draws)
    return [
        (_disc(u, v, 0, -100, 480), white), (_disc(u, v, 0, -700, 340), white), (_disc(u, v, 0, -1130, 240), white),
        (_box(u, v, -260, 260, -1360, -1280), hat), (_box(u, v, -160, 160, -1600, -1300), hat),
        (_box(u, v, 0, 300, -1150, -1080), (230, 120, 40)),
    ]  # fmt: skip


def _fir(u: Integers, v: Integers, draws: Draws) -> list[tuple[Mask, Colour]]:
    green = _leaves(draws)
    tiers = [(_peak(u, v, 0, up, half, 620), green) for up, half in ((-750, 700), (-1150, 560), (-1550, 420))]
    caps = [(_peak(u, v, 0, up, half, 260), (245, 248, 250)) for up, half in ((-1150, 230), (-1550, 180))]
    return [(_box(u, v, -100, 100, -200, 250), (95, 65, 45)), *tiers, *caps]


def _leaves(draws: Draws) -> Colour:
    return (draws.between(30, 150), draws.between(90, 170), draws.between(30, 90))


def _pale(draws: Draws) -> Colour:
    return (draws.between(190, 255), draws.between(180, 245), draws.between(130, 235))


THINGS: list[Callable[[Integers, Integers, Draws], list[tuple[Mask, Colour]]]] = [
    _sailboat, _steamer, _house, _tree, _cactus, _palm, _moon, _planet, _snowman, _fir,
]  # fmt: skip
