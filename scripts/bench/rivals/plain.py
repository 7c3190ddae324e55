"""The loop of a notebook: ImageFolder, PIL transforms, a DataLoader with workers, one epoch after another.

Run: python plain.py '{"root": "tree", "size": 64, "network": "compact", "epochs": 2}'
Prints one line of JSON. Settings and their defaults are those of `Settings`.
"""

import json
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from networks import network, transforms  # type: ignore[import-not-found]
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder


@dataclass
class Settings:
    """What a comparison varies. root: a tree of train/<class>/* and test/<class>/*."""

    root: str
    size: int = 64
    network: str = "compact"
    norm: bool = True
    dropout: float = 0.0
    augmentation: str = "full"
    epochs: int = 1
    batch_size: int = 128
    lr: float = 1e-3
    optimizer: str = "adam"
    workers: int = 2
    persistent: bool = False
    bf16: bool = False
    channels_last: bool = False
    freeze: str = "none"  # none | frozen: backbone and batch norm | norm: backbone, but batch norm adapts
    weights: str | None = None
    seed: int = 0
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.25, 0.25, 0.25)


def main(settings: Settings) -> dict[str, Any]:
    """Train, validate after every epoch, test at the end."""
    started = time.perf_counter()
    torch.manual_seed(settings.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train, val, test = loaders(settings, device)
    model = build(settings).to(device)
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizers = {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad}
    tuned = {}
    if device.type == "cuda":  # two lines that a person who looks for speed on a GPU writes too
        torch.backends.cudnn.benchmark = True
        tuned = {"fused": True}
    optimizer = optimizers[settings.optimizer](learning, lr=settings.lr, **tuned)
    seconds, seen, accuracies = 0.0, 0, []
    for _ in range(settings.epochs):
        start = time.perf_counter()
        set_mode(model, settings)
        for images, labels in train:
            images, labels = move(images, labels, device, settings)
            optimizer.zero_grad()
            with autocast(settings, device):
                loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            seen += len(labels)
            loss.item()  # notebooks keep a running loss
        seconds += time.perf_counter() - start
        accuracies.append(accuracy(model, val, device, settings))
    return {
        "images_per_second": seen / seconds,
        "train_seconds": seconds,
        "val_accuracy": accuracies[-1],
        "test_accuracy": accuracy(model, test, device, settings),
        "seconds": time.perf_counter() - started,
        "settings": asdict(settings),
    }


def loaders(settings: Settings, device: torch.device) -> tuple[DataLoader[Any], DataLoader[Any], DataLoader[Any]]:
    """Return the loaders of the training images, a tenth of them held out, and the test images."""
    augmented, clean = transforms(settings.size, settings.augmentation, list(settings.mean), list(settings.std))
    everything = ImageFolder(f"{settings.root}/train", augmented)
    order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(0)).tolist()
    held_out = len(order) // 10
    train = Subset(everything, order[held_out:])
    val = Subset(ImageFolder(f"{settings.root}/train", clean), order[:held_out])
    test = ImageFolder(f"{settings.root}/test", clean)
    common: dict[str, Any] = {
        "batch_size": settings.batch_size,
        "num_workers": settings.workers,
        "persistent_workers": settings.persistent,
        "pin_memory": device.type == "cuda",
    }
    return (
        DataLoader(train, shuffle=True, drop_last=True, **common),
        DataLoader(val, **common),
        DataLoader(test, **common),
    )


def build(settings: Settings) -> nn.Module:
    """Return the network, frozen as asked."""
    model: nn.Module = network(settings.network, settings.size, settings.norm, settings.dropout)
    if settings.weights:
        weights = torch.load(settings.weights, weights_only=True)["model"]
        model.load_state_dict({k: v for k, v in weights.items() if not k.startswith("fc.")}, strict=False)
    if settings.freeze != "none":
        for name, parameter in model.named_parameters():
            of_norm = "bn" in name or "downsample.1" in name
            parameter.requires_grad = name.startswith("fc.") or (settings.freeze == "norm" and of_norm)
    return model


def set_mode(model: nn.Module, settings: Settings) -> None:
    """Put the network in training mode; frozen batch norm stays as it is."""
    model.train()
    if settings.freeze == "frozen":
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


def move(images: Any, labels: Any, device: torch.device, settings: Settings) -> tuple[Any, Any]:
    """Put a batch on the device."""
    images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
    return (images.to(memory_format=torch.channels_last) if settings.channels_last else images), labels


def autocast(settings: Settings, device: torch.device) -> Any:
    """Return the context of the forward pass."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if settings.bf16 else nullcontext()


@torch.no_grad()
def accuracy(model: nn.Module, loader: DataLoader[Any], device: torch.device, settings: Settings) -> float:
    """Return the share of right answers."""
    model.eval()
    right = total = 0
    for images, labels in loader:
        images, labels = move(images, labels, device, settings)
        with autocast(settings, device):
            right += int((model(images).argmax(1) == labels).sum())
        total += len(labels)
    return right / total


if __name__ == "__main__":
    print(json.dumps(main(Settings(**json.loads(sys.argv[1])))))
