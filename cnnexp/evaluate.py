"""Logits of a split: one clean pass in eval mode."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from cnnexp.data.batches import Batch
from cnnexp.device import Device


def logits_of(
    model: torch.nn.Module, batches: Iterable[Batch], device: Device
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return logits (N, K) and labels (N,) of clean batches, in their order. The model is left in eval mode."""
    model.eval()
    logits, labels = [], []
    with torch.inference_mode(), device.autocast():
        for batch in batches:
            logits.append(model(batch.images).float())
            labels.append(batch.labels)
    return torch.cat(logits).cpu().numpy(), torch.cat(labels).cpu().numpy()
