"""The batches of the plain loop, made by its DataLoader without training on them.

Run: python plain_loader.py '{"root": "tree", "size": 64}'      the settings are those of plain.py
"""

import json
import sys
import time
from typing import Any

import torch
from plain import Settings, loaders  # type: ignore[import-not-found]


def main(settings: Settings) -> dict[str, Any]:
    """Go through the training images `epochs` times.

    images_per_second: from the first batch of an epoch to its last; with_start: with the start of the workers.
    """
    torch.manual_seed(settings.seed)
    train, _, _ = loaders(settings, torch.device("cpu"))
    running = starting = 0.0
    seen = counted = 0
    for _ in range(settings.epochs):
        started, first = time.perf_counter(), 0.0
        for images, _ in train:
            seen += len(images)
            if first:
                counted += len(images)
            else:
                first = time.perf_counter()
        running += time.perf_counter() - first
        starting += first - started
    return {"images_per_second": counted / running, "images_per_second_with_start": seen / (running + starting)}


if __name__ == "__main__":
    print(json.dumps(main(Settings(**json.loads(sys.argv[1])))))
