"""Augmentation against torchvision's v2 functions, image by image, with the same parameters."""

import itertools
import math

import pytest
import torch
import yaml
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from cnnexp import config, rng
from cnnexp.data import augment
from cnnexp.errors import UserError


def images(channels: int = 3, count: int = 12, height: int = 20, width: int = 24) -> torch.Tensor:
    return torch.rand(count, channels, height, width, generator=rng.generator(0, "images"))


@pytest.fixture(params=["contiguous", "channels_last"])
def layout(request):
    form = torch.channels_last if request.param == "channels_last" else torch.contiguous_format
    return lambda x: x.clone(memory_format=form)


@pytest.mark.parametrize("channels", [1, 3])
def test_flip_mirrors_the_chosen_images_and_only_those(channels, layout):
    x = images(channels)
    chosen = torch.arange(12) % 3 == 0
    expected = torch.stack([tv.horizontal_flip(i) if c else i for i, c in zip(x, chosen, strict=True)])
    assert torch.equal(augment.apply_flip(layout(x), chosen), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(20, 24), (9, 5), (16, 16)])
def test_rotation_agrees_with_torchvision(channels, height, width, layout):
    x, degrees = images(channels, 12, height, width), torch.linspace(-180, 180, 12)
    expected = [
        tv.rotate(i, d.item(), InterpolationMode.BILINEAR, expand=False) for i, d in zip(x, degrees, strict=True)
    ]
    found = augment.apply_rotation(layout(x), degrees)
    torch.testing.assert_close(found, torch.stack(expected), atol=2e-5, rtol=0)


def test_a_quarter_turn_moves_pixels_exactly_and_no_turn_none():
    x = images(height=16, width=16)
    torch.testing.assert_close(
        augment.apply_rotation(x, torch.full((12,), 90.0)), x.rot90(1, (2, 3)), atol=1e-5, rtol=0
    )
    # a coordinate of 16 framed pixels is off by up to 16 * 2**-24, and the image by as much of a step between pixels
    torch.testing.assert_close(augment.apply_rotation(x, torch.zeros(12)), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(20, 24), (9, 5), (64, 64)])
def test_a_frame_of_zeros_is_grid_samples_own_padding(height, width):
    x, degrees = images(3, 12, height, width), torch.linspace(-60, 60, 12)
    theta = torch.stack([_matrix(d, height, width) for d in degrees])
    grid = torch.nn.functional.affine_grid(theta, list(x.shape), align_corners=False)
    expected = torch.nn.functional.grid_sample(x, grid, padding_mode="zeros", align_corners=False)
    torch.testing.assert_close(augment.apply_rotation(x, degrees), expected, atol=2e-5, rtol=0)


def _matrix(degrees, height, width):
    sine, cosine = torch.deg2rad(degrees).sin(), torch.deg2rad(degrees).cos()
    return torch.tensor([[cosine, -sine * height / width, 0], [sine * width / height, cosine, 0]])


def test_flip_and_rotate_at_once_is_one_after_the_other():
    x = images(height=20, width=24)
    both = augment.pipeline([{"flip": {"p": 0.5}}, {"rotate": {"degrees": 30}}, {"crop": {"padding": 2}}])
    parts = [augment.flip(0.5), augment.rotate(30), augment.crop(2)]
    expected, generator = x.clone(), rng.generator(0, "both")
    for part in parts:
        expected = part(expected, generator)
    found = both(x.clone(), rng.generator(0, "both"))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
    assert (found - x).abs().max() > 0.1
    ops = [{"rotate": {"degrees": 5}}, {"flip": {"p": 0.5}}, {"flip": {"p": 0.1}}, {"rotate": {"degrees": 2}}]
    assert [list(op) for op in augment.merged(ops)] == [["rotate"], ["flip"], ["flip, rotate"]]


def test_crop_agrees_with_padding_and_cropping(layout):
    x, offsets = images(), torch.randint(0, 9, (2, 12), generator=rng.generator(0, "crop"))
    places = zip(x, *offsets.tolist(), strict=True)
    expected = [tv.crop(tv.pad(i, [4]), top, left, 20, 24) for i, top, left in places]
    assert torch.equal(augment.apply_crop(layout(x), offsets, 4), torch.stack(expected))


ADJUST = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_agrees_with_torchvision_in_every_order(channels, layout):
    orders = torch.tensor(list(itertools.permutations(range(3))) * 2)
    factors = torch.rand(12, 3, generator=rng.generator(0, "factors")) * 2  # up to 2: most images are clamped
    x = images(channels)
    expected = x.clone()
    for n in range(12):
        for kind in orders[n].tolist():
            expected[n] = ADJUST[kind](expected[n], factors[n, kind].item())
    torch.testing.assert_close(augment.apply_jitter(layout(x), factors, orders), expected, atol=2e-6, rtol=0)


def test_orders_matter_so_that_the_test_above_can_fail():
    x, factors = images(), torch.full((12, 3), 1.7)
    first, second = (augment.apply_jitter(x.clone(), factors, torch.tensor([o] * 12)) for o in ((0, 1, 2), (2, 1, 0)))
    assert (first - second).abs().max() > 0.05


def draws(monkeypatch, name: str, operation, x: torch.Tensor) -> tuple:
    """Return the parameters with which an operation calls its `apply_...` function."""
    seen: list[tuple] = []
    monkeypatch.setattr(augment, name, lambda x, *parameters: seen.append(parameters) or x)
    operation(x, rng.generator(0, "draws"))
    return seen[0]


def test_every_image_draws_its_own_parameters_from_the_stated_range(monkeypatch):
    x = torch.zeros(4000, 1, 2, 2)
    (mirrored,) = draws(monkeypatch, "apply_flip", augment.flip(p=0.25), x)
    assert abs(mirrored.float().mean() - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 4000)
    (degrees,) = draws(monkeypatch, "apply_rotation", augment.rotate(degrees=10), x)
    assert -10 <= degrees.min() < -9.9 and 9.9 < degrees.max() <= 10 and degrees.unique().numel() > 3900
    offsets, _ = draws(monkeypatch, "apply_crop", augment.crop(padding=2), x)
    assert offsets.unique().tolist() == [0, 1, 2, 3, 4]
    jitter = augment.jitter(brightness=0.2, contrast=1.5, saturation=0.0, order="random")
    factors, orders = draws(monkeypatch, "apply_jitter", jitter, x)
    low, high = factors.min(dim=0).values, factors.max(dim=0).values
    torch.testing.assert_close(low, torch.tensor([0.8, 0.0, 1.0]), atol=0.01, rtol=0)
    torch.testing.assert_close(high, torch.tensor([1.2, 2.5, 1.0]), atol=0.01, rtol=0)
    codes = (orders * torch.tensor([9, 3, 1])).sum(dim=1)
    counts = codes.unique(return_counts=True)[1]
    assert len(counts) == 6 and (counts - 4000 / 6).abs().max() < 5 * math.sqrt(4000 / 6)
    fixed = augment.jitter(brightness=0.2, contrast=0.2, saturation=0.2, order="fixed")
    assert draws(monkeypatch, "apply_jitter", fixed, x)[1].unique(dim=0).tolist() == [[0, 1, 2]]


def read(group: str, name: str) -> dict:
    return yaml.safe_load((config.folder() / group / f"{name}.yaml").read_text())


@pytest.mark.parametrize("name", ["none", "flip", "rotate", "color", "crop", "full"])
def test_shipped_pipelines_are_checked_pure_and_keep_the_range(name):
    node = read("augmentation", name)
    augment.check("augmentation", node, {})
    pipeline, x = augment.pipeline(node["ops"]), images()
    first, second, other = (pipeline(x.clone(), rng.generator(s, "augment", 3)) for s in (0, 0, 1))
    assert torch.equal(first, second)
    assert torch.equal(first, x) == torch.equal(first, other) == (name == "none")
    assert first.shape == x.shape and first.min() >= 0 and first.max() <= 1


def test_every_augmentation_has_its_alias():
    folder = config.folder()
    names = sorted(f.stem for f in (folder / "augmentation").glob("*.yaml"))
    assert names == sorted(f.stem for f in (folder / "aug").glob("*.yaml"))
    for name in names:
        text = (folder / "aug" / f"{name}.yaml").read_text()
        assert text.startswith("# @package _global_\n")
        assert yaml.safe_load(text) == {"defaults": [{"override /augmentation": name}]}


@pytest.mark.parametrize(
    ("ops", "message"),
    [
        ([{"rotat": {"degrees": 1}}], r"augmentation.ops\[0\]: unknown operation 'rotat'.*did you mean 'rotate'"),
        ([{"flip": {"p": 0.5}}, {"rotate": {"degree": 1}}], r"ops\[1\].rotate.degree: unknown key 'degree'"),
        ([{"flip": {"p": 1.5}}], r"ops\[0\].flip.p: given 1.5; allowed: a number >= 0 and <= 1"),
        ([{"flip": None}], r"ops\[0\].flip.p: is missing"),
        ([{"flip": 0.5}], r"ops\[0\].flip: given 0.5; allowed: a mapping"),
        (["flip"], r"ops\[0\]: given 'flip'; allowed: one operation"),
        ([{"jitter": {"brightness": 0, "contrast": 0, "saturation": 0, "order": "any"}}], "order: given 'any'"),
    ],
)
def test_wrong_operations_are_told(ops, message):
    with pytest.raises(UserError, match=message):
        augment.pipeline.check("augmentation", {"ops": ops}, {})
