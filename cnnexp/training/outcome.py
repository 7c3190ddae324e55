"""How a run begins and ends in its record: what it is, and what became of it."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from cnnexp.errors import Diverged, Interrupted, Skipped, UserError
from cnnexp.records import run_record as records
from cnnexp.records.provenance import code, environment
from cnnexp.records.run_record import LAST, PREVIOUS, RunRecord
from cnnexp.storage import StorageError
from cnnexp.training.device import resolve
from cnnexp.training.plan import Plan

OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")  # of the system, CUDA, its libraries


def begin(plan: Plan, record: RunRecord) -> None:
    """Write down what the run is, before anything can go wrong."""
    from omegaconf import OmegaConf

    record.problem = None
    made_by = {"code": code(), "environment": environment()}
    before = {name: record.info.get(name) for name in made_by}
    resumes = any((plan.folder / "checkpoints" / name).exists() for name in (LAST, PREVIOUS))
    earlier = record.info.get("earlier", []) if resumes else []
    record.write_config(OmegaConf.to_yaml(OmegaConf.create(plan.config)))
    record.update(
        status="running",
        study=plan.study,
        arm=plan.arm,
        seed=plan.seed,
        fingerprint=plan.fingerprint,
        changes=plan.changes,
        command=plan.command,
        repeat=plan.repeat,
        **made_by,
        **({"own_code": plan.facts["own_code"]} if plan.facts.get("own_code") else {}),
        earlier=[*earlier, before] if resumes and before != made_by else earlier,
        started=record.info.get("started", records.now()),
        finished=None,
        error=None,
        resumed=record.info.get("resumed", 0),
    )


def check_record(record: RunRecord) -> None:
    """Say so if run.json is damaged, to be written anew. Raises UserError if that would drop a run's result."""
    file, checkpoints = record.folder / "run.json", record.folder / "checkpoints"
    if record.problem is None or not file.exists():
        return
    if (checkpoints / "best.pt").exists() and not any((checkpoints / name).exists() for name in (LAST, PREVIOUS)):
        raise UserError(f"{record.problem}; put a copy back, or delete {record.folder} to make the run again")
    print(f"cnnexp: {record.problem}; it is written anew", file=sys.stderr)


@contextmanager
def recorded_outcome(plan: Plan, record: RunRecord) -> Iterator[None]:
    """Record whatever the block raises as the run's status, with a traceback in train.log, and raise it again."""
    try:
        yield
    except BaseException as raised:
        error = explained(raised)
        status = outcome(error)
        message = str(error) or type(error).__name__
        if status == "oom":
            message = smaller(plan, error)
        told: dict[str, Any] = {"type": type(error).__name__, "message": message}
        if isinstance(error, Diverged) and error.step is not None:
            told |= {"step": error.step, "samples": error.samples}
        with suppress(StorageError):  # where nothing can be written, the run reads as interrupted
            record.log(f"{status}: {message}")
            if status in ("failed", "oom") and not isinstance(error, UserError):
                record.log(traceback.format_exc())
            record.update(status=status, finished=records.now(), error=told)
        if error is not raised:
            raise error from raised
        raise


def explained(error: BaseException) -> BaseException:
    """Return an error of torch that a setting mends as a UserError that names it; any other as it is."""
    if isinstance(error, RuntimeError) and "does not have a deterministic implementation" in str(error):
        what = str(error).split(" does not have")[0]
        return UserError(f"device.deterministic: {what} has no deterministic form here; give false")
    return error


def outcome(error: BaseException) -> str:
    """Return the status that an exception means."""
    if isinstance(error, Skipped):
        return "skipped"
    if isinstance(error, Diverged):
        return "diverged"
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        return "interrupted"
    text = str(error)
    out_of_memory = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(words in text for words in OUT_OF_MEMORY)
    )
    return "oom" if out_of_memory else "failed"


def smaller(plan: Plan, error: BaseException) -> str:
    """Say what memory was too small for, and what to make smaller. Batch sizes are a person's to change."""
    at_work = {frame.name for frame in traceback.extract_tb(error.__traceback__)}
    if "logits_of" in at_work:
        given = plan.config["eval_batch_size"]
        at_once = given if isinstance(given, int) else resolve(plan.config["device"]).default_eval_batch_size
        return f"out of memory in an evaluation of {at_once} images at once; try eval_batch_size={max(1, at_once // 2)}"
    if "keep_features" in at_work:
        return "out of memory while the features of a frozen backbone were computed; try cache_features=false"
    batch_size = plan.config["batch_size"]
    mend = f"batch_size={batch_size // 2}" if batch_size > 1 else "a smaller network, or a smaller data.size"
    return f"out of memory with batch_size={batch_size}; try {mend}"
