"""Training steps through torch's compiler (`device.compile`), which fuses a network's operations into fewer kernels.

Off by default: it takes seconds to minutes before the first step, and on a CPU it gained nothing (docs/performance.md,
row tried). The compiled code is kept in <cache>/compiled, so that a later run of the same network waits less. Results
are the same up to rounding: dropout draws the same numbers. Evaluation and probes are not compiled.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from cnnexp.data.batches import Batch
from cnnexp.errors import UserError
from cnnexp.training.device import Device
from cnnexp.training.loop import TrainState

PASSES = 3  # before the first step: one compiles; where CUDA graphs are used, one warms up and one is recorded
FOLDER = "TORCHINDUCTOR_CACHE_DIR"
GIVEN = os.environ.get(FOLDER)  # by the user; read now, because torch's compiler and earlier runs set it too


def compiled(
    state: TrainState, batch: Batch, device: Device, folder: Path, log: Callable[[str], None]
) -> Callable[[Tensor], Tensor]:
    """Compile the forward and backward pass of `state.learner` for batches like `batch`; return the compiled learner.

    Weights, buffers and gradients are unchanged; other state of a user's network has seen PASSES more passes.
    folder: for compiled code, unless the user has set TORCHINDUCTOR_CACHE_DIR. log: receives a summary, or the
    compiler's complete message if it fails. Raises UserError if it fails or could compile nothing, and the original
    error if memory ran out.
    """
    from torch._dynamo.exc import TorchDynamoException  # imports the compiler: 1.5 s
    from torch._dynamo.utils import counters

    os.environ[FOLDER] = GIVEN or str(folder)
    _set_up(device)
    counters.clear()
    learner = torch.compile(state.learner, mode=None if device.compile is True else cast(str, device.compile))
    try:
        with _unchanged(state.learner):
            state.learner.train()
            for _ in range(PASSES):
                with device.autocast():
                    logits = learner(batch.images)
                logits.float().sum().backward()
                state.optimizer.zero_grad(set_to_none=True)
    except TorchDynamoException as error:
        inner = getattr(error, "inner_exception", None)
        if isinstance(inner, (MemoryError, torch.OutOfMemoryError)):
            raise inner from error
        log(f"device.compile: {error}")
        raise UserError(
            f"device.compile: torch could not compile the network ({str(error).strip().splitlines()[0]}; more in "
            "train.log); try device.compile=false"
        ) from None
    frames, breaks = counters["frames"], sum(counters["graph_break"].values())
    if not frames["ok"]:
        raise UserError("device.compile: torch could compile no part of the network; try device.compile=false")
    log(f"compiled {frames['ok']} of {frames['total']} functions, with {breaks} breaks between graphs")
    return learner


def _set_up(device: Device) -> None:
    """Configure torch's compiler for this process, and drop the code of earlier runs, which counts towards a limit."""
    from torch._functorch import config as backward
    from torch._inductor import config

    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # warns about a missing GPU
    config.compile_threads = 1  # more would be processes, which might outlive this one
    config.fallback_random = True  # draw the numbers that torch draws without the compiler
    if hasattr(config, "deterministic"):  # newer versions: do not choose kernels by measured speed
        config.deterministic = device.deterministic
    if hasattr(backward, "force_non_lazy_backward_lowering"):  # compile in this thread, which receives the signals
        backward.force_non_lazy_backward_lowering = True
    torch.compiler.reset()


@contextmanager
def _unchanged(network: nn.Module) -> Iterator[None]:
    """Restore the weights and buffers of a network after the block."""
    kept = {name: tensor.detach().clone() for name, tensor in _tensors(network)}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, tensor in _tensors(network):
                if name in kept:
                    tensor.copy_(kept[name])


def _tensors(network: nn.Module) -> list[tuple[str, Tensor]]:
    return [*network.named_parameters(), *network.named_buffers()]
