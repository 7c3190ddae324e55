"""Consistency under shifts, against images moved by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from cnnexp.training import build, device
from cnnexp.training import run as runner
from cnnexp.training.evaluation import Evaluation, consistency, shifted
from cnnexp.training.plan import Plan
from cnnexp.training.progress import Progress


class Corner(torch.nn.Module):
    """A network that reads its class off the brightness of one corner: it does not survive a shift."""

    def __init__(self, pixel: int) -> None:
        super().__init__()
        self.pixel = pixel
        self.own = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        value = images[:, 0, self.pixel, self.pixel]
        return torch.stack([value, -value], dim=1)


@pytest.mark.integration
def test_shift_consistency_counts_what_a_shift_changes(plan: Callable[..., Plan]) -> None:
    run = runner.run(plan("shift_pixels=2"), Progress())
    assert 0 < run.info["result"]["shift_consistency"] <= 1
    assert "shift_consistency" not in runner.run(plan(), Progress()).info["result"]
    data = build.build_data(plan().config)
    evaluation = Evaluation(data, device.resolve(plan().config["device"]), "auto")
    pixels = data.test.images[data.test.indices][..., 0].astype(float) / 255
    bright = (pixels - data.mean[0]) / data.std[0] > 0
    logits, _ = evaluation.logits(Corner(3), data.test)
    stays = [(bright[:, 3, 3] == bright[:, 3 + a, 3 + b]).mean() for a, b in ((2, 0), (-2, 0), (0, 2), (0, -2))]
    assert evaluation.shift_consistency(Corner(3), logits, 2) == pytest.approx(np.mean(stays))
    assert np.mean(stays) < 1, "else this tests nothing"


def test_a_shift_moves_whole_pixels_and_repeats_the_border() -> None:
    image = torch.arange(12.0).reshape(1, 1, 3, 4)

    def moved(down: int, right: int) -> list[list[float]]:
        (result,) = shifted([image], down, right)
        moved: list[list[float]] = result[0, 0].tolist()
        return moved

    assert moved(1, 0) == [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7]]
    assert moved(-1, 0) == [[4, 5, 6, 7], [8, 9, 10, 11], [8, 9, 10, 11]]
    assert moved(0, 2) == [[0, 0, 0, 1], [4, 4, 4, 5], [8, 8, 8, 9]]
    assert moved(0, -2) == [[2, 3, 3, 3], [6, 7, 7, 7], [10, 11, 11, 11]]


def test_consistency_is_the_share_of_classes_that_stay() -> None:
    logits = np.array([[1, 0], [0, 1], [3, 2], [2, 3]], np.float32)
    assert consistency(logits, [logits, -logits]) == 0.5
    assert consistency(logits, [np.array([[1, 0], [0, 1], [3, 2], [3, 2]], np.float32)]) == 0.75
