"""The same training with Lightning: a module, a Trainer without logger and checkpoints, the plain loop's data.

Run: python with_lightning.py '{"root": "tree", "size": 64}'      the settings are those of plain.py
"""

import json
import logging
import sys
import time
import warnings
from dataclasses import asdict
from typing import Any

import lightning  # type: ignore[import-not-found,unused-ignore]
import torch
from plain import Settings, build, loaders  # type: ignore[import-not-found]
from torch import Tensor, nn


class Classifier(lightning.LightningModule):  # type: ignore[misc,unused-ignore]
    """A network with its loss, its optimiser and the accuracy of its last evaluation."""

    def __init__(self, settings: Settings):
        super().__init__()
        self.settings, self.network = settings, build(settings)
        self.right = self.total = 0

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        """Return the loss of a batch."""
        return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def on_validation_epoch_start(self) -> None:
        """Count anew."""
        self.right = self.total = 0

    def validation_step(self, batch: tuple[Tensor, Tensor], number: int) -> None:
        """Count the right answers."""
        self.right += int((self.network(batch[0]).argmax(1) == batch[1]).sum())
        self.total += len(batch[1])

    on_test_epoch_start, test_step = on_validation_epoch_start, validation_step

    def configure_optimizers(self) -> Any:
        """Return the optimiser of what learns."""
        kinds: dict[str, Any] = {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad}
        return kinds[self.settings.optimizer]([p for p in self.parameters() if p.requires_grad], lr=self.settings.lr)


class Clock(lightning.Callback):  # type: ignore[misc,unused-ignore]
    """The time of the training part of every epoch, up to its last batch, and the images seen.

    The workers of the first epoch are started before it; they are counted, as they are with the plain loop.
    """

    def __init__(self) -> None:
        self.seconds, self.images, self.last = 0.0, 0, 0.0

    def on_fit_start(self, *_: Any) -> None:
        """Start the clock of the first epoch."""
        self.last = time.perf_counter()

    def on_train_epoch_start(self, trainer: Any, *_: Any) -> None:
        """Start the clock of a later epoch."""
        if trainer.current_epoch:
            self.last = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, number: int) -> None:
        """Add what passed since the last batch."""
        now = time.perf_counter()
        self.seconds += now - self.last
        self.last = now
        self.images += len(batch[1])


def main(settings: Settings) -> dict[str, Any]:
    """Train, validate after every epoch, test at the end."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    started = time.perf_counter()
    lightning.seed_everything(settings.seed, verbose=False)
    train, val, test = loaders(settings, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    model, clock = Classifier(settings), Clock()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_epochs=settings.epochs,
        precision="bf16-mixed" if settings.bf16 else "32-true",
        callbacks=[clock],
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **quiet,
    )
    trainer.fit(model, train, val)
    val_accuracy = model.right / model.total
    trainer.test(model, test, verbose=False)
    return {
        "images_per_second": clock.images / clock.seconds,
        "train_seconds": clock.seconds,
        "val_accuracy": val_accuracy,
        "test_accuracy": model.right / model.total,
        "seconds": time.perf_counter() - started,
        "settings": asdict(settings),
        "versions": {"lightning": lightning.__version__, "torch": torch.__version__},
    }


if __name__ == "__main__":
    print(json.dumps(main(Settings(**json.loads(sys.argv[1])))))
