"""The summary: published parameter counts and MACs, the receptive field as gradients see it, and nothing touched."""

from typing import Any

import pytest
import torch
import torchvision
from own_network import OwnNetwork
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cnnexp import errors
from cnnexp.commands.summary import as_table, main
from cnnexp.errors import UserError
from cnnexp.models.convnet import convnet
from cnnexp.models.summary import Summary, count, summarise

SETTINGS: dict[str, Any] = {"norm": "none", "activation": "relu", "init": "default", "head": {"norm": "none"}}
SETTINGS["dropout"] = {"pool": 0.0, "fc": 0.0}


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1"])
def test_counts_are_those_that_torchvision_publishes(name: str) -> None:
    published = next(iter(torchvision.models.get_model_weights(name))).meta
    counts = count(torchvision.models.get_model(name), (3, 224, 224))
    assert counts["parameters"] == counts["trainable_parameters"] == published["num_params"]
    assert round(counts["macs"] / 1e9, 3) == published["_ops"]


def test_resnet18_has_the_macs_of_its_convolutions() -> None:
    summary = summarise(torchvision.models.resnet18(), (3, 224, 224))
    assert (summary.parameters, summary.macs) == (11_689_512, 1_814_073_344)
    first = summary.rows[0]
    assert (first.name, first.arithmetic, first.macs) == ("conv1", "7*7*3*64 = 9,408", 112 * 112 * 9_408)
    assert sum(row.macs for row in summary.rows) == summary.macs
    assert sum(row.parameters for row in summary.rows) == summary.parameters


def test_attention_is_counted_though_it_calls_no_module() -> None:
    torch.manual_seed(0)
    model = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 24, num_classes=5)
    summary = summarise(model, (3, 32, 32))
    tokens, width = 17, 16
    layer = tokens * width * (3 * width + width + 2 * 24) + 2 * tokens * tokens * width
    assert summary.macs == 16 * (8 * 8 * 3) * width + 2 * layer + width * 5
    assert sum(row.parameters for row in summary.rows) == summary.parameters
    assert torch.backends.mha.get_fastpath_enabled()


def test_the_receptive_field_is_what_a_gradient_reaches() -> None:
    blocks = [
        {"conv": {"out": 1, "kernel": 5, "stride": 2}},
        {"pool": {"kernel": 3, "stride": 2, "kind": "avg"}},
        {"conv": {"out": 1, "kernel": 3, "dilation": 2}},
        {"conv": {"out": 1, "kernel": 3}},
    ]
    network = convnet((1, 81, 81), 2, blocks, **(SETTINGS | {"activation": "softplus"}))
    rows = {row.name: row for row in summarise(network, (1, 81, 81)).rows}
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)
    names = [name for name, _ in network.named_children()]
    for i, name in enumerate(names[: names.index("flatten")]):
        x = torch.zeros(1, 1, 81, 81, dtype=torch.float64, requires_grad=True)
        upto: Tensor = network.double()[: i + 1](x)
        upto[0, 0, upto.shape[2] // 2, upto.shape[3] // 2].backward()
        assert x.grad is not None
        reached = x.grad[0, 0].nonzero()
        side = int((reached.max(0).values - reached.min(0).values + 1)[0])
        assert (name, side) == (name, rows[name].receptive_field)
    assert rows["head"].receptive_field is None


def test_a_described_network_is_summarised_as_the_arithmetic_says() -> None:
    blocks = [{"conv": {"out": 4, "kernel": 3}}, {"pool": {"kernel": 2}}, {"fc": {"out": 6}}]
    rows = summarise(convnet((3, 9, 8), 5, blocks, **(SETTINGS | {"norm": "batch"})), (3, 9, 8)).rows
    assert [(r.name, r.output, r.parameters, r.arithmetic, r.macs, r.receptive_field) for r in rows] == [
        ("conv1", (4, 9, 8), 112, "3*3*3*4 + 4 = 112", 108 * 72, 3),
        ("norm1", (4, 9, 8), 8, "4 + 4 = 8", 0, 3),
        ("pool1", (4, 4, 4), 0, "", 0, 4),
        ("act1", (4, 4, 4), 0, "", 0, 4),
        ("flatten", (64,), 0, "", 0, None),
        ("fc1", (6,), 390, "64*6 + 6 = 390", 384, None),
        ("norm2", (6,), 12, "6 + 6 = 12", 0, None),
        ("act2", (6,), 0, "", 0, None),
        ("head", (5,), 35, "6*5 + 5 = 35", 30, None),
    ]


def test_a_persons_own_network_with_functions_and_shared_and_unused_layers() -> None:
    class Odd(OwnNetwork):
        def __init__(self) -> None:
            super().__init__(classes=3, width=4)
            self.spare = nn.Linear(5, 2)
            self.scale = nn.Parameter(torch.ones(3, 3))

        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) @ self.scale

    model = Odd()
    model.body.requires_grad_(False)
    summary = summarise(model, (3, 8, 8))
    rows = {row.name: row for row in summary.rows}
    assert list(rows) == ["stem", "body", "out", "(itself)", "spare"]
    assert rows["body"].receptive_field is None  # relu came between, as a function
    assert (rows["(itself)"].parameters, rows["(itself)"].macs) == (9, 9)
    assert (rows["spare"].output, rows["spare"].parameters, rows["spare"].macs) == (None, 12, 0)
    assert summary.macs == 64 * 27 * 4 + 16 * 36 * 4 + 12 + 9
    assert summary.trainable_parameters == summary.parameters - 4 * 36
    relu = nn.ReLU(inplace=True)
    shared = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), relu, nn.Conv2d(3, 3, 3, padding=1), relu)
    assert [row.receptive_field for row in summarise(shared, (3, 8, 8)).rows] == [3, 3, 5, 5]


def test_the_field_ends_where_branches_are_added() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(x)
            y += x
            z: Tensor = self.act(y)
            return z

    assert [row.receptive_field for row in summarise(Residual(), (3, 8, 8)).rows] == [3, None]


def test_nothing_of_the_model_or_the_process_is_touched() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 2))
    model[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    count(model, (3, 8, 8))
    assert [m.training for m in model.modules()] == [True, True, False, True, True, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random) and torch.is_grad_enabled()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_an_image_that_does_not_pass_names_the_layer_and_leaves_no_hooks() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(
        UserError,
        match=r"model: an image of 3x12x12 does not pass through layer 3: .*mat1 and mat2 shapes cannot be multiplied",
    ):
        summarise(model, (3, 12, 12))
    assert model.training and not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("columns", [40, 80, 100, 400])
def test_the_table_fits_the_terminal(columns: int) -> None:
    lines = as_table(summarise(torchvision.models.mobilenet_v3_small(), (3, 64, 64)), columns).splitlines()
    assert max(map(len, lines)) <= min(max(columns, 80), 120)
    assert len({line.index("Conv2d") for line in lines if "Conv2d" in line}) == 1


def test_an_empty_table_has_a_header() -> None:
    assert as_table(Summary([], 0, 0, 0, 0), 80).startswith("layer  kind")


def test_the_command_needs_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model=custom", "data=imagenette", "--classes", "10"]) == 0
    out = capsys.readouterr().out
    assert "7*7*3*32 + 32" in out and "image 3x64x64, 10 classes" in out
    parameters = 4_736 + 51_264 + 73_856 + (8_192 * 512 + 512) + 5_130
    assert f"{parameters:,} parameters, {parameters:,} of them trainable" in out


@pytest.mark.integration
def test_classes_are_those_of_the_data_or_said_to_be_assumed(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ant", "bee", "cat"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    for words, said in (
        (["data=postcards"], ", 10 classes\n"),
        (["data=folder", f"data.root={tmp_path / 'photos'}"], ", 3 classes\n"),
        (["data=folder", f"data.root={tmp_path}/none"], ", 10 classes (assumed: the data is not read; --classes K"),
        (["data=folder", f"data.root={tmp_path / 'photos'}", "--classes", "7"], ", 7 classes\n"),
    ):
        assert main(["model=custom", *words]) == 0
        assert said in capsys.readouterr().out


def test_one_line_overrides_reach_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    changes = ["model.norm=batch", "model.dropout.pool=0.3", "model.activation=gelu", "model.init=kaiming"]
    assert main(["model=conv3_wide", *changes]) == 0
    kinds = [line.split()[1] for line in capsys.readouterr().out.splitlines()[2:] if line[:1].isalpha()]
    stage = ["Conv2d", "BatchNorm2d", "GELU", "MaxPool2d", "Dropout"]
    assert kinds[:20] == [*stage, *stage, *stage, "Flatten", "Linear", "BatchNorm1d", "GELU", "Linear"]
    assert main(["model=torchvision", "model.name=squeezenet1_1", "model.freeze=backbone"]) == 0
    assert "5,130 of them trainable" in capsys.readouterr().out


def test_weights_that_are_named_are_not_said_to_be_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "_warned", set())
    given = ["model=resnet18", "model.freeze=backbone", "--image", "3x32x32"]
    for weights in ("imagenet", "/no/such/file", "{config: a}"):
        assert main([*given, f"model.weights={weights}"]) == 0
        assert capsys.readouterr().err == ""
    assert main([*given, "model.weights=none"]) == 0
    assert "the frozen layers stay random" in capsys.readouterr().err


def test_the_command_loads_no_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model=resnet18", "model.weights=imagenet", "--image", "1x64x64", "--classes", "1000"]) == 0
    assert f"{11_689_512 - 2 * 49 * 64:,} parameters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--image", "3x64"], "--image: given '3x64'; allowed: channels, height and width, such as 3x64x64"),
        (["--classes", "0"], "--classes: given 0; allowed: a whole number >= 1"),
        (
            ["+model.fo=1"],
            "model.fo: unknown key 'fo'; choose one of blocks, norm, dropout, activation, init, head, fc_layers, impl, "
            "channels, kernels, stride, padding, pool, fc",
        ),
        (
            ["--image", "3x7x7"],
            "model.pool.kernel: 2 is larger than the image that reaches it (1x1 with padding 0)",
        ),
    ],
)
def test_a_wrong_request_is_reported_in_one_line(argv: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        main(["model=custom", *argv])
    assert str(caught.value) == message


@pytest.mark.integration
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vit_b_16"])
def test_macs_are_half_the_flops_that_torch_counts(name: str) -> None:
    model = torchvision.models.get_model(name, weights=None).eval()
    x = torch.zeros(1, 3, 224, 224)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(x)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    assert summarise(model, (3, 224, 224)).macs == counter.get_total_flops() // 2 > 10**7


def test_configs_of_ones_own_are_found_and_one_class_is_one(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my configs/model").mkdir(parents=True)
    (tmp_path / "my configs/model/mine.yaml").write_text("defaults: [custom]\nchannels: [4]\nkernels: 3\n")
    assert main(["model=mine", "--config-dir", str(tmp_path / "my configs"), "--classes", "1"]) == 0
    assert ", 1 class\n" in capsys.readouterr().out
