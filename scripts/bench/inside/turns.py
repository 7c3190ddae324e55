"""Train cases in turn in one process, so that what else the machine does affects them all alike.

Run: python turns.py '{"cases": {"a": ["data=postcards"], "b": [...]}, "by_hand": ["b"], "repeats": 3, "outputs": "o"}'
Prints one line of JSON: {"repeats": [{"a": {metric: value}, "b": {...}}, ...]}, times in seconds. loop_seconds is that
of `fit`, with rows, evaluation, checkpoints, probes, signals and bar; others are those of run.json. To warm up the
process, the first case and those by hand are trained once before.
"""

import contextlib
import gc
import io
import json
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cnnexp import cli
from cnnexp.config import compose
from cnnexp.data.images import ImageData, Split
from cnnexp.records.run_record import find_runs
from cnnexp.training import build, run
from cnnexp.training import device as devices


def main(cases: dict[str, list[str]], by_hand: list[str], repeats: int, outputs: str) -> dict[str, Any]:
    """Train every case `repeats` times: A B C, C B A, A B C, ..., each repeat with a seed of its own."""
    spent: dict[str, float] = {}
    clock(run, "fit", spent)

    def measure(name: str, repeat: int) -> dict[str, float]:
        overrides = [*cases[name], f"seed={repeat}"]
        if name in by_hand:
            return train_by_hand(overrides)
        gc.collect()
        spent["fit"] = 0.0
        info = train(overrides, Path(outputs) / "run")
        shutil.rmtree(Path(outputs) / "run")
        recorded = {f"{part}_seconds": value for part, value in info["seconds"].items()}
        return {"loop_seconds": spent["fit"], **recorded, "val_accuracy": info["result"]["val_accuracy"]}

    names = list(cases)
    for name in dict.fromkeys([names[0], *by_hand]):
        measure(name, 0)
    orders = [names[:: 1 if repeat % 2 == 0 else -1] for repeat in range(repeats)]
    return {"repeats": [{name: measure(name, repeat) for name in order} for repeat, order in enumerate(orders)]}


def clock(owner: Any, name: str, spent: dict[str, float]) -> None:
    """Add the time of every later call of `owner.name` to spent[name]."""
    function: Callable[..., Any] = getattr(owner, name)
    spent[name] = 0.0

    def timed(*arguments: Any, **named: Any) -> Any:
        started = perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            spent[name] += perf_counter() - started

    setattr(owner, name, timed)


def train(overrides: list[str], outputs: Path) -> dict[str, Any]:
    """Run `cnnexp train` in this process without its output, and return run.json."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = cli.main(["train", *overrides, f"outputs={outputs}"])
    (record,) = find_runs(outputs)
    assert code == 0, record.info
    return record.info


def train_by_hand(overrides: list[str]) -> dict[str, float]:
    """Train with a loop written by hand with the tricks of cnnexp, and validate after every epoch.

    uint8 images gathered from the memory map, the same network and augmentation, channels_last, a fused Adam, memory
    that is kept; no seeds for single steps, no records, no checkpoints.
    """
    settings = compose.resolve(compose.compose(overrides))
    devices.set_up(devices.resolve(settings["device"]))
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
            loss.item()  # read, as in any loop that prints it
        spent += perf_counter() - started
        with torch.inference_mode():
            model.eval()
            positions = torch.arange(len(data.val)).split(128)  # type: ignore[no-untyped-call]
            right = sum(int((model(x).argmax(1) == y).sum()) for x, y in (batch(data, data.val, p) for p in positions))
        accuracy = right / len(data.val)
    return {"train_seconds": spent, "loop_seconds": perf_counter() - began, "val_accuracy": accuracy}


def batch(data: ImageData, split: Split, positions: Tensor, augment: Any = lambda x: x) -> tuple[Tensor, Tensor]:
    """Return normalised images (N, C, H, W), channels_last, and labels (N,) of positions in a split."""
    pixels = torch.from_numpy(split.images)[torch.from_numpy(split.indices)[positions]].permute(0, 3, 1, 2)
    x = augment(torch.empty(pixels.shape).copy_(pixels).mul_(1 / 255))
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (data.mean, data.std))
    x = x.sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)
    return x, torch.from_numpy(split.labels)[positions]


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    print(json.dumps(main(**json.loads(sys.argv[1]))))
