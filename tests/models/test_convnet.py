"""Networks from blocks: the built network is the planned one, in torch's terms."""

import copy
import math
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cnnexp.commands import summary
from cnnexp.config import compose as config
from cnnexp.errors import UserError
from cnnexp.models import pooling
from cnnexp.models.blocks import BLOCKS
from cnnexp.models.choices import ACTIVATIONS
from cnnexp.models.convnet import convnet, plan
from cnnexp.models.network import LAYERS

BLOCKS_OF_ALL_KINDS: list[Any] = [
    {"conv": {"out": 8, "kernel": 5, "stride": 2, "groups": 1}},
    {"pool": {"kernel": 3, "stride": 2, "kind": "avg"}},
    {"conv": {"out": 12, "kernel": 3, "dilation": 2, "groups": 4, "bias": False, "activation": "tanh"}},
    {"conv": {"out": 6, "kernel": 2, "padding": 1, "norm": "none"}},
    {"pool": {"kernel": 2}},
    {"dropout": {"p": 0.3}},
    {"global_pool": None},
    {"fc": {"out": 7}},
    {"fc": {"out": 5, "bias": False}},
]


def build(
    blocks: list[Any] | None, image: tuple[int, int, int] = (3, 32, 32), classes: int = 10, **settings: Any
) -> Any:
    dropout = {"pool": 0.0, "fc": 0.0}
    given: dict[str, Any] = {"norm": "none", "dropout": dropout, "activation": "relu", "head": {"norm": "none"}}
    return convnet(image, classes, blocks, **(given | {"init": "default"} | settings))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_layers_are_the_planned_ones_and_fit_each_other() -> None:
    settings: dict[str, Any] = {"norm": "batch", "dropout": {"pool": 0.2, "fc": 0.5}, "head": {"norm": "batch"}}
    network = build(BLOCKS_OF_ALL_KINDS, image=(2, 41, 30), **settings).eval()
    given = {"blocks": BLOCKS_OF_ALL_KINDS, "activation": "relu", **settings}
    planned = plan("model", (2, 41, 30), 10, given)
    x = torch.zeros(3, 2, 41, 30)
    for layer, (name, module) in zip(planned, network.named_children(), strict=True):
        x = module(x)
        assert layer.name == name
    assert x.shape == (3, 10)
    assert {b if isinstance(b, str) else next(iter(b)) for b in BLOCKS_OF_ALL_KINDS} == set(BLOCKS)
    assert {layer.kind for layer in planned} | {"dropout", "layer_norm"} == set(LAYERS)


def test_a_fully_connected_net_is_the_written_out_one() -> None:
    torch.manual_seed(1)
    blocks = [{"fc": {"out": 6}}, {"fc": {"out": 5}}]
    network = build(blocks, image=(2, 3, 4), norm="layer", fc_layers="all").double().train()
    assert [type(m).__name__ for m in network] == ["Flatten", *["Linear", "LayerNorm", "ReLU"] * 2, "Linear"]
    assert network.act1.inplace
    with torch.no_grad():
        for norm in (network.norm1, network.norm2):
            norm.weight.uniform_(0.5, 2), norm.bias.uniform_(-1, 1)
    weights, x = network.state_dict(), torch.randn(7, 2, 3, 4, dtype=torch.float64)
    z = x.flatten(1)
    for layer in "12":
        z = z @ weights[f"fc{layer}.weight"].T + weights[f"fc{layer}.bias"]
        mean, variance = z.mean(1, keepdim=True), z.var(1, unbiased=False, keepdim=True)
        z = (z - mean) / torch.sqrt(variance + 1e-5) * weights[f"norm{layer}.weight"] + weights[f"norm{layer}.bias"]
        z = z.clamp(min=0)
    torch.testing.assert_close(network(x), z @ weights["head.weight"].T + weights["head.bias"])
    one = network(x[:1])  # the other images of a batch do not matter
    torch.testing.assert_close(one, network(x)[:1])
    network(x).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("large", [0, pooling.MIN_ELEMENTS])
def test_pooling_before_relu_in_place_changes_no_bit(
    monkeypatch: pytest.MonkeyPatch, norm: str, layout: torch.memory_format, large: int
) -> None:
    monkeypatch.setattr(pooling, "MIN_ELEMENTS", large)
    torch.manual_seed(4)
    blocks = [
        {"conv": {"out": 6, "kernel": 3}},
        {"pool": {"kernel": 3, "stride": 2}},
        {"conv": {"out": 8, "kernel": 3}},
    ]
    fast = build([*blocks, {"pool": {"kernel": 2}}, {"fc": {"out": 9}}], image=(3, 17, 16), norm=norm)
    names = [name for name, _ in fast.named_children()]
    assert names.index("pool1") < names.index("act1") and fast.act1.inplace and fast.act2.inplace
    written = copy.deepcopy(fast)
    parts = dict(written.named_children())
    for number in "12":  # as the blocks say: convolution, norm, ReLU, pooling
        pool, act = names.index(f"pool{number}"), names.index(f"act{number}")
        names[pool], names[act] = names[act], names[pool]
    plain = nn.Sequential(OrderedDict((name, nn.ReLU() if "act" in name else parts[name]) for name in names))
    plain.pool1, plain.pool2 = nn.MaxPool2d(3, 2), nn.MaxPool2d(2)
    x = torch.randint(-2, 3, (5, 3, 17, 16)).float().contiguous(memory_format=layout)  # many ties and many zeros
    with torch.no_grad():
        for network in (fast, plain):
            network.conv1.weight.copy_(torch.randint(-1, 2, network.conv1.weight.shape, generator=seeded(2)))
    for network in (fast, plain):
        network(x).square().sum().backward()
    assert torch.equal(fast(x), plain(x))
    for one, other in zip(fast.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad) and one.grad.abs().sum() > 0


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last, "every second channel"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, None, 0), (3, 2, 1), ((2, 3), (1, 2), 0)])
def test_a_large_pooling_does_not_keep_its_input_and_changes_no_bit(
    monkeypatch: pytest.MonkeyPatch, kernel: Any, stride: Any, padding: int, dtype: torch.dtype, layout: Any
) -> None:
    values = torch.randint(-2, 3, (3, 4, 9, 8), generator=seeded(1)).to(dtype)
    values = values[:, ::2] if layout == "every second channel" else values.contiguous(memory_format=layout)
    found = {}
    for large in (values.numel(), values.numel() + 1):
        monkeypatch.setattr(pooling, "MIN_ELEMENTS", large)
        kept: list[torch.Size] = []
        x = values.detach().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t.shape) or t, lambda t: t):
            y = pooling.MaxPool2d(kernel, stride, padding)(x)
        y.backward(torch.randint(-3, 4, y.shape, generator=seeded(2)).to(dtype))
        assert (x.shape in kept) is (large > values.numel())
        found[large] = y, x.grad
    (one, first), (other, second) = found.values()
    assert torch.equal(one, other) and one.stride() == other.stride()
    assert torch.equal(first, second) and first.stride() == second.stride() and first.abs().sum() > 0


def test_the_forward_pass_is_that_of_the_written_out_network() -> None:
    torch.manual_seed(1)
    blocks = [{"conv": {"out": 4, "kernel": 3}}, {"pool": {"kernel": 2}}, {"fc": {"out": 6}}]
    network = build(blocks, image=(3, 8, 8), norm="batch").double().train()
    x = torch.randn(5, 3, 8, 8, dtype=torch.float64)

    def normalise(z: Tensor, axes: tuple[int, ...]) -> Tensor:
        mean, variance = z.mean(axes, keepdim=True), z.var(axes, unbiased=False, keepdim=True)
        return (z - mean) / torch.sqrt(variance + 1e-5)

    weights = network.state_dict()
    z = nn.functional.conv2d(x, weights["conv1.weight"], weights["conv1.bias"], padding=1)
    z = nn.functional.max_pool2d(normalise(z, (0, 2, 3)).clamp(min=0), 2).flatten(1)
    z = normalise(z @ weights["fc1.weight"].T + weights["fc1.bias"], (0,)).clamp(min=0)
    torch.testing.assert_close(network(x), z @ weights["head.weight"].T + weights["head.bias"])


def test_dropout_comes_after_the_activation_of_the_first_fc_and_after_pooling() -> None:
    blocks = [{"conv": {"out": 4, "kernel": 3}}, {"pool": {"kernel": 2}}, {"fc": {"out": 6}}, {"fc": {"out": 6}}]
    kinds = [type(m).__name__ for m in build(blocks, dropout={"pool": 0.2, "fc": 0.5})]
    conv = ["Conv2d", "MaxPool2d", "ReLU", "Dropout", "Flatten"]  # pooled first: the same bits for less work
    assert kinds == [*conv, "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Linear"]


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation_is_the_formula_of_its_name(name: str) -> None:
    z = torch.linspace(-4, 4, 41, dtype=torch.float64)
    softplus = torch.log(1 + torch.exp(z))
    formulas = {
        "none": z,
        "relu": z.clamp(min=0),
        "leaky_relu": torch.where(z > 0, z, 0.01 * z),
        "elu": torch.where(z > 0, z, z.exp() - 1),
        "selu": 1.0507009873554805 * torch.where(z > 0, z, 1.6732632423543772 * (z.exp() - 1)),
        "gelu": z * (1 + torch.erf(z / math.sqrt(2))) / 2,
        "silu": z / (1 + torch.exp(-z)),
        "mish": z * torch.tanh(softplus),
        "hardswish": z * (z + 3).clamp(0, 6) / 6,
        "softplus": softplus,
        "sigmoid": 1 / (1 + torch.exp(-z)),
        "tanh": (torch.exp(2 * z) - 1) / (torch.exp(2 * z) + 1),
    }
    network = build([{"conv": {"out": 1, "kernel": 1}}], activation=name)
    act = dict(network.named_children()).get("act1", nn.Identity())
    torch.testing.assert_close(act(z), formulas[name])


def test_an_activation_takes_its_settings() -> None:
    network = build([{"fc": {"out": 2, "activation": {"leaky_relu": {"slope": 0.3}}}}])
    torch.testing.assert_close(network.act1(torch.tensor([-2.0, 2.0])), torch.tensor([-0.6, 2.0]))


INITS: list[tuple[Any, float, float]] = [
    ("kaiming", 2 / 512, 2 / 400),
    ("xavier", 2 / (512 + 400), 2 / (400 + 10)),
    ({"normal": {"std": 0.05}}, 0.05**2, 0.05**2),
]


@pytest.mark.parametrize(("init", "variance", "head"), INITS)
def test_first_weights_have_the_variance_of_the_paper(init: Any, variance: float, head: float) -> None:
    torch.manual_seed(3)
    network = build([{"fc": {"out": 400}}], image=(2, 16, 16), init=init)
    weight = network.fc1.weight.detach().double()
    assert weight.var().item() == pytest.approx(variance, rel=0.02)
    kurtosis = ((weight / weight.std()) ** 4).mean().item()
    assert kurtosis == pytest.approx(1.8 if init == "xavier" else 3.0, rel=0.02)
    assert torch.equal(network.fc1.bias, torch.zeros(400))
    assert network.head.weight.var().item() == pytest.approx(head, rel=0.1)


def test_first_weights_are_those_of_the_global_seed() -> None:
    networks = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        networks.append(build([{"conv": {"out": 4, "kernel": 3}}], image=(3, 4, 4)))
    assert torch.equal(networks[0].conv1.weight, networks[1].conv1.weight)
    assert not torch.equal(networks[0].conv1.weight, networks[2].conv1.weight)


def test_the_summary_of_the_lenet_like_network_is_the_published_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert summary.main(["model=lenet_like", "data=cifar10"]) == 0
    shown = capsys.readouterr().out
    rows = {words[0]: words for line in shown.splitlines() if (words := line.split())}
    table = {"conv1": "2,432", "conv2": "51,264", "conv3": "204,928", "fc1": "131,136", "head": "650"}
    for layer, parameters in table.items():
        assert parameters in rows[layer], (layer, rows[layer])
    assert "390,410 parameters" in shown


# Layers with weights, and features that reach the first fully connected one, as the reports say.
SHIPPED = {
    "conv4_unpadded": (["conv1", "conv2", "conv3", "conv4", "head"], (10, 1152)),
    "conv4_unpadded_norm": (["conv1", "norm1", "conv2", "conv3", "conv4", "norm4", "fc1", "head"], (512, 1152)),
    "conv2_norm": (["conv1", "norm1", "conv2", "norm2", "fc1", "fc2", "head"], (256, 32 * 8 * 8)),
    "mlp": (["fc1", "fc2", "fc3", "fc4", "fc5", "head"], (100, 3072)),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_networks_of_the_reports_have_their_layers(name: str) -> None:
    network = convnet((3, 32, 32), 10, **shipped(name))
    weighted = {n: m for n, m in network.named_children() if list(m.parameters())}
    first = next(m for m in weighted.values() if isinstance(m, nn.Linear))
    assert (list(weighted), (first.out_features, first.in_features)) == SHIPPED[name]
    drops = [n for n, m in network.named_children() if isinstance(m, nn.Dropout)]
    assert len(drops) == {"conv4_unpadded_norm": 1, "conv2_norm": 2}.get(name, 0)
    if name == "mlp":
        assert network.fc3.weight.std().item() == pytest.approx(0.05, rel=0.05)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def shipped(name: str) -> dict[str, Any]:
    """Return the settings of a network in configs/model/."""
    node = config.resolve(config.compose([f"model={name}"]))["model"]
    return {key: value for key, value in node.items() if key != "_target_"}


STACKS: list[tuple[dict[str, Any], list[Any]]] = [
    ({}, []),
    ({"fc": [7, 5]}, [{"fc": {"out": 7}}, {"fc": {"out": 5}}]),
    (
        {"channels": [4, 6], "kernels": [5, 3], "pool": {"kernel": 2}, "fc": [7]},
        [
            *({"conv": {"out": 4, "kernel": 5}}, {"pool": {"kernel": 2}}),
            *({"conv": {"out": 6, "kernel": 3}}, {"pool": {"kernel": 2}}, {"fc": {"out": 7}}),
        ],
    ),
    (
        {
            "channels": [4, 6, 8],
            "stride": 2,
            "padding": 1,
            "pool": {"kernel": 3, "stride": 1, "kind": "avg", "every": 2},
        },
        [
            *({"conv": {"out": n, "kernel": 3, "stride": 2, "padding": 1}} for n in (4, 6)),
            {"pool": {"kernel": 3, "stride": 1, "kind": "avg"}},
            {"conv": {"out": 8, "kernel": 3, "stride": 2, "padding": 1}},
        ],
    ),
]


@pytest.mark.parametrize(("short", "blocks"), STACKS)
def test_the_short_form_is_the_network_of_its_blocks(short: dict[str, Any], blocks: list[Any]) -> None:
    networks = []
    for settings in ({"blocks": None, **short}, {"blocks": blocks, "channels": [99], "fc": [99]}):
        torch.manual_seed(3)
        networks.append(build(norm={"conv": "batch", "fc": "none"}, dropout={"pool": 0.1, "fc": 0.2}, **settings))
    assert str(networks[0]) == str(networks[1])
    assert [*networks[0].state_dict()] == [*networks[1].state_dict()]
    for one, other in zip(*(network.state_dict().values() for network in networks), strict=True):
        assert torch.equal(one, other)


def test_the_default_network_is_that_of_the_reports() -> None:
    """Its layers and the order of its draws give the numbers of every study: they must not change."""
    torch.manual_seed(0)
    network = convnet((3, 32, 32), 10, **shipped("custom"))
    blocks = [{"conv": {"out": 32, "kernel": 7}}, {"pool": {"kernel": 2}}, {"conv": {"out": 64, "kernel": 5}}]
    blocks += [
        {"pool": {"kernel": 2}},
        {"conv": {"out": 128, "kernel": 3}},
        {"pool": {"kernel": 2}},
        {"fc": {"out": 512}},
    ]
    torch.manual_seed(0)
    expected = build(blocks)
    assert str(network) == str(expected)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), expected.parameters(), strict=True))


def test_the_true_image_is_checked_when_the_network_is_built() -> None:
    with pytest.raises(UserError, match=r"model\.blocks\[0\]\.conv\.kernel: 9 is larger .* \(7x8 with padding 0\)"):
        build([{"conv": {"out": 4, "kernel": 9, "padding": 0}}], image=(1, 7, 8))
