"""One run: build -> fit -> evaluate -> record, from its last checkpoint if there is one."""

import math
from collections.abc import Callable
from typing import Any

from cnnexp.config.signature import steps
from cnnexp.data.batches import Batches
from cnnexp.data.images import ImageData
from cnnexp.errors import Diverged, Interrupted
from cnnexp.metrics import accuracy, cross_entropy
from cnnexp.models.summary import count
from cnnexp.records import run_record as records
from cnnexp.records.run_record import RunRecord
from cnnexp.signals import StopRequest, stop_request
from cnnexp.storage import space as disk
from cnnexp.training import build, hash_chain
from cnnexp.training import device as devices
from cnnexp.training.checkpoint import Checkpoints, drop_what_resumes
from cnnexp.training.device import Device
from cnnexp.training.loop import Action, Due, Settings, TrainState, check_finite, fit, has_finite_weights
from cnnexp.training.outcome import begin, check_record, recorded_outcome
from cnnexp.training.plan import Plan
from cnnexp.training.probes.watch import add_probes
from cnnexp.training.progress import Progress
from cnnexp.training.recorder import Evaluation, Recorder
from cnnexp.training.setup import (
    batches_of,
    checkpoints_of,
    choose_precisions,
    compile_steps,
    data_facts,
    keep_features,
    new_state,
    schedule_facts,
    settings_of,
)


def run(plan: Plan, progress: Progress) -> RunRecord:
    """Make a run, or finish it; a run that is done or diverged is left alone.

    Raises storage.Locked if a live process holds it, Interrupted after a signal (the state is saved), and whatever
    went wrong, after recording it as skipped, diverged, oom or failed.
    """
    with plan.record().held():
        record = plan.record()
        if record.info.get("status") in records.FINAL:
            if record.info["status"] == "done":  # a kill may have come before it dropped what resuming needs
                drop_what_resumes(plan.folder / "checkpoints")
            return record
        check_record(record)
        begin(plan, record)
        with stop_request() as stop:
            with recorded_outcome(plan, record):
                result = execute(plan, record, progress, stop)
                record.update(status="done", result=result, files=record.seal(), finished=records.now())
            record.log(f"done: test accuracy {result['test_accuracy']:.2%}, best epoch {result['best_epoch']}")
            drop_what_resumes(plan.folder / "checkpoints")
        return record


def execute(plan: Plan, record: RunRecord, progress: Progress, stop: StopRequest) -> dict[str, Any]:
    """Build everything, train from the last checkpoint to the end, and return the result."""
    config = plan.config
    device = devices.resolve(config["device"])
    devices.set_up(device)
    data = build.build_data(config)
    batches = batches_of(config, data, device)
    settings = settings_of(config, batches, device)
    state = new_state(config, data, settings)
    plan.check_unchanged(data)
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
    disk.check_free_space(plan.folder, disk.checkpoint_bytes(state.model))
    checkpoints = checkpoints_of(plan, settings, state.model)
    if checkpoints.restore(state, record):
        record.update(resumed=record.info["resumed"] + 1)
        record.log(f"resumed after step {state.step}")
    record.keep_rows(state.rows)
    record.keep_probe_rows(state.probe_rows)
    hash_chain.keep(record.folder, state.step)
    evaluation = Evaluation(data, device, config["eval_batch_size"], batches.images, stop.check)
    recorder = Recorder(record, progress, settings, evaluation, config)
    actions = actions_of(config, settings, state, record, recorder, checkpoints, stop.check)
    progress.start(f"{plan.label}: {plan.folder}", settings, state)
    try:
        source = keep_features(config, state, batches, evaluation, record)
        compile_steps(config, state, source, settings, record, stop)
        if config["log"]["hash_chain"]:
            source = chain = hash_chain.HashChain(record.folder, source, state.step)
            actions.insert(0, (lambda step: True, timed("hash_chain", chain.row, device)))
        before = add_probes(config, actions, record, settings, lambda: evaluation.logits(state.model, data.val))
        fit(state, source, settings, actions, before)
        return conclude(state, record, checkpoints, evaluation, data, batches, config["shift_pixels"])
    except Diverged as error:
        if error.step is not None:
            error.samples = [str(name) for name in data.train.ids[batches.positions(error.step - 1)[1]]]
        if state.best:
            checkpoints.keep_best(state)
        raise
    finally:
        progress.close()
        checkpoints.wait()


def actions_of(
    config: dict[str, Any],
    settings: Settings,
    state: TrainState,
    record: RunRecord,
    recorder: Recorder,
    checkpoints: Checkpoints,
    check_stop: Callable[[], None],
) -> list[tuple[Due, Action]]:
    """Return what happens after a step, in order: a step row, the bar, an epoch's end, a save, a look at signals."""
    every, total = settings.steps_per_epoch, settings.total_steps
    log_steps = None if config["log"]["steps"] is None else steps(config["log"]["steps"], every)

    def save(state: TrainState) -> None:
        state.wait_for_device(settings.device)  # what the device still has to do is training, not saving
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
            checkpoints.wait()
            raise

    return [
        (lambda step: log_steps is not None and step % log_steps == 0, recorder.step_row),
        (lambda step: True, recorder.progress.step),
        (lambda step: step % every == 0 or step == total, recorder.end_epoch),
        (lambda step: step == total or state.stopped is not None or checkpoints.due(step), save),
        (lambda step: True, stop_if_asked),
    ]


def timed(what: str, action: Action, device: Device) -> Action:
    """Return an action whose time is added to the run's `seconds`, apart from training."""

    def act(state: TrainState) -> None:
        with state.timed(what, device):
            action(state)

    return act


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
