"""The networks of the comparisons, written as in a notebook. The rivals share them; cnnexp has its own."""

from torch import nn


def network(name: str, size: int, norm: bool = True, dropout: float = 0.0) -> nn.Module:
    """Return `compact`, `wide`, `vgg_like` or `resnet18` for (N, 3, size, size) images and ten classes."""
    if name == "resnet18":
        import torchvision

        return torchvision.models.resnet18(num_classes=10)  # type: ignore[no-any-return]
    if name == "vgg_like":
        return vgg_like(size)
    shapes = {"compact": ((32, 64, 128), (7, 5, 3), 512), "wide": ((128, 256, 512), (3, 3, 3), 1024)}
    widths, kernels, units = shapes[name]
    layers: list[nn.Module] = []
    channels = 3
    for width, kernel in zip(widths, kernels, strict=True):
        layers += [nn.Conv2d(channels, width, kernel, padding=kernel // 2)]
        layers += [nn.BatchNorm2d(width)] if norm else []
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.Dropout(dropout)] if dropout else []
        channels = width
    layers += [nn.Flatten(), nn.Linear(channels * (size // 8) ** 2, units)]
    layers += [nn.BatchNorm1d(units)] if norm else []
    layers += [nn.ReLU()]
    layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(units, 10))


def vgg_like(size: int) -> nn.Module:
    """Return four blocks of two 3x3 convolutions (32, 64, 128, 256 channels), each normalised, and a pooling."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (32, 64, 128, 256):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers += [nn.MaxPool2d(2)]
    layers += [nn.Flatten(), nn.Linear(channels * (size // 16) ** 2, 64), nn.BatchNorm1d(64)]
    model = nn.Sequential(*layers, nn.Linear(64, 10), nn.BatchNorm1d(10))
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    return model


def transforms(size: int, augmentation: str, mean: list[float], std: list[float]) -> tuple[object, object]:
    """Return (training, evaluation) transforms on PIL images: `none`, `flip`, `full` or `crop_full`."""
    from torchvision import transforms as t

    resize = [t.Resize(size), t.CenterCrop(size)]
    end = [t.ToTensor(), t.Normalize(mean, std)]
    flip = t.RandomHorizontalFlip()
    turn = t.RandomRotation(10, interpolation=t.InterpolationMode.BILINEAR)
    crop = t.RandomCrop(size, padding=4)
    colour = t.ColorJitter(0.2, 0.2, 0.2)
    chosen = {"none": [], "flip": [flip], "full": [flip, turn, colour], "crop_full": [flip, turn, crop, colour]}
    return t.Compose([*resize, *chosen[augmentation], *end]), t.Compose([*resize, *end])
