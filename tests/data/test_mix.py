"""Mixup and CutMix against torchvision, and as functions of (seed, step)."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from cnnexp.data.batches import Batch
from cnnexp.data.mix import Mix, cut_mix, mix_up


def batch() -> Batch:
    images = torch.rand(6, 3, 8, 10, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.arange(6), 0, torch.arange(6))


def one_hot(found: Batch) -> torch.Tensor:
    """Return the labels as torchvision mixes them: (N, K)."""
    assert found.mixed is not None
    own, other = (torch.nn.functional.one_hot(labels, 6).float() for labels in (found.labels, found.mixed))
    return found.share * own + (1 - found.share) * other


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mixup_is_torchvisions(share: float) -> None:
    found = mix_up(batch(), share, np.random.default_rng(0))
    reference: Any = v2.MixUp(num_classes=6)
    given = {"lam": share, "labels": torch.arange(6), "batch_size": 6}
    torch.testing.assert_close(found.images, reference.transform(batch().images, given), rtol=0, atol=1e-6)
    torch.testing.assert_close(one_hot(found), reference._mixup_label(torch.arange(6), lam=share))


@pytest.mark.parametrize("seed", range(5))
def test_cutmix_is_torchvisions(seed: int) -> None:
    share = 0.4 + seed / 10
    draws = np.random.default_rng(seed)
    x, y = int(draws.integers(10)), int(draws.integers(8))
    half = 0.5 * math.sqrt(1 - share)
    box = (
        max(x - int(half * 10), 0),
        max(y - int(half * 8), 0),
        min(x + int(half * 10), 10),
        min(y + int(half * 8), 8),
    )
    kept = 1 - (box[2] - box[0]) * (box[3] - box[1]) / 80
    found = cut_mix(batch(), share, np.random.default_rng(seed))
    reference: Any = v2.CutMix(num_classes=6)
    given = {"box": box, "lam_adjusted": kept, "labels": torch.arange(6), "batch_size": 6}
    assert torch.equal(found.images, reference.transform(batch().images, given))
    torch.testing.assert_close(one_hot(found), reference._mixup_label(torch.arange(6), lam=kept))


def test_a_batch_is_mixed_as_its_seed_and_step_say() -> None:
    mix = Mix(0.4, 1.0, seed=3)
    first, again, other, another = mix(batch(), 7), mix(batch(), 7), mix(batch(), 8), Mix(0.4, 1.0, seed=4)(batch(), 7)
    assert torch.equal(first.images, again.images) and first.share == again.share
    assert len({first.share, other.share, another.share}) == 3


def test_both_kinds_are_drawn() -> None:
    mix = Mix(1.0, 1.0, seed=0)
    pasted = [bool((mix(batch(), step).images == batch().images).any()) for step in range(40)]
    assert 8 < sum(pasted) < 32, "cutmix keeps pixels, mixup keeps none"


def test_parts_of_a_batch() -> None:
    found = mix_up(batch(), 0.3, np.random.default_rng(0))
    parts = found.parts(4)
    assert [len(part.labels) for part in parts] == [2, 2, 1, 1]
    for name in ("images", "labels", "positions", "mixed"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(found, name))
    assert {part.share for part in parts} == {0.3} and found.parts(1) == [found]
