"""Random boxes: erasing and cropping against torchvision, and that boxes are drawn as it draws them."""

import math
from typing import Any

import pytest
import torch
from torchvision.transforms import v2

from cnnexp.data import augment, boxes

IMAGES = torch.rand(5, 3, 12, 10, generator=torch.Generator().manual_seed(1))
BOXES = torch.tensor([[0, 0, 12, 10], [3, 2, 5, 7], [11, 9, 1, 1], [0, 4, 12, 3], [2, 0, 9, 10]])


def test_erasing_is_torchvisions() -> None:
    chosen = torch.tensor([True, True, False, True, True])
    found = boxes.erase(IMAGES.clone(), BOXES, chosen)
    for image, own, (top, left, high, wide), erased in zip(IMAGES, found, BOXES.tolist(), chosen, strict=True):
        zeros = torch.zeros(1, 1, 1)
        expected = v2.functional.erase(image, top, left, high, wide, zeros) if erased else image
        assert torch.equal(own, expected)


def test_cropping_is_torchvisions() -> None:
    found = boxes.crop_and_resize(IMAGES, BOXES)
    for image, own, (top, left, high, wide) in zip(IMAGES, found, BOXES.tolist(), strict=True):
        expected = v2.functional.resized_crop(image, top, left, high, wide, [12, 10], antialias=True)
        torch.testing.assert_close(own, expected, rtol=0, atol=2e-6)


def same_draws(own: torch.Tensor, other: torch.Tensor) -> None:
    """Compare means and deviations of four numbers of boxes, drawn independently: (N, 4) top, left, height, width."""
    for mine, theirs in zip(own.double().T, other.double().T, strict=True):
        error = math.sqrt(float((mine.var() + theirs.var()) / len(own)))
        assert abs(float(mine.mean() - theirs.mean())) <= 4 * error
        assert float(mine.std()) == pytest.approx(float(theirs.std()), rel=0.06)


def shapes(found: torch.Tensor) -> torch.Tensor:
    """Return top, left, area and the log of width to height of boxes (N, 4)."""
    top, left, high, wide = found.double().T
    return torch.stack([top, left, high * wide, (wide / high).log()], dim=1)


def torchvisions(crop: Any, height: int, width: int, keys: str, count: int = 4000) -> torch.Tensor:
    """Return draws (count, 4) of a transform of torchvision: top, left, height, width."""
    torch.manual_seed(0)
    drawn = [crop.make_params([torch.zeros(1, height, width)]) for _ in range(count)]
    return torch.tensor([[d[key] for key in keys.split()] for d in drawn])


@pytest.mark.integration
@pytest.mark.parametrize(
    ("scale", "ratio", "height", "width"),
    [
        ((0.08, 1.0), (0.75, 4 / 3), 64, 64),
        ((0.02, 0.33), (0.3, 3.3), 64, 64),
        ((0.08, 1.0), (0.75, 4 / 3), 64, 20),  # some images have no box that fits
    ],
)
def test_crops_are_drawn_as_torchvision_draws_them(
    scale: tuple[float, float], ratio: tuple[float, float], height: int, width: int
) -> None:
    """4000 boxes against RandomResizedCrop's."""
    crop = v2.RandomResizedCrop(64, scale=scale, ratio=ratio)
    found = boxes.draw_crops(4000, height, width, scale, ratio, torch.Generator().manual_seed(0))
    same_draws(shapes(found), shapes(torchvisions(crop, height, width, "top left height width")))
    assert (found[:, :2] >= 0).all() and (found[:, :2] + found[:, 2:] <= torch.tensor([height, width])).all()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("scale", "ratio", "height", "width"),
    [((0.02, 0.33), (0.3, 3.3), 64, 64), ((0.1, 0.3), (1.5, 3.0), 20, 64)],
)
def test_erased_boxes_are_drawn_as_torchvision_draws_them(
    scale: tuple[float, float], ratio: tuple[float, float], height: int, width: int
) -> None:
    """4000 boxes against RandomErasing's, whose ratio is of height to width. It erases nothing if `v` is None."""
    theirs = torchvisions(v2.RandomErasing(1.0, scale, ratio), height, width, "i j h w")
    drawn = (theirs[:, 2:] < torch.tensor([height, width])).all(1)
    found, fits = boxes.draw_erased(4000, height, width, scale, ratio, torch.Generator().manual_seed(0))
    assert float(fits.double().mean()) == pytest.approx(float(drawn.double().mean()), abs=0.01)
    same_draws(shapes(found[fits]), shapes(theirs[drawn]))
    assert (found[fits, :2] >= 0).all() and (found[:, :2] + found[:, 2:])[fits].le(torch.tensor([height, width])).all()


def test_an_erased_box_of_a_ratio_above_1_is_upright() -> None:
    x = augment.erase(1.0, (0.1, 0.2), (3.0, 4.0))(torch.ones(50, 1, 64, 64), torch.Generator().manual_seed(0))
    erased = x[:, 0] == 0
    assert (erased.any(2).sum(1) > 2 * erased.any(1).sum(1)).all()


@pytest.mark.parametrize(
    ("height", "width", "scale", "ratio"),
    [
        (32, 128, (0.35, 1.0), (0.75, 1.3333)),
        (128, 32, (0.35, 1.0), (0.75, 1.3333)),
        (4, 64, (0.9, 1.0), (1.0, 1.0)),
        (33, 7, (0.9, 1.0), (0.5, 0.7)),
        (10, 15, (0.99, 1.0), (0.2, 0.21)),
        (1, 9, (1.0, 1.0), (2.0, 2.5)),  # 2.5 pixels wide, rounded to 2
    ],
)
def test_without_a_box_that_fits_the_crop_is_torchvisions(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    crop = v2.RandomResizedCrop(64, scale, ratio)
    (theirs,) = {tuple(d) for d in torchvisions(crop, height, width, "top left height width", 50).tolist()}
    found = boxes.draw_crops(50, height, width, scale, ratio, torch.Generator().manual_seed(0))
    assert theirs != (0, 0, height, width) and found.tolist() == [list(theirs)] * 50
    x = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    own = augment.resized_crop(scale, ratio)(x.clone(), torch.Generator().manual_seed(0))
    expected = v2.functional.resized_crop(x, *theirs, [height, width], antialias=True)
    torch.testing.assert_close(own, expected, rtol=0, atol=2e-6)


def test_without_a_box_that_fits_an_image_of_an_allowed_ratio_is_its_own_crop() -> None:
    """Boxes of less than half a pixel do not fit."""
    found = boxes.draw_crops(50, 3, 3, (0.01, 0.02), (0.9, 1.1), torch.Generator().manual_seed(0))
    assert found.tolist() == [[0, 0, 3, 3]] * 50


def test_without_a_box_that_fits_nothing_is_erased() -> None:
    found, fits = boxes.draw_erased(50, 4, 64, (0.9, 1.0), (1.0, 1.0), torch.Generator().manual_seed(0))
    assert not fits.any() and found.shape == (50, 4)
    kept = augment.erase(1.0, (0.9, 1.0), (1.0, 1.0))(torch.ones(3, 3, 4, 64), torch.Generator().manual_seed(0))
    assert kept.all(), "nothing is erased"


@pytest.mark.parametrize("name", ["randaugment", "trivialaugment"])
def test_torchvisions_policies_draw_from_the_generator(name: str) -> None:
    settings = {"num_ops": 2, "magnitude": 9} if name == "randaugment" else {}
    operation = augment.OPERATIONS[name](**settings)
    first, again, other = (operation(IMAGES.clone(), torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    generator = torch.Generator().manual_seed(3)
    assert not torch.equal(*(operation(IMAGES.clone(), generator) for _ in range(2))), "twice in a pipeline"
    assert first.shape == IMAGES.shape and first.min() >= 0 and first.max() <= 1
