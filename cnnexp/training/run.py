"""One run, from its plan to its record: lock, build, restore, fit, evaluate, record."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from cnnexp.config.signature import steps
from cnnexp.config.user_code import user_frames
from cnnexp.errors import Diverged, Interrupted, Skipped, UserError, is_out_of_memory
from cnnexp.process.signals import StopRequest, stop_request
from cnnexp.records.fields import FINAL
from cnnexp.records.run_record import RunRecord, now
from cnnexp.storage import MACHINE, StorageError
from cnnexp.text import percent
from cnnexp.training import dry_run, going_on
from cnnexp.training.build import build_data
from cnnexp.training.device import explained, less_memory
from cnnexp.training.hash_chain import HashChain
from cnnexp.training.loop import Action, Due, TrainState, check_finite, fit, has_finite_weights
from cnnexp.training.plan import Plan
from cnnexp.training.probes import PROBES
from cnnexp.training.probes.watch import Watch
from cnnexp.training.processes import together
from cnnexp.training.progress import Progress
from cnnexp.training.ranks import ALONE, Ranks
from cnnexp.training.recorder import Recorder
from cnnexp.training.setup import Setup, prepare, training_batches


def run(plan: Plan, progress: Progress) -> RunRecord:
    """Make a run, or finish it; a run that is done or diverged is not touched.

    Raises storage.Locked if a live process holds it, and Interrupted after a signal, when its state is saved. Any other
    error is raised again after it is recorded as skipped, diverged, oom or failed.
    """
    with plan.record().held():
        record = plan.record()
        if record.info.get("status") in FINAL:
            if record.info["status"] == "done":  # a kill may have come before
                tidy(plan, record)
            return record
        check_record(record)
        if not record.info:
            dry_run.weights(plan.config, build_data(plan.config))
        plan.begin(record)
        with stop_request() as stop:
            with recorded_end(plan, record), stop.ended_anywhere(), together(plan) as ranks:
                went_on = not record.resumes and going_on.go_on(plan.continues, plan.identity, record)
                result = compute(plan, record, progress, stop, ranks, resumed=not went_on)
                record.update(status="done", result=result, files=record.seal(), finished=now())
            record.log(f"done: test accuracy {percent(result.get('test_accuracy'))}, best epoch {result['best_epoch']}")
            tidy(plan, record)
        return record


def compute(
    plan: Plan, record: RunRecord, progress: Progress, stop: StopRequest, ranks: Ranks = ALONE, resumed: bool = True
) -> dict[str, Any]:
    """Build a run, train it to its end, and return its result. Each of its processes does this (processes.py).

    resumed: a run that finds a checkpoint counts as resumed.
    """
    setup = prepare(plan, record, stop, ranks)
    restore(setup, resumed)
    ranks.wake(plan)
    return fit_and_evaluate(setup, Recorder(setup, progress), f"{plan.label}: {plan.folder}")


def tidy(plan: Plan, record: RunRecord) -> None:
    """Delete the checkpoints of a finished run that nothing needs."""
    if going_on.keeps_final_state(plan.config):
        record.keep_final_state()
    record.drop_resume_files()


def check_record(record: RunRecord) -> None:
    """Warn if run.json is damaged and will be written again. Raises UserError if that would lose a run's result."""
    if record.problem is None or not (record.folder / "run.json").exists():
        return
    if (record.folder / "checkpoints" / "best.pt").exists() and not record.resumes:
        raise UserError(f"{record.problem}; put a copy back, or delete {record.folder} to make the run again")
    print(f"cnnexp: {record.problem}; it is written again", file=sys.stderr)


def restore(setup: Setup, count: bool = True) -> None:
    """Load the last checkpoint, if there is one, and drop the rows of the steps after it. count: as resumed."""
    state, record = setup.state, setup.record
    if setup.checkpoints.restore(state, record) and count:
        record.update(resumed=record.info["resumed"] + 1)
        record.log(f"resumed after step {state.step}{setup.ranks}")
    record.cut_back(state.rows, state.probe_rows, state.chain_rows)


def fit_and_evaluate(setup: Setup, recorder: Recorder, title: str) -> dict[str, Any]:
    """Train from the restored state to the end, evaluate the best weights, and return the result."""
    state, settings, record, config = setup.state, setup.settings, setup.record, setup.config
    recorder.progress.start(title, settings, state)
    try:
        batches = training_batches(setup)
        before, after = [], actions(setup, recorder)
        if config["log"]["hash_chain"] and setup.ranks.first:
            batches = chain = HashChain(record.folder, batches, settings.device)
            after.insert(0, (every_step, chain.row))
        if any(config["probes"][name] for name in PROBES):
            watch = Watch(setup)
            before.append((watch.due, watch.prepare))
            after.insert(0, (watch.due, watch.look))
        fit(state, batches, settings, after, before)
        return recorder.evaluate_best(state)
    except Diverged as error:
        if error.step is not None:
            error.samples = [str(name) for name in setup.data.train.ids[setup.batches.positions(error.step - 1)[1]]]
        if state.best:
            setup.checkpoints.keep_best(state)
        raise
    finally:
        recorder.progress.close()
        setup.checkpoints.wait()


def every_step(step: int) -> bool:
    """Return True: an action with this is due after every step."""
    return True


def actions(setup: Setup, recorder: Recorder) -> list[tuple[Due, Action]]:
    """Return what happens after a step, in order: a step row, progress, an epoch's end, a save, a look at signals."""
    settings, checkpoints, record = setup.settings, setup.checkpoints, setup.record
    every, total, log = settings.steps_per_epoch, settings.total_steps, setup.config["log"]["steps"]
    log_steps = None if log is None else steps(log, every)

    def save(state: TrainState) -> None:
        state.wait_for_device(settings.device)  # this time counts as training, not as saving
        check_finite(state, settings)
        if not has_finite_weights(state):  # the loss of the next step shows it; the last good checkpoint stays
            return
        record.sync()
        checkpoints.save(state, settings.device, record.digests)

    def stop_if_asked(state: TrainState) -> None:
        try:
            setup.ranks.check(setup.stop)
        except Interrupted:
            save(state)
            checkpoints.wait()
            raise

    return [
        (lambda step: log_steps is not None and step % log_steps == 0, recorder.step_row),
        (every_step, recorder.progress.step),
        (lambda step: step % every == 0 or step == total, recorder.end_epoch),
        (lambda step: step == total or setup.state.stopped is not None or checkpoints.due(step), save),
        (every_step, stop_if_asked),
    ]


@contextmanager
def recorded_end(plan: Plan, record: RunRecord) -> Iterator[None]:
    """Record what the block raises as the run's status, with a traceback in train.log, and raise it again."""
    try:
        yield
    except BaseException as raised:
        error = machine_error(explained(raised))
        status = status_of(error)
        message = less_memory(error, plan.config) if status == "oom" else str(error) or type(error).__name__
        facts: dict[str, Any] = {"type": type(error).__name__, "message": message}
        if isinstance(error, Diverged) and error.step is not None:
            facts |= {"step": error.step, "samples": error.samples}
        with suppress(StorageError):  # where nothing can be written, the run reads as interrupted
            record.log(f"{status}: {message}")
            if status in ("failed", "oom") and not isinstance(error, UserError):
                record.log(traceback.format_exc())
            record.update(status=status, finished=now(), error=facts)
        if error is not raised:
            raise error from raised
        raise


def machine_error(error: BaseException) -> BaseException:
    """Return an error of the machine as a StorageError, which names the file; others, and those of user code, as is."""
    if not isinstance(error, OSError) or isinstance(error, UserError) or error.errno not in MACHINE:
        return error
    return error if user_frames(error) else StorageError(error.filename or "a file", error, "used")


def status_of(error: BaseException) -> str:
    """Return the status that a run has after an exception."""
    if isinstance(error, Skipped):
        return "skipped"
    if isinstance(error, Diverged):
        return "diverged"
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        return "interrupted"
    return "oom" if is_out_of_memory(error) else "failed"
