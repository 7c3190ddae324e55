"""The public archives: found in `root`, or downloaded there, checked and unpacked."""

import ssl
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cnnexp import storage
from cnnexp.data.archive import extract_tar
from cnnexp.data.decode import square
from cnnexp.data.images import Pixels
from cnnexp.data.prepare import Listing
from cnnexp.errors import UserError
from cnnexp.storage import fetch


@dataclass(frozen=True)
class Archive:
    """A public archive. folder: the one that it holds; digest: of the file, as torchvision has it."""

    name: str
    url: str
    digest: str  # see fetch.fetch
    folder: str


IMAGENETTE = Archive(
    "imagenette2-160.tgz",
    "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz",
    "md5:e793b78cc4c9e9a4ccc0c1155377a412",
    "imagenette2-160",
)
CIFAR10 = Archive(
    "cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "md5:c58f30108f718f92721af3b95e74349a",
    "cifar-10-batches-py",
)
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


def find(archive: Archive, root: Path, context: ssl.SSLContext | None = None) -> Path:
    """Return the archive's folder in `root`; unpack the archive if it is not there, and download that if need be.

    context: as for fetch.fetch. Two processes that ask at once end with one folder: the second waits for the first.
    Raises UserError saying where to put the archive if it cannot be had, or that what lies there is another file.
    """
    folder, file = root / archive.folder, root / archive.name
    if folder.is_dir():
        return folder
    storage.make_folder(root)
    try:
        with storage.lock(root / f".{archive.folder}.lock", wait=True):
            if not folder.is_dir():
                _have(archive, file, context)
                extract_tar(file, folder)
    except OSError as error:
        reason = f"{folder} is not there and cannot be downloaded ({error})"
        raise UserError(f"data.root: {reason}; put {archive.url} at {file}") from error
    return folder


def _have(archive: Archive, file: Path, context: ssl.SSLContext | None) -> None:
    """Download an archive unless it is there. Raises UserError if what is there is another file, and leaves that."""
    if not file.exists():
        print(f"{archive.folder}: downloading {archive.url} to {file.parent}", file=sys.stderr)
        return fetch.fetch(archive.url, file, archive.digest, context)
    if (found := fetch.digest_of(file, archive.digest)) != archive.digest:
        mend = f"delete it, or put {archive.url} there"
        raise UserError(f"{file}: is not the archive that is expected (it is {found}, not {archive.digest}); {mend}")
    return None


def cifar10_listing(root: Path, size: int) -> Listing:
    """Read CIFAR-10 from `root`, downloaded there if need be, by torchvision, which checks the MD5 of every file.

    Raises UserError saying where to put the archive if it cannot be had, or that its folder is damaged.
    """
    from torchvision import datasets

    folder = find(CIFAR10, root)
    try:
        train, test = (datasets.CIFAR10(str(root), train=part, download=False) for part in (True, False))
    except (OSError, RuntimeError) as error:
        raise UserError(f"{folder}: is damaged or not CIFAR-10; delete it, and it is unpacked anew") from error
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
