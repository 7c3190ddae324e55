"""Saves the state of a run, and restores it.

    checkpoints/last.pt        the TrainState; it names the epoch of the best weights so far
    checkpoints/previous.pt    the last.pt before, in case the last one is damaged
    checkpoints/best-<e>.pt    the weights of epoch e, the best so far of one of the two, while the run is not done
    checkpoints/best.pt        the weights that the result is about

best-<e>.pt is durable before the last.pt that names it, and is deleted after neither names it: a kill at any time
leaves a last.pt, or a previous.pt, with its best weights. All are torch files, loaded with weights_only=True; each ends
with a checksum and contains the identity of its run (storage/checksums.py).

A save writes the state to the system's file cache, and training continues; a thread waits for the disk and then renames
the files. The next save, and the end of the run, wait for the thread.
"""

import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.records.fields import LAST, METRICS, PREVIOUS, PROBES
from cnnexp.records.run_record import RunRecord
from cnnexp.storage import Damaged, torch_files
from cnnexp.training import hash_chain
from cnnexp.training.device import Device, synchronize
from cnnexp.training.loop import TrainState

# With `checkpoint.every=auto`:
MAX_WAITING_SHARE = 0.01  # of the time, for which training may wait for saves; most of a save runs in the thread
MIDDLE_OF_EPOCH_SECONDS = 60.0  # since the last save, after which one need not wait for the end of the epoch
MAX_SECONDS = 600.0  # between saves, whatever they cost
ASSUMED_RATE = 10**9  # bytes per second that a disk writes, until the first save is measured


def draft(path: Path, content: dict[str, Any]) -> Path:
    """Write a torch file with a checksum, to be published as `path`; see storage.draft."""
    with _without_torch_checksums():
        return storage.draft(path, lambda file: torch.save(content, file), checksum=True)


@contextmanager
def _without_torch_checksums() -> Iterator[None]:
    """Turn off torch's own checksums: they take longer than ours, and torch never checks them."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


@contextmanager
def _no_drafts_left(drafts: dict[Path, Path]) -> Iterator[None]:
    """Delete the drafts if the block raises."""
    try:
        yield
    except BaseException:
        for temporary in drafts.values():
            with suppress(OSError):
                storage.remove(temporary)
        raise


def read(path: Path, run: str | None = None) -> dict[str, Any]:
    """Read a torch file of a run: tensors, numbers and text only.

    run: the identity that it must contain. Raises Damaged, naming the file, if the content is not what was written, and
    UserError if the file cannot be read now, which says nothing about its content.
    """
    content = torch_files.load(path)
    if not isinstance(content, dict):
        raise Damaged(f"{path}: is not a checkpoint")
    if run is not None and content.get("run") != run:
        raise Damaged(f"{path}: is of another run ({content.get('run')}, expected {run})")
    return content


class Checkpoints:
    """Saves and restores the state of one run, and decides when a save is due."""

    def __init__(self, folder: Path, every: int | None, steps_per_epoch: int, run: str, size: int):
        """folder: the run's `checkpoints/`. every: steps between saves, or None for "auto". run: its identity.

        size: estimate of the bytes that a save writes.
        """
        self.folder = folder
        self.every = every
        self.steps_per_epoch = steps_per_epoch
        self.run = run
        self.best_of_last: Path | None = None  # the weights that last.pt names
        self.saved_at = perf_counter()
        self.cost = size / ASSUMED_RATE  # seconds that training waited for the last save; an estimate before the first
        self.publishing: Future[None] | None = None
        self.thread = ThreadPoolExecutor(1, "checkpoint")

    def due(self, step: int) -> bool:
        """Tell whether to save after `step` steps."""
        if self.every is not None:
            return step % self.every == 0
        if self.publishing is not None and not self.publishing.done():
            return False
        since = perf_counter() - self.saved_at
        wanted = since >= MIDDLE_OF_EPOCH_SECONDS or step % self.steps_per_epoch == 0
        return wanted and (self.cost <= MAX_WAITING_SHARE * since or since >= MAX_SECONDS)

    def save(self, state: TrainState, device: Device, digests: Mapping[str, int]) -> None:
        """Save the state; it is durable after `wait`. digests: of its rows (`RunRecord.digests`)."""
        synchronize(device)
        start = perf_counter()
        self.wait()
        drafts: dict[Path, Path] = {}
        best = self._best_file(state.best) if state.best else None
        last = self.folder / LAST
        with _no_drafts_left(drafts):
            if best is not None and best != self.best_of_last:
                drafts[best] = draft(best, self._best(state))
            drafts[last] = draft(last, {**state.state_dict(), "run": self.run, **digests})
        self.publishing = self.thread.submit(self._publish, drafts, {best, self.best_of_last})
        self.best_of_last = best
        self.saved_at = perf_counter()
        self.cost = self.saved_at - start
        state.seconds["checkpoint"] += self.cost

    def _publish(self, drafts: dict[Path, Path], named: set[Path | None]) -> None:
        """Rename drafts to their paths, in order; delete best weights that are not in `named`."""
        with _no_drafts_left(drafts):
            for path, temporary in drafts.items():
                storage.publish(temporary, path, self.folder / PREVIOUS if path.name == LAST else None)
        for other in self.folder.glob("best-*.pt"):
            if other not in named:
                storage.remove(other)

    def wait(self) -> None:
        """Wait until the last save is durable. Raises the error of its writing, once."""
        publishing, self.publishing = self.publishing, None
        if publishing is not None:
            publishing.result()

    def restore(self, state: TrainState, record: RunRecord) -> bool:
        """Load the last saved state that is complete, with its best weights. Returns whether there was one.

        Warns if it is previous.pt. Raises UserError, naming the files, if all are damaged. Deletes what is left over if
        none was saved.
        """
        storage.remove_drafts(self.folder)
        faults = []
        for file in (self.folder / LAST, self.folder / PREVIOUS):
            if not file.exists():
                continue
            try:
                self._load(file, state, record)
            except Damaged as error:
                faults.append(str(error))
                continue
            for fault in faults:
                line = f"{fault}; continuing from {file.name}, after step {state.step}"
                print(f"cnnexp: {line}", file=sys.stderr)
                record.log(line)
            if file.name == PREVIOUS:
                storage.rename(file, self.folder / LAST)
            return True
        if faults:
            fix = f"put a copy back, or delete {self.folder.parent} to make the run from its start"
            raise UserError(f"all checkpoints of this run are damaged: {'; '.join(faults)}; {fix}")
        for left_over in self.folder.glob("best*.pt"):
            storage.remove(left_over)
        return False

    def _load(self, file: Path, state: TrainState, record: RunRecord) -> None:
        """Load one saved state. Raises Damaged if it, its best weights, or the rows up to its step have changed."""
        content = read(file, self.run)
        for name, count, digest in ((METRICS, "rows", "rows_digest"), (PROBES, "probe_rows", "probes_digest")):
            rows = content.get(count, 0)
            if content.get(digest) is None:
                raise Damaged(f"{file}: does not say which rows belong to it")
            if record.digest(rows, name) != content[digest]:
                raise Damaged(f"{record.folder / name}: its first {rows} rows are not those of {file.name}")
        hash_chain.check(record.folder, content.get("chain_rows", 0), content.get("chain", ""))
        try:
            if content["best"] and type(content["best"]["epoch"]) is not int:  # it is a part of a file's name
                raise TypeError(f"best.epoch is {content['best']['epoch']!r}")
            state.load_state_dict(content)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise Damaged(f"{file}: does not fit this run ({reason})") from error
        self.best_of_last = None
        if state.best:
            best = self._best_file(state.best)
            weights = read(best, self.run)
            if weights.get("epoch") != state.best["epoch"]:
                raise Damaged(f"{best}: holds the weights of epoch {weights.get('epoch')}")
            state.best_weights, self.best_of_last = _weights(best, weights), best

    def keep_best(self, state: TrainState) -> None:
        """Write the best weights as best.pt. last.pt stays: until the result is recorded, a resumed run needs it."""
        best, saved = self.folder / "best.pt", self._best_file(state.best)
        self.wait()
        if saved == self.best_of_last:
            storage.copy(saved, best)
        else:
            storage.publish(draft(best, self._best(state)), best)

    def _best(self, state: TrainState) -> dict[str, Any]:
        return {"model": state.best_weights, **state.best, "run": self.run}

    def _best_file(self, best: dict[str, Any]) -> Path:
        return self.folder / f"best-{best['epoch']}.pt"


class NoCheckpoints(Checkpoints):
    """Restores the state in a process that does not hold the run, and saves nothing."""

    def save(self, state: TrainState, device: Device, digests: Mapping[str, int]) -> None:
        """Save nothing: process 0 does."""

    def keep_best(self, state: TrainState) -> None:
        """Keep nothing: process 0 does."""


def weights_in(path: Path, run: str | None = None) -> dict[str, Tensor]:
    """Read the weights in a checkpoint, by name. run: the identity that it must contain.

    Raises UserError, naming the file, if it has none; Damaged if it is damaged or of another run.
    """
    return _weights(path, read(path, run))


def _weights(path: Path, content: dict[str, Any]) -> dict[str, Tensor]:
    weights = content.get("model")
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise UserError(f"{path}: holds no weights")
    return weights


def copy_weights(model: torch.nn.Module) -> dict[str, Tensor]:
    """Return a copy of the model's weights and buffers, on its device."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
