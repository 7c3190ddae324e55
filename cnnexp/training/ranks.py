"""The processes of one run (`device.processes`), as each sees them: its number, and what they exchange.

Every process does all that a run does, with the same batches and the same random numbers. It computes only its rows of
a batch in training (shared_batch.py), and its batches of a split in evaluation. The results are exchanged, so that all
processes decide alike. Process 0 alone holds the run and writes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, distributed

from cnnexp.errors import Interrupted
from cnnexp.process.signals import StopRequest
from cnnexp.training.device import Device


@dataclass(frozen=True)
class Ranks:
    """One of the processes of a run. rank: from 0. local_rank, local_count: of those on this machine.

    wake: process 0 calls it with the plan when the run is ready, and the others begin.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1
    wake: Callable[[Any], None] = lambda plan: None

    def __str__(self) -> str:
        """Return ", with 2 processes", or "" for one."""
        return f", with {self.count} processes" if self.count > 1 else ""

    @property
    def first(self) -> bool:
        """Return whether this is process 0."""
        return self.rank == 0

    def share(self, device: Device) -> Device:
        """Return this process's part of a run's device: one of its GPUs, and its part of the CPU threads."""
        if self.count == 1:
            return device
        threads = max(1, device.threads // self.local_count)
        if device.kind != "cuda":
            return replace(device, threads=threads)
        index = (device.torch.index or 0) + self.local_rank
        return replace(device, threads=threads, torch=torch.device("cuda", index % torch.cuda.device_count()))

    def starts(self, size: int, batch_size: int) -> range:
        """Return where the batches of a split start that this process computes: every `count`-th, at least one."""
        every = range(0, size, batch_size)
        return every[self.rank :: self.count] or every[:1]

    def gathered(self, parts: Iterable[Tensor], size: int, batch_size: int, dtype: torch.dtype | None = None) -> Tensor:
        """Return the rows (size, ...) of a split. parts: of this process's batches (n, ...), as `starts` says.

        dtype: that of the first part if None. The result is filled in place: a list of parts would fragment the CPU's
        heap between the freed activations, which then grew with every part.
        """
        result = torch.empty(0)
        for start, part in zip(self.starts(size, batch_size), parts, strict=True):
            if not len(result):
                result = torch.zeros(size, *part.shape[1:], dtype=dtype or part.dtype, device=part.device)
            if start // batch_size % self.count == self.rank:
                result[start : start + len(part)] = part
        return self.complete(result)

    def send_buffers(self, model: torch.nn.Module) -> None:
        """Let all processes have the buffers of process 0, such as running statistics."""
        if self.count > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)

    def rows(self, size: int) -> slice:
        """Return this process's rows of a batch; the processes have nearly equal numbers, in order."""
        start, more = divmod(size, self.count)
        first = self.rank * start + min(self.rank, more)
        return slice(first, first + start + (self.rank < more))

    def complete(self, tensor: Tensor) -> Tensor:
        """Fill in, in place, what the others have computed. tensor: 0 where this process has computed nothing."""
        if self.count > 1:  # bytes, because adding zeros to them changes none
            distributed.all_reduce(tensor.view(torch.uint8))
        return tensor

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over all processes."""
        total = tensor.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    def decide(self, ask: Callable[[], bool]) -> bool:
        """Return what process 0 answers, to all processes: for answers that depend on files or times."""
        if self.count == 1:
            return ask()
        answer = torch.tensor([int(self.first and ask())])
        distributed.broadcast(answer, 0)
        return bool(answer)

    def check(self, stop: StopRequest) -> None:
        """Raise Interrupted if a signal has asked a process to stop: in all of them, after the same step."""
        if self.count == 1:
            return stop.check()
        asked = torch.tensor([stop.exit_code or 0])
        distributed.all_reduce(asked, op=distributed.ReduceOp.MAX)
        if code := int(asked):  # a signal that came since waits for the next step
            raise Interrupted(code, stop.number)


ALONE = Ranks()
