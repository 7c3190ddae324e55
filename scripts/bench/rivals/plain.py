"""The loop of a notebook: ImageFolder, PIL transforms, a DataLoader with workers, one epoch after another.

Run: python plain.py '{"root": "tree", "size": 64, "network": "compact", "epochs": 2}'
root: a tree of train/<class>/* and test/<class>/*; the other settings are those of DEFAULTS. Prints one line of JSON.
"""

import json
import sys
from collections.abc import Callable, Iterator
from time import perf_counter
from types import SimpleNamespace as Settings
from typing import Any

import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import transforms as t
from torchvision.datasets import ImageFolder

# freeze: none, frozen (backbone and batch norm) or norm (backbone, but batch norm adapts); only_load: train nothing
DEFAULTS = {
    **{"size": 64, "network": "compact", "norm": True, "dropout": 0.0, "freeze": "none", "seed": 0},
    **{"augmentation": "full", "epochs": 1, "batch_size": 128, "optimizer": "adam", "lr": 1e-3, "only_load": False},
    **{"workers": 2, "persistent": False, "bf16": False, "channels_last": False},
}
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
# Widths, kernels, convolutions per block, units of the hidden layer.
SHAPES = {
    "compact": ((32, 64, 128), (7, 5, 3), 1, 512),
    "wide": ((128, 256, 512), (3, 3, 3), 1, 1024),
    "vgg_like": ((32, 64, 128, 256), (3, 3, 3, 3), 2, 64),
}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
OPTIMIZERS: dict[str, Any] = {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad}


def run(train: Callable[[Settings], dict[str, Any]]) -> None:
    """Train with the settings of the command line, and print the results and the time since now as JSON."""
    started = perf_counter()
    given = json.loads(sys.argv[1])
    assert given.keys() <= {"root", *DEFAULTS}, given
    print(json.dumps({**train(Settings(**DEFAULTS | given)), "recorded_seconds": perf_counter() - started}))


def main(settings: Settings) -> dict[str, Any]:
    """Train, validate after every epoch, test at the end."""
    torch.manual_seed(settings.seed)
    train, val, test = loaders(settings)
    if settings.only_load:
        return load(train, settings)
    model = build(settings).to(DEVICE)
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)
    learning = [p for p in model.parameters() if p.requires_grad]
    on_gpu = DEVICE.type == "cuda"
    torch.backends.cudnn.benchmark = on_gpu  # this and `fused` a person who looks for speed on a GPU writes too
    optimizer = OPTIMIZERS[settings.optimizer](learning, lr=settings.lr, fused=on_gpu or None)
    seconds, seen, val_accuracy = 0.0, 0, 0.0
    rows: list[dict[str, Any]] = []  # the times of each epoch, as cnnexp records them
    for epoch in range(1, settings.epochs + 1):
        start = perf_counter()
        model.train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d) and settings.freeze == "frozen":
                module.eval()
        for images, labels in moved(train, settings):
            optimizer.zero_grad()
            with torch.autocast(DEVICE.type, torch.bfloat16, settings.bf16):
                loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            seen += len(labels)
            loss.item()  # notebooks keep a running loss
        trained = perf_counter()
        seconds += trained - start
        rows += [{"kind": "epoch", "epoch": epoch, "split": "train", "seconds": trained - start}]
        val_accuracy = accuracy(model, val, settings)
        rows += [{"kind": "epoch", "epoch": epoch, "split": "val", "seconds": perf_counter() - trained}]
    results = {"val_accuracy": val_accuracy, "test_accuracy": accuracy(model, test, settings)}
    return {"images_per_second": seen / seconds, "train_seconds": seconds, "rows": rows, **results}


def load(train: DataLoader[Any], settings: Settings) -> dict[str, Any]:
    """Load the training images.

    images_per_second: from the first batch of an epoch to its last; with_start: with the start of the workers.
    """
    seconds, seen, began = 0.0, 0, perf_counter()
    for _ in range(settings.epochs):
        batches = iter(train)
        next(batches)
        started = perf_counter()
        seen += sum(len(images) for images, _ in batches)
        seconds += perf_counter() - started
    total = seen + settings.epochs * settings.batch_size
    return {"images_per_second": seen / seconds, "images_per_second_with_start": total / (perf_counter() - began)}


def loaders(settings: Settings) -> tuple[DataLoader[Any], DataLoader[Any], DataLoader[Any]]:
    """Return the loaders of the training images, a tenth of them held out, and the test images."""
    augmented, clean = transforms(settings.size, settings.augmentation)
    everything = ImageFolder(f"{settings.root}/train", augmented)
    order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(0)).tolist()
    held_out = len(order) // 10
    train = Subset(everything, order[held_out:])
    val = Subset(ImageFolder(f"{settings.root}/train", clean), order[:held_out])
    test = ImageFolder(f"{settings.root}/test", clean)
    shared: dict[str, Any] = {"batch_size": settings.batch_size, "num_workers": settings.workers}
    shared |= {"persistent_workers": settings.persistent, "pin_memory": DEVICE.type == "cuda"}
    shuffled = DataLoader(train, shuffle=True, drop_last=True, **shared)
    return shuffled, DataLoader(val, **shared), DataLoader(test, **shared)


def build(settings: Settings) -> nn.Module:
    """Return the network, frozen as asked."""
    model: nn.Module = network(settings.network, settings.size, settings.norm, settings.dropout)
    if settings.freeze != "none":
        for name, parameter in model.named_parameters():
            of_norm = "bn" in name or "downsample.1" in name
            parameter.requires_grad = name.startswith("fc.") or (settings.freeze == "norm" and of_norm)
    return model


def network(name: str, size: int, norm: bool = True, dropout: float = 0.0) -> nn.Module:
    """Return a network of SHAPES or `resnet18` for (N, 3, size, size) images and ten classes.

    vgg_like normalises its logits and has no ReLU after its hidden layer.
    """
    if name == "resnet18":
        return torchvision.models.resnet18(num_classes=10)  # type: ignore[no-any-return]
    widths, kernels, convolutions, units = SHAPES[name]
    drop = [nn.Dropout(dropout)] if dropout else []
    layers: list[nn.Module] = []
    channels = 3
    for width, kernel in zip(widths, kernels, strict=True):
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, width, kernel, padding=kernel // 2)]
            layers += [nn.BatchNorm2d(width)] if norm else []
            layers += [nn.ReLU()]
            channels = width
        layers += [nn.MaxPool2d(2), *drop]
    layers += [nn.Flatten(), nn.Linear(channels * (size // 2 ** len(widths)) ** 2, units)]
    layers += [nn.BatchNorm1d(units)] if norm else []
    if name != "vgg_like":
        return nn.Sequential(*layers, nn.ReLU(), *drop, nn.Linear(units, 10))
    model = nn.Sequential(*layers, nn.Linear(units, 10), nn.BatchNorm1d(10))
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    return model


def transforms(size: int, augmentation: str) -> tuple[object, object]:
    """Return (training, evaluation) transforms on PIL images: `none`, `flip`, `full` or `crop_full`."""
    resize = [t.Resize(size), t.CenterCrop(size)]
    end = [t.ToTensor(), t.Normalize(MEAN, STD)]
    flip = t.RandomHorizontalFlip()
    turn = t.RandomRotation(10, interpolation=t.InterpolationMode.BILINEAR)
    crop = t.RandomCrop(size, padding=4)
    colour = t.ColorJitter(0.2, 0.2, 0.2)
    chosen = {"none": [], "flip": [flip], "full": [flip, turn, colour], "crop_full": [flip, turn, crop, colour]}
    return t.Compose([*resize, *chosen[augmentation], *end]), t.Compose([*resize, *end])


def moved(loader: DataLoader[Any], settings: Settings) -> Iterator[tuple[Any, Any]]:
    """Yield the batches of a loader on the device."""
    for images, labels in loader:
        images, labels = images.to(DEVICE, non_blocking=True), labels.to(DEVICE, non_blocking=True)
        yield images.to(memory_format=torch.channels_last) if settings.channels_last else images, labels


@torch.no_grad()
def accuracy(model: nn.Module, loader: DataLoader[Any], settings: Settings) -> float:
    """Return the accuracy on the images of a loader."""
    model.eval()
    right = total = 0
    for images, labels in moved(loader, settings):
        with torch.autocast(DEVICE.type, torch.bfloat16, settings.bf16):
            right += int((model(images).argmax(1) == labels).sum())
        total += len(labels)
    return right / total


if __name__ == "__main__":
    run(main)
