"""Features of a frozen backbone, computed once, so that only the head is trained on them.

If nothing below the head learns or varies, its input depends only on the image and on whether the image is mirrored.
Both are computed once, kept on the device, and gathered by position. The head has to give the logits. The training is
the same up to rounding, since the last bits of a convolution depend on the batch. `cache_features: false` turns it off.
"""

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cnnexp import rng
from cnnexp.data.augment import draw_mask, flips_only
from cnnexp.data.batches import Batch, Batches, DeviceImages, Normalise, free_bytes, in_order
from cnnexp.data.transforms import send
from cnnexp.training.device import Device
from cnnexp.training.ranks import Ranks

MAX_MEMORY_SHARE = 0.25  # of the machine's memory, or of an accelerator's free memory, for features


def memory_bytes(device: torch.device) -> int:
    """Return the bytes of an accelerator's free memory, or of the machine's memory."""
    if device.type != "cpu":
        return free_bytes(device)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def wanted(config: Mapping[str, Any]) -> bool:
    """Tell whether a config freezes everything below the head to the end, augments by flips only, and mixes nothing."""
    model, augmentation = config["model"], config["augmentation"]
    frozen = model.get("freeze") == "backbone" and model.get("bn") == "frozen"
    needs_images = any(value is not None for value in (*config["mix"].values(), config["ema"]["decay"]))
    if config["unfreeze"]:
        return False
    return bool(config["cache_features"] and frozen and flips_only(augmentation) is not None and not needs_images)


class Features:
    """The head of a network with a frozen backbone, and the features that it takes, per split."""

    def __init__(
        self,
        model: nn.Module,
        device: Device,
        batch_size: int,
        normalise: Normalise,
        ranks: Ranks,
        check_stop: Callable[[], None],
    ):
        """batch_size: of the passes through the backbone. The head is the module whose parameters learn.

        check_stop: called before each of these passes; raises if a signal has asked to stop.
        """
        self.check_stop = check_stop
        self.model, self.device, self.batch_size, self.normalise = model, device, batch_size, normalise
        self.ranks = ranks
        self.learning = {name.rpartition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
        self.name = min(self.learning)
        self.head = model.get_submodule(self.name)
        self.kept: dict[tuple[int, bool], Tensor] = {}

    def why_not_cacheable(self, images: DeviceImages) -> str | None:
        """Return why the features of these images cannot be kept; None if they do not vary and fit into memory."""
        if len(self.learning) > 1:
            return f"more learns than the head: {', '.join(sorted(self.learning))}"
        x = next(self._images(images, mirrored=False))[:8]
        once, twin = self._pass(self.model.eval(), x), copy.deepcopy(self.model).train()
        if not torch.allclose(once, self._pass(twin, x), rtol=1e-3, atol=1e-5):
            return "they vary in training (dropout?)"
        if not (self._ends_with_head(self.model, x) and self._ends_with_head(twin, x)):
            return f"{self.name} does not give the logits"
        needed = 2 * once[0].nbytes * len(images) * (self.ranks.local_count if images.device.type == "cpu" else 1)
        if needed > MAX_MEMORY_SHARE * memory_bytes(images.device):
            return f"they would take {needed / 2**20:.0f} MiB"
        return None

    def of(self, images: DeviceImages, mirrored: bool = False) -> Tensor:
        """Return the features (N, ...) of a split in its order; the first call computes them in eval mode."""
        key = (id(images), mirrored)
        if key not in self.kept:
            self.model.eval()
            passes = (self._pass(self.model, x) for x in self._images(images, mirrored))
            self.kept[key] = self.ranks.gathered(passes, len(images), self.batch_size)
        return self.kept[key]

    def _images(self, images: DeviceImages, mirrored: bool) -> Iterator[Tensor]:
        starts = self.ranks.starts(len(images), self.batch_size)
        for batch in in_order(images, self.batch_size, self.normalise, starts):
            self.check_stop()
            x = batch.images.flip(-1) if mirrored else batch.images
            yield x.contiguous(memory_format=self.device.layout)

    def _pass(self, model: nn.Module, x: Tensor) -> Tensor:
        """Return the input of a model's head."""
        inputs: list[Tensor] = []
        hook = model.get_submodule(self.name).register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        try:
            with torch.no_grad(), self.device.autocast():
                model(x)
        finally:
            hook.remove()
        return inputs[0]

    def _ends_with_head(self, model: nn.Module, x: Tensor) -> bool:
        """Tell whether a model uses its head once, and returns what the head returns."""
        outputs: list[Tensor] = []
        hook = model.get_submodule(self.name).register_forward_hook(lambda _, given, y: outputs.append(y.clone()))
        try:
            with torch.no_grad(), self.device.autocast():
                logits = model(x)
        finally:
            hook.remove()
        return len(outputs) == 1 and outputs[0].shape == logits.shape and torch.equal(outputs[0], logits)

    def in_order(self, images: DeviceImages, batch_size: int, starts: Iterable[int]) -> Iterator[Tensor]:
        """Yield the features (N, ...) of a split in its order, in batches that begin at `starts`."""
        features = self.of(images)
        for start in starts:
            yield features[start : start + batch_size].clone()  # aligned in memory like a gathered batch


class FeatureBatches:
    """The batches of a run with features instead of images: the same order, mirrored by the same draws."""

    def __init__(self, batches: Batches, features: Features, flips: list[float]):
        """flips: the probability of each mirroring, in order."""
        self.batches, self.features, self.flips = batches, features, flips

    def at(self, step: int) -> Batch:
        """Return the batch of a step, with features (N, ...) instead of images. Pure."""
        images = self.batches.images
        epoch, rows = self.batches.positions(step)
        there = send(rows, images.device)
        x = self.features.of(images)[there]
        if self.flips:
            generator = rng.generator(self.batches.seed, "augment", step)
            mirrored = torch.zeros(len(rows), dtype=torch.bool)
            for p in self.flips:
                mirrored ^= draw_mask(len(rows), p, generator)
            chosen = send(mirrored, images.device).view(-1, *[1] * (x.ndim - 1))
            x = torch.where(chosen, self.features.of(images, mirrored=True)[there], x)
        return Batch(x, images.labels[there], epoch, rows)
