"""Grids of test images: an arm's most confident mistakes, and what two arms never agree on."""

import math
from collections.abc import Iterator, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from cnnexp.pages.style import Figure, finish, turn_off
from cnnexp.report.analysis.disagreement import Disagreement
from cnnexp.report.analysis.examples import AGAINST, Example, Examples
from cnnexp.report.figures.images import Image, TestImages
from cnnexp.report.figures.looks import Look
from cnnexp.report.read.collect import Arm
from cnnexp.text import shorten

COLUMNS = AGAINST
CLASS_LABEL = 17  # characters below a picture
WIDE, HIGH, HEADING = 1.25, 1.6, 0.3  # inches a picture with its words, and above a row


def grids(examples: Examples, images: TestImages, looks: Mapping[str, Look]) -> Iterator[Figure | None]:
    """Draw the examples whose images are available."""
    for arm, mistakes in examples.mistakes:
        yield most_confident(arm, mistakes, images)
    for found, by_arm, by_base in examples.never_agreed:
        yield never_agreed(found, by_arm, by_base, images, looks)


def most_confident(arm: Arm, mistakes: Sequence[Example], images: TestImages) -> Figure | None:
    """Draw an arm's most confident mistakes; None without images."""
    shown = _with_images(arm, mistakes, images)
    if not shown:
        return None
    rows = math.ceil(len(shown) / COLUMNS)
    figure = Canvas(figsize=(WIDE * COLUMNS, HIGH * rows), layout="constrained")
    _fill(list(figure.subplots(rows, COLUMNS, squeeze=False).flat), shown)
    seeds = mistakes[0].seeds
    caption = (
        f"Most confident mistakes of {arm.label}: the true class, what is answered, and the confidence in it, which is "
        f"the softmax probability, {f'its mean over the {seeds} seeds' if seeds > 1 else 'of the one seed'}."
    )
    return finish(figure, f"mistakes_{arm.key}", caption, wide=True)


def never_agreed(
    found: Disagreement,
    by_arm: Sequence[Example],
    by_base: Sequence[Example],
    images: TestImages,
    looks: Mapping[str, Look],
) -> Figure | None:
    """Draw the images that one of two arms has right at every seed and the other at none; None without images."""
    arm, base = found.arm.arm, found.base.arm
    sides = [(arm, found.always_arm, by_arm), (base, found.always_base, by_base)]
    parts = [(of, len(rows), shown) for of, rows, side in sides if (shown := _with_images(base, side, images))]
    if not parts:
        return None
    figure = Canvas(figsize=(WIDE * COLUMNS, (HIGH + HEADING) * len(parts)), layout="constrained")
    grid = figure.subplots(len(parts), COLUMNS, squeeze=False)
    for row, (of, count, shown) in zip(grid, parts, strict=True):
        look = looks[of.key]
        _fill(row, shown)
        for axis in row:
            axis.set_title(" ")  # makes room for the heading, which reaches over them all
        title = f"only {look.label} is right, at every seed: {count:,} image{'s' * (count != 1)}"
        heading = row[0].text(0, 1.06, title, transform=row[0].transAxes, color=look.colour, weight="bold")
        heading.set_in_layout(False)
    caption = (
        f"Where {arm.label} (n = {len(found.arm.runs)}) and {base.label} (n = {len(found.base.runs)}) never agree: "
        "test images that every seed of the one has right and every seed of the other wrong; below: the true class, "
        "and what the wrong ones take it for, with their mean probability. First those where the probabilities of the "
        "true class lie furthest apart."
    )
    return finish(figure, f"disagreement_{arm.key}", caption, wide=True)


def _with_images(arm: Arm, examples: Sequence[Example], images: TestImages) -> list[tuple[Example, Image]]:
    return [(e, image) for e in examples if (image := images.get(arm, e)) is not None]


def _fill(axes: Sequence[Axes], shown: Sequence[tuple[Example, Image]]) -> None:
    """Draw pictures with their words, and hide the axes that are left over."""
    for axis, (example, image) in zip(axes, shown, strict=False):
        gray = image.shape[2] == 1
        axis.imshow(image[..., 0] if gray else image, cmap="gray", vmin=0, vmax=255, interpolation="none")
        axis.set_xticks([], [])
        axis.set_yticks([], [])
        axis.spines[:].set(visible=True, color="#d0d0d0")
        axis.grid(visible=False)
        true, answered = (shorten(name, CLASS_LABEL) for name in (example.true, example.answered))
        axis.set_xlabel(f"{true}\n→ {answered}\n{100 * example.confidence:.1f} %", fontsize=7.5, linespacing=1.25)
    turn_off(axes[len(shown) :])
