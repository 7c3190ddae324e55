"""How a run begins and ends in its record: what it is, and what became of it."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from cnnexp import record as records
from cnnexp.environment import code, environment
from cnnexp.errors import Diverged, Interrupted, Skipped, UserError
from cnnexp.job import Job
from cnnexp.record import LAST, PREVIOUS, RunRecord
from cnnexp.storage import StorageError

OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")  # of the system, CUDA, its libraries


def begin(job: Job, record: RunRecord) -> None:
    """Write down what the run is, before anything can go wrong."""
    from omegaconf import OmegaConf

    record.problem = None
    made_by = {"code": code(), "environment": environment()}
    before = {name: record.info.get(name) for name in made_by}
    resumes = any((job.folder / "checkpoints" / name).exists() for name in (LAST, PREVIOUS))
    earlier = record.info.get("earlier", []) if resumes else []
    record.write_config(OmegaConf.to_yaml(OmegaConf.create(job.config)))
    record.update(
        status="running",
        study=job.study,
        arm=job.arm,
        seed=job.seed,
        fingerprint=job.fingerprint,
        changes=job.changes,
        command=job.command,
        repeat=job.repeat,
        **made_by,
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
def recorded_outcome(job: Job, record: RunRecord) -> Iterator[None]:
    """Record whatever the block raises as the run's status, with a traceback in train.log, and raise it again."""
    try:
        yield
    except BaseException as error:
        status = outcome(error)
        message = str(error) or type(error).__name__
        if status == "oom":
            message = f"out of memory with batch_size={job.config['batch_size']}; try {smaller(job)}"
        told: dict[str, Any] = {"type": type(error).__name__, "message": message}
        if isinstance(error, Diverged) and error.step is not None:
            told |= {"step": error.step, "samples": error.samples}
        with suppress(StorageError):  # where nothing can be written, the run reads as interrupted
            record.log(f"{status}: {message}")
            if status in ("failed", "oom") and not isinstance(error, UserError):
                record.log(traceback.format_exc())
            record.update(status=status, finished=records.now(), error=told)
        raise


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


def smaller(job: Job) -> str:
    """Suggest half the batch, or what else there is to make smaller. The batch size is a person's to change."""
    batch_size = job.config["batch_size"]
    return f"batch_size={batch_size // 2}" if batch_size > 1 else "a smaller network, or a smaller data.size"
