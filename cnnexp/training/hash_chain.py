"""Where two runs begin to differ: hashes of every training step, in <run>/hash_chain.jsonl (`log.hash_chain=true`).

The links of a row are in the order in which one causes the next, so that the first that differs shows the cause:

    samples         which images, in which order
    images          pixels and labels, augmented
    learning_rate   the largest of the parameter groups
    random          the global generator after the step
    loss            of the batch, every bit
    optimizer       moments and counts after the step
    weights         weights and buffers after the step
    chain           all of these and the row before: equal last rows mean equal runs

`cnnexp diff` compares the rows of two runs. Cost: docs/performance-details.md, row C9; every weight and moment is read
once per step. Imports torch inside functions only.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnexp import storage
from cnnexp.records.fields import HASH_CHAIN
from cnnexp.storage.untrusted import checked_file

if TYPE_CHECKING:
    from torch import Tensor

    from cnnexp.data.batches import Batch
    from cnnexp.training.device import Device
    from cnnexp.training.loop import BatchSource, TrainState

LINKS = {
    "samples": "the order of samples",
    "images": "the images or labels (the data, or its augmentation)",
    "learning_rate": "the learning rate",
    "random": "the random numbers drawn (dropout)",
    "loss": "the loss (the forward pass)",
    "optimizer": "the optimiser's moments (the gradients)",
    "weights": "the weights after it (the gradients, or the optimiser's step)",
}


class HashChain:
    """Gives a run its batches, and writes a row for each step."""

    def __init__(self, folder: Path, source: "BatchSource", device: "Device"):
        """folder: the run's."""
        self.file, self.source, self.device = folder / HASH_CHAIN, source, device
        self.batch: Batch | None = None

    def at(self, step: int) -> "Batch":
        """Return the source's batch of a step."""
        self.batch = self.source.at(step)
        return self.batch

    def row(self, state: "TrainState") -> None:
        """Write the row of the last step."""
        assert self.batch is not None
        with state.timed("hash_chain", self.device):
            links = links_of(state, self.batch)
            state.chain = digest([state.chain, *links.values()])
            state.chain_rows += 1
            storage.append_row(self.file, {"step": state.step, **links, "chain": state.chain})


def links_of(state: "TrainState", batch: "Batch") -> dict[str, str]:
    """Return the hash of every link, in the order of LINKS, after a step on `batch`."""
    import torch

    device = batch.images.device
    drawn = [torch.get_rng_state()]
    if device.type == "cuda":
        drawn.append(torch.cuda.get_rng_state(device))
    found = {
        "samples": batch.positions,
        "images": [batch.images, batch.labels],
        "learning_rate": state.schedule.learning_rate,
        "random": drawn,
        "loss": state.losses[(state.step - 1) % len(state.losses)],
        "weights": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict()["state"],
    }
    return {link: digest(found[link]) for link in LINKS}


def digest(content: Any) -> str:
    """Hash tensors by their bits, also in nested mappings and lists, and other values by their repr: 16 hex digits."""
    found = blake2b(digest_size=8)
    for part in _parts(content):
        found.update(part)
    return found.hexdigest()


def _parts(content: Any) -> "Iterator[Any]":
    import torch

    if isinstance(content, torch.Tensor):
        yield f"{content.dtype}{tuple(content.shape)}".encode()
        yield _bytes(content)
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield repr(key).encode()
            yield from _parts(value)
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from _parts(value)
    else:
        yield repr(content).encode() + b";"


def _bytes(tensor: "Tensor") -> Any:
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def read(folder: Path) -> list[dict[str, Any]]:
    """Return a run's rows, [] if it has none. Raises UserError if the file is a link, or larger than a run writes."""
    return storage.read_rows(checked_file(folder, HASH_CHAIN))


def check(folder: Path, count: int, chain: str) -> None:
    """Raise Damaged unless the first `count` rows of a run's file are there, in order, and end with `chain`."""
    rows = read(folder)[:count]
    in_order = all(before.get("step", 0) < after.get("step", 0) for before, after in itertools.pairwise(rows))
    if len(rows) < count or not in_order or (rows and rows[-1].get("chain") != chain):
        raise storage.Damaged(f"{folder / HASH_CHAIN}: its first {count} rows are not those that the run wrote")


def parting(first: Iterable[Mapping[str, Any]], second: Iterable[Mapping[str, Any]]) -> str | None:
    """Return where two runs first differ, as "step 17: the order of samples"; None if they do not.

    Only steps with a row in both are compared: a run may have been started without the chain.
    """
    theirs = {row["step"]: row for row in second}
    for mine in first:
        other = theirs.get(mine["step"], mine)
        for link, words in LINKS.items():
            if mine[link] != other[link]:
                return f"step {mine['step']}: {words}"
    return None
