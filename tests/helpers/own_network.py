"""A person's own network, as a config would name it: `model._target_: tests.own_network.OwnNetwork`, `width: 8`."""

import torch
from torch import Tensor, nn


class OwnNetwork(nn.Module):
    """Two convolutions with functions between them, averaged over the image: (N, 3, H, W) -> (N, K)."""

    def __init__(self, classes: int, width: int):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False)
        self.out = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Give the logits of images (N, 3, H, W)."""
        x = torch.relu(self.stem(images))
        x = torch.relu(self.body(x))
        logits: Tensor = self.out(x.mean((2, 3)))
        return logits


class OwnResidual(nn.Module):
    """A small residual network of torchvision's blocks, with dropout: (N, 3, H, W) -> (N, K)."""

    def __init__(self, classes: int, width: int):
        super().__init__()
        from torchvision.models.resnet import BasicBlock

        half = nn.Sequential(nn.Conv2d(width, 2 * width, 1, stride=2, bias=False), nn.BatchNorm2d(2 * width))
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.body = nn.Sequential(BasicBlock(width, width), BasicBlock(width, 2 * width, 2, half), nn.Dropout(0.2))
        self.out = nn.Linear(2 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Give the logits of images (N, 3, H, W)."""
        logits: Tensor = self.out(self.body(self.stem(images)).mean((2, 3)))
        return logits
