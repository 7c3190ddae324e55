"""Photographs without cnnexp: a pass of ImageFolder over them, or a script that predicts their classes.

Run: python photographs.py '{"root": "tree", "size": 160, "predict": true}'
root: a tree of train/<class>/*. Prints one line of JSON: images_per_second, with the start of the workers.
"""

import json
import sys
from pathlib import Path
from time import perf_counter

import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms as t
from torchvision.datasets import ImageFolder

BATCH = 64


def main(root: str, size: int, predict: bool = False, seed: int = 0) -> dict[str, float]:
    """Decode all photographs, and on request predict their classes. seed: unused, every rival gets one."""
    transform = t.Compose([t.Resize(size), t.CenterCrop(size), t.ToTensor()])
    started = perf_counter()
    if predict:
        count = named(sorted(Path(root, "train").rglob("*.jpg")), transform)
    else:
        count = sum(len(x) for x, _ in DataLoader(ImageFolder(f"{root}/train", transform), BATCH, num_workers=2))
    return {"images_per_second": count / (perf_counter() - started)}


@torch.inference_mode()
def named(files: list[Path], transform: t.Compose) -> int:
    """Predict the classes of files, a batch after another, and write them; return how many there are."""
    model = torchvision.models.resnet18(num_classes=10).eval()
    for first in range(0, len(files), BATCH):
        paths = files[first : first + BATCH]
        images = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
        for path, (likeliest, classes) in zip(paths, zip(*model(images).softmax(1).topk(3), strict=True), strict=True):
            print(path, classes.tolist(), likeliest.tolist(), file=sys.stderr)
    return len(files)


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
