"""Logits of a split: one clean pass in eval mode; and whether small shifts change what they say."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import pad

from cnnexp.data.batches import Batch
from cnnexp.training.device import Device


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


def shifted(batches: Iterable[Batch], down: int, right: int) -> Iterator[Batch]:
    """Move every image (C, H, W) by whole pixels, up and left if negative; what comes in repeats the border."""
    top, bottom, left, rest = (max(n, 0) for n in (down, -down, right, -right))
    for batch in batches:
        height, width = batch.images.shape[-2:]
        framed = pad(batch.images, (left, rest, top, bottom), mode="replicate")
        yield replace(batch, images=framed[..., bottom : bottom + height, rest : rest + width])


def consistency(logits: NDArray[np.float32], others: Iterable[NDArray[np.float32]]) -> float:
    """Return the share of images that keep their class, mean over `others`, each (N, K) as `logits` is.

    After Zhang 2019, "Making Convolutional Networks Shift-Invariant Again", arXiv 1904.11486, section 4, which compares
    an image moved at random with the same image moved at random again, both cut from a larger one. Here the unmoved
    image is compared with each moved one, and what comes in repeats the border.
    """
    classes = logits.argmax(axis=1)
    return float(np.mean([(other.argmax(axis=1) == classes).mean() for other in others]))
