"""Logits of a split: one clean pass in eval mode."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from cnnexp.data.batches import Batch
from cnnexp.device import Device


def logits_of(
    model: torch.nn.Module, batches: Iterable[Batch], device: Device, count: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return logits (N, K) and labels (N,) of clean batches of `count` images in all, in their order.

    The model is left in eval mode. Both are filled in place: results that were kept batch by batch would lie between
    the freed activations of a CPU's heap, which then grew with every batch.
    """
    model.eval()
    logits = labels = torch.empty(0)
    done = 0
    with torch.inference_mode(), device.autocast():
        for batch in batches:
            given = model(batch.images)
            if not done:
                logits = torch.empty(count, *given.shape[1:], device=given.device)
                labels = torch.empty(count, dtype=torch.int64, device=given.device)
            logits[done : done + len(given)] = given
            labels[done : done + len(given)] = batch.labels
            done += len(given)
    assert done == count
    return logits.cpu().numpy(), labels.cpu().numpy()
