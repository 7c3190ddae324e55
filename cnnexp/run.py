"""One run: build -> fit -> evaluate -> record, from its last checkpoint if there is one."""

import math
from collections.abc import Callable
from typing import Any

import torch

from cnnexp import build, disk, hash_chain
from cnnexp import device as devices
from cnnexp import record as records
from cnnexp.bf16 import keep_in_fp32, unfit
from cnnexp.checkpoint import Checkpoints, drop_what_resumes
from cnnexp.data.augment import flips_only
from cnnexp.data.batches import Batches, DeviceImages
from cnnexp.data.cache import cache_root
from cnnexp.data.duplicates import leaked
from cnnexp.data.images import ImageData
from cnnexp.device import Device
from cnnexp.errors import Diverged, Interrupted, UserError
from cnnexp.features import FeatureBatches, Features, wanted
from cnnexp.job import Job
from cnnexp.journal import Evaluation, Journal
from cnnexp.loop import Action, BatchSource, Due, Settings, TrainState, check_finite, fit, has_finite_weights
from cnnexp.metrics import accuracy, cross_entropy
from cnnexp.models.summary import count
from cnnexp.outcome import begin, check_record, recorded_outcome
from cnnexp.probes.watch import add_probes
from cnnexp.progress import Progress
from cnnexp.record import RunRecord
from cnnexp.rng import fold
from cnnexp.signals import stop_request
from cnnexp.signature import steps


def run(job: Job, progress: Progress) -> RunRecord:
    """Make a run, or finish it; a run that is done or diverged is left alone.

    Raises storage.Locked if a live process holds it, Interrupted after a signal (the state is saved), and whatever
    went wrong, after recording it as skipped, diverged, oom or failed.
    """
    with job.record().held():
        record = job.record()
        if record.info.get("status") in records.FINAL:
            if record.info["status"] == "done":  # a kill may have come before it dropped what resuming needs
                drop_what_resumes(job.folder / "checkpoints")
            return record
        check_record(record)
        begin(job, record)
        with stop_request() as stop:
            with recorded_outcome(job, record):
                result = execute(job, record, progress, stop.check)
                record.update(status="done", result=result, files=record.seal(), finished=records.now())
            record.log(f"done: test accuracy {result['test_accuracy']:.2%}, best epoch {result['best_epoch']}")
            drop_what_resumes(job.folder / "checkpoints")
        return record


def execute(job: Job, record: RunRecord, progress: Progress, check_stop: Callable[[], None]) -> dict[str, Any]:
    """Build everything, train from the last checkpoint to the end, and return the result."""
    config = job.config
    device = devices.resolve(config["device"])
    devices.set_up(device)
    data = build.build_data(config)
    batches = batches_of(config, data, device)
    settings = settings_of(config, batches, device)
    state = new_state(config, data, settings)
    job.check_unchanged(data)
    in_fp32 = choose_precisions(state.model, config, data, device, record)
    record.update(
        device=device.record() | in_fp32,
        data=data_facts(data),
        model=count(state.model, data.image),
        schedule=schedule_facts(settings),
        protocol={key: config[key] for key in ("validate_on", "keep_epoch")},
    )
    if leaked := record.info["data"]["test_in_train"]:
        record.log(f"data: {leaked} of {len(data.test)} test images are training images too, pixel for pixel")
    disk.check_room(job.folder, disk.checkpoint_bytes(state.model))
    checkpoints = checkpoints_of(job, settings)
    if checkpoints.restore(state, record):
        record.update(resumed=record.info["resumed"] + 1)
        record.log(f"resumed after step {state.step}")
    record.keep_rows(state.rows)
    record.keep_probe_rows(state.probe_rows)
    hash_chain.keep(record.folder, state.step)
    evaluation = Evaluation(data, device, config["eval_batch_size"], batches.images, check_stop)
    source = keep_features(config, state, batches, evaluation, record)
    journal = Journal(record, progress, settings, evaluation, config)
    actions = actions_of(config, settings, state, record, journal, checkpoints, check_stop)
    if config["log"]["hash_chain"]:
        source = chain = hash_chain.HashChain(record.folder, source, state.step)
        actions.insert(0, (lambda step: True, chain.row))
    progress.start(f"{job.label}: {job.folder}", settings, state)
    try:
        before = add_probes(config, actions, record, settings, lambda: evaluation.logits(state.model, data.val))
        fit(state, source, settings, actions, before)
        return conclude(state, record, checkpoints, evaluation, data, batches, config["shift_pixels"])
    except Diverged as error:
        if error.step is not None:
            error.samples = [str(name) for name in data.train.ids[batches.rows(error.step - 1)[1]]]
        if state.best:
            checkpoints.keep_best(state)
        raise
    finally:
        progress.close()
        checkpoints.settle()


def actions_of(
    config: dict[str, Any],
    settings: Settings,
    state: TrainState,
    record: RunRecord,
    journal: Journal,
    checkpoints: Checkpoints,
    check_stop: Callable[[], None],
) -> list[tuple[Due, Action]]:
    """Return what happens after a step, in order: a step row, the bar, an epoch's end, a save, a look at signals."""
    every, total = settings.steps_per_epoch, settings.total_steps
    log_steps = None if config["log"]["steps"] is None else steps(config["log"]["steps"], every)

    def save(state: TrainState) -> None:
        state.settle(settings.device)  # what the device still has to do is training, not saving
        check_finite(state, settings)
        if not has_finite_weights(state):  # the next step tells; what is there to go back to stays
            return
        record.sync()
        checkpoints.save(state, settings.device, record.rows_digest)

    def stop_if_asked(state: TrainState) -> None:
        try:
            check_stop()
        except Interrupted:
            save(state)
            checkpoints.settle()
            raise

    return [
        (lambda step: log_steps is not None and step % log_steps == 0, journal.step_row),
        (lambda step: True, journal.progress.step),
        (lambda step: step % every == 0 or step == total, journal.end_epoch),
        (lambda step: step == total or state.stopped is not None or checkpoints.due(step), save),
        (lambda step: True, stop_if_asked),
    ]


def batches_of(config: dict[str, Any], data: ImageData, device: Device) -> Batches:
    """Return the run's training batches."""
    images = DeviceImages(data.train, device.torch, device.resident)
    augmentation = build.build_augmentation(config)
    return Batches(images, config["batch_size"], config["seed"], augmentation, data.mean, data.std, device.layout)


def keep_features(
    config: dict[str, Any], state: TrainState, batches: Batches, evaluation: Evaluation, record: RunRecord
) -> BatchSource:
    """Let the head alone train, on features computed once, if the config allows it; return the batches to train on."""
    flips = flips_only(config["augmentation"])
    if not wanted(config) or flips is None:
        return batches
    device, data = evaluation.device, evaluation.data
    features = Features(state.model, device, evaluation.batch_size, data.mean, data.std, evaluation.check_stop)
    doubt = features.doubt(batches.images)
    record.update(features=f"computed for every batch: {doubt}" if doubt else "computed once")
    if doubt:
        return batches
    with state.timed("features", device):
        for mirrored in (False, True) if flips else (False,):
            features.of(batches.images, mirrored)
        features.of(evaluation.of(data.val))
    state.learner, evaluation.features = features.head, features
    return FeatureBatches(batches, features, flips)


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


def schedule_facts(settings: Settings) -> dict[str, int]:
    """Return what run.json says of the length of the run."""
    return {
        "steps_per_epoch": settings.steps_per_epoch,
        "total_steps": settings.total_steps,
        "epochs": settings.epochs,
    }


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


def checkpoints_of(job: Job, settings: Settings) -> Checkpoints:
    """Return the run's checkpoints, with their cadence in steps."""
    every = job.config["checkpoint"]["every"]
    cadence = None if every == "auto" else steps(every, settings.steps_per_epoch)
    return Checkpoints(job.folder / "checkpoints", cadence, settings.steps_per_epoch, job.identity)


def data_facts(data: ImageData) -> dict[str, Any]:
    """Return what run.json says of the data."""
    return {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "classes": data.classes,
        "image": list(data.image),
        "mean": data.mean,
        "std": data.std,
        "train": len(data.train.rows),
        "val": len(data.val.rows),
        "test": len(data.test.rows),
        "test_in_train": leaked(data),
        "skipped": len(data.skipped),
        "prepare_seconds": data.prepare_seconds,
    }


def conclude(
    state: TrainState,
    record: RunRecord,
    checkpoints: Checkpoints,
    evaluation: Evaluation,
    data: ImageData,
    batches: Batches,
    shift_pixels: int | None,
) -> dict[str, Any]:
    """Evaluate the best weights on the test split, once, and on the clean training split; write what was predicted."""
    state.model.load_state_dict(state.best_weights)
    shifts = {}
    with state.timed("evaluate", evaluation.device):
        logits, labels = evaluation.logits(state.model, data.test)
        train_logits, train_labels = evaluation.logits(state.model, data.train)
        if shift_pixels:
            shifts = {"shift_consistency": evaluation.shift_consistency(state.model, logits, shift_pixels)}
    if not math.isfinite(cross_entropy(logits, labels)):
        raise Diverged("the test loss is not finite; try a lower optimizer.lr")
    record.write_predictions(logits, labels, data.test.ids)
    checkpoints.keep_best(state)
    record.sync()
    seconds = {"prepare": data.prepare_seconds, **state.seconds}
    record.update(seconds={**seconds, "total": sum(seconds.values())})
    return {
        "best_epoch": state.best["epoch"],
        "epochs": -(-state.step // batches.steps_per_epoch),
        "val_accuracy": state.best["val_accuracy"],
        "val_loss": state.best["val_loss"],
        "test_accuracy": accuracy(logits, labels),
        "test_loss": cross_entropy(logits, labels),
        "train_accuracy": accuracy(train_logits, train_labels),
        "train_loss": cross_entropy(train_logits, train_labels),
        "images_per_second": state.step * state.batch_size / state.seconds["train"],
        "peak_memory_mib": devices.peak_memory_mib(evaluation.device),
        "stopped": state.stopped or "completed",
        **shifts,
    }
