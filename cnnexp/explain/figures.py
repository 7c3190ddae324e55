"""Figures of a trained network: Grad-CAM of test images, and the filters of its first convolution."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from cnnexp.errors import UserError
from cnnexp.records.run_record import RunRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawn

    from cnnexp.pages.style import Figure
    from cnnexp.training.inference import TrainedModel

KINDS = ("gradcam", "filters")
IMAGES = 6  # of Grad-CAM: the most confident mistakes
CAPTIONS = {
    "gradcam": "Grad-CAM (Selvaraju et al. 2017) of the most confident mistakes: the image and its true class, "
    "what speaks for the predicted class, and what speaks for the true one. Bright: much; each map has its own scale.",
    "filters": "The filters of the first convolution, each scaled to its own range.",
}


def draw(kind: str, record: RunRecord, allow: Iterable[str] = ()) -> "Drawn":
    """Draw one of KINDS. allow: as of `cnnexp.load`. Raises UserError if something is missing."""
    from cnnexp.explain.gradcam import first_filters
    from cnnexp.report.figures import of_network
    from cnnexp.training.inference import load

    model = load(record.folder, "cpu", allow)
    if kind == "filters":
        weights, name = first_filters(model.model)
        return of_network.filters(weights.numpy(), name)
    return _gradcam(model)


def _gradcam(model: "TrainedModel") -> "Drawn":
    import torch

    from cnnexp.explain.gradcam import grad_cam
    from cnnexp.report.analysis.mistakes import find_mistakes
    from cnnexp.report.figures import of_network
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
    figure = of_network.gradcam([np.asarray(image) for _, image in shown], words, maps)
    size = "x".join(map(str, for_predicted.shape[1:]))
    figure.suptitle(f"Grad-CAM at {layer}, maps of {size}", fontsize=9)
    return figure


def finished(kind: str, record: RunRecord, allow: Iterable[str] = ()) -> "Figure":
    """Draw one of KINDS as a figure of a page. Call within `style()`."""
    from cnnexp.pages.style import finish

    return finish(draw(kind, record, allow), kind, CAPTIONS[kind])
