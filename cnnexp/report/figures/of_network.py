"""Figures of a run's network: its first filters, and Grad-CAM of the test images that it has wrong. No torch."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawn
from numpy.typing import NDArray

from cnnexp.pages.fonts import labels
from cnnexp.pages.style import canvas, style, turn_off

COLUMNS = 8
MAX_FILTERS = 64
CLASS_LABEL = 17  # characters
Pixels = NDArray[np.uint8]
Maps = NDArray[np.float32]


def filters(weights: NDArray[np.float32], name: str) -> Drawn:
    """Draw the first MAX_FILTERS filters (out, C, h, w) of a convolution, each scaled to its own range.

    With three channels they are colours, else the mean over the channels.
    """
    shown = weights[:MAX_FILTERS]
    columns = min(COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    with style():
        figure, axes = canvas(0.8 * columns, 0.8 * rows + 0.4, rows, columns)
        for axis, one in zip(axes, shown, strict=False):
            picture = one.transpose(1, 2, 0) if len(one) == 3 else one.mean(0)
            low, high = float(picture.min()), float(picture.max())
            axis.imshow((picture - low) / max(high - low, 1e-12), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            _bare(axis)
        turn_off(axes[len(shown) :])
        of_all = "" if len(shown) == len(weights) else f"the first {len(shown)} of "
        size = "x".join(map(str, weights.shape[2:]))
        (name,) = labels([name], CLASS_LABEL)
        figure.suptitle(f"{name}: {of_all}{len(weights)} filters of {size}", fontsize=9)
    return figure


def gradcam(images: Sequence[Pixels], words: Sequence[tuple[str, str]], maps: Sequence[tuple[Maps, Maps]]) -> Drawn:
    """Draw images, and on them what speaks for the predicted class, and for the true one.

    images: (H, W, C). words: (true, predicted and its probability) of each. maps: of the predicted, the true class.
    """
    with style():
        figure, axes = canvas(1.35 * len(images), 5.0, 3, len(images))
        for column, (image, (true, predicted), of_image) in enumerate(zip(images, words, maps, strict=True)):
            gray = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
            true, predicted = labels([true, predicted], CLASS_LABEL)
            for row, (heat, text) in enumerate([(None, true), (of_image[0], f"→ {predicted}"), (of_image[1], true)]):
                axis = axes[row * len(images) + column]
                axis.imshow(gray, interpolation="nearest", extent=(0, 1, 0, 1), aspect=gray.shape[0] / gray.shape[1])
                if heat is not None:
                    place = {"extent": (0, 1, 0, 1), "aspect": gray.shape[0] / gray.shape[1]}
                    axis.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=0.6, interpolation="bilinear", **place)
                axis.set_xlabel(text, fontsize=7.5)
                _bare(axis)
        for row, text in enumerate(("image", "predicted class", "true class")):
            axes[row * len(images)].set_ylabel(text, fontsize=7.5)
    return figure


def _bare(axis: Axes) -> None:
    axis.set_xticks([], [])
    axis.set_yticks([], [])
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
