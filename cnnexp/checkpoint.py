"""What is saved of a run, and how it comes back.

    checkpoints/last.pt        the whole TrainState; it names the weights that are best so far
    checkpoints/best-<e>.pt    the weights of epoch e, the best so far, while the run is not done
    checkpoints/best.pt        the weights that the result is about

best-<e>.pt is durable before the last.pt that names it, and the one before goes after: a kill between any two of
these leaves a last.pt whose best weights are there. Both are torch files, loaded with weights_only=True.

A save copies the state to the system's file cache and goes on training; a thread waits for the disk and then gives the
files their names. The next save, and the end of the run, wait for it.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from cnnexp import storage
from cnnexp.device import Device, synchronize
from cnnexp.errors import UserError
from cnnexp.loop import TrainState

LARGEST_SHARE = 0.03  # of the time that "auto" may spend on checkpoints
LONGEST_GAP = 60.0  # seconds between checkpoints with "auto"


def draft(path: Path, content: dict[str, Any]) -> Path:
    """Write a torch file that is to become `path`; see storage.draft."""
    return storage.draft(path, lambda file: torch.save(content, file))


def read(path: Path) -> dict[str, Any]:
    """Read a torch file: tensors, numbers and text only. Raises UserError naming the file if it is damaged."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, zipfile and pickle raise many kinds for a damaged file
        raise UserError(f"{path}: cannot be read as a checkpoint ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: is not a checkpoint")
    return content


class Checkpoints:
    """Saves and restores the state of one run, and decides when a save is due."""

    def __init__(self, folder: Path, every: int | None, steps_per_epoch: int):
        """folder: the run's `checkpoints/`. every: steps between saves, or None for "auto"."""
        self.folder = folder
        self.every = every
        self.steps_per_epoch = steps_per_epoch
        self.saved_at = perf_counter()
        self.cost = 0.0  # seconds that the last save kept the training loop
        self.beside: Future[None] | None = None
        self.thread = ThreadPoolExecutor(1, "checkpoint")

    def due(self, step: int) -> bool:
        """Tell whether to save after `step` steps have been taken."""
        if self.every is not None:
            return step % self.every == 0
        if self.beside is not None and not self.beside.done():
            return False
        since = perf_counter() - self.saved_at
        return since >= LONGEST_GAP or (step % self.steps_per_epoch == 0 and self.cost <= LARGEST_SHARE * since)

    def save(self, state: TrainState, device: Device) -> None:
        """Save the state; it is durable after `settle`, which raises what went wrong in writing it."""
        synchronize(device)
        start = perf_counter()
        self.settle()
        drafts = {}
        best = self._best_file(state.best) if state.best else None
        if best is not None and not best.exists():
            drafts[best] = draft(best, {"model": state.best_weights, **state.best})
        last = self.folder / "last.pt"
        drafts[last] = draft(last, state.state_dict())
        self.beside = self.thread.submit(self._publish, drafts, best)
        self.saved_at = perf_counter()
        self.cost = self.saved_at - start
        state.seconds["checkpoint"] += self.cost

    def _publish(self, drafts: dict[Path, Path], best: Path | None) -> None:
        """Give files their names, in order, and drop the best weights that were."""
        for path, temporary in drafts.items():
            storage.publish(temporary, path)
        for other in self.folder.glob("best-*.pt"):
            if other != best:
                storage.remove(other)

    def settle(self) -> None:
        """Wait until the last save is durable. Raises what its writing raised, once."""
        beside, self.beside = self.beside, None
        if beside is not None:
            beside.result()

    def restore(self, state: TrainState) -> bool:
        """Load the last saved state, with its best weights; False, and a clean folder, if there is none."""
        storage.remove_drafts(self.folder)
        if not (self.folder / "last.pt").exists():
            for left_over in self.folder.glob("best*.pt"):
                storage.remove(left_over)
            return False
        _take(state, self.folder / "last.pt")
        if state.best:
            state.best_weights = weights_in(self._best_file(state.best))
        for other in self.folder.glob("best-*.pt"):
            if not state.best or other != self._best_file(state.best):
                storage.remove(other)
        return True

    def keep_best(self, state: TrainState) -> None:
        """Write the best weights as best.pt. last.pt stays: until the result is recorded, a resumed run needs it."""
        best, saved = self.folder / "best.pt", self._best_file(state.best)
        self.settle()
        if saved.exists():
            storage.copy(saved, best)
        else:
            storage.publish(draft(best, {"model": state.best_weights, **state.best}), best)

    def finish(self) -> None:
        """Drop what only a resumed run needs. Called once the result is durable."""
        for file in [*self.folder.glob("best-*.pt"), self.folder / "last.pt"]:
            storage.remove(file)

    def _best_file(self, best: dict[str, Any]) -> Path:
        return self.folder / f"best-{best['epoch']}.pt"


def weights_in(path: Path) -> dict[str, Tensor]:
    """Read the weights in a checkpoint, by name. Raises UserError naming the file if it holds none."""
    weights = read(path).get("model")
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise UserError(f"{path}: holds no weights")
    return weights


def _take(state: TrainState, path: Path) -> None:
    """Let a state go on from a saved one. Raises UserError if the file holds the state of something else."""
    saved = read(path)
    try:
        if saved["best"] and type(saved["best"]["epoch"]) is not int:  # it is a part of a file's name
            raise TypeError(f"best.epoch is {saved['best']['epoch']!r}")
        state.load_state_dict(saved)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        told = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: is not the state of this run ({type(error).__name__}: {told}); delete it") from error


def copy_weights(model: torch.nn.Module) -> dict[str, Tensor]:
    """Return a copy of the model's weights and buffers, on its device."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
