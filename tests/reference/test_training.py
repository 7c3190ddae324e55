"""Networks and optimisers from the formulas train as torch's do: the same losses, tensors and names, by config."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

import cnnexp
from cnnexp.errors import UserError
from cnnexp.models.convnet import convnet
from cnnexp.models.summary import summarise
from cnnexp.optim import optimizers as torchs
from cnnexp.records.run_record import RunRecord
from cnnexp.reference import layers, optimizers, update_rules
from cnnexp.reference.comparison import largest_difference
from cnnexp.reference.convolution import CONVOLUTIONS
from cnnexp.reference.layers import BY_FORMULA, compute_by_formula
from cnnexp.reference.update_rules import RuleOptimizer
from cnnexp.training.plan import Plan

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
BLOCKS: list[Any] = [
    {"conv": {"out": 6, "kernel": 3, "stride": 2}},
    {"conv": {"out": 4, "kernel": 3, "dilation": 2, "groups": 2, "bias": False}},
    {"pool": {"kernel": 3, "stride": 2}},
    {"conv": {"out": 5, "kernel": 2, "padding": 1, "activation": "tanh"}},
    {"fc": {"out": 7}},
    {"fc": {"out": 6, "norm": "layer", "bias": False}},
]
IMPLS = ["im2col", "loops"]


def network(impl: str, norm: str = "batch") -> nn.Sequential:
    """Build a network with every layer of this package, with the same initial weights each time."""
    torch.manual_seed(3)
    dropout, head = {"pool": 0.0, "fc": 0.0}, {"norm": "batch"}
    return convnet((3, 9, 8), 5, BLOCKS, norm, dropout, "relu", "kaiming", head, impl=impl)  # type: ignore[arg-type]


def images(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(4, 3, 9, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def passes(model: nn.Sequential, x: Tensor) -> list[Tensor]:
    """Pass forward and backward twice, and forward in eval mode; return all outputs, gradients and statistics."""
    found: list[Tensor] = []
    for _ in range(2):
        model.zero_grad()
        y = model.train()(x)
        y.square().sum().backward()
        found += [y.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]
    return [*found, *model.buffers(), model.eval()(x).detach()]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("impl", IMPLS)
def test_a_network_is_torchs(impl: str, layout: torch.memory_format) -> None:
    mine, theirs = network(impl).double(), network("torch").double()
    kinds = {type(module) for module in mine.modules()}
    assert set(BY_FORMULA.values()) <= kinds and not set(BY_FORMULA) & kinds
    assert list(mine.state_dict()) == list(theirs.state_dict())
    x = images().contiguous(memory_format=layout)
    found = passes(mine.to(memory_format=layout), x)
    expected = passes(theirs.to(memory_format=layout), x)
    assert largest_difference(found, expected) < 1e-11
    theirs.load_state_dict(mine.state_dict())
    assert largest_difference([mine(x).detach()], [theirs(x).detach()]) < 1e-11


def test_the_images_gradient_is_computed_only_if_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    way = CONVOLUTIONS["im2col"]
    spy = way._replace(input_gradient=lambda *given: asked.append(1) or way.input_gradient(*given))
    monkeypatch.setitem(CONVOLUTIONS, "im2col", spy)
    model, x = network("im2col").double(), images()
    model(x).sum().backward()
    assert len(asked) == 2, "of three convolutions"
    x.requires_grad_(True)
    mine, theirs = (torch.autograd.grad(net(x).square().sum(), x) for net in (model, network("torch").double()))
    assert len(asked) == 5 and largest_difference(mine, theirs) < 1e-11


@pytest.mark.parametrize("impl", IMPLS)
def test_the_cost_is_counted_as_torchs(impl: str) -> None:
    mine, theirs = (summarise(network(name), (3, 9, 8)) for name in (impl, "torch"))
    assert mine.macs == theirs.macs > 0
    assert [row[2:] for row in map(tuple_of, mine.rows)] == [row[2:] for row in map(tuple_of, theirs.rows)]


def tuple_of(row: Any) -> tuple[Any, ...]:
    return (row.name, row.kind, row.output, row.parameters, row.macs, row.receptive_field)


@pytest.mark.parametrize("impl", IMPLS)
def test_products_are_in_the_precision_of_autocast_as_torchs_are(impl: str) -> None:
    model, theirs, x = network(impl), network("torch"), images(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = torch.float32 if impl == "loops" else torch.bfloat16
        assert model.conv1(x).dtype == low and theirs.conv1(x).dtype == torch.bfloat16
        torch.testing.assert_close(model.conv1(x).float(), theirs.conv1(x).float(), rtol=0.02, atol=0.02)
        mixed = model(x)
    mixed.float().square().sum().backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    model(x).square().sum().backward()
    for low_gradient, parameter in zip(gradients, model.parameters(), strict=True):
        assert parameter.grad is not None and low_gradient.dtype == torch.float32
        assert float((low_gradient - parameter.grad).norm()) < 0.2 * float(parameter.grad.norm()) + 0.1


def test_batch_norm_of_one_example_is_refused_and_a_mean_over_all_steps_is_torchs() -> None:
    norms = [nn.BatchNorm1d(3, momentum=None) for _ in range(2)]
    holder = nn.Sequential(norms[0])
    compute_by_formula(holder, "im2col")
    for step in range(3):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
        assert largest_difference([norms[0](x).detach()], [norms[1](x).detach()]) < 1e-6
    assert largest_difference(list(norms[0].buffers()), list(norms[1].buffers())) < 1e-6
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        holder(torch.ones(1, 3))


# By config.


@pytest.mark.integration
@pytest.mark.parametrize(
    ("plain", "written"),
    [
        (["optimizer=momentum"], ["optimizer=reference_momentum", "model.impl=im2col"]),
        (["optimizer=sgd", "epochs=2st"], ["optimizer=reference_sgd", "epochs=2st", "model.impl=loops"]),
        (["optimizer=adam"], ["optimizer=reference_adam"]),
        (["optimizer=rmsprop"], ["optimizer=reference_rmsprop"]),
    ],
    ids=lambda words: " ".join(words),
)
def test_training_gives_the_same_losses(
    train: Callable[..., int], runs: Callable[[], dict[str, RunRecord]], plain: list[str], written: list[str]
) -> None:
    for arm, words in (("torch", plain), ("reference", written)):
        assert train(*words, "log.steps=1st", f"study.arm={arm}") == 0
    theirs, mine = runs()["torch-s0"], runs()["reference-s0"]
    losses = [[row["loss"] for row in run.rows("step")] for run in (theirs, mine)]
    assert len(losses[0]) == theirs.info["schedule"]["total_steps"] and losses[0][0] != losses[0][-1]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    for key in ("val_loss", "test_loss", "train_loss"):
        assert mine.info["result"][key] == pytest.approx(theirs.info["result"][key], rel=1e-3)
    assert mine.name != theirs.name and mine.info["model"] == theirs.info["model"]
    if "model.impl=im2col" in written:
        model = cnnexp.load(mine.folder).model
        assert type(model.conv1) is layers.ReferenceConv2d and type(model.norm1) is layers.ReferenceBatchNorm2d


@pytest.mark.integration
def test_torchs_layers_are_the_neutral_choice(plan: Callable[..., Plan]) -> None:
    plain = plan().fingerprint
    assert plan("~model.impl").fingerprint == plan("model.impl=torch").fingerprint == plain
    assert len({plain, plan("model.impl=im2col").fingerprint, plan("model.impl=loops").fingerprint}) == 3


def test_an_unknown_choice_is_an_error(train: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert train("model.impl=im2cal") == 2
    assert capsys.readouterr().err == "cnnexp: model.impl: given 'im2cal'; allowed: one of torch, im2col, loops\n"


@pytest.mark.parametrize("name", ["adam", "sgd", "momentum", "rmsprop"])
def test_the_settings_are_those_of_the_shipped_optimiser(name: str) -> None:
    mine, theirs = (
        yaml.safe_load((CONFIGS / "optimizer" / f"{n}.yaml").read_text()) for n in (f"reference_{name}", name)
    )
    for node in (mine, theirs):
        node.pop("_target_", None), node.pop("defaults", None)
    assert mine == theirs


SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("adam", {"lr": 0.01, "betas": [0.8, 0.9], "eps": 1e-6, "weight_decay": 0.1}),
    ("sgd", {"lr": 0.01, "momentum": 0.0, "nesterov": False, "weight_decay": 0.1}),
    ("sgd", {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("rmsprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-6, "momentum": 0.5, "weight_decay": 0.1}),
]


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_optimisers_step_as_the_shipped_ones(name: str, settings: dict[str, Any]) -> None:
    start = [torch.linspace(-1, 1, 12).reshape(3, 4), torch.linspace(0.5, 2, 5)]
    mine, theirs = ([nn.Parameter(t.clone()) for t in start] for _ in range(2))
    unused = nn.Parameter(torch.ones(2))
    for params, module in ((mine, optimizers), (theirs, torchs)):
        own = getattr(module, name)(iter([*params, unused]), **settings)
        for step in range(20):
            own.zero_grad()
            sum(((p - 0.3) ** 2 * (step % 3 + 1)).sum() + p.sin().sum() for p in params).backward()
            own.param_groups[0]["lr"] = settings["lr"] / (1 + step)  # as a schedule does
            own.step()
    assert largest_difference([p.detach() for p in mine], [p.detach() for p in theirs]) < 1e-6
    assert torch.equal(unused, torch.ones(2)) and not torch.allclose(mine[0], start[0], atol=1e-2)


@pytest.mark.parametrize(("rule", "settings"), [(update_rules.adam, {"betas": (0.9, 0.99), "eps": 1e-8}),
                                                (update_rules.momentum, {"momentum": 0.9})])  # fmt: skip
def test_a_restored_optimiser_continues_bit_for_bit(rule: Any, settings: dict[str, Any]) -> None:
    def steps(weights: nn.Parameter, own: RuleOptimizer, number: int) -> None:
        for _ in range(number):
            own.zero_grad()
            weights.sin().sum().backward()
            own.step()

    whole, cut = (nn.Parameter(torch.linspace(-1, 1, 9)) for _ in range(2))
    steps(whole, RuleOptimizer([whole], rule, 0.01, lr=0.1, **settings), 6)
    first = RuleOptimizer([cut], rule, 0.01, lr=0.1, **settings)
    steps(cut, first, 3)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    second = RuleOptimizer([cut], rule, 0.0, lr=1.0, **settings)
    second.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    steps(cut, second, 3)
    assert torch.equal(whole, cut)


def test_nesterov_needs_momentum() -> None:
    node = {"nesterov": True, "momentum": 0.0}
    with pytest.raises(UserError, match=r"optimizer\.nesterov: given true .* needs momentum > 0"):
        optimizers.sgd.check("optimizer", node, {})  # type: ignore[attr-defined]
    optimizers.sgd.check("optimizer", {**node, "momentum": 0.5}, {})  # type: ignore[attr-defined]
