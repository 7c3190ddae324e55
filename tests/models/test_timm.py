"""timm's networks by name: the head, gray images, fixed sizes, weights, and the images that they are made for."""

import numpy as np
import pytest
import torch
import torchvision

from cnnexp.config import compose
from cnnexp.config.set_by_data import print_set_by_data
from cnnexp.errors import Skipped, UserError
from cnnexp.models.zoo import check_of_timm, timm_model

SETTINGS = {"weights": "none", "freeze": "none", "bn": "train"}


@pytest.fixture
def timm():
    return pytest.importorskip("timm")


def build(image=(3, 32, 32), classes=7, **settings):
    return timm_model(image, classes, **(SETTINGS | settings))


def test_weights_that_a_run_has_to_make_first_are_refused(timm) -> None:
    with pytest.raises(UserError, match="names a config; its run has to come first"):
        timm_model((3, 32, 32), 2, "resnet18", {"config": "resnet18_textures"}, "none", "train")


@pytest.mark.parametrize(("name", "head"), [("test_resnet", "fc"), ("test_vit", "head"), ("test_convnext", "head.fc")])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_has_a_new_head_and_takes_the_image(timm, name, head, channels):
    model = build((channels, 32, 48), name=name, freeze="backbone")
    assert model.eval()(torch.zeros(2, channels, 32, 48)).shape == (2, 7)
    norms = {n for n, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    learns = {n.rpartition(".")[0] for n, p in model.named_parameters() if p.requires_grad}
    assert learns == norms | {head}


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("deit_tiny_distilled_patch16_224", {"head", "head_dist"}),  # the logits are the mean of both
        ("levit_128s", {"head.linear", "head_dist.linear"}),
        ("volo_d1_224", {"head", "aux_head"}),  # in the logits by half
        ("crossvit_9_240", {"head.0", "head.1"}),
    ],
)
def test_all_heads_are_new_and_learn(timm, tmp_path, name, heads):
    """One that is loaded from other classes does not fit; one that stays random and frozen disturbs the logits."""
    side = 240 if name.startswith("crossvit") else 224
    torch.save(timm.create_model(name, num_classes=11).state_dict(), tmp_path / "w.pt")
    model = build((3, side, side), name=name, freeze="backbone", weights=str(tmp_path / "w.pt"))
    norms = {n for n, m in model.named_modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)}
    learns = {n.rpartition(".")[0] for n, p in model.named_parameters() if p.requires_grad}
    assert learns - norms == heads


def test_a_run_of_timm_says_what_is_missing_without_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"timm is not installed; type: pip install 'cnnexp\[timm\]'"):
        build(name="test_resnet")


def test_an_unknown_name_gets_a_guess(timm):
    with pytest.raises(UserError, match=r"no network 'resnet81'.*did you mean 'resnet"):
        build(name="resnet81")


def test_without_its_pretrained_weights_a_run_is_skipped(timm, monkeypatch, tmp_path):
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: (_ for _ in ()).throw(OSError("no route")))
    with pytest.raises(Skipped, match=r"weights of resnet18 are not available \(no route\)"):
        build(name="resnet18", weights="imagenet")


def test_a_network_without_weights_says_so(timm):
    with pytest.raises(UserError, match="timm has no weights for test_vit4"):
        build(name="test_vit4", weights="imagenet")


def test_weights_of_a_file_are_all_but_the_head(timm, tmp_path):
    other = timm.create_model("test_resnet", num_classes=11)
    torch.save(other.state_dict(), tmp_path / "w.pt")
    model = build(name="test_resnet", weights=str(tmp_path / "w.pt"))
    own, given = model.state_dict(), other.state_dict()
    assert all(torch.equal(own[n], given[n]) for n in own if not n.startswith("fc.")) and own["fc.weight"].shape[0] == 7


def resolved(*words):
    return compose.resolve(compose.compose(list(words)))["data"]


def test_images_are_those_of_the_network_unless_typed(timm, capsys):
    data = resolved("model=timm", "model.name=resnet18")
    config = timm.models.get_pretrained_cfg("resnet18")
    assert data["size"] == config.input_size[1] == 224
    assert data["normalize"] == {"mean": list(config.mean), "std": list(config.std)}
    composed = compose.compose(["model=timm", "model.name=resnet18"], with_hydra=True)
    print_set_by_data([(compose.resolve(composed), composed.hydra)])
    assert "model.name=resnet18 sets data.size=224, data.normalize={'mean': [0.485, " in capsys.readouterr().out
    data = resolved("model=timm", "data.size=64", "data.normalize=dataset")
    assert (data["size"], data["normalize"]) == (64, "dataset")


def test_other_networks_leave_the_data_as_it_is():
    assert (resolved("model=resnet18")["size"], resolved("model=custom")["normalize"]) == (24, "dataset")


def test_torchvisions_networks_say_their_images_when_asked():
    data = resolved("model=torchvision", "model.name=convnext_tiny", "data.size=model", "data.normalize=model")
    assert data["size"] == 224 and np.allclose(data["normalize"]["std"], [0.229, 0.224, 0.225])


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_that_rescale_their_images_themselves_get_them_so(name):
    """torchvision builds these two with transform_input=True for its ImageNet weights, and cnnexp without."""
    data = resolved("model=torchvision", f"model.name={name}", "data.size=model", "data.normalize=model")
    given, inside = data["normalize"], getattr(torchvision.models, name)(aux_logits=False, init_weights=False)
    inside.transform_input = True
    imagenet = torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    image = torch.rand(1, 3, 4, 4)
    ours = torchvision.transforms.Normalize(given["mean"], given["std"])(image)
    assert torch.allclose(ours, inside._transform_input(imagenet(image)), atol=1e-6)


def test_a_network_that_does_not_say_it_is_one_line():
    with pytest.raises(UserError, match=r"data.size: given model; cnnexp.models.convnet.convnet does not say"):
        resolved("data.size=model")


def test_without_timm_it_is_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'cnnexp\[timm\]'"):
        check_of_timm("model", {"weights": "none", "freeze": "none", "name": "resnet18"}, {})
