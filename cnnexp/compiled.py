"""Training steps through torch's compiler (`device.compile`), which fuses a network's operations into fewer kernels.

Off by default: it takes seconds to minutes before the first step, and on a CPU it gained nothing (docs/performance.md,
row tried). What it made is kept in <cache>/compiled, so that a later run of the same network waits less. Results are
those of the network as it is up to rounding: dropout draws the same numbers. Evaluation and probes are not compiled.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from cnnexp.data.batches import Batch
from cnnexp.device import Device
from cnnexp.errors import UserError
from cnnexp.loop import TrainState

PASSES = 3  # before the first step: one compiles; where CUDA graphs are used, one warms up and one is recorded


def compiled(state: TrainState, batch: Batch, device: Device, folder: Path) -> Callable[[Tensor], Tensor]:
    """Compile the forward and backward pass of `state.learner` for batches like `batch`, and return what to call.

    The weights, buffers and gradients of the state stay as they are. folder: where the compiler keeps what it
    makes, unless TORCHINDUCTOR_CACHE_DIR says otherwise. Raises UserError if it fails.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
    from torch._dynamo.exc import TorchDynamoException  # imports the compiler: 1.5 s
    from torch._inductor import config

    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # warns of a GPU that is not there
    config.compile_threads = 1  # more would be processes, which might outlive this one
    config.fallback_random = True  # draw as torch does without it
    torch.compiler.reset()  # what earlier runs of this process compiled counts against a limit
    mode = None if device.compile is True else cast(str, device.compile)
    learner = torch.compile(state.learner, dynamic=False, mode=mode)
    kept = {name: buffer.clone() for name, buffer in state.learner.named_buffers()}
    state.learner.train()
    try:
        for _ in range(PASSES):
            with device.autocast():
                logits = learner(batch.images)
            logits.float().sum().backward()
            state.optimizer.zero_grad(set_to_none=True)
    except TorchDynamoException as error:
        told = str(error).strip().split("\n")[0]
        raise UserError(
            f"device.compile: torch could not compile the network ({told}); it trains without device.compile"
        ) from None
    for name, buffer in state.learner.named_buffers():
        buffer.copy_(kept[name])
    return learner
