"""Augmentation against torchvision's v2 functions, image by image, with the same parameters."""

import itertools
import math

import pytest
import torch
import yaml
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from cnnexp import rng
from cnnexp.config import compose as config
from cnnexp.data import augment, transforms
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
    assert torch.equal(transforms.apply_flip(layout(x), chosen), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(20, 24), (9, 5), (16, 16)])
def test_rotation_agrees_with_torchvision(channels, height, width, layout):
    x, degrees = images(channels, 12, height, width), torch.linspace(-180, 180, 12)
    expected = [
        tv.rotate(i, d.item(), InterpolationMode.BILINEAR, expand=False) for i, d in zip(x, degrees, strict=True)
    ]
    found = transforms.apply_rotation(layout(x), degrees)
    torch.testing.assert_close(found, torch.stack(expected), atol=2e-5, rtol=0)


def test_a_rotation_by_90_degrees_moves_pixels_and_by_0_none():
    x = images(height=16, width=16)
    torch.testing.assert_close(
        transforms.apply_rotation(x, torch.full((12,), 90.0)), x.rot90(1, (2, 3)), atol=1e-5, rtol=0
    )
    # a coordinate of 16 framed pixels is off by up to 16 * 2**-24, and the image by as much of a step between pixels
    torch.testing.assert_close(transforms.apply_rotation(x, torch.zeros(12)), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(20, 24), (9, 5), (64, 64)])
def test_a_frame_of_zeros_is_grid_samples_own_padding(height, width):
    x, degrees = images(3, 12, height, width), torch.linspace(-60, 60, 12)
    theta = torch.stack([_matrix(d, height, width) for d in degrees])
    grid = torch.nn.functional.affine_grid(theta, list(x.shape), align_corners=False)
    expected = torch.nn.functional.grid_sample(x, grid, padding_mode="zeros", align_corners=False)
    torch.testing.assert_close(transforms.apply_rotation(x, degrees), expected, atol=2e-5, rtol=0)


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
    assert [(operation.__name__, settings) for operation, settings in augment.merged(ops)] == [
        ("rotate", {"degrees": 5}),
        ("flip", {"p": 0.5}),
        ("flip_and_rotate", {"p": 0.1, "degrees": 2}),
    ]


def test_crop_agrees_with_padding_and_cropping(layout):
    x, offsets = images(), torch.randint(0, 9, (2, 12), generator=rng.generator(0, "crop"))
    places = zip(x, *offsets.tolist(), strict=True)
    expected = [tv.crop(tv.pad(i, [4]), top, left, 20, 24) for i, top, left in places]
    assert torch.equal(transforms.apply_crop(layout(x), offsets, 4), torch.stack(expected))


ADJUST = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)


@pytest.mark.parametrize(("kinds", "count"), [(3, 12), (4, 48)])
@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_agrees_with_torchvision_in_every_order(channels, kinds, count, layout):
    orders = torch.tensor(list(itertools.permutations(range(kinds))) * 2)
    factors = torch.rand(count, kinds, generator=rng.generator(0, "factors")) * 2  # up to 2: most images are clamped
    if kinds == 4:
        factors[:, 3] = factors[:, 3] / 2 - 0.5
    x = images(channels, count)
    expected = x.clone()
    for n in range(count):
        for kind in orders[n].tolist():
            expected[n] = ADJUST[kind](expected[n], factors[n, kind].item())
    atol = 2e-6 if kinds == 3 else 5e-5  # a contrast of 2 after a saturation of 2 makes four of a hue's rounding
    torch.testing.assert_close(transforms.apply_jitter(layout(x), factors, orders), expected, atol=atol, rtol=0)


def test_hue_agrees_with_torchvision_for_grays_and_for_colours_with_two_equal_channels():
    x = torch.tensor(list(itertools.product((0.0, 0.5, 1.0), repeat=3))).view(27, 3, 1, 1)
    turns = torch.linspace(-0.5, 0.5, 27)
    factors = torch.cat([torch.ones(27, 3), turns.view(-1, 1)], dim=1)
    expected = torch.stack([tv.adjust_hue(i, t) for i, t in zip(x, turns.tolist(), strict=True)])
    found = transforms.apply_jitter(x.clone(), factors, torch.tensor([[0, 1, 2, 3]] * 27))
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
    gray = (x == x[:, :1]).all(dim=1).flatten()
    assert gray.sum() == 3 and torch.equal(found[gray], x[gray])


def test_without_hue_only_three_changes_are_drawn(monkeypatch):
    x = torch.zeros(40, 3, 2, 2)
    settings = {"brightness": 0.2, "contrast": 1.5, "saturation": 0.1, "order": "random"}
    factors, orders = draws(monkeypatch, "apply_jitter", augment.jitter(**settings), x)
    generator = rng.generator(0, "draws")
    spread = torch.tensor([0.2, 1.5, 0.1])
    low = (1 - spread).clamp_(min=0)
    assert torch.equal(factors, low + (1 + spread - low) * torch.rand(40, 3, generator=generator))
    drawn = torch.rand(40, 3, generator=generator).argsort(dim=1)
    assert torch.equal(orders, drawn[(drawn[:, 0] * 3 + drawn[:, 1]).argsort()])
    for other in (draws(monkeypatch, "apply_jitter", augment.jitter(**settings, hue=hue), x) for hue in (0, 0.0)):
        assert torch.equal(other[0], factors) and torch.equal(other[1], orders)


@pytest.mark.parametrize("channels", [1, 3])
def test_grayscale_agrees_with_torchvision_and_leaves_the_others(channels, layout):
    x, chosen = images(channels), torch.arange(12) % 3 == 0
    expected = [
        tv.rgb_to_grayscale(i, num_output_channels=channels) if c else i for i, c in zip(x, chosen, strict=True)
    ]
    torch.testing.assert_close(transforms.apply_grayscale(layout(x), chosen), torch.stack(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("kernel", "height", "width"), [(1, 20, 24), (3, 20, 24), (3, 2, 2), (7, 9, 5)])
def test_blur_agrees_with_torchvision(channels, kernel, height, width, layout):
    x, sigma = images(channels, 12, height, width), torch.linspace(0.1, 3, 12)
    expected = [tv.gaussian_blur(i, [kernel] * 2, [s] * 2) for i, s in zip(x, sigma.tolist(), strict=True)]
    torch.testing.assert_close(
        transforms.apply_blur(layout(x), sigma, kernel), torch.stack(expected), atol=2e-6, rtol=0
    )


def test_orders_matter_so_that_the_test_above_can_fail():
    x, factors = images(), torch.full((12, 3), 1.7)
    first, second = (
        transforms.apply_jitter(x.clone(), factors, torch.tensor([o] * 12)) for o in ((0, 1, 2), (2, 1, 0))
    )
    assert (first - second).abs().max() > 0.05


def draws(monkeypatch, name: str, operation, x: torch.Tensor) -> tuple:
    """Return the parameters with which an operation calls its `apply_...` function."""
    seen: list[tuple] = []
    monkeypatch.setattr(transforms, name, lambda x, *parameters: seen.append(parameters) or x)
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
    (chosen,) = draws(monkeypatch, "apply_grayscale", augment.grayscale(p=0.2), x)
    assert abs(chosen.float().mean() - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 4000)
    sigma, kernel = draws(monkeypatch, "apply_blur", augment.blur(kernel=3, sigma=[0.1, 2.0]), x)
    assert kernel == 3 and sigma.unique().numel() > 3900
    assert 0.1 <= sigma.min() < 0.11 and 1.99 < sigma.max() <= 2.0


def test_with_hue_every_image_draws_a_rotation_and_one_of_the_24_orders(monkeypatch):
    x = torch.zeros(4000, 1, 2, 2)
    settings = {"brightness": 0.2, "contrast": 1.5, "saturation": 0.0, "hue": 0.1}
    factors, orders = draws(monkeypatch, "apply_jitter", augment.jitter(**settings, order="random"), x)
    low, high = factors.min(dim=0).values, factors.max(dim=0).values
    torch.testing.assert_close(low, torch.tensor([0.8, 0.0, 1.0, -0.1]), atol=0.01, rtol=0)
    torch.testing.assert_close(high, torch.tensor([1.2, 2.5, 1.0, 0.1]), atol=0.01, rtol=0)
    codes, counts = transforms.order_codes(orders).unique(return_counts=True)
    assert len(counts) == 24 and (counts - 4000 / 24).abs().max() < 5 * math.sqrt(4000 / 24)
    found = [tuple(orders[transforms.order_codes(orders) == code].unique(dim=0)[0].tolist()) for code in codes.tolist()]
    assert found == list(itertools.permutations(range(4)))
    _, fixed = draws(monkeypatch, "apply_jitter", augment.jitter(**settings, order="fixed"), x)
    assert fixed.unique(dim=0).tolist() == [[0, 1, 2, 3]]


def read(group: str, name: str) -> dict:
    return yaml.safe_load((config.folder() / group / f"{name}.yaml").read_text())


@pytest.mark.parametrize("name", sorted(file.stem for file in (config.folder() / "augmentation").glob("*.yaml")))
def test_shipped_pipelines_are_checked_pure_and_keep_the_range(name):
    node = read("augmentation", name)
    augment.check("augmentation", node, {})
    pipeline, x = augment.pipeline(node["ops"]), images()
    first, second, other = (pipeline(x.clone(), rng.generator(s, "augment", 3)) for s in (0, 0, 1))
    assert torch.equal(first, second)
    assert torch.equal(first, x) == torch.equal(first, other) == (name == "none")
    assert first.shape == x.shape and first.min() >= 0 and first.max() <= 1


@pytest.mark.parametrize(
    ("ops", "message"),
    [
        ([{"rotat": {"degrees": 1}}], r"augmentation.ops\[0\]: unknown operation 'rotat'.*did you mean 'rotate'"),
        ([{"flip": {"p": 0.5}}, {"rotate": {"degree": 1}}], r"ops\[1\].rotate.degree: unknown key 'degree'"),
        ([{"flip": {"p": 1.5}}], r"ops\[0\].flip.p: given 1.5; allowed: a number >= 0 and <= 1"),
        ([{"flip": None}], r"ops\[0\].flip.p: is missing"),
        ([{"flip": 0.5}], r"ops\[0\].flip: given 0.5; allowed: a mapping"),
        (["flip"], r"ops\[0\].flip.p: is missing"),
        ([3], r"ops\[0\]: given 3; allowed: one operation by its name, or with settings, as `flip: {p: 0.5}`"),
        ([["flip"]], r"ops\[0\]: given \['flip'\]; allowed: one operation"),
        ([{"jitter": {"brightness": 0, "contrast": 0, "saturation": 0, "order": "any"}}], "order: given 'any'"),
        (
            [{"jitter": {"brightness": 0, "contrast": 0, "saturation": 0, "order": "random", "hue": 0.6}}],
            r"ops\[0\].jitter.hue: given 0.6; allowed: a number >= 0 and <= 0.5",
        ),
        ([{"grayscale": {}}], r"ops\[0\].grayscale.p: is missing"),
        ([{"blur": {"kernel": 4, "sigma": [1, 2]}}], r"ops\[0\].blur.kernel: given 4; allowed: an odd number"),
        ([{"blur": {"kernel": 3, "sigma": [2, 1]}}], r"blur.sigma: given \[2, 1\]; allowed: \[low, high\]"),
        ([{"blur": {"kernel": 3, "sigma": 2}}], r"blur.sigma: given 2; allowed: a list of 2 values, each a number > 0"),
        ([{"blur": {"kernel": 3, "sigma": [0, 2]}}], r"blur.sigma: given \[0, 2\]; allowed: a list of 2 values"),
        ([{"blur": {"kernel": 17, "sigma": [1, 2]}}], r"blur.kernel: given 17; allowed: below 16, .* 8 pixels wide"),
    ],
)
def test_wrong_operations_are_errors(ops, message):
    with pytest.raises(UserError, match=message):
        augment.pipeline.check("augmentation", {"ops": ops}, {"data": {"size": 8}})
