"""The public archives: found in `root`, or downloaded there. The only part of the data room that needs torchvision."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnexp import storage
from cnnexp.data.decode import square
from cnnexp.data.images import Pixels
from cnnexp.data.prepare import Listing
from cnnexp.errors import UserError

IMAGENETTE_URL = "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz"
IMAGENETTE_MD5 = "e793b78cc4c9e9a4ccc0c1155377a412"  # as in torchvision.datasets.Imagenette
IMAGENETTE_CLASSES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
CIFAR10_ARCHIVE = "cifar-10-python.tar.gz"


def find_imagenette(root: Path) -> Path:
    """Return root/imagenette2-160; unpack root/imagenette2-160.tgz if it is not there, and download that if need be.

    Raises UserError saying where to put the archive if it cannot be had, or is damaged.
    """
    folder, archive = root / "imagenette2-160", root / "imagenette2-160.tgz"
    if folder.is_dir():
        return folder
    storage.make_folder(root)
    with storage.lock(root / ".imagenette2-160.lock", wait=True):
        if not folder.is_dir():
            from torchvision.datasets.utils import download_url

            if not archive.exists():
                print(f"imagenette: downloading {IMAGENETTE_URL} (99 MB) to {root}", file=sys.stderr)
            try:
                download_url(IMAGENETTE_URL, str(root), archive.name, IMAGENETTE_MD5)
            except (OSError, RuntimeError) as error:
                raise _unreachable(folder, IMAGENETTE_URL, archive, error) from error
            storage.extract_tar(archive, folder)
    return folder


def cifar10_listing(root: Path, size: int) -> Listing:
    """Read CIFAR-10 from `root`, by torchvision, which checks the files and downloads the archive if need be.

    Raises UserError saying where to put the archive if it cannot be had, or is damaged.
    """
    from torchvision.datasets import CIFAR10

    storage.make_folder(root)
    try:
        with storage.lock(root / ".cifar-10.lock", wait=True):
            if not any(root.glob("cifar-10-*")):  # the archive, or what is in it
                print(f"cifar10: downloading its archive (170 MB) to {root}", file=sys.stderr)
            train, test = (CIFAR10(str(root), train=part, download=True) for part in (True, False))
    except (OSError, RuntimeError) as error:
        raise _unreachable(root / CIFAR10.base_folder, CIFAR10.url, root / CIFAR10_ARCHIVE, error) from error
    images = np.concatenate([train.data, test.data])
    counts = len(train.data), len(test.data)

    def read(number: int) -> Pixels:
        if size == images.shape[1]:
            return np.asarray(images[number])
        return np.asarray(square(Image.fromarray(images[number]), size, "squash"))

    return Listing(
        classes=list(train.classes),
        labels=[*train.targets, *test.targets],
        parts=[0] * counts[0] + [2] * counts[1],
        ids=[f"{part}/{i:05d}" for part, count in zip(("train", "test"), counts, strict=True) for i in range(count)],
        decode=read,
    )


def _unreachable(folder: Path, url: str, archive: Path, error: Any) -> UserError:
    reason = str(getattr(error, "reason", error)).strip() or type(error).__name__
    return UserError(f"data.root: {folder} is not there and cannot be downloaded ({reason}); put {url} at {archive}")
