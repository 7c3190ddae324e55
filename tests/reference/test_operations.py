"""The other operations written from their formulas: torch's numbers and gradients, and finite differences."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from cnnexp.models.choices import ACTIVATIONS as NAMES
from cnnexp.optim.lean import lean, spare_compiler
from cnnexp.reference import OPERATIONS, dense, normalization, operations, update_rules
from cnnexp.reference.activations import ACTIVATIONS
from cnnexp.reference.catalogue import catalogue
from cnnexp.reference.comparison import Run, by_autograd, draw, largest_difference, numeric_gradients
from cnnexp.reference.operations import EPS
from cnnexp.reference.pooling import MAX_POOLS

ROUNDING = 1e-12
Shapes = Sequence[tuple[int, ...]]


def same(mine: Run, theirs: Run, shapes: Shapes, finite: bool = True) -> None:
    """Hold shape, dtype, output and gradients to torch's in both precisions, and gradients to finite differences."""
    inputs, upstream = draw(shapes)
    found = mine(inputs, upstream)
    assert largest_difference(found, theirs(inputs, upstream)) < ROUNDING
    single = draw(shapes, torch.float32)
    assert largest_difference(mine(*single), theirs(*single)) < 1e-4
    if finite:
        assert largest_difference(found[1:], numeric_gradients(mine, inputs, upstream)) < 1e-7


def test_the_catalogue_is_what_the_command_names() -> None:
    assert tuple(catalogue()) == OPERATIONS


@pytest.mark.parametrize("way", MAX_POOLS)
@pytest.mark.parametrize(
    ("kernel", "stride"), [((2, 2), (2, 2)), ((3, 3), (2, 2)), ((2, 3), (1, 2)), ((3, 1), (4, 1)), ((1, 1), (1, 1))]
)
def test_max_pooling(kernel: tuple[int, int], stride: tuple[int, int], way: str) -> None:
    theirs = by_autograd(lambda x: functional.max_pool2d(x, kernel, stride))
    height, width = ((size - k) // s + 1 for size, k, s in zip((7, 6), kernel, stride, strict=True))
    shapes = [(1, 2, 7, 6), (1, 2, height, width)]
    same(operations.max_pool(way, kernel, stride), theirs, shapes, finite=way == "im2col")


@pytest.mark.parametrize("way", MAX_POOLS)
def test_of_equal_numbers_the_first_gets_the_gradient(way: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 2, (2, 2, 7, 7), generator=generator).double()  # ties in every window
    upstream = torch.randn(2, 2, 3, 3, generator=generator, dtype=torch.float64)
    found = operations.max_pool(way, (3, 3), (2, 2))([x], upstream)
    assert largest_difference(found, by_autograd(lambda x: functional.max_pool2d(x, 3, 2))([x], upstream)) < ROUNDING


@pytest.mark.parametrize(("n", "d", "f"), [(1, 1, 1), (5, 4, 3), (2, 7, 1)])
def test_affine(n: int, d: int, f: int) -> None:
    same(operations.affine, by_autograd(functional.linear), [(n, d), (f, d), (f,), (n, f)])
    x = torch.ones(n, d)
    assert torch.equal(dense.affine(x, torch.ones(f, d), None), torch.full((n, f), float(d)))


def torch_batch_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return functional.batch_norm(x, None, None, scale, shift, training=True, eps=EPS)


@pytest.mark.parametrize("run", [operations.batch_norm_graph, operations.batch_norm], ids=["graph", "simplified"])
@pytest.mark.parametrize(("n", "d"), [(2, 3), (7, 4), (31, 1)])
def test_batch_norm_the_long_way_and_simplified(n: int, d: int, run: Run) -> None:
    same(run, by_autograd(torch_batch_norm), [(n, d), (d,), (d,), (n, d)])


@pytest.mark.parametrize("run", [operations.batch_norm_graph, operations.batch_norm], ids=["graph", "simplified"])
def test_spatial_batch_norm_is_batch_norm_of_pixels(run: Run) -> None:
    image = (2, 3, 5, 4)
    same(operations.spatial(run), by_autograd(torch_batch_norm), [image, (3,), (3,), image])


@pytest.mark.parametrize(("n", "d"), [(1, 6), (5, 4), (3, 31)])
def test_layer_norm(n: int, d: int) -> None:
    theirs = by_autograd(lambda x, scale, shift: functional.layer_norm(x, (d,), scale, shift, EPS))
    same(operations.layer_norm, theirs, [(n, d), (d,), (d,), (n, d)])


def test_batch_norm_follows_and_uses_running_statistics_as_torch_does() -> None:
    (x, mean, spread, scale, shift), _ = draw([(9, 4), (4,), (4,), (4,), (4,), ()])
    variance = spread.square()
    theirs = mean.clone(), variance.clone()
    functional.batch_norm(x, *theirs, training=True, momentum=0.3)
    mine = normalization.running(mean, x.mean(0), 0.3), normalization.running(variance, x.var(0), 0.3)
    assert largest_difference(mine, theirs) < ROUNDING
    y = normalization.batch_norm_predict(x, scale, shift, mean, variance, EPS)
    assert largest_difference([y], [functional.batch_norm(x, mean, variance, scale, shift, eps=EPS)]) < ROUNDING


def test_every_activation_of_a_network_is_here() -> None:
    assert {*ACTIVATIONS, "none"} == set(NAMES)


TORCHS: dict[str, Any] = {
    "leaky_relu": lambda z, slope: functional.leaky_relu(z, slope),
    "elu": lambda z, alpha: functional.elu(z, alpha),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


@pytest.mark.parametrize(
    ("name", "settings"),
    [*((name, NAMES[name]) for name in ACTIVATIONS), ("leaky_relu", {"slope": 0.3}), ("elu", {"alpha": 0.3})],
)
def test_activations(name: str, settings: dict[str, float]) -> None:
    reference = TORCHS.get(name) or getattr(functional, name)
    theirs = by_autograd(lambda z: reference(z, *settings.values()))
    same(operations.activation(name, **settings), theirs, [(9, 7), (9, 7)])
    edges = torch.tensor([0.0, -1e3, 1e3, -30.0, 30.0], dtype=torch.float64)
    found = operations.activation(name, **settings)([edges], torch.ones_like(edges))
    assert largest_difference(found, theirs([edges], torch.ones_like(edges))) < 1e-10


def test_softmax_cross_entropy() -> None:
    theirs = by_autograd(lambda z: functional.cross_entropy(z, operations.labels_of(z)))
    for n, k in ((1, 2), (7, 3), (4, 10)):
        same(operations.cross_entropy, theirs, [(n, k), ()])
    large = torch.tensor([[1e4, 0.0], [0.0, -1e4]], dtype=torch.float64)
    labels = torch.tensor([0, 1])
    assert float(dense.cross_entropy(large, labels)) == 5e3
    assert dense.softmax(large).sum(1).tolist() == [1, 1]
    assert float(dense.cross_entropy(torch.zeros(3, 10), torch.tensor([1, 2, 3]))) == pytest.approx(math.log(10))


def test_inverted_dropout_is_torchs_with_the_same_units() -> None:
    same(operations.dropout_inverted, by_autograd(operations.torch_dropout), [(3, 20), (3, 20)])


def test_vanilla_dropout_keeps_units_as_they_are_and_scales_at_prediction() -> None:
    (x,), upstream = draw([(3, 20), (3, 20)])
    y, gradient, predicted = operations.dropout_vanilla([x], upstream)
    kept = y != 0
    assert 0 < int(kept.sum()) < 60
    assert torch.equal(y, torch.where(kept, x, 0)) and torch.equal(gradient, torch.where(kept, upstream, 0))
    assert torch.equal(predicted, 0.75 * x)
    theirs = operations.torch_dropout_vanilla([x], upstream)
    assert largest_difference([y, gradient, predicted], theirs) < 1e-12


@pytest.mark.parametrize("keep", [1.0, 0.8, 0.25])
def test_both_dropouts_are_the_same_in_expectation(keep: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.linspace(-2, 3, 6, dtype=torch.float64)
    masks = dense.draw_mask((40_000, 6), keep, generator)
    assert float(masks.double().mean()) == pytest.approx(keep, abs=0.01)
    vanilla, inverted = dense.dropout_vanilla(x, masks), dense.dropout_inverted(x, masks, keep)
    torch.testing.assert_close(vanilla.mean(0), dense.predict_vanilla(x, keep), atol=0.05, rtol=0)
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
