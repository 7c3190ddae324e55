"""What the runner adds: the same training by `cnnexp train` and by a loop written by hand, in one process, in turn.

The loop by hand uses the same tricks: uint8 images gathered from the memory map, the same network and augmentation,
channels_last, a fused Adam, memory that is kept. It has no seeds for single steps, no records, no checkpoints.

Run: python bare.py '{"overrides": ["data=shapes"], "repeats": 3, "outputs": "somewhere"}'
Prints one line of JSON: a list of repeats, [{"cnnexp": {...}, "bare": {...}}, ...], all in seconds.
"""

import contextlib
import importlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cnnexp import build, cli, config
from cnnexp import device as devices
from cnnexp.data.images import ImageData, Split
from cnnexp.record import find_runs


def main(overrides: list[str], repeats: int, outputs: str) -> list[dict[str, dict[str, float]]]:
    """Train `repeats` times on each side, the order reversed every time."""
    found = []
    for repeat in range(repeats):
        sides: list[tuple[str, Callable[[], dict[str, float]]]] = [
            ("cnnexp", lambda: by_cnnexp([*overrides, f"seed={repeat}"], Path(outputs) / str(repeat))),  # noqa: B023
            ("bare", lambda: by_hand([*overrides, f"seed={repeat}"])),  # noqa: B023
        ]
        found.append({name: side() for name, side in (sides if repeat % 2 == 0 else reversed(sides))})
    return found


def by_cnnexp(overrides: list[str], outputs: Path) -> dict[str, float]:
    """Run `cnnexp train` in this process. loop_seconds: of `fit`, with rows, evaluation, checkpoints, signals, bar."""
    runner: Any = importlib.import_module("cnnexp.run")
    fit, spent = runner.fit, [0.0]

    def timed(*arguments: Any, **named: Any) -> None:
        started = perf_counter()
        fit(*arguments, **named)
        spent[0] = perf_counter() - started

    runner.fit = timed
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            code = cli.main(["train", *overrides, f"outputs={outputs}"])
    finally:
        runner.fit = fit
    (record,) = find_runs(outputs)
    assert code == 0, record.info
    seconds, result = record.info["seconds"], record.info["result"]
    return {
        "train_seconds": seconds["train"],
        "loop_seconds": spent[0],
        "evaluate_seconds": seconds["evaluate"],
        "checkpoint_seconds": seconds["checkpoint"],
        "val_accuracy": result["val_accuracy"],
    }


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
    pixels = torch.from_numpy(split.images)[torch.from_numpy(split.rows)[rows]].permute(0, 3, 1, 2)
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
