"""Frozen means frozen: bit for bit, after steps with momentum and weight decay."""

import pickle
from copy import deepcopy

import pytest
import torch
from torch import nn

from cnnexp.errors import UserError
from cnnexp.models.freeze import freeze_weights, set_batch_norm

STATISTICS = {"1.running_mean", "1.running_var", "1.num_batches_tracked", "4.running_mean", "4.running_var"}
STATISTICS |= {"4.num_batches_tracked"}
AFFINE = {"1.weight", "1.bias", "4.weight", "4.bias"}
BACKBONE = {"0.weight", "0.bias", "3.weight", "3.bias"}
HEAD = {"6.weight", "6.bias"}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    convs = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Flatten()]
    model = nn.Sequential(*convs, nn.Linear(96, 3))
    for name, tensor in model.state_dict().items():
        if name in AFFINE or name.endswith("running_mean"):
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    return model


def changed_by_training(model: nn.Module) -> set[str]:
    """Take three steps with momentum and weight decay, calling train() and eval() in between; name what changed."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9, weight_decay=0.1
    )
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        model.eval()
        model.train()
        x = torch.randn(8, 3, 8, 8, generator=generator) + 1
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), torch.arange(8) % 3).backward()
        optimizer.step()
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize("freeze", ["none", "backbone"])
@pytest.mark.parametrize(("bn", "adapts"), [("train", STATISTICS | AFFINE), ("stats", STATISTICS), ("frozen", set())])
def test_only_what_is_not_frozen_changes(freeze: str, bn: str, adapts: set[str]) -> None:
    model = network()
    freeze_weights(model, freeze, head="6")
    set_batch_norm(model, bn)  # type: ignore[arg-type]
    assert changed_by_training(model) == HEAD | adapts | (BACKBONE if freeze == "none" else set())


def test_frozen_batch_norm_normalises_with_its_stored_statistics_in_training_too() -> None:
    model, reference = network(), network().eval()
    set_batch_norm(model, "frozen")
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(model(x), reference(x))  # before any train() or eval()
    assert torch.equal(model.train()(x), reference(x))
    assert list(model.state_dict()) == list(reference.state_dict())


def test_frozen_copies_keep_the_settings_of_the_originals() -> None:
    odd = nn.Sequential(nn.BatchNorm1d(3, eps=0.1, momentum=0.4, affine=False).double())
    x = torch.randn(5, 3, dtype=torch.float64)
    odd(x)
    expected = odd.eval()(x)
    set_batch_norm(odd, "frozen")
    assert torch.equal(odd.train()(x), expected)
    assert isinstance(odd[0], nn.BatchNorm1d) and odd[0].momentum == 0.4


class NormAndActivation(nn.BatchNorm2d):
    """As timm's BatchNormAct2d."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).relu()


def test_batch_norms_of_any_class_freeze_and_can_be_copied_and_pickled() -> None:
    model = nn.Sequential(NormAndActivation(3))
    x = torch.randn(4, 3, 5, 5)
    expected = model.eval()(x)
    set_batch_norm(model, "frozen")
    assert expected.min() == 0
    for same in (model, deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(same.train()(x), expected) and not same[0].training


def test_a_batch_norm_used_in_two_places_stays_one() -> None:
    norm = nn.BatchNorm2d(3)
    inner = nn.Sequential(norm)
    model = nn.Sequential(norm, nn.ReLU(), inner)
    set_batch_norm(model, "frozen")
    assert model[0] is inner[0] and not model[0].training


def test_patterns_freeze_modules_and_parameters_by_name() -> None:
    model = network()
    assert freeze_weights(model, ["0", "3.b*"], head="6") == ["0.weight", "0.bias", "3.bias"]
    assert changed_by_training(model) == STATISTICS | AFFINE | {"3.weight"} | HEAD


@pytest.mark.parametrize("pattern", ["layer1", "1"])
def test_a_pattern_that_matches_nothing_is_an_error(pattern: str) -> None:
    message = rf"model\.freeze: '{pattern}' matches no weight \(batch norm is left to bn\) in 0, 1, 2, 3, 4, 5, 6"
    with pytest.raises(UserError, match=message):
        freeze_weights(network(), ["0", pattern], head="6")


def test_a_batch_norm_mode_without_batch_norm_is_an_error() -> None:
    message = "model.bn: given stats, but the network has no batch normalisation; allowed here: train"
    with pytest.raises(UserError, match=message):
        set_batch_norm(nn.Sequential(nn.Linear(2, 2)), "stats")
    learns, frozen = (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)) for _ in range(2))
    with pytest.raises(UserError, match=r"model\.bn: given frozen, but the network has no batch normalisation"):
        set_batch_norm(learns, "frozen")
    freeze_weights(frozen, "backbone", head="2")
    set_batch_norm(frozen, "frozen")  # nothing below the head adapts, so that its features can be computed once
    assert [name for name, p in frozen.named_parameters() if p.requires_grad] == ["2.weight", "2.bias"]
    stateless = nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False))
    with pytest.raises(UserError, match=r"model\.bn: frozen is not possible for BatchNorm2d without stored statistics"):
        set_batch_norm(stateless, "frozen")
