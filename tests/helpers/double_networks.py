"""Networks in float64, for tests of several processes of a run; the loss is in float64 too, see `in_float64`."""

import sys

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import StochasticDepth


class Double(nn.Module):
    """A network that computes in float64."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.double())


def convnet(image: tuple[int, int, int], classes: int) -> nn.Module:
    channels, height, width = image
    return Double(
        nn.Sequential(
            *(nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout2d(0.2), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8, affine=False), nn.GELU(), nn.Dropout(0.3)),
            *(nn.Flatten(), nn.Linear(8 * (height // 2) * (width // 2), classes)),
        )
    )


def resnet(image: tuple[int, int, int], classes: int) -> nn.Module:
    from torchvision.models.resnet import BasicBlock, ResNet

    return Double(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=classes))


def mlp(image: tuple[int, int, int], classes: int) -> nn.Module:
    size = image[0] * image[1] * image[2]
    hidden = (nn.Linear(size, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5))
    return Double(nn.Sequential(nn.Flatten(), *hidden, nn.Linear(32, classes)))


class Noisy(nn.Module):
    """Noise on whole images, on activations, on weights, and in a buffer: each drawn in another way."""

    def __init__(self, features: int, classes: int):
        super().__init__()
        self.depth, self.head = StochasticDepth(0.3, "row"), nn.Linear(features, classes)
        self.register_buffer("noise", torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.head(x.flatten(1))
        x = (self.depth(x) + 0.1 * torch.rand_like(x)).flatten(1) + 0.1 * self.noise.normal_()
        weight = functional.dropout(self.head.weight, 0.1) + 0.01 * torch.randn_like(self.head.weight)
        return functional.linear(functional.dropout(x, 0.2), weight, self.head.bias)


def noisy(image: tuple[int, int, int], classes: int) -> nn.Module:
    channels, height, width = image
    return Double(nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.GELU(), Noisy(4 * height * width, classes)))


def in_float64() -> None:
    """Let losses be computed in float64: the loop takes `logits.float()`."""
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]


ELSEWHERE = getattr(sys.modules["__main__"].__spec__, "name", "") == "cnnexp.training.follow"
if ELSEWHERE:
    in_float64()


class fails_elsewhere:  # noqa: N801
    """An augmentation that changes nothing, and fails in the other processes of a run at the fourth batch."""

    def __init__(self, error: str):
        self.error, self.batches = error, 0

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        self.batches += 1
        if ELSEWHERE and self.batches == 4:
            raise {"MemoryError": MemoryError, "KeyError": KeyError}[self.error]("here")
        return x
