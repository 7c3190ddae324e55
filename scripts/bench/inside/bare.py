"""What the runner adds: the same training by `cnnexp train` and by a loop written by hand, in one process, in turn.

The loop by hand uses the same tricks: uint8 images gathered from the memory map, the same network and augmentation,
channels_last, a fused Adam, memory that is kept. It has no seeds for single steps, no records, no checkpoints.

Run: python bare.py '{"overrides": ["data=shapes"], "repeats": 3, "outputs": "somewhere"}'
Prints one line of JSON: a list of repeats, [{"cnnexp": {...}, "bare": {...}}, ...], all in seconds.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor
from torch.nn import functional
from turns import by_cnnexp, in_turn  # type: ignore[import-not-found]

from cnnexp.config import compose as config
from cnnexp.data.images import ImageData, Split
from cnnexp.training import build
from cnnexp.training import device as devices


def main(overrides: list[str], repeats: int, outputs: str) -> list[dict[str, dict[str, float]]]:
    """Train `repeats` times on each side, the order reversed every time."""
    told: list[dict[str, dict[str, float]]] = in_turn(
        {
            "cnnexp": lambda repeat: by_cnnexp([*overrides, f"seed={repeat}"], Path(outputs) / str(repeat)),
            "bare": lambda repeat: by_hand([*overrides, f"seed={repeat}"]),
        },
        repeats,
    )
    return told


def by_hand(overrides: list[str]) -> dict[str, float]:
    """Train with a loop over steps and a validation after every epoch, and nothing else."""
    settings = config.resolve(config.compose(overrides))
    device = devices.resolve(settings["device"])
    devices.set_up(device)
    data = build.build_data(settings)
    torch.manual_seed(settings["seed"])
    model = build.build_model(settings, data.image, len(data.classes)).to(memory_format=torch.channels_last)
    augment = build.build_augmentation(settings)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings["optimizer"]["lr"], fused=True)
    generator = torch.Generator().manual_seed(settings["seed"])
    size, epochs = settings["batch_size"], int(str(settings["epochs"]).removesuffix("ep"))
    spent, accuracy, began = 0.0, 0.0, perf_counter()
    for _ in range(epochs):
        started = perf_counter()
        model.train()
        order = torch.randperm(len(data.train), generator=generator)
        for start in range(0, len(order) - size + 1, size):
            x, labels = batch(data, data.train, order[start : start + size], lambda x: augment(x, generator))
            loss = functional.cross_entropy(model(x), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss.item()  # looked at, as in any loop that prints it
        spent += perf_counter() - started
        accuracy = validate(model, data)
    return {"train_seconds": spent, "loop_seconds": perf_counter() - began, "val_accuracy": accuracy}


def batch(
    data: ImageData, split: Split, rows: Tensor, augment: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Return normalised images (N, C, H, W), channels_last, and labels (N,) of positions in a split."""
    pixels = torch.from_numpy(split.images)[torch.from_numpy(split.indices)[rows]].permute(0, 3, 1, 2)
    x = torch.empty(pixels.shape).copy_(pixels).mul_(1 / 255)
    if augment is not None:
        x = augment(x)
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (data.mean, data.std))
    x = x.sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)
    return x, torch.from_numpy(split.labels)[rows]


@torch.inference_mode()
def validate(model: torch.nn.Module, data: ImageData, size: int = 128) -> float:
    """Return the share of right answers on the validation images."""
    model.eval()
    right = 0
    for start in range(0, len(data.val), size):
        x, labels = batch(data, data.val, torch.arange(start, min(start + size, len(data.val))))
        right += int((model(x).argmax(1) == labels).sum())
    return right / len(data.val)


if __name__ == "__main__":
    import warnings

    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    print(json.dumps(main(**json.loads(sys.argv[1]))))
