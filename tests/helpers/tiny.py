"""The smallest run that has everything."""

import re
from collections.abc import Sequence

# 8 px, 40 images to train on (5 steps an epoch), 10 to validate; batch norm, dropout and augmentation switched on.
TINY = [
    *("data=postcards", "data.num_train=50", "data.num_test=20", "data.size=8", "data.val_fraction=0.2"),
    "model.blocks=[{conv:{out:4,kernel:3}},{pool:{kernel:2}},{fc:{out:8}}]",
    *("model.norm=batch", "model.dropout.pool=0.2", "model.dropout.fc=0.2", "augmentation=crop"),
    *("epochs=3ep", "batch_size=8", "scheduler=constant", "device=cpu", "device.threads=1"),
]

# The tiny run with these: its loss is not finite in the second epoch.
DIVERGE = ("scheduler=step", "scheduler.every=1ep", "scheduler.gamma=1e30", "optimizer=sgd", "model.norm=none")


def with_tiny(tiny: list[str], more: Sequence[str]) -> list[str]:
    """Return the overrides of the tiny run and more; what they say of a group goes if another one is chosen."""
    chosen = {word.partition("=")[0] for word in more} & {"data", "model", "device", "scheduler"}
    return [*(word for word in tiny if re.split(r"[.=]", word)[0] not in chosen), *more]
