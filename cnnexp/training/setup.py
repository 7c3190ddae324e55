"""What a run starts with: batches, network, optimiser, schedule, precisions and checkpoints; and the facts of these."""

from typing import Any

import torch

from cnnexp.config.signature import steps
from cnnexp.data.augment import flips_only
from cnnexp.data.batches import Batches, DeviceImages
from cnnexp.data.cache import cache_root, compiled_folder
from cnnexp.data.duplicates import leaked
from cnnexp.data.images import ImageData
from cnnexp.errors import UserError
from cnnexp.records.run_record import RunRecord
from cnnexp.rng import fold
from cnnexp.signals import StopRequest
from cnnexp.storage import space as disk
from cnnexp.training import build
from cnnexp.training.bf16 import keep_in_fp32, unfit
from cnnexp.training.checkpoint import Checkpoints
from cnnexp.training.compile import compiled
from cnnexp.training.device import Device
from cnnexp.training.features import FeatureBatches, Features, wanted
from cnnexp.training.loop import BatchSource, Settings, TrainState
from cnnexp.training.plan import Plan
from cnnexp.training.recorder import Evaluation


def batches_of(config: dict[str, Any], data: ImageData, device: Device) -> Batches:
    """Return the run's training batches."""
    images = DeviceImages(data.train, device.torch, device.data_on_device)
    augmentation = build.build_augmentation(config)
    return Batches(images, config["batch_size"], config["seed"], augmentation, data.mean, data.std, device.layout)


def settings_of(config: dict[str, Any], batches: Batches, device: Device) -> Settings:
    """Return what `fit` needs to know."""
    return Settings(
        config["seed"],
        steps(config["epochs"], batches.steps_per_epoch),
        batches.steps_per_epoch,
        config["label_smoothing"],
        config["clip_norm"],
        device,
    )


def new_state(config: dict[str, Any], data: ImageData, settings: Settings) -> TrainState:
    """Build the network, optimiser and schedule at step 0; the weights are a function of the seed."""
    device = settings.device
    torch.manual_seed(fold(config["seed"], "init"))
    model = build.build_model(config, data.image, len(data.classes)).to(device.torch)
    if device.channels_last:
        model = model.to(memory_format=torch.channels_last)
    check_output(model, data, device)
    optimizer = build.build_optimizer(config, model)
    schedule = build.build_schedule(config, optimizer, settings.total_steps, settings.steps_per_epoch)
    return TrainState(
        model,
        model,
        optimizer,
        schedule,
        torch.amp.GradScaler(device.kind) if device.precision == "fp16" else None,
        torch.zeros(settings.steps_per_epoch, device=device.torch),
        torch.zeros(settings.steps_per_epoch, dtype=torch.int64, device=device.torch),
        config["batch_size"],
    )


def check_output(model: torch.nn.Module, data: ImageData, device: Device) -> None:
    """Raise UserError unless the network gives a row of K numbers for an image."""
    model.eval()
    with torch.inference_mode():
        output = model(torch.zeros(1, *data.image, device=device.torch))
    given = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if given != (1, len(data.classes)):
        raise UserError(f"model: gave {given} for one image; it must give {(1, len(data.classes))}, a number per class")


def checkpoints_of(plan: Plan, settings: Settings, model: torch.nn.Module) -> Checkpoints:
    """Return the run's checkpoints, with their cadence in steps."""
    every = plan.config["checkpoint"]["every"]
    cadence = None if every == "auto" else steps(every, settings.steps_per_epoch)
    size = disk.save_bytes(model)
    return Checkpoints(plan.folder / "checkpoints", cadence, settings.steps_per_epoch, plan.identity, size)


def choose_precisions(
    model: torch.nn.Module, config: dict[str, Any], data: ImageData, device: Device, record: RunRecord
) -> dict[str, list[str]]:
    """Keep those layers in fp32 that bf16 does not serve on this CPU; return {fp32_layers: names}, to be recorded.

    What is recorded already is kept: a resumed run goes on as it began.
    """
    if device.kind != "cpu" or device.precision != "bf16":
        return {}
    names = (record.info.get("device") or {}).get("fp32_layers")
    if names is None:
        names = unfit(model, data.image, config["batch_size"], device, cache_root(config["data"].get("cache")))
    if names:
        record.log(f"in fp32, for bf16 is slower or less exact here: {', '.join(names)}")
    keep_in_fp32(model, names)
    return {"fp32_layers": names}


def keep_features(
    config: dict[str, Any], state: TrainState, batches: Batches, evaluation: Evaluation, record: RunRecord
) -> BatchSource:
    """Let the head alone train, on features computed once, if the config allows it; return the batches to train on."""
    flips = flips_only(config["augmentation"])
    if not wanted(config) or flips is None:
        return batches
    device, data = evaluation.device, evaluation.data
    features = Features(state.model, device, evaluation.batch_size, data.mean, data.std, evaluation.check_stop)
    reason = features.why_not_cacheable(batches.images)
    record.update(features=f"computed for every batch: {reason}" if reason else "computed once")
    if reason:
        return batches
    with state.timed("features", device):
        for mirrored in (False, True) if flips else (False,):
            features.of(batches.images, mirrored)
        features.of(evaluation.of(data.val))
    state.learner, evaluation.features = features.head, features
    return FeatureBatches(batches, features, flips)


def compile_steps(
    config: dict[str, Any],
    state: TrainState,
    source: BatchSource,
    settings: Settings,
    record: RunRecord,
    stop: StopRequest,
) -> None:
    """Let the training steps that are left go through torch's compiler, if the config asks for it."""
    if not settings.device.compile or state.step >= settings.total_steps or state.stopped is not None:
        return
    with stop.at_once(), state.timed("compile", settings.device):
        folder = compiled_folder(config["data"].get("cache"))
        state.compiled = compiled(state, source.at(state.step), settings.device, folder, record.log)


def data_facts(data: ImageData) -> dict[str, Any]:
    """Return what run.json says of the data."""
    return {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "classes": data.classes,
        "image": list(data.image),
        "mean": data.mean,
        "std": data.std,
        "train": len(data.train.indices),
        "val": len(data.val.indices),
        "test": len(data.test.indices),
        "test_in_train": leaked(data),
        "skipped": len(data.skipped),
        "prepare_seconds": data.prepare_seconds,
    }


def schedule_facts(settings: Settings) -> dict[str, int]:
    """Return what run.json says of the length of the run."""
    return {
        "steps_per_epoch": settings.steps_per_epoch,
        "total_steps": settings.total_steps,
        "epochs": settings.epochs,
    }
