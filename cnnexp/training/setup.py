"""What a run computes with, built from its config: `prepare`. And the batches that it trains on: `training_batches`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cnnexp.config.signature import steps
from cnnexp.data.augment import flips_only
from cnnexp.data.batches import Batches, DeviceImages, Normalise
from cnnexp.data.cache import cache_root, compiled_folder
from cnnexp.data.images import ImageData, contradictory, leaked
from cnnexp.data.mix import Mix
from cnnexp.models.freeze import unfreezing
from cnnexp.models.summary import count
from cnnexp.optim.losses import is_plain
from cnnexp.process.signals import StopRequest
from cnnexp.records.run_record import RunRecord
from cnnexp.rng import fold
from cnnexp.storage import space as disk
from cnnexp.training import build, cpu, dry_run
from cnnexp.training import device as devices
from cnnexp.training.bf16 import keep_in_fp32, unfit
from cnnexp.training.checkpoint import Checkpoints, NoCheckpoints
from cnnexp.training.compile import compiled
from cnnexp.training.device import Device
from cnnexp.training.evaluation import Evaluation
from cnnexp.training.features import FeatureBatches, Features, wanted
from cnnexp.training.loop import BatchSource, Settings, TrainState
from cnnexp.training.moving_average import MovingAverage
from cnnexp.training.plan import Plan
from cnnexp.training.ranks import ALONE, Ranks
from cnnexp.training.shared_batch import SharedBatch


@dataclass
class Setup:
    """What one run computes with. `state` is at step 0 until a checkpoint is restored. stop: set by a signal.

    check_stop: called where no exchange follows; raises Interrupted after a signal, in process 0 only: it ends the
    others, which learn of their own signals after the next step. ranks: this process's place among those of the run.
    """

    config: dict[str, Any]
    record: RunRecord
    stop: StopRequest
    data: ImageData
    batches: Batches
    settings: Settings
    state: TrainState
    evaluation: Evaluation
    checkpoints: Checkpoints
    check_stop: Callable[[], None]
    ranks: Ranks = ALONE


def prepare(plan: Plan, record: RunRecord, stop: StopRequest, ranks: Ranks = ALONE) -> Setup:
    """Build a run and write the facts of its parts to run.json.

    Raises UserError if parts do not fit together, if the data has changed since the plan, or if the disk is too small.
    """
    config = plan.config
    run_device = devices.resolve(config["device"])
    plan.check_device(run_device)
    device = ranks.share(run_device)
    cpu.check_openmp(device.threads)
    devices.set_up(device)
    data = build.build_data(config)
    batches = batches_of(config, data, device)
    settings = settings_of(config, batches, device)
    state = new_state(config, data, settings)
    plan.check_unchanged(data)
    dry_run.with_data(config, data, settings.steps_per_epoch, settings.total_steps, own=True)
    in_fp32 = choose_precisions(state, config, data, device, record)
    record.update(
        device=run_device.record() | in_fp32,
        data=data_facts(data),
        model=count(state.model, data.image) | {"weights": Path(config["model"].get("weights") or "none").name},
        schedule={name: getattr(settings, name) for name in ("steps_per_epoch", "total_steps", "epochs")},
        protocol={key: config[key] for key in ("validate_on", "keep_epoch", "monitor")},
    )
    for split, name in (("test", "test"), ("val", "validation")):
        if both := record.info["data"][f"{split}_in_train"]:
            of_all = len(data.splits()[split])
            record.log(f"data: {both} of {of_all} {name} images are training images too, pixel for pixel")
    averaged = state.average is not None
    disk.check_free_space(plan.folder, disk.bytes_to_come(state.model, plan.folder / "checkpoints", averaged))
    checkpoints = (Checkpoints if ranks.first else NoCheckpoints)(
        plan.folder / "checkpoints",
        every=None if (every := config["checkpoint"]["every"]) == "auto" else steps(every, settings.steps_per_epoch),
        steps_per_epoch=settings.steps_per_epoch,
        run=plan.identity,
        size=disk.save_bytes(state.model, averaged),
    )
    check_stop = stop.check if ranks.first else lambda: None
    evaluation = Evaluation(data, device, config["eval_batch_size"], batches.images, ranks, check_stop)
    return Setup(config, record, stop, data, batches, settings, state, evaluation, checkpoints, check_stop, ranks)


def batches_of(config: dict[str, Any], data: ImageData, device: Device) -> Batches:
    """Return the run's training batches."""
    images = DeviceImages(data.train, device.torch, device.data_on_device)
    augmentation = build.build_augmentation(config)
    normalise = Normalise(data.mean, data.std, device.torch, device.layout)
    mixes = any(alpha is not None for alpha in config["mix"].values())
    mix = Mix(**config["mix"], seed=config["seed"]) if mixes else None
    balanced = config["sampling"] == "balanced"
    return Batches(images, config["batch_size"], config["seed"], augmentation, normalise, balanced, mix)


def settings_of(config: dict[str, Any], batches: Batches, device: Device) -> Settings:
    """Return the constants of the training loop."""
    return Settings(
        seed=config["seed"],
        total_steps=steps(config["epochs"], batches.steps_per_epoch),
        steps_per_epoch=batches.steps_per_epoch,
        loss=build.build_loss(config, batches.images.split.labels, device.torch),
        is_plain=is_plain(config["loss"]),
        accumulate=config["accumulate"],
        clip_norm=config["clip_norm"],
        device=device,
    )


def new_state(config: dict[str, Any], data: ImageData, settings: Settings) -> TrainState:
    """Build the network, optimiser and schedule at step 0; the weights are a function of the seed."""
    device = settings.device
    torch.manual_seed(fold(config["seed"], "init"))
    model = build.build_model(config, data.image, len(data.classes)).to(device.torch)
    if device.channels_last:
        if device.kind == "cpu":
            cpu.check_convolutions(model)
        model = model.to(memory_format=torch.channels_last)
    optimizer = build.build_optimizer(config, model)
    starts = unfreezing(model, config["unfreeze"] or {}, settings.steps_per_epoch)
    unfrozen = [(step, model.get_parameter(name)) for name, step in starts.items()]
    for _, parameter in unfrozen:
        parameter.requires_grad_(True)  # counted as such; `fit` freezes it until its step
    losses = torch.zeros(settings.steps_per_epoch, device=device.torch)
    return TrainState(
        model=model,
        learner=model,
        optimizer=optimizer,
        schedule=build.build_schedule(config, optimizer, settings.total_steps, settings.steps_per_epoch),
        scaler=torch.amp.GradScaler(device.kind) if device.precision == "fp16" else None,
        losses=losses,
        shown_losses=losses if settings.is_plain else losses.clone(),
        correct=torch.zeros(settings.steps_per_epoch, dtype=torch.int64, device=device.torch),
        batch_size=config["batch_size"],
        unfrozen=unfrozen,
        average=None if (decay := config["ema"]["decay"]) is None else MovingAverage(model, decay),
    )


def choose_precisions(
    state: TrainState, config: dict[str, Any], data: ImageData, device: Device, record: RunRecord | None = None
) -> dict[str, list[str]]:
    """Keep in fp32 the layers where bf16 is slower or less accurate on this CPU; return {"fp32_layers": names}.

    A resumed run keeps the choice that is recorded.
    """
    if device.kind != "cpu" or device.precision != "bf16":
        return {}
    names = (record.info.get("device") or {}).get("fp32_layers") if record else None
    if names is None:
        names = unfit(state.model, data.image, config["batch_size"], device, cache_root(config["data"].get("cache")))
    if names and record:
        record.log(f"in fp32, because bf16 is slower or less accurate here: {', '.join(names)}")
    keep_in_fp32(state.model, names)
    if state.average is not None:
        keep_in_fp32(state.average.module, names)
    return {"fp32_layers": names}


def data_facts(data: ImageData) -> dict[str, Any]:
    """Return what run.json says of the data."""
    return {
        "name": data.name,
        "fingerprint": data.fingerprint,
        **data.drawn,
        "classes": data.classes,
        "image": list(data.image),
        "mean": data.mean,
        "std": data.std,
        **{name: len(split) for name, split in data.splits().items()},
        "test_in_train": leaked(data),
        "val_in_train": leaked(data, "val"),
        "contradictory": contradictory(data),
        "skipped": len(data.skipped),
        "files": data.files,
        "prepare_seconds": data.prepare_seconds,
    }


def training_batches(setup: Setup) -> BatchSource:
    """Return what the state is trained on from here: batches of images, or of features of a frozen backbone.

    Features are computed now, if the config allows it; the head alone then trains. The training steps that are left are
    compiled now, if the config asks for it; or shared by the processes of the run.
    """
    source = keep_features(setup)
    state, device = setup.state, setup.settings.device
    if device.compile and state.step < setup.settings.total_steps and state.stopped is None:
        with setup.stop.at_once(), state.timed("compile", device):
            folder = compiled_folder(setup.config["data"].get("cache"))
            state.freeze_until()
            batch = source.at(state.step).parts(setup.settings.accumulate)[0]
            state.in_training = compiled(state, batch, device, folder, setup.record.log)
    if setup.ranks.count > 1 and state.step < setup.settings.total_steps and state.stopped is None:
        part = source.at(state.step).parts(setup.settings.accumulate)[0]
        state.in_training = SharedBatch(state, setup.ranks, setup.config["seed"], device.sync_bn, part.images)
    return source


def keep_features(setup: Setup) -> BatchSource:
    """Return batches of features computed once, if the config asks for them and they can be kept; else of images."""
    batches, evaluation, state = setup.batches, setup.evaluation, setup.state
    flips = flips_only(setup.config["augmentation"])
    if not wanted(setup.config) or flips is None:
        return batches
    device = setup.settings.device
    features = Features(state.model, device, evaluation.batch_size, evaluation.normalise, setup.ranks, setup.check_stop)
    reason = features.why_not_cacheable(batches.images)
    setup.record.update(features=f"computed for every batch: {reason}" if reason else "computed once")
    if reason:
        return batches
    with state.timed("features", device):
        for mirrored in (False, True) if flips else (False,):
            features.of(batches.images, mirrored)
        features.of(evaluation.images_of(setup.data.val))
    state.learner, evaluation.features = features.head, features
    return FeatureBatches(batches, features, flips)
