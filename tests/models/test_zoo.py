"""torchvision's classifiers: the head, pretrained weights, gray images, and the error without a network."""

import hashlib
import io
import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from checksummed import add_trailer
from hostile import PAYLOADS
from https_server import CERTIFICATE, Server, serving
from torch import nn

from cnnexp import errors
from cnnexp.errors import Skipped, UserError
from cnnexp.models.weights import from_file, head_name, load_backbone
from cnnexp.models.zoo import check, torchvision_model


def build(image: tuple[int, int, int] = (3, 32, 32), classes: int = 7, **settings: Any) -> Any:
    given: dict[str, Any] = {"name": "resnet18", "weights": "none", "freeze": "none", "bn": "train"}
    return torchvision_model(image, classes, **(given | settings))


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(4)
    model = torchvision.models.resnet18(num_classes=1000)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.01 * torch.rand_like(tensor))
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet18", "fc"),
        ("mobilenet_v3_small", "classifier.3"),
        ("squeezenet1_1", "classifier.1"),
        ("shufflenet_v2_x0_5", "fc"),
        ("mnasnet0_5", "classifier.1"),
        ("densenet121", "classifier"),
        ("googlenet", "fc"),
    ],
)
def test_the_head_is_found_and_gives_one_logit_per_class(name: str, head: str) -> None:
    model = build(name=name, classes=7, freeze="backbone")
    assert head_name(model) == head
    learns = {n for n, p in model.named_parameters() if p.requires_grad}
    norms = {n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert {n.rpartition(".")[0] for n in learns} == norms | {head}
    assert model.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


def test_an_unknown_name_gets_a_guess() -> None:
    with pytest.raises(UserError) as caught:
        build(name="resnet81")
    assert str(caught.value) == "model.name: torchvision has no classifier 'resnet81' (did you mean 'resnet18'?)"


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Return `serve(content, *mishaps, name)`: a server that gives `content` as the ImageNet weights of any network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)

    @contextmanager
    def serve(content: bytes, *mishaps: str, name: str = "") -> Iterator[tuple[Server, Path]]:
        name = name or f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"
        with serving(*mishaps, content=content) as (url, server):
            chosen = SimpleNamespace(
                name="IMAGENET1K_V1", url=url.replace("file.tgz", name), meta={"categories": ["x"] * 1000}
            )
            monkeypatch.setattr(torchvision.models, "get_model_weights", lambda _: [chosen])
            yield server, tmp_path / "hub" / "checkpoints" / name

    return serve


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def test_without_a_network_imagenet_weights_skip_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.OpenerDirector.open", refuse)
    with pytest.raises(Skipped) as caught:
        build(weights="imagenet")
    assert str(caught.value) == (
        "model.weights=imagenet: the weights of resnet18 are not available (no route to host); "
        "give model.weights=PATH, or backbone.weights=PATH to all arms that transfer: a checkpoint or a run directory"
    )


@pytest.mark.integration
def test_imagenet_weights_are_fetched_once_and_leave_head_and_random_state_alone(
    published: Callable[..., Any], state: dict[str, torch.Tensor]
) -> None:
    torch.manual_seed(8)
    plain, after = build(), torch.rand(3)
    with published(saved(state), "cut") as (server, file):
        for _ in range(2):
            torch.manual_seed(8)
            model = build(weights="imagenet")
            assert torch.equal(torch.rand(3), after)
        assert len(server.asked) == 2, "cut, and gone on with; then what is there is taken"
    assert file.is_file() and not file.with_name(f"{file.name}.part").exists()
    assert torch.equal(model.fc.weight, plain.fc.weight)
    for name, tensor in model.state_dict().items():
        assert name.startswith("fc.") or torch.equal(tensor, state[name])


def test_imagenet_weights_are_version_1_over_https_and_named_by_their_sha256() -> None:
    for name in torchvision.models.list_models(module=torchvision.models):
        for chosen in torchvision.models.get_model_weights(name):
            assert re.fullmatch(r"https://download\.pytorch\.org/models/[\w.-]+-[0-9a-f]{8,10}\.pth", chosen.url)


def test_a_file_that_differs_from_the_digest_in_its_name_is_refused(
    published: Callable[..., Any], tmp_path: Path
) -> None:
    content = saved({})
    with published(content, "wrong bytes") as (_, file):
        with pytest.raises(Skipped, match=r"has the wrong content: its digest is sha256:\w{8}, not sha256:\w{8}\)"):
            build(weights="imagenet")
        assert not file.parent.exists()
        file.parent.mkdir(parents=True)
        file.write_bytes(b"mine")
        with pytest.raises(UserError, match=r"is not the expected file .*; delete it, or put https://") as caught:
            build(weights="imagenet")
        assert not isinstance(caught.value, Skipped) and file.read_bytes() == b"mine"


@pytest.mark.parametrize("planted", ["in the folder", "on the server"])
def test_a_pickle_instead_of_imagenet_weights_does_not_run(
    published: Callable[..., Any], tmp_path: Path, planted: str
) -> None:
    """It has the digest that its name says, and still is not run; by pickle alone, the control, it is."""
    canary = tmp_path / "canary"
    content = pickle.dumps(PAYLOADS["os.system"](canary))
    with published(content) as (server, file):
        if planted == "in the folder":
            file.parent.mkdir(parents=True)
            file.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read as a checkpoint"):
            build(weights="imagenet")
        assert len(server.asked) == (planted == "on the server")
    assert not canary.exists()
    pickle.loads(content)
    assert canary.exists()


@pytest.mark.integration
@pytest.mark.parametrize("name", ["densenet121", pytest.param("vit_b_32", marks=pytest.mark.slow)])
def test_files_with_the_names_of_older_layers_load(published: Callable[..., Any], name: str) -> None:
    """torchvision's files of these have norm.1 for norm1, and linear_1 for 0."""
    model = torchvision.models.get_model(name, weights=None)
    old = OrderedDict(
        (
            re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key)
            .replace("mlp.0", "mlp.linear_1")
            .replace("mlp.3", "mlp.linear_2"),
            tensor,
        )
        for key, tensor in model.state_dict().items()
    )
    assert set(old) != set(model.state_dict())
    size = 224 if name == "vit_b_32" else 32
    with published(saved(old)):
        found = build(name=name, weights="imagenet", image=(3, size, size))
    key = next(key for key in model.state_dict() if "denselayer2.conv1" in key or "layer_1.mlp.0.weight" in key)
    assert torch.equal(found.state_dict()[key], model.state_dict()[key])


@pytest.mark.parametrize("layout", ["state dict", "model", "run directory"])
def test_a_checkpoint_gives_its_backbone(layout: str, tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    if layout == "run directory":
        (tmp_path / "checkpoints").mkdir()
    file = tmp_path / ("checkpoints/best.pt" if layout == "run directory" else "weights.pt")
    torch.save(state if layout == "state dict" else {"model": state, "step": 3}, file)
    if layout == "run directory":
        add_trailer(file)
    model = build(weights=str(tmp_path if layout == "run directory" else file))
    assert torch.equal(model.layer4[1].bn2.running_var, state["layer4.1.bn2.running_var"])
    assert model.fc.weight.shape == (7, 512)


def test_the_head_is_new_even_for_as_many_classes(state: dict[str, torch.Tensor]) -> None:
    model = torchvision.models.resnet18(num_classes=1000)
    loaded = load_backbone(model, state, "fc", "here")
    assert set(loaded) == {name for name in state if not name.startswith("fc.")}
    assert not torch.equal(model.fc.weight, state["fc.weight"])


def test_weights_of_another_network_are_an_error(state: dict[str, torch.Tensor]) -> None:
    model = torchvision.models.resnet18()
    with pytest.raises(UserError, match=r"model\.weights: nothing in here fits this network; it holds a, \.\.\."):
        load_backbone(model, {"a": torch.zeros(1)}, "fc", "here")
    wrong = dict(state, extra=torch.zeros(1), **{"bn1.weight": torch.ones(3)})
    del wrong["bn1.bias"]
    with pytest.raises(UserError) as caught:
        load_backbone(model, wrong, "fc", "here")
    assert str(caught.value) == (
        "model.weights: here does not fit this network: missing: bn1.bias; unexpected: extra; "
        "of another shape: bn1.weight (3,), here (64,); model.strict=false loads the 118 tensors that fit"
    )


def test_files_without_counts_of_batches_load(state: dict[str, torch.Tensor]) -> None:
    model = torchvision.models.resnet18()
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert len(load_backbone(model, old, "fc", "here")) == 100
    assert model.bn1.num_batches_tracked == 0


def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no .*best\.pt"):
        from_file(tmp_path)
    (tmp_path / "text.pt").write_text("not weights")
    with pytest.raises(UserError, match=r"text\.pt: cannot be read as a checkpoint"):
        from_file(tmp_path / "text.pt")
    torch.save({"model": {"step": 3}}, tmp_path / "step.pt")
    with pytest.raises(UserError, match=r"step\.pt holds no weights"):
        from_file(tmp_path / "step.pt")


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"model": nn.Linear(2, 2)}, tmp_path / "pickled.pt")
    with pytest.raises(UserError, match=r"pickled\.pt: cannot be read as a checkpoint"):
        from_file(tmp_path / "pickled.pt")


@pytest.mark.integration
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "net.encoder."])
@pytest.mark.parametrize("holder", [None, "state_dict", "model_state_dict"])
def test_checkpoints_of_wrappers_are_read(
    prefix: str, holder: str | None, tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    content = {prefix + name: tensor for name, tensor in state.items()} | {"criterion.weight": torch.ones(2)}
    torch.save({holder: content, "epoch": 3} if holder else content, tmp_path / "w.pt")
    model = torchvision.models.resnet18(num_classes=2)
    assert len(load_backbone(model, from_file(tmp_path / "w.pt"), "fc", "here")) == 120
    assert torch.equal(model.conv1.weight, state["conv1.weight"])


def test_a_checkpoint_of_two_networks_is_refused(state: dict[str, torch.Tensor]) -> None:
    both = {prefix + name: tensor for name, tensor in state.items() for prefix in ("model.", "ema.")}
    with pytest.raises(UserError, match=r"here holds several networks \(model\., ema\.\); save the one to use"):
        load_backbone(torchvision.models.resnet18(), both, "fc", "here")


def test_a_whole_network_and_weights_that_are_not_numbers_are_named(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    torch.save(torchvision.models.resnet18(), tmp_path / "whole.pt")
    with pytest.raises(UserError, match=r"it holds a torchvision\.models\.resnet\.ResNet, and loading that could run"):
        from_file(tmp_path / "whole.pt")
    torch.save(state | {"layer1.0.conv1.weight": torch.full((64, 64, 3, 3), torch.nan)}, tmp_path / "nan.pt")
    with pytest.raises(UserError, match=r"nan\.pt has numbers that are not finite, as in layer1\.0\.conv1\.weight"):
        from_file(tmp_path / "nan.pt")


@pytest.mark.integration
def test_a_gray_image_gives_the_logits_of_its_repetition(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state, tmp_path / "w.pt")
    grey = build(image=(1, 32, 32), weights=str(tmp_path / "w.pt")).eval()
    colour = build(image=(3, 32, 32), weights=str(tmp_path / "w.pt")).eval()
    colour.fc.load_state_dict(grey.fc.state_dict())
    x = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(grey(x), colour(x.expand(2, 3, 32, 32)), rtol=1e-4, atol=1e-4)
    torch.manual_seed(0)
    colour = build(image=(3, 32, 32)).eval()
    torch.manual_seed(0)
    grey = build(image=(1, 32, 32)).eval()
    torch.testing.assert_close(grey(x), colour(x.expand(2, 3, 32, 32)), rtol=1e-4, atol=1e-4)
    torch.save(grey.state_dict(), tmp_path / "grey.pt")
    again = build(image=(1, 32, 32), weights=str(tmp_path / "grey.pt"))
    assert torch.equal(again.conv1.weight, grey.conv1.weight)


def test_other_numbers_of_channels_are_an_error() -> None:
    with pytest.raises(UserError, match="take images of 3 channels or 1, the data's have 4"):
        build(image=(4, 32, 32))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "imagnet"}, r"model\.weights: imagnet: no such run; .* \(did you mean 'imagenet'\?\)"),
        ({"weights": {"confg": "x"}}, r"model\.weights: given \{'confg': 'x'\}; allowed: imagenet, none, a path, "),
        ({"freeze": []}, r"model\.freeze: given \[\]; allowed: none, backbone, or a list of patterns"),
    ],
)
def test_settings_are_checked_before_torch_is_imported(settings: dict[str, Any], message: str) -> None:
    node = {"name": "resnet18", "weights": "none", "freeze": "none", "bn": "train"}
    check("model", node | {"weights": {"config": "pretrain"}}, {})
    with pytest.raises(UserError, match=message):
        check("model", node | settings, {})


def test_a_config_for_weights_must_have_been_resolved_to_a_path() -> None:
    with pytest.raises(UserError, match="names a config; its run has to come first"):
        build(weights={"config": "pretrain"})


def test_frozen_layers_that_stay_random_are_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "_warned", set())
    for weights, freeze in (("imagenet", "backbone"), ("none", "none")):
        check("model", {"weights": weights, "freeze": freeze}, {})
    assert capsys.readouterr().err == ""
    check("model", {"weights": "none", "freeze": "backbone"}, {})
    assert "model.freeze=backbone with model.weights=none: the frozen layers stay random" in capsys.readouterr().err
