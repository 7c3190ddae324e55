"""The checks of numbers: each compares what a device computes with the CPU, or with itself computing otherwise."""

from pathlib import Path
from typing import Any

import numpy as np

from gpu.commands import REPOSITORY, SMALL, Bench, Failed, config_of, info_of, logits_of, rows_of

WARM_UP = 3  # steps that may wait: the first ones make buffers and choose kernels
# Four steps, with a row of each, in which the loss falls by a quarter. Later a ReLU or a maximum that rounding decides
# otherwise makes networks differ, however they train.
LEARNS = ["optimizer=momentum", "optimizer.lr=0.02", "model.norm=batch", "+aug=full", "epochs=4st"]
LEARNS += ["log.steps=1st", "keep_epoch=last"]
STEPS = 4
# Largest relative difference of a step's loss from that in fp32, and largest difference of a test logit. Measured on a
# CPU: other kernels in fp32 5e-6 and 3e-5; TF32 (products of rounded numbers) 0.004 and 0.04; bf16 0.013 and 0.05; fp16
# 0.009 and 0.03; learning nothing 0.47 and 0.26; doubled gradients 0.09 and 0.6.
CLOSE = {"fp32": (1e-4, 1e-3), "tf32": (0.02, 0.12), "fp16": (0.02, 0.12), "bf16": (0.03, 0.15)}
MODES = ["true", "reduce-overhead", "max-autotune"]
STEPS_LIKE = {
    "fp32": ["device.precision=fp32"],
    "bf16": ["device.precision=bf16"],
    "fp16": ["device.precision=fp16"],  # with a fused optimizer: others read whether a gradient is infinite
    "ema": ["ema.decay=0.9"],
    "clip_norm": ["clip_norm=1"],
    "mixup": ["mix.mixup=0.2"],
    "accumulate": ["accumulate=2"],
    "streamed": ["device.data_on_device=false"],
}


def precisions(bench: Bench) -> dict[str, Any]:
    """Every precision, in both memory layouts, gives the losses of fp32's steps and its logits but for rounding."""
    names = ["fp32", "bf16"] if not bench.cuda or bench.quick else ["fp32", "tf32", "bf16", "fp16"]
    folders = bench.sweep(
        "precisions", *LEARNS, "device.precision=" + ",".join(names), "device.channels_last=true,false"
    )
    devices = {folder: config_of(folder)["device"] for folder in folders}
    (fp32,) = [f for f, device in devices.items() if device["precision"] == "fp32" and device["channels_last"]]
    return {
        f"{device['precision']}, channels_last={device['channels_last']}": near(fp32, folder, device["precision"])
        for folder, device in devices.items()
    }


def near(one: Path, other: Path, precision: str) -> dict[str, float]:
    """Return by how much two runs differ: the loss of their steps, relatively, and their test logits.

    Raises Failed unless all steps have a row, and the differences are at most those that rounding to `precision` gives.
    """
    losses = [[row["loss"] for row in rows_of(folder) if row["kind"] == "step"] for folder in (one, other)]
    if len(losses[0]) != STEPS or len(losses[1]) != STEPS:
        raise Failed(f"{len(losses[0])} and {len(losses[1])} rows of steps, expected {STEPS}")
    loss = float(np.abs(np.divide(losses[1], losses[0]) - 1).max())
    logit = float(np.abs(logits_of(one) - logits_of(other)).max())
    found = {"relative difference of a step's loss": loss, "difference of a test logit": logit}
    limits = CLOSE[precision]
    if not (loss <= limits[0] and logit <= limits[1]):  # a NaN is not close either
        raise Failed(f"{other.parent.name}, {precision}: {found}, at most {limits}; losses of the steps: {losses}")
    return found


def same_as_cpu(bench: Bench) -> dict[str, Any]:
    """In fp32, the loss of every step and the test logits on the device are those of the CPU but for rounding."""
    words = [*LEARNS, "device.precision=fp32"]
    (here,) = bench.train("same-here", *words)
    bench.cnnexp("train", *SMALL, *words, "device=cpu", "study.name=same-cpu")
    (cpu,) = bench.runs("same-cpu")
    return near(cpu, here, "fp32")


def augmentation(bench: Bench) -> dict[str, Any]:
    """Every shipped augmentation gives the same images on the device as on the CPU for the same draws."""
    import torch

    from cnnexp.config import compose as config
    from cnnexp.rng import fold
    from cnnexp.training import build

    images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    largest = {}
    for name in sorted(path.stem for path in (REPOSITORY / "configs" / "augmentation").glob("*.yaml")):
        operation = build.build_augmentation(config.resolve(config.compose([f"augmentation={name}"])))
        if operation is None:
            continue
        results = [
            operation(images.clone().to(place), torch.Generator().manual_seed(fold(0, "augmentation", 3))).cpu()
            for place in ("cpu", bench.device)
        ]
        largest[name] = float((results[0] - results[1]).abs().max())
    if wrong := {name: value for name, value in largest.items() if value > 1e-4}:
        raise Failed(f"largest difference of a pixel: {wrong}")
    return {"largest difference of a pixel": largest}


def compiled(bench: Bench) -> dict[str, Any]:
    """Compiled training gives the losses of uncompiled steps and their test logits but for rounding.

    By default, as CUDA graphs, and with the search for the fastest kernels; in fp32 and in bf16.
    """
    modes, names = (["true"], ["fp32"]) if not bench.cuda or bench.quick else (MODES, ["fp32", "bf16"])
    folders = bench.sweep(
        "compiled", *LEARNS, "device.precision=" + ",".join(names), "device.compile=" + ",".join(["false", *modes])
    )
    devices = {folder: config_of(folder)["device"] for folder in folders}
    eager = {device["precision"]: folder for folder, device in devices.items() if not device.get("compile")}
    return {
        f"{device['precision']}, {device['compile']}": near(eager[device["precision"]], folder, device["precision"])
        | {"seconds to compile": info_of(folder)["seconds"]["compile"]}
        for folder, device in devices.items()
        if device.get("compile")
    }


def no_synchronisation(bench: Bench) -> dict[str, Any]:
    """Within an epoch no step makes the host wait for the device, with each of STEPS_LIKE.

    On a CPU there is no device to wait for: a step of each is made, and nothing is checked.
    """
    found = {}
    for name, words in STEPS_LIKE.items():
        if name == "fp16" and not bench.cuda:
            continue
        try:
            found[name] = steps_without_waiting([*words, f"device={'cuda' if bench.cuda else 'cpu'}"], bench.cuda)
        except Exception as error:
            raise Failed(f"{name}: {error}") from error
    return {"steps without waiting": found}


def steps_without_waiting(words: list[str], cuda: bool) -> int:
    """Make the steps of an epoch; return how many were watched. cuda: false makes one, and watches none.

    Raises torch's RuntimeError if a step after the first WARM_UP makes the host wait.
    """
    import torch

    from cnnexp.config import compose as config
    from cnnexp.training import build
    from cnnexp.training.device import resolve, set_up
    from cnnexp.training.loop import train_step
    from cnnexp.training.setup import batches_of, new_state, settings_of

    words = [*SMALL, "data.num_train=400", "model.norm=batch", "+aug=full", *words]
    composed = config.resolve(config.compose(words))
    device = resolve(composed["device"])
    set_up(device)
    data = build.build_data(composed)
    batches = batches_of(composed, data, device)
    settings = settings_of(composed, batches, device)
    state = new_state(composed, data, settings)
    try:
        for step in range(settings.steps_per_epoch if cuda else 1):
            if cuda and step == WARM_UP:
                torch.cuda.set_sync_debug_mode("error")
            train_step(state, batches.at(step), settings)
            state.step += 1
    finally:
        if cuda:
            torch.cuda.set_sync_debug_mode("default")
    return settings.steps_per_epoch - WARM_UP if cuda else 0
