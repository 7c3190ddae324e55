"""The layers of a described network: published parameter tables, shapes, and an error for every mistake in a block."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cnnexp.errors import UserError
from cnnexp.models.convnet import check, convnet, plan
from cnnexp.models.layers import Layer
from cnnexp.models.summary import Row, summarise

ROOT = Path(__file__).parents[2]
REPORTED = [
    {"conv": {"out": 32, "kernel": 5}},
    {"pool": {"kernel": 2}},
    {"conv": {"out": 64, "kernel": 5}},
    {"pool": {"kernel": 2}},
    {"conv": {"out": 128, "kernel": 5}},
    {"pool": {"kernel": 2}},
    {"fc": {"out": 64}},
]


def lay(blocks: Any, image: tuple[int, int, int] = (3, 32, 32), classes: int = 10, **settings: Any) -> list[Layer]:
    given = node([], **settings)
    del given["init"]
    return plan("model", image, classes, given | {"blocks": blocks})


def node(blocks: Any, **settings: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "norm": "none",
        "dropout": {"pool": 0.0, "fc": 0.0},
        "activation": "relu",
        "init": "default",
        "head": {"norm": "none"},
    }
    return defaults | settings | ({"blocks": blocks} if blocks else {})


def summary_of(blocks: Any, image: tuple[int, int, int] = (3, 32, 32), **settings: Any) -> dict[str, Row]:
    network = convnet(image, 10, blocks, **node([], **settings))
    return {row.name: row for row in summarise(network, image).rows}


def test_parameters_are_those_of_a_published_table() -> None:
    layers = {name: row for name, row in summary_of(REPORTED).items() if row.parameters}
    assert {name: layer.parameters for name, layer in layers.items()} == {
        "conv1": 2_432,
        "conv2": 51_264,
        "conv3": 204_928,
        "fc1": 131_136,
        "head": 650,
    }
    assert sum(layer.parameters for layer in layers.values()) == 390_410
    assert layers["conv1"].arithmetic == "5*5*3*32 + 32 = 2,432"
    assert layers["fc1"].arithmetic == "2048*64 + 64 = 131,136"


def test_shapes_and_receptive_fields_follow_the_arithmetic() -> None:
    blocks = [
        {"conv": {"out": 8, "kernel": 7, "stride": 2, "padding": 3}},
        {"pool": {"kernel": 3, "stride": 2}},
        {"conv": {"out": 8, "kernel": 3, "dilation": 2, "groups": 4, "bias": False}},
        "global_pool",
    ]
    layers = summary_of(blocks, image=(3, 65, 33))
    assert layers["conv1"].output == (8, 33, 17)
    assert layers["pool1"].output == (8, 16, 8)
    assert [layers[n].receptive_field for n in ("conv1", "pool1", "conv2", "global_pool")] == [7, 11, 27, None]
    assert layers["conv2"].arithmetic == "3*3*2*8 = 144"
    assert layers["conv2"].macs == 144 * 16 * 8
    assert layers["head"].arithmetic == "8*10 + 10 = 90"


def test_norm_and_dropout_are_the_networks_unless_a_block_sets_its_own() -> None:
    blocks = [
        {"conv": {"out": 4, "kernel": 3}},
        {"pool": {"kernel": 2}},
        {"conv": {"out": 4, "kernel": 3, "norm": "none", "activation": "tanh", "dropout": 0.1}},
        {"pool": {"kernel": 2, "dropout": 0.0}},
        {"fc": {"out": 6}},
        {"fc": {"out": 5}},
    ]
    names = [layer.name for layer in lay(blocks, norm="batch", dropout={"pool": 0.2, "fc": 0.5})]
    first = ["conv1", "norm1", "pool1", "act1", "drop1", "conv2", "act2", "drop2", "pool2", "flatten"]
    assert names == [*first, "fc1", "norm3", "act3", "drop3", "fc2", "act4", "head"]
    layers = {layer.name: layer for layer in lay(blocks, norm="batch", dropout={"pool": 0.2, "fc": 0.5})}
    assert [layers[f"drop{i}"].settings["p"] for i in (1, 2, 3)] == [0.2, 0.1, 0.5]
    assert layers["act2"].settings["activation"] == "tanh"
    assert lay([], head={"norm": "batch"})[-1].name == "head_norm"


def test_the_networks_norm_and_dropout_are_for_the_first_fc_block_or_for_all() -> None:
    blocks = [{"fc": {"out": 6}}, {"fc": {"out": 5, "norm": "none"}}, {"fc": {"out": 4, "dropout": 0.0}}]
    settings: dict[str, Any] = {"norm": "layer", "dropout": {"pool": 0.0, "fc": 0.5}}
    names = [layer.name for layer in lay(blocks, fc_layers="all", **settings)]
    assert names == [
        *("flatten", "fc1", "norm1", "act1", "drop1", "fc2", "act2", "drop2", "fc3", "norm3", "act3", "head"),
    ]
    names = [layer.name for layer in lay(blocks, fc_layers="first", **settings)]
    assert names == ["flatten", "fc1", "norm1", "act1", "drop1", "fc2", "act2", "fc3", "act3", "head"]
    norm = next(layer for layer in lay(blocks, **settings) if layer.name == "norm1")
    assert (norm.kind, norm.settings) == ("layer_norm", {"width": 6})
    row = summary_of(blocks, **settings)["norm1"]
    assert (row.arithmetic, row.output) == ("6 + 6 = 12", (6,))


def test_layer_norm_needs_convolutions_with_their_own_norm() -> None:
    blocks = [{"conv": {"out": 4, "kernel": 3, "norm": "batch"}}, {"fc": {"out": 6}}]
    assert [layer.kind for layer in lay(blocks, norm="layer") if "norm" in layer.kind] == ["batch_norm", "layer_norm"]
    with pytest.raises(UserError) as caught:
        lay([{"conv": {"out": 4, "kernel": 3}}, {"fc": {"out": 6}}], norm="layer")
    assert str(caught.value) == (
        "model.blocks[0].conv.norm: the network's norm is layer, which is for fc blocks; "
        "give this block its own, none or batch"
    )


def test_batch_norm_after_an_fc_block_needs_two_images() -> None:
    config = {"data": {"size": 8}, "batch_size": 1}
    for norm in ("none", "layer"):
        check("model", node([{"fc": {"out": 4}}], norm=norm), config)
    with pytest.raises(UserError, match=r"batch_size: given 1; allowed with batch norm after a fully connected layer"):
        check("model", node([{"fc": {"out": 4}}], norm="batch"), config)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (
            [{"covn": {"out": 3}}],
            "model.blocks[0]: unknown block 'covn'; choose one of conv, pool, fc, dropout, global_pool "
            "(did you mean 'conv'?)",
        ),
        (
            [{"pool": {"kernel": 8}}, {"conv": {"out": 4, "kernel": 9, "padding": 0}}],
            "model.blocks[1].conv.kernel: 9 is larger than the image that reaches it (4x4 with padding 0)",
        ),
        (
            [{"conv": {"out": 4, "kernel": 3, "dilation": 20, "padding": 2}}],
            "model.blocks[0].conv.kernel: 3 spans 41 pixels when dilated, and is larger than the image that reaches it "
            "(32x32 with padding 2)",
        ),
        (
            [{"conv": {"out": 4, "kernel": 4}}],
            "model.blocks[0].conv.kernel: 4 is even, and padding same needs an odd one; give padding: N",
        ),
        (
            [{"fc": {"out": 4}}, {"conv": {"out": 4, "kernel": 3}}],
            "model.blocks[1].conv: conv needs an image, but an fc block above has flattened it; move it up",
        ),
        (
            [{"conv": {"out": 4, "kernal": 3}}],
            "model.blocks[0].conv.kernal: unknown key 'kernal'; choose one of out, kernel, stride, padding, dilation, "
            "groups, bias, norm, activation, dropout (did you mean 'kernel'?)",
        ),
        ([{"conv": {"kernel": 3}}], "model.blocks[0].conv.out: is missing; allowed: a whole number >= 1"),
        ([{"conv": {"out": 0, "kernel": 3}}], "model.blocks[0].conv.out: given 0; allowed: a whole number >= 1"),
        ([{"conv": 32}], "model.blocks[0].conv: given 32; allowed: a mapping"),
        (
            [{"conv": {"out": 6, "kernel": 3, "groups": 4}}],
            "model.blocks[0].conv.groups: 4 must divide out (6)",
        ),
        (
            [{"conv": {"out": 4, "kernel": 3}, "pool": {"kernel": 2}}],
            "model.blocks[0]: given {'conv': {'out': 4, 'kernel': 3}, 'pool': {'kernel': 2}}; "
            "allowed: one block by its name, or with settings, as `conv: {out: 32, kernel: 3}`",
        ),
        (
            [{"fc": {"out": 4, "activation": "rellu"}}],
            "model.blocks[0].fc.activation: unknown activation 'rellu'; choose one of none, relu, leaky_relu, elu, "
            "selu, gelu, silu, mish, hardswish, softplus, sigmoid, tanh (did you mean 'relu'?)",
        ),
        (
            [{"fc": {"out": 4, "activation": {"leaky_relu": {"slop": 1}}}}],
            "model.blocks[0].fc.activation.leaky_relu: unknown setting 'slop'; choose one of slope "
            "(did you mean 'slope'?)",
        ),
        (
            [{"conv": {"out": 4, "kernel": 3, "norm": "layer"}}],
            "model.blocks[0].conv.norm: given 'layer'; allowed: one of none, batch or null",
        ),
        ([{"dropout": {"p": 1.0}}], "model.blocks[0].dropout.p: given 1.0; allowed: a number >= 0 and < 1"),
    ],
)
def test_a_mistake_in_a_block_is_an_error_before_torch_is_imported(blocks: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check("model", node(blocks), {"data": {"size": 32}})
    assert str(caught.value) == message


def test_without_a_size_everything_but_shapes_is_checked() -> None:
    too_large = [{"conv": {"out": 4, "kernel": 99, "padding": 0}}]
    configs: list[dict[str, Any]] = [{"data": {}}, {"data": {"size": None}}, {}]
    for config in configs:
        check("model", node(too_large), config)
        with pytest.raises(UserError, match=r"model\.blocks\[0\]: unknown block 'cov'"):
            check("model", node([{"cov": {}}]), config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dropout": {"pool": 0.1}}, "model.dropout.fc: is missing; allowed: a number >= 0 and < 1"),
        ({"dropout": {"pool": 2, "fc": 0}}, "model.dropout.pool: given 2; allowed: a number >= 0 and < 1"),
        ({"head": {"norm": "layer"}}, "model.head.norm: given 'layer'; allowed: one of none, batch"),
        ({"activation": {"relu": {"slope": 1}}}, "model.activation.relu: unknown setting 'slope'; choose one of "),
        (
            {"init": "kaimin"},
            "model.init: unknown initialisation 'kaimin'; choose one of default, kaiming, xavier, normal "
            "(did you mean 'kaiming'?)",
        ),
        ({"init": "normal"}, "model.init.normal.std: is missing; allowed: a number > 0"),
        ({"init": {"normal": {"std": 0}}}, "model.init.normal.std: given 0; allowed: a number > 0"),
        ({"init": {"normal": 0.1}}, "model.init.normal: given 0.1; allowed: a mapping"),
        (
            {"init": {"normal": {"sd": 0.1}}},
            "model.init.normal.sd: unknown key 'sd'; choose one of std (did you mean 'std'?)",
        ),
        (
            {"init": {"kaiming": {}, "xavier": {}}},
            "model.init: given {'kaiming': {}, 'xavier': {}}; "
            "allowed: one initialisation by its name, or with settings, as `normal: {std: 0.01}`",
        ),
    ],
)
def test_a_mistake_outside_the_blocks_is_an_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check("model", node(REPORTED, **settings), {"data": {"size": 32}})
    assert str(caught.value) == message


def test_checking_a_network_imports_no_torch() -> None:
    code = (
        "import sys; from cnnexp.models import convnet, zoo\n"
        f"convnet.check('model', {node(REPORTED)!r}, {{'data': {{'size': 32}}}}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
