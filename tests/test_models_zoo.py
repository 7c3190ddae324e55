"""torchvision's classifiers: the head, weights from elsewhere, grey images, and what happens without a network."""

from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn

from cnnexp.errors import Skipped, UserError
from cnnexp.models.weights import from_file, head_name, load_backbone
from cnnexp.models.zoo import check, torchvision_model

ADDRESS = "torchvision.models._api.load_state_dict_from_url"


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


def test_without_a_network_imagenet_weights_skip_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(ADDRESS, refuse)
    with pytest.raises(Skipped) as caught:
        build(weights="imagenet")
    assert str(caught.value) == (
        "model.weights=imagenet: the weights of resnet18 cannot be had here (<urlopen error no route to host>); "
        "give model.weights=PATH, or backbone.weights=PATH to all arms that transfer: a checkpoint or a run directory"
    )


def test_imagenet_weights_are_version_1_and_leave_head_and_random_state_alone(
    monkeypatch: pytest.MonkeyPatch, state: dict[str, torch.Tensor]
) -> None:
    asked: list[str] = []

    def give(url: str, *_: Any, **__: Any) -> dict[str, torch.Tensor]:
        asked.append(url)
        return state

    monkeypatch.setattr(ADDRESS, give)
    torch.manual_seed(8)
    plain, after = build(), torch.rand(3)
    torch.manual_seed(8)
    model = build(weights="imagenet")
    assert torch.equal(torch.rand(3), after)
    assert asked == ["https://download.pytorch.org/models/resnet18-f37072fd.pth"]
    assert torch.equal(model.fc.weight, plain.fc.weight)
    for name, tensor in model.state_dict().items():
        assert name.startswith("fc.") or torch.equal(tensor, state[name])


@pytest.mark.parametrize("layout", ["state dict", "model", "run directory"])
def test_a_checkpoint_gives_its_backbone(layout: str, tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    if layout == "run directory":
        (tmp_path / "checkpoints").mkdir()
    file = tmp_path / ("checkpoints/best.pt" if layout == "run directory" else "weights.pt")
    torch.save(state if layout == "state dict" else {"model": state, "step": 3}, file)
    model = build(weights=str(tmp_path if layout == "run directory" else file))
    assert torch.equal(model.layer4[1].bn2.running_var, state["layer4.1.bn2.running_var"])
    assert model.fc.weight.shape == (7, 512)


def test_the_head_is_fresh_even_for_as_many_classes(state: dict[str, torch.Tensor]) -> None:
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
        "model.weights: here is of another network: bn1.bias is missing; extra is left over; "
        "bn1.weight is (3,) there and (64,) here"
    )


def test_files_from_before_batches_were_counted_load(state: dict[str, torch.Tensor]) -> None:
    model = torchvision.models.resnet18()
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert len(load_backbone(model, old, "fc", "here")) == 100
    assert model.bn1.num_batches_tracked == 0


def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no .*best\.pt"):
        from_file(tmp_path)
    (tmp_path / "text.pt").write_text("not weights")
    with pytest.raises(UserError, match=r"text\.pt cannot be read as a checkpoint"):
        from_file(tmp_path / "text.pt")
    torch.save({"model": {"step": 3}}, tmp_path / "step.pt")
    with pytest.raises(UserError, match=r"step\.pt holds no weights"):
        from_file(tmp_path / "step.pt")


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"model": nn.Linear(2, 2)}, tmp_path / "pickled.pt")
    with pytest.raises(UserError, match=r"pickled\.pt cannot be read as a checkpoint"):
        from_file(tmp_path / "pickled.pt")


def test_a_grey_image_gives_what_its_repetition_would(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
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
        ({"weights": "imagnet"}, r"model\.weights: there is no 'imagnet'; .* \(did you mean 'imagenet'\?\)"),
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
