"""Grad-CAM and first filters: against class activation maps, captum and a network whose answer is known."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from cnnexp.api.run import Run
from cnnexp.errors import UserError
from cnnexp.explain.gradcam import first_filters, grad_cam

pytest_plugins = ["trained_runs"]
CLASSES = torch.tensor([0, 3, 7])


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=10)
    return model.eval()


def of_one(heat: torch.Tensor) -> torch.Tensor:
    return heat / heat.amax((1, 2), keepdim=True).clamp_min(1e-12)


def test_with_one_linear_layer_it_is_the_class_activation_map() -> None:
    """Zhou et al. 2016: the maps before the global pooling, weighted as the class weighs them."""
    model, images = network("resnet18"), torch.randn(3, 3, 96, 96)
    maps: list[torch.Tensor] = []
    hook = model.layer4.register_forward_hook(lambda *given: maps.append(given[2].detach()))
    found, layer = grad_cam(model, images, CLASSES)
    hook.remove()
    expected = torch.einsum("nk,nkhw->nhw", model.fc.weight.detach()[CLASSES], maps[0]).relu()
    assert layer == "layer4" and found.shape == (3, 3, 3)
    torch.testing.assert_close(found, of_one(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "layer"), [("vgg11", "features.19"), ("squeezenet1_1", "classifier.2")])
def test_as_captum(name: str, layer: str) -> None:
    captum = pytest.importorskip("captum.attr")
    model, images = network(name), torch.randn(3, 3, 96, 96)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    expected = captum.LayerGradCam(model, model.get_submodule(layer)).attribute(images, CLASSES, relu_attributions=True)
    found, used = grad_cam(model, images, CLASSES)
    assert used == layer
    torch.testing.assert_close(found, of_one(expected[:, 0].detach()), rtol=1e-4, atol=1e-5)


def test_its_scale_does_not_depend_on_that_of_the_logits() -> None:
    model, images = network("squeezenet1_1"), torch.randn(3, 3, 96, 96)
    expected, _ = grad_cam(model, images, CLASSES)
    with torch.no_grad():
        model.get_submodule("classifier.1").weight.mul_(1e-12)
        model.get_submodule("classifier.1").bias.mul_(1e-12)
    found, _ = grad_cam(model, images, CLASSES)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_it_shows_where_the_answer_comes_from() -> None:
    """The second class is for bright pixels, the first for dark ones; only the square is bright."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1))
    image = -torch.ones(1, 1, 8, 8)
    image[..., 2:4, 5:7] = 1
    (heat,), layer = grad_cam(model, image, torch.tensor([1]))
    assert layer == "1" and torch.equal(heat > 0, image[0, 0] > 0)
    (other,), _ = grad_cam(model, image, torch.tensor([0]))
    assert torch.equal(other > 0, image[0, 0] < 0)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "densenet121", "efficientnet_b0", "shufflenet_v2_x0_5"])
def test_networks_of_torchvision(name: str) -> None:
    found, layer = grad_cam(network(name), torch.randn(3, 3, 64, 64), CLASSES)
    assert found.shape == (3, 2, 2) and float(found.min()) >= 0 and float(found.max()) <= 1
    assert layer.startswith(("features", "conv5"))


def test_a_network_of_timm() -> None:
    timm = pytest.importorskip("timm")
    found, layer = grad_cam(timm.create_model("resnet10t", num_classes=10), torch.randn(3, 3, 64, 64), CLASSES)
    assert found.shape == (3, 2, 2) and layer == "layer4"


def test_networks_without_convolutions() -> None:
    with pytest.raises(UserError, match="no convolution whose output is larger than one pixel, so it has no Grad-CAM"):
        grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), torch.randn(1, 3, 2, 2), torch.tensor([0]))
    with pytest.raises(UserError, match="the network has no convolution, so it has no filters to show"):
        first_filters(nn.Linear(2, 2))


def test_figures_of_a_run(trained_run: Path) -> None:
    run = Run(trained_run)
    assert "Grad-CAM at " in run.figure("gradcam").get_suptitle()
    assert "8 filters of 3x3" in run.figure("filters").get_suptitle()


def test_figures_of_an_own_network_need_its_name(own_run: Path) -> None:
    with pytest.raises(UserError, match=r"own_network\.OwnNetwork is not built from a run directory"):
        Run(own_run).figure("filters")
    assert Run(own_run).figure("filters", allow=["own_network.OwnNetwork"])


@pytest.mark.integration
def test_a_perceptron_has_neither(made: Callable[..., Path]) -> None:
    run = Run(made("perceptron", "model=mlp"))
    for kind in ("gradcam", "filters"):
        with pytest.raises(UserError, match="the network has no convolution"):
            run.figure(kind)
