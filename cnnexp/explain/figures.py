"""Figures of a trained network: Grad-CAM of test images, and the filters of its first convolution."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawn
from numpy.typing import NDArray

from cnnexp.errors import UserError
from cnnexp.pages.fonts import labels
from cnnexp.pages.style import Figure, canvas, finish, style, turn_off
from cnnexp.records.run_record import RunRecord

if TYPE_CHECKING:
    from cnnexp.training.inference import TrainedModel

KINDS = ("gradcam", "filters")
IMAGES = 6  # of Grad-CAM: the most confident mistakes
CAPTIONS = {
    "gradcam": "Grad-CAM (Selvaraju et al. 2017) of the most confident mistakes: the image and its true class, "
    "what speaks for the predicted class, and what speaks for the true one. Bright areas speak for it "
    "most; each map has its own scale.",
    "filters": "The filters of the first convolution, each scaled to its own range.",
}
COLUMNS = 8
MAX_FILTERS = 64
CLASS_LABEL = 17  # characters
Pixels = NDArray[np.uint8]
Maps = NDArray[np.float32]


def draw(kind: str, record: RunRecord, allow: Iterable[str] = ()) -> Drawn:
    """Draw one of KINDS. allow: as of `cnnexp.load`. Raises UserError if something is missing."""
    from cnnexp.explain.gradcam import first_filters
    from cnnexp.training.inference import load

    model = load(record.folder, "cpu", allow)
    if kind == "filters":
        weights, name = first_filters(model.model)
        return filters(weights.numpy(), name)
    return _gradcam(model)


def _gradcam(model: "TrainedModel") -> Drawn:
    import torch

    from cnnexp.explain.gradcam import grad_cam
    from cnnexp.report.analysis.mistakes import find_mistakes
    from cnnexp.report.figures.images import open_test_split
    from cnnexp.report.read.runs import read_run
    from cnnexp.text import percent, plain

    run = read_run(model.record)
    split, wrong = open_test_split(run), find_mistakes(run)[0]
    shown = [(m, image) for m in wrong[: 4 * IMAGES] if (image := split.full(m.id, m.label)) is not None][:IMAGES]
    if not wrong:
        raise UserError(f"{run.folder}: has no wrong test image to explain")
    if not shown:
        raise UserError(f"{run.folder}: the prepared images have other names or labels than its wrong test images")
    inputs = model.transform.batch([image for _, image in shown])
    predicted = torch.tensor([model.classes.index(m.predicted) for m, _ in shown])
    true = torch.tensor([m.label for m, _ in shown])
    (for_predicted, layer), (for_true, _) = (
        grad_cam(model.model, inputs, predicted),
        grad_cam(model.model, inputs, true),
    )
    words = [(plain(m.true), f"{plain(m.predicted)} {percent(m.probability, 0)}") for m, _ in shown]
    maps = list(zip(for_predicted.cpu().numpy(), for_true.cpu().numpy(), strict=True))
    figure = gradcam([np.asarray(image) for _, image in shown], words, maps)
    size = "x".join(map(str, for_predicted.shape[1:]))
    figure.suptitle(f"Grad-CAM at {layer}, maps of {size}", fontsize=9)
    return figure


def finished(kind: str, record: RunRecord, allow: Iterable[str] = ()) -> Figure:
    """Draw one of KINDS as a figure of a page. Call within `style()`."""
    return finish(draw(kind, record, allow), kind, CAPTIONS[kind])


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
