"""Time the augmentations, and the options of a training step, on random images of 64 px, with one thread.

Run: python scripts/option_cost.py
Augmentations: ms for a batch of 128 images. Options: ms for a step of the default network on such a batch, and how many
per cent more than a plain step. "torch" is a loop of torch alone. CPU time: median, and range in parentheses. All take
turns, so that a busy machine slows each.
"""

import statistics
import time
from collections.abc import Callable

import torch
import yaml
from torch.nn import functional

from cnnexp.config import compose as configs
from cnnexp.config.words import folder
from cnnexp.data.augment import pipeline
from cnnexp.training import build, setup
from cnnexp.training import device as devices
from cnnexp.training.loop import train_step

REPEATS = 21
PLAIN = "plain step"
DATA = ("data.size=64", "data.num_train=1024", "data.num_test=20", "batch_size=128", "device=cpu", "device.threads=1")
OPTIONS = {
    PLAIN: (),
    "ema.decay": ("ema.decay=0.99",),
    "accumulate=4": ("accumulate=4",),
    "16 images": ("batch_size=16",),
    "16 images, accumulate=4": ("batch_size=16", "accumulate=4"),
    "torch, 16 images": ("batch_size=16",),
    "torch, 16 images in 4": ("batch_size=16", "accumulate=4"),
    "4 images": ("batch_size=4",),
    "mix.mixup": ("mix.mixup=0.2",),
    "mix.cutmix": ("mix.cutmix=1.0",),
    "sampling=balanced": ("sampling=balanced",),
    "loss=focal": ("loss=focal",),
    "class_weights": ("loss.class_weights=balanced",),
    "param_groups": ("param_groups={no_decay:true,layer_decay:0.9}",),
    "clip_norm": ("clip_norm=1.0",),
}


def augmentations() -> dict[str, Callable[[int], object]]:
    """Return what takes a batch through each file of configs/augmentation."""
    images = torch.rand(128, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def call(ops: list[object]) -> Callable[[int], object]:
        augment = pipeline(ops)
        return lambda turn: augment(images.clone(), torch.Generator().manual_seed(turn))

    files = sorted((folder() / "augmentation").glob("*.yaml"))
    return {file.stem: call(yaml.safe_load(file.read_text())["ops"]) for file in files}


def steps() -> dict[str, Callable[[int], object]]:
    """Return what takes a training step, with its batch, of each of OPTIONS."""

    def call(name: str, words: tuple[str, ...]) -> Callable[[int], object]:
        config = configs.resolve(configs.compose([*DATA, "epochs=100", *words]))
        device = devices.resolve(config["device"])
        data = build.build_data(config)
        batches = setup.batches_of(config, data, device)
        settings = setup.settings_of(config, batches, device)
        state = setup.new_state(config, data, settings)

        adam = torch.optim.Adam(state.model.parameters())

        def step(turn: int) -> None:
            train_step(state, batches.at(state.step), settings)
            state.step += 1

        def plain_torch(turn: int) -> None:
            adam.zero_grad()
            for part in batches.at(turn).parts(settings.accumulate):
                loss = functional.cross_entropy(state.model(part.images), part.labels) / settings.accumulate
                loss.backward()  # type: ignore[no-untyped-call]
            adam.step()

        return plain_torch if name.startswith("torch") else step

    return {name: call(name, words) for name, words in OPTIONS.items()}


def timed(calls: dict[str, Callable[[int], object]]) -> dict[str, list[float]]:
    """Return the CPU times of each call in ms; all take turns, and the first turn is not counted."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(REPEATS + 1):
        for name, call in calls.items():
            started = time.process_time()
            call(turn)
            if turn:
                times[name].append(1000 * (time.process_time() - started))
    return times


def main() -> None:
    """Print a line for every augmentation and option."""
    devices.set_up(devices.resolve(configs.resolve(configs.compose([*DATA]))["device"]))
    for title, calls in (("augmentation", augmentations()), ("option", steps())):
        found = timed(calls)
        print(f"{title:24} {'ms':>6}")
        for name, times in found.items():
            middle = statistics.median(times)
            line = f"{name:24} {middle:6.1f} ({min(times):.1f} to {max(times):.1f})"
            if PLAIN in found:
                line += f" {100 * (middle / statistics.median(found[PLAIN]) - 1):+5.0f} %"
            print(line)


if __name__ == "__main__":
    main()
