"""Time the augmentations on batches of 128 random images of 64 px, with one thread, in ms: median and range.

Run: python scripts/augmentation_cost.py
"""

import statistics
import time

import torch
import yaml

from cnnexp.config.words import folder
from cnnexp.data.augment import pipeline

REPEATS = 7


def main() -> None:
    """Print a line for every file of configs/augmentation."""
    torch.set_num_threads(1)
    images = torch.rand(128, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for file in sorted((folder() / "augmentation").glob("*.yaml")):
        augment, times = pipeline(yaml.safe_load(file.read_text())["ops"]), []
        for repeat in range(REPEATS + 1):
            batch, generator = images.clone(), torch.Generator().manual_seed(repeat)
            started = time.perf_counter()
            augment(batch, generator)
            times.append(1000 * (time.perf_counter() - started))
        middle = statistics.median(times[1:])  # the first call imports
        print(f"{file.stem:18} {middle:6.1f} ({min(times[1:]):.1f} to {max(times[1:]):.1f})")


if __name__ == "__main__":
    main()
