"""Grids of test images: an arm's most confident mistakes, and images that two arms never agree on."""

import math
from collections.abc import Iterator, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from cnnexp.pages.fonts import labels
from cnnexp.pages.style import Figure, finish, turn_off
from cnnexp.report.analysis.disagreement import Disagreement
from cnnexp.report.analysis.examples import EXAMPLES_PER_SIDE, Example, Examples
from cnnexp.report.figures.images import Image, TestImages
from cnnexp.report.figures.looks import Look
from cnnexp.report.read.study import Arm
from cnnexp.text import plural

COLUMNS = EXAMPLES_PER_SIDE
CLASS_LABEL = 17  # characters below an image
WIDE, HIGH, HEADING = 1.25, 1.6, 0.3  # inches of an image with its words, and of the heading above a row
Shown = tuple[Example, Image]


def grids(examples: Examples, images: TestImages, looks: Mapping[str, Look]) -> Iterator[Figure | None]:
    """Draw the examples whose images are available."""
    for arm, mistakes in examples.mistakes:
        yield most_confident(arm, _with_images(arm, mistakes, images))
    for found, by_arm, by_base in examples.never_agreed:
        arm, base = found.arm.arm, found.base.arm
        sides = (
            (looks[arm.key], len(found.always_arm), _with_images(base, by_arm, images)),
            (looks[base.key], len(found.always_base), _with_images(base, by_base, images)),
        )
        yield never_agreed(found, [side for side in sides if side[2]])


def most_confident(arm: Arm, shown: Sequence[Shown]) -> Figure | None:
    """Draw an arm's most confident mistakes; None without images."""
    if not shown:
        return None
    rows = math.ceil(len(shown) / COLUMNS)
    figure = Canvas(figsize=(WIDE * COLUMNS, HIGH * rows), layout="constrained")
    _fill(list(figure.subplots(rows, COLUMNS, squeeze=False).flat), shown)
    seeds, units = shown[0][0].seeds, "runs" if arm.folds else "seeds"
    caption = (
        f"Most confident mistakes of {arm.label}: the true class, the predicted class and its softmax probability, "
        f"{f'its mean over the {seeds} {units}' if seeds > 1 else f'of the one {units[:-1]}'}."
    )
    return finish(figure, f"mistakes_{arm.key}", caption, wide=True)


def never_agreed(found: Disagreement, sides: Sequence[tuple[Look, int, Sequence[Shown]]]) -> Figure | None:
    """Draw images that one of two arms has right at every seed and the other at none; None without images.

    sides: how the arm that is right looks, how many such images there are, and those that are drawn.
    """
    if not sides:
        return None
    arm, base = found.arm.arm, found.base.arm
    always = "in every run" if arm.folds else "at every seed"
    figure = Canvas(figsize=(WIDE * COLUMNS, (HIGH + HEADING) * len(sides)), layout="constrained")
    grid = figure.subplots(len(sides), COLUMNS, squeeze=False)
    for row, (look, count, shown) in zip(grid, sides, strict=True):
        _fill(row, shown)
        for axis in row:
            axis.set_title(" ")  # leaves space for the heading, which spans them all
        title = f"only {look.label} is right, {always}: {plural(count, 'image')}"
        heading = row[0].text(0, 1.06, title, transform=row[0].transAxes, color=look.colour, weight="bold")
        heading.set_in_layout(False)
    caption = (
        f"Where {arm.label} (n = {len(found.arm.runs)}) and {base.label} (n = {len(found.base.runs)}) never agree: "
        f"test images that one arm has right and the other wrong, {always}. Below each: the true "
        "class, the wrong prediction and its mean probability. The images with the largest difference in the "
        "probability of the true class come first."
    )
    return finish(figure, f"disagreement_{arm.key}", caption, wide=True)


def _with_images(arm: Arm, examples: Sequence[Example], images: TestImages) -> list[Shown]:
    return [(e, image) for e in examples if (image := images.get(arm, e)) is not None]


def _fill(axes: Sequence[Axes], shown: Sequence[Shown]) -> None:
    """Draw images with their words, and hide the axes that are left over."""
    for axis, (example, image) in zip(axes, shown, strict=False):
        gray = image.shape[2] == 1
        axis.imshow(image[..., 0] if gray else image, cmap="gray", vmin=0, vmax=255, interpolation="none")
        axis.set_xticks([], [])
        axis.set_yticks([], [])
        axis.spines[:].set(visible=True, color="#d0d0d0")
        axis.grid(visible=False)
        true, predicted = labels([example.true, example.predicted], CLASS_LABEL)
        axis.set_xlabel(f"{true}\n→ {predicted}\n{100 * example.confidence:.1f} %", fontsize=7.5, linespacing=1.25)
    turn_off(axes[len(shown) :])
