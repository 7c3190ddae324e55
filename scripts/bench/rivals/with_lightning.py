"""The same training with Lightning: a module, a Trainer without logger and checkpoints, the plain loop's data.

Run: python with_lightning.py '{"root": "tree", "size": 64}'      the settings are those of plain.py
"""

from time import perf_counter
from typing import Any

import lightning  # type: ignore[import-not-found,unused-ignore]
import torch
from plain import OPTIMIZERS, Settings, build, loaders, run  # type: ignore[import-not-found]
from torch import nn


class _Classifier(lightning.LightningModule):  # type: ignore[misc,unused-ignore]
    """A network with its loss, its optimiser, the accuracy of its last evaluation, and a clock of training epochs.

    An epoch ends with its last batch. The start of the first epoch's workers counts, as it does with the plain loop.
    """

    def __init__(self, settings: Settings):
        super().__init__()
        self.settings, self.network = settings, build(settings)
        self.right = self.total = self.images = 0
        self.seconds = self.last = 0.0

    def configure_optimizers(self) -> Any:
        learning = [p for p in self.parameters() if p.requires_grad]
        return OPTIMIZERS[self.settings.optimizer](learning, lr=self.settings.lr)

    def training_step(self, batch: Any, number: int) -> Any:
        return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def on_fit_start(self) -> None:
        self.last = perf_counter()

    def on_train_epoch_start(self) -> None:
        self.last = perf_counter() if self.current_epoch else self.last

    def on_train_batch_end(self, outputs: Any, batch: Any, number: int) -> None:
        now = perf_counter()
        self.seconds += now - self.last
        self.last = now
        self.images += len(batch[1])

    def on_validation_epoch_start(self) -> None:
        self.right = self.total = 0

    def validation_step(self, batch: Any, number: int) -> None:
        self.right += int((self.network(batch[0]).argmax(1) == batch[1]).sum())
        self.total += len(batch[1])

    on_test_epoch_start, test_step = on_validation_epoch_start, validation_step


def main(settings: Settings) -> dict[str, Any]:
    """Train, validate after every epoch, test at the end."""
    lightning.seed_everything(settings.seed, verbose=False)
    train, val, test = loaders(settings)
    model = _Classifier(settings)
    quiet = dict.fromkeys(("enable_model_summary", "logger", "enable_checkpointing", "enable_progress_bar"), False)
    precision = "bf16-mixed" if settings.bf16 else "32-true"
    trainer = lightning.Trainer(max_epochs=settings.epochs, precision=precision, num_sanity_val_steps=0, **quiet)
    trainer.fit(model, train, val)
    results = {"train_seconds": model.seconds, "val_accuracy": model.right / model.total}
    trainer.test(model, test, verbose=False)
    results |= {"images_per_second": model.images / model.seconds, "test_accuracy": model.right / model.total}
    return {**results, "versions": f"lightning {lightning.__version__}, torch {torch.__version__}"}


if __name__ == "__main__":
    run(main)
