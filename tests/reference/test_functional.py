"""Operations other than convolution by their formulas: torch's numbers and gradients, and finite differences."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional as torchs

from cnnexp.models.choices import ACTIVATIONS as NAMES
from cnnexp.optim.lean import lean, spare_compiler
from cnnexp.reference import OPERATIONS, catalogue, dense, functional, normalization, update_rules
from cnnexp.reference.activations import ACTIVATIONS
from cnnexp.reference.catalogue import BATCH_NORMS, EPS, KEEP
from cnnexp.reference.comparison import draw, largest_difference, passes
from cnnexp.reference.pooling import MAX_POOLS

ROUNDING = 1e-12
DTYPES = (torch.float64, torch.float32)
Shapes = Sequence[tuple[int, ...]]


def same(
    mine: Callable[..., Tensor], theirs: Callable[..., Tensor], shapes: Shapes, dtypes: Sequence[torch.dtype] = DTYPES
) -> None:
    """Compare shape, dtype, output and gradients with torch's, and gradients with finite differences."""
    for dtype in dtypes:
        given = draw(shapes, dtype)
        difference = largest_difference(passes(mine, *given), passes(theirs, *given))
        assert difference < (ROUNDING if dtype == torch.float64 else 1e-4)
    inputs = [tensor.requires_grad_() for tensor in draw(shapes)[0]]
    assert gradcheck(mine, inputs, atol=1e-7, rtol=0)


def test_the_catalogue_is_what_the_command_names() -> None:
    assert tuple(catalogue.catalogue()) == OPERATIONS


@pytest.mark.parametrize("way", MAX_POOLS)
@pytest.mark.parametrize(
    ("kernel", "stride"), [((2, 2), (2, 2)), ((3, 3), (2, 2)), ((2, 3), (1, 2)), ((3, 1), (4, 1)), ((1, 1), (1, 1))]
)
def test_max_pooling(kernel: tuple[int, int], stride: tuple[int, int], way: str) -> None:
    mine = partial(functional.max_pool2d, kernel=kernel, stride=stride, impl=way)
    height, width = ((size - k) // s + 1 for size, k, s in zip((7, 6), kernel, stride, strict=True))
    same(mine, lambda x: torchs.max_pool2d(x, kernel, stride), [(1, 2, 7, 6), (1, 2, height, width)])


@pytest.mark.parametrize("way", MAX_POOLS)
def test_of_equal_numbers_the_first_gets_the_gradient(way: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 2, (2, 2, 7, 7), generator=generator).double()  # ties in every window
    upstream = torch.randn(2, 2, 3, 3, generator=generator, dtype=torch.float64)
    found = passes(lambda x: functional.max_pool2d(x, (3, 3), (2, 2), way), [x], upstream)
    assert largest_difference(found, passes(lambda x: torchs.max_pool2d(x, 3, 2), [x], upstream)) < ROUNDING


@pytest.mark.parametrize(("n", "d", "f"), [(1, 1, 1), (5, 4, 3), (2, 7, 1)])
def test_affine(n: int, d: int, f: int) -> None:
    same(functional.linear, torchs.linear, [(n, d), (f, d), (f,), (n, f)])
    x = torch.ones(n, d)
    assert torch.equal(dense.affine(x, torch.ones(f, d), None), torch.full((n, f), float(d)))


@pytest.mark.parametrize("name", BATCH_NORMS)
@pytest.mark.parametrize(("n", "d"), [(2, 3), (7, 4), (31, 1)])
def test_batch_norm_by_its_graph_and_simplified(n: int, d: int, name: str) -> None:
    same(BATCH_NORMS[name], catalogue.torch_batch_norm, [(n, d), (d,), (d,), (n, d)])


@pytest.mark.parametrize("name", BATCH_NORMS)
def test_spatial_batch_norm_is_batch_norm_of_pixels(name: str) -> None:
    image = (2, 3, 5, 4)
    same(catalogue.spatial(BATCH_NORMS[name]), catalogue.torch_batch_norm, [image, (3,), (3,), image])


@pytest.mark.parametrize(("n", "d"), [(1, 6), (5, 4), (3, 31)])
def test_layer_norm(n: int, d: int) -> None:
    mine = partial(functional.layer_norm, eps=EPS)
    same(mine, lambda x, *affine: torchs.layer_norm(x, (d,), *affine, EPS), [(n, d), (d,), (d,), (n, d)])


def test_batch_norm_updates_and_uses_running_statistics_as_torch_does() -> None:
    (x, mean, spread, scale, shift), _ = draw([(9, 4), (4,), (4,), (4,), (4,), ()])
    variance = spread.square()
    theirs = mean.clone(), variance.clone()
    torchs.batch_norm(x, *theirs, training=True, momentum=0.3)
    mine = normalization.running(mean, x.mean(0), 0.3), normalization.running(variance, x.var(0), 0.3)
    assert largest_difference(mine, theirs) < ROUNDING
    y = normalization.batch_norm_predict(x, scale, shift, mean, variance, EPS)
    assert largest_difference([y], [torchs.batch_norm(x, mean, variance, scale, shift, eps=EPS)]) < ROUNDING


def test_every_activation_of_a_network_is_here() -> None:
    assert {*ACTIVATIONS, "none"} == set(NAMES)


@pytest.mark.parametrize(
    ("name", "settings"),
    [*((name, NAMES[name][1]) for name in ACTIVATIONS), ("leaky_relu", {"slope": 0.3}), ("elu", {"alpha": 0.3})],
)
def test_activations(name: str, settings: dict[str, float]) -> None:
    mine = partial(functional.activation, name=name, **settings)

    def theirs(z: Tensor) -> Tensor:
        return catalogue.torch_activation(name)(z, *settings.values())

    same(mine, theirs, [(9, 7), (9, 7)])
    edges = torch.tensor([0.0, -3.0, 3.0, -1e3, 1e3, -30.0, 30.0], dtype=torch.float64)
    found, expected = (passes(f, [edges], torch.ones_like(edges)) for f in (mine, theirs))
    assert largest_difference(found, expected) < 1e-10


def test_softmax_cross_entropy() -> None:
    for n, k in ((1, 2), (7, 3), (4, 10)):
        labels = torch.arange(n) % k
        mine = partial(functional.cross_entropy, labels=labels)
        same(mine, partial(torchs.cross_entropy, target=labels), [(n, k), ()])
    large = torch.tensor([[1e4, 0.0], [0.0, -1e4]], dtype=torch.float64)
    labels = torch.tensor([0, 1])
    assert float(dense.cross_entropy(large, labels)) == 5e3
    assert dense.softmax(large).sum(1).tolist() == [1, 1]
    assert float(dense.cross_entropy(torch.zeros(3, 10), torch.tensor([1, 2, 3]))) == pytest.approx(math.log(10))


def test_inverted_dropout_is_torchs_with_the_same_units() -> None:
    same(catalogue.dropout, catalogue.torch_dropout, [(3, 20), (3, 20)])


def test_vanilla_dropout_keeps_units_as_they_are() -> None:
    (x,), upstream = draw([(3, 20), (3, 20)])
    y, gradient = passes(partial(catalogue.dropout, vanilla=True), [x], upstream)
    kept = y != 0
    assert 0 < int(kept.sum()) < 60
    assert torch.equal(y, torch.where(kept, x, 0)) and torch.equal(gradient, torch.where(kept, upstream, 0))
    expected = passes(lambda x: KEEP * catalogue.torch_dropout(x), [x], upstream)
    assert largest_difference([y, gradient], expected) < 1e-12


@pytest.mark.parametrize("keep", [1.0, 0.8, 0.25])
def test_both_dropouts_are_the_same_in_expectation(keep: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.linspace(-2, 3, 6, dtype=torch.float64)
    masks = torch.rand((40_000, 6), generator=generator) < keep
    assert float(masks.double().mean()) == pytest.approx(keep, abs=0.01)
    vanilla, inverted = dense.dropout_vanilla(x, masks), dense.dropout_inverted(x, masks, keep)
    torch.testing.assert_close(vanilla.mean(0), keep * x, atol=0.05, rtol=0)
    torch.testing.assert_close(inverted.mean(0), x, atol=0.1, rtol=0)
    torch.testing.assert_close(inverted, vanilla / keep)
    if keep == 1.0:
        assert torch.equal(inverted, x.expand_as(masks))


RULES: list[tuple[Any, dict[str, Any], Any]] = [
    (update_rules.sgd, {"lr": 0.1}, torch.optim.SGD),
    (update_rules.momentum, {"lr": 0.1, "momentum": 0.9}, torch.optim.SGD),
    (update_rules.momentum, {"lr": 0.1, "momentum": 0.8, "nesterov": True}, torch.optim.SGD),
    (update_rules.rmsprop, {"lr": 0.01, "alpha": 0.9, "eps": 1e-6, "momentum": 0.0}, torch.optim.RMSprop),
    (update_rules.rmsprop, {"lr": 0.01, "alpha": 0.9, "eps": 1e-6, "momentum": 0.5}, torch.optim.RMSprop),
    (update_rules.adam, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-6}, torch.optim.Adam),
]


@pytest.mark.parametrize(("rule", "settings", "optimizer"), RULES)
def test_update_rules_follow_torchs_over_many_steps(rule: Any, settings: dict[str, Any], optimizer: Any) -> None:
    weights, memory = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4), {}
    theirs = torch.nn.Parameter(weights.clone())
    spare_compiler()
    own = lean(optimizer([theirs], **settings))
    for step in range(30):
        gradient = 2 * (weights - 0.3) * (step % 3 + 1) + weights.cos()
        before = weights.clone()
        new, memory = rule(weights, gradient, memory, **settings)
        assert torch.equal(weights, before), "nothing is changed in place"
        weights, theirs.grad = new, gradient
        own.step()
        assert largest_difference([weights], [theirs.detach()]) < ROUNDING


def test_the_first_step_of_adam_is_lr_whatever_the_gradient() -> None:
    for size in (1e-3, 1.0, 1e3):  # bias correction: without it, 3.2 times that
        new, _ = update_rules.adam(torch.zeros(1), torch.tensor([size]), {}, 0.1, (0.9, 0.999), 1e-12)
        assert float(new) == pytest.approx(-0.1, rel=1e-4)
