"""Parameter groups: which parameters get which learning rate and weight decay."""

import importlib
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from cnnexp.errors import UserError
from cnnexp.optim.groups import layer_numbers, parameters
from cnnexp.optim.schedules import Schedule

LR = {"lr": 0.1, "weight_decay": 0.01}


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def by_name(model: nn.Module, **node: Any) -> dict[str, tuple[float, float | None]]:
    """Return {parameter: (lr, weight_decay)} of the groups."""
    groups = parameters(model, {"no_decay": False, "layer_decay": None, "rates": None, **node}, LR)
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: (g["lr"], g.get("weight_decay")) for g in groups for p in g["params"]}


def test_without_settings_there_is_one_list() -> None:
    model = network()
    node = {"no_decay": False, "layer_decay": None, "rates": None}
    assert [id(p) for p in parameters(model, node, LR)] == [id(p) for p in model.parameters()]


def test_biases_and_norms_do_not_decay() -> None:
    found = by_name(network(), no_decay=True)
    assert {name for name, (_, decay) in found.items() if decay == 0} == {"0.bias", "1.weight", "1.bias", "3.bias"}
    assert found["0.weight"] == found["3.weight"] == (0.1, None), "the optimiser's own weight decay"


def test_a_layer_norm_over_images_is_a_norm() -> None:
    """Its parameters have three dimensions."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LayerNorm([4, 6, 6]), nn.Flatten(), nn.Linear(144, 2))
    found = by_name(model, no_decay=True, layer_decay=0.5)
    assert {name for name, (_, decay) in found.items() if decay == 0} == {"0.bias", "1.weight", "1.bias", "3.bias"}
    assert found["1.weight"][0] == found["0.weight"][0] == 0.05, "it belongs to the layer before it"


def test_rates_of_layers() -> None:
    found = by_name(network(), layer_decay=0.5, rates={"3": 10, "0.weight": 2})
    assert {name: lr for name, (lr, _) in found.items()} == pytest.approx(
        {"0.weight": 0.1, "0.bias": 0.05, "1.weight": 0.05, "1.bias": 0.05, "3.weight": 1.0, "3.bias": 1.0}
    )


def layers(model: nn.Module) -> list[set[str]]:
    """Return the modules of each layer, from the input."""
    found: dict[int, set[str]] = {}
    for name, number in layer_numbers(model).items():
        found.setdefault(number, set()).add(name.rpartition(".")[0])
    assert list(found) == list(range(len(found)))
    return list(found.values())


def test_a_block_is_one_layer_and_norms_belong_to_the_layer_before() -> None:
    found = layers(models.resnet18())
    assert len(found) == 10 and found[0] == {"conv1", "bn1"} and found[-1] == {"fc"}
    assert found[3] == {f"layer2.0.{part}" for part in ("conv1", "bn1", "conv2", "bn2", "downsample.0", "downsample.1")}
    small = layers(models.mobilenet_v3_small())
    assert small[0] == {"features.0.0", "features.0.1"} and small[-2:] == [{"classifier.0"}, {"classifier.3"}]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "block", "blocks", "layers_in_all"),
    [
        ("regnet_x_400mf", "ResBottleneckBlock", 22, 24),
        ("regnet_y_400mf", "ResBottleneckBlock", 16, 18),
        ("densenet121", "_DenseLayer", 58, 63),  # three transitions
        ("resnet50", "Bottleneck", 16, 18),
        ("mnasnet0_5", "_InvertedResidual", 16, 21),
        ("efficientnet_b0", "MBConv", 16, 19),
        ("convnext_tiny", "CNBlock", 18, 23),  # three downsamplings
        ("swin_t", "SwinTransformerBlock", 12, 17),  # three mergings of patches
        ("vit_b_32", "EncoderBlock", 12, 16),  # the class token and the positions are two layers
        ("googlenet", "Inception", 9, 13),
    ],
)
def test_each_block_of_torchvisions_networks_is_one_layer(
    name: str, block: str, blocks: int, layers_in_all: int
) -> None:
    settings = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    model = models.get_model(name, weights=None, num_classes=3, **settings)
    numbers = layer_numbers(model)
    found = [
        {numbers[f"{where}.{parameter}"] for parameter, _ in module.named_parameters()}
        for where, module in model.named_modules()
        if type(module).__name__ == block
    ]
    assert len(found) == blocks and all(len(of_block) == 1 for of_block in found)
    assert len(set.union(*found)) == blocks, "no two blocks are one layer"
    assert set(numbers.values()) == set(range(layers_in_all))


def test_what_is_within_an_own_block_stays_one_layer() -> None:
    """Modules of one class are layers where a sequence holds them, not in a residual block or in parallel branches."""

    class Residual(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.relu(super().forward(x))  # type: ignore[no-untyped-call]

    class Parallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = (nn.Sequential(nn.Conv2d(4, 4, 1)) for _ in range(2))

    def convs() -> OrderedDict[str, nn.Module]:
        return OrderedDict(conv1=nn.Conv2d(4, 4, 1), conv2=nn.Conv2d(4, 4, 1))

    blocks = {
        "block1": Residual(convs()),
        "block2": Parallel(),
        "block3": nn.ModuleDict(convs()),
        "block4": nn.Sequential(convs()),
    }
    assert layers(nn.Sequential(OrderedDict(blocks))) == [
        {"block1.conv1", "block1.conv2"},
        {"block2.conv1.0", "block2.conv2.0"},
        {"block3.conv1", "block3.conv2"},
        {"block4.conv1"},
        {"block4.conv2"},
    ]


def test_transformer_blocks_have_the_rates_that_timm_gives_them() -> None:
    timm = pytest.importorskip("timm")
    for name in ("test_vit", "test_resnet", "test_convnext"):
        model = timm.create_model(name, num_classes=3)
        groups = importlib.import_module("timm.optim").param_groups_layer_decay(model, layer_decay=0.75)
        names = {id(p): name for name, p in model.named_parameters()}
        theirs = {names[id(p)]: 0.1 * group["lr_scale"] for group in groups for p in group["params"]}
        assert {n: lr for n, (lr, _) in by_name(model, layer_decay=0.75).items()} == pytest.approx(theirs)


def test_what_learns_is_in_one_group_each() -> None:
    model = network()
    model[0].requires_grad_(False)
    groups = parameters(model, {"no_decay": True, "layer_decay": 0.9, "rates": None}, LR)
    assert sum(len(g["params"]) for g in groups) == 4
    torch.optim.AdamW(groups, **LR)  # refuses parameters that are in two groups


def test_a_part_that_no_name_has() -> None:
    with pytest.raises(
        UserError, match=r"param_groups.rates: no parameter that learns has the part 'fc' in its name; layers: 0"
    ):
        by_name(network(), rates={"fc": 10})


def test_the_learning_rate_of_groups_is_the_largest() -> None:
    groups = parameters(network(), {"no_decay": False, "layer_decay": 0.5, "rates": None}, LR)
    assert Schedule(torch.optim.SGD(groups, lr=0.1), lambda step: 1.0).learning_rate == 0.1
