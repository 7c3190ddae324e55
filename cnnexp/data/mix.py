"""Mixup and CutMix: two images of a batch become one, and the loss has a share of each label.

Mixup: Zhang et al. 2018, arXiv 1710.09412. CutMix: Yun et al. 2019, arXiv 1905.04899. As in torchvision's v2.MixUp and
v2.CutMix, a batch has one share, and each image is mixed with the one before it; a test compares them.
"""

import math
from dataclasses import replace

import numpy as np

from cnnexp.data.batches import Batch
from cnnexp.rng import fold


class Mix:
    """Mixes the batches of a run; what it draws is a function of (seed, step)."""

    def __init__(self, mixup: float | None, cutmix: float | None, seed: int):
        """mixup, cutmix: the alpha of Beta(alpha, alpha), which shares are drawn from; None: never.

        With both, each batch draws one of them with the same probability.
        """
        self.kinds = [(apply, alpha) for apply, alpha in ((mix_up, mixup), (cut_mix, cutmix)) if alpha is not None]
        self.seed = seed

    def __call__(self, batch: Batch, step: int) -> Batch:
        """Return the batch with mixed images; its own images are changed in place."""
        draws = np.random.default_rng(fold(self.seed, "mix", step))
        apply, alpha = self.kinds[int(draws.integers(len(self.kinds)))]
        return apply(batch, float(draws.beta(alpha, alpha)), draws)


def mix_up(batch: Batch, share: float, draws: np.random.Generator) -> Batch:
    """Return share * image + (1 - share) * the image before it."""
    others = batch.images.roll(1, 0).mul_(1 - share)
    return replace(batch, images=batch.images.mul_(share).add_(others), mixed=batch.labels.roll(1, 0), share=share)


def cut_mix(batch: Batch, share: float, draws: np.random.Generator) -> Batch:
    """Paste a box of the image before it into each image; `share` of the area stays, but for the border."""
    height, width = batch.images.shape[-2:]
    x, y = int(draws.integers(width)), int(draws.integers(height))
    half = 0.5 * math.sqrt(1 - share)
    left, right = max(x - int(half * width), 0), min(x + int(half * width), width)
    top, bottom = max(y - int(half * height), 0), min(y + int(half * height), height)
    others = batch.images.roll(1, 0)
    batch.images[..., top:bottom, left:right] = others[..., top:bottom, left:right]
    kept = 1 - (right - left) * (bottom - top) / (width * height)
    return replace(batch, mixed=batch.labels.roll(1, 0), share=kept)
