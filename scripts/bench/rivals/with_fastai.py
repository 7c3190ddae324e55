"""The same training with fastai: a DataBlock with its own transforms, a Learner without progress bars.

fastai augments complete batches. Its transforms are the nearest to those of the plain loop, and not the same: its
lighting works on logits, and it draws brightness and contrast from ranges given as `max_lighting`.

Run: python with_fastai.py '{"root": "tree", "size": 64}'      the settings are those of plain.py
"""

from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import fastai  # type: ignore[import-not-found,unused-ignore]
import fastai.vision.all as fv  # type: ignore[import-not-found,unused-ignore]
import torch
from plain import DEVICE, MEAN, OPTIMIZERS, STD, Settings, build, run  # type: ignore[import-not-found]


class _Clock(fv.Callback):  # type: ignore[misc,unused-ignore]
    """The time of the training part of every epoch, and the images seen."""

    seconds, images, started = 0.0, 0, 0.0

    def before_train(self) -> None:
        self.started = perf_counter()

    def after_batch(self) -> None:
        self.images += len(self.y) if self.training else 0

    def after_train(self) -> None:
        self.seconds += perf_counter() - self.started


def data_of(settings: Settings) -> Any:
    """Return the loaders, with the same images held out as in the plain loop."""
    files = fv.L(sorted(fv.get_image_files(Path(settings.root) / "train")))
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0)).tolist()
    item, batch = transforms(settings)
    block = fv.DataBlock(
        blocks=(fv.ImageBlock, fv.CategoryBlock),
        get_items=lambda _: files,
        get_y=fv.parent_label,
        splitter=fv.IndexSplitter(order[: len(files) // 10]),
        item_tfms=item,
        batch_tfms=[*batch, fv.Normalize.from_stats(MEAN, STD)],
    )
    options = {"bs": settings.batch_size, "val_bs": settings.batch_size, "device": DEVICE}
    options |= {"num_workers": settings.workers, "persistent_workers": settings.persistent}
    return block.dataloaders(Path(settings.root), **options)


def transforms(settings: Settings) -> tuple[list[Any], list[Any]]:
    """Return the transforms of single images and of batches that are nearest to those of the plain loop."""
    item: list[Any] = [fv.Resize(settings.size)]
    if settings.augmentation == "crop_full":
        padded = settings.size + 8
        item += [fv.CropPad(padded, pad_mode=fv.PadMode.Zeros), fv.RandomCrop(settings.size)]
    batch: list[Any] = []
    if settings.augmentation != "none":
        batch += [fv.Flip(p=0.5)]
    if settings.augmentation in ("full", "crop_full"):
        batch += [fv.Rotate(max_deg=10, p=1.0, pad_mode=fv.PadMode.Zeros)]
        batch += [fv.Brightness(max_lighting=0.1, p=1.0), fv.Contrast(max_lighting=0.2, p=1.0)]
        batch += [fv.Saturation(max_lighting=0.2, p=1.0)]
    return item, batch


def main(settings: Settings) -> dict[str, Any]:
    """Train, validate after every epoch, test at the end."""
    fv.set_seed(settings.seed)
    data, clock = data_of(settings), _Clock()
    optimizer = partial(fv.OptimWrapper, opt=OPTIMIZERS[settings.optimizer])
    loss = fv.CrossEntropyLossFlat()
    learner = fv.Learner(data, build(settings), loss_func=loss, opt_func=optimizer, metrics=fv.accuracy, cbs=[clock])
    with learner.no_bar(), learner.no_logging():
        learner.fit(settings.epochs, lr=settings.lr)
        val_accuracy = float(learner.recorder.values[-1][-1])
        test = data.test_dl(sorted(fv.get_image_files(Path(settings.root) / "test")), with_labels=True)
        results = {"val_accuracy": val_accuracy, "test_accuracy": float(learner.validate(dl=test)[-1])}
    results |= {"images_per_second": clock.images / clock.seconds, "train_seconds": clock.seconds}
    return {**results, "versions": f"fastai {fastai.__version__}, torch {torch.__version__}"}


if __name__ == "__main__":
    run(main)
