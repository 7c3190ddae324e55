"""Random boxes: erasing and cropping against torchvision, and that boxes are drawn as it draws them."""

import math

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


@pytest.mark.parametrize(("scale", "ratio"), [((0.08, 1.0), (0.75, 4 / 3)), ((0.02, 0.33), (0.3, 3.3))])
def test_boxes_are_drawn_as_torchvision_draws_them(scale: tuple[float, float], ratio: tuple[float, float]) -> None:
    """Means and deviations of area and ratio over 4000 boxes, against RandomResizedCrop's."""
    image = torch.zeros(1, 64, 64)
    torch.manual_seed(0)
    crop = v2.RandomResizedCrop(64, scale=scale, ratio=ratio)
    theirs = torch.tensor([[p["height"], p["width"]] for p in (crop.make_params([image]) for _ in range(4000))])
    found, fits = boxes.draw_boxes(4000, 64, 64, scale, ratio, torch.Generator().manual_seed(0))
    assert fits.all()
    for measure in (lambda s: s.prod(1) / 64**2, lambda s: (s[:, 1] / s[:, 0]).log()):
        own, other = measure(found[:, 2:].double()), measure(theirs.double())
        error = math.sqrt(float((own.var() + other.var()) / 4000))
        assert abs(float(own.mean() - other.mean())) < 4 * error
        assert float(own.std()) == pytest.approx(float(other.std()), rel=0.06)
    assert (found[:, :2] >= 0).all() and (found[:, :2] + found[:, 2:] <= 64).all()
    assert found[:, 0].max() > 40 > 20 > found[:, 0].min(), "boxes are everywhere"


def test_an_image_without_a_fitting_box_is_whole() -> None:
    found, fits = boxes.draw_boxes(50, 4, 64, (0.9, 1.0), (1.0, 1.0), torch.Generator().manual_seed(0))
    assert not fits.any() and found.tolist() == [[0, 0, 4, 64]] * 50
    kept = augment.erase(1.0, (0.9, 1.0), (1.0, 1.0))(torch.ones(3, 3, 4, 64), torch.Generator().manual_seed(0))
    assert kept.all(), "nothing is erased"


@pytest.mark.parametrize("name", ["randaugment", "trivialaugment"])
def test_torchvisions_policies_draw_from_the_generator(name: str) -> None:
    settings = {"num_ops": 2, "magnitude": 9} if name == "randaugment" else {}
    operation = augment.OPERATIONS[name](**settings)
    first, again, other = (operation(IMAGES.clone(), torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == IMAGES.shape and first.min() >= 0 and first.max() <= 1
