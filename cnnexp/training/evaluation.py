"""Evaluation: the logits of a split from one pass in eval mode, and how stable the classes are under small shifts."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from cnnexp.data.batches import DeviceImages, Normalise, in_order
from cnnexp.data.images import ImageData, Split
from cnnexp.training.device import Device, for_evaluation
from cnnexp.training.features import Features
from cnnexp.training.ranks import ALONE, Ranks


class Evaluation:
    """Evaluates networks on the splits of a data set: no augmentation, no dropout, the split's own order.

    features: if set, training and validation images go through the head alone; test images never do.
    """

    def __init__(
        self,
        data: ImageData,
        device: Device,
        batch_size: int | str,
        train: DeviceImages | None = None,
        ranks: Ranks = ALONE,
        check_stop: Callable[[], None] = lambda: None,
    ):
        """batch_size: images per batch, or "auto": the default of the device. train: `data.train`, if it is loaded.

        ranks: the processes of the run, each of which computes some batches.
        check_stop: called between batches; raises if a signal has asked to stop. It is not called on the validation
        split, because the state is saved right after each validation.
        """
        self.data, self.device, self.ranks, self.check_stop = data, device, ranks, check_stop
        self.batch_size = device.default_eval_batch_size if isinstance(batch_size, str) else batch_size
        self.normalise = Normalise(data.mean, data.std, device.torch, device.layout)
        self.images = {} if train is None else {id(data.train): train}
        self.features: Features | None = None

    def images_of(self, split: Split) -> DeviceImages:
        """Return a split's images on the device, where they stay."""
        if id(split) not in self.images:
            self.images[id(split)] = DeviceImages(split, self.device.torch, self.device.data_on_device)
        return self.images[id(split)]

    def logits(
        self, model: torch.nn.Module, split: Split, ranks: Ranks | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return logits (N, K) and labels (N,) of a split, in its order. ranks: ALONE computes all in each process."""
        ranks = ranks or self.ranks
        starts = ranks.starts(len(split), self.batch_size)
        if self.features is not None and split is not self.data.test:
            images = self.images_of(split)
            inputs, model = self.features.in_order(images, self.batch_size, starts), self.features.head
        else:
            inputs = self._inputs(split, starts)
        ranks.send_buffers(model)
        return logits_of(model, inputs, self.device, len(split), self.batch_size, ranks), split.labels

    def shift_consistency(self, model: torch.nn.Module, logits: NDArray[np.float32], pixels: int) -> float:
        """Return the share of test images that keep their class when moved up, down, left or right by `pixels`.

        logits: (N, K), those of the test images in place.
        """
        test, moves = self.data.test, ((-pixels, 0), (pixels, 0), (0, -pixels), (0, pixels))
        starts, size = self.ranks.starts(len(test), self.batch_size), self.batch_size
        moved = (shifted(self._inputs(test, starts), *move) for move in moves)
        each = (logits_of(model, inputs, self.device, len(test), size, self.ranks) for inputs in moved)
        return consistency(logits, each)

    def _inputs(self, split: Split, starts: Iterable[int]) -> Iterator[Tensor]:
        for batch in in_order(self.images_of(split), self.batch_size, self.normalise, starts):
            if split is not self.data.val:
                self.check_stop()
            yield batch.images


def logits_of(
    model: torch.nn.Module, inputs: Iterable[Tensor], device: Device, count: int, batch_size: int, ranks: Ranks = ALONE
) -> NDArray[np.float32]:
    """Return the logits (N, K) of `count` images in batches of `batch_size`. Leaves the model in eval mode.

    ranks: of several processes, each has the batches that `Ranks.starts` says.
    """
    model.eval()
    with torch.inference_mode(), device.autocast(), for_evaluation(device):
        parts = (model(x) for x in inputs)
        return ranks.gathered(parts, count, batch_size, torch.float32).cpu().numpy()


def shifted(inputs: Iterable[Tensor], down: int, right: int) -> Iterator[Tensor]:
    """Move every image (C, H, W) by whole pixels, up and left if negative; the border is repeated into the gap."""
    top, bottom, left, rest = (max(n, 0) for n in (down, -down, right, -right))
    for x in inputs:
        height, width = x.shape[-2:]
        framed = pad(x, (left, rest, top, bottom), mode="replicate")
        yield framed[..., bottom : bottom + height, rest : rest + width]


def consistency(logits: NDArray[np.float32], others: Iterable[NDArray[np.float32]]) -> float:
    """Return the share of images that keep their class, mean over `others`, each (N, K) as `logits` is.

    After Zhang 2019, "Making Convolutional Networks Shift-Invariant Again", arXiv 1904.11486, section 4. There, two
    random crops of a larger image are compared; here, the image in place with each shifted one.
    """
    classes = logits.argmax(axis=1)
    return float(np.mean([(other.argmax(axis=1) == classes).mean() for other in others]))
