"""Public archives: found in `root`, or downloaded there, checked and unpacked."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnexp.config.sizes import Size
from cnnexp.data.archive import extract_tar
from cnnexp.data.images import Pixels
from cnnexp.data.pixels import stretched
from cnnexp.data.prepare import Listing
from cnnexp.errors import UserError
from cnnexp.storage import fetch


@dataclass(frozen=True)
class Archive:
    """A public archive. folder: its one top folder. digest: of the file, in the form that fetch.fetch takes."""

    name: str
    url: str
    digest: str
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
CIFAR10_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
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
    """Return the archive's folder in `root`, after unpacking, and if necessary downloading, the archive.

    context: as for fetch.fetch. Of two processes at once, the second waits for the first and uses its folder. Raises
    UserError if the archive cannot be downloaded, saying where to put it, if the file there is another one, or if
    `root` is the archive's folder.
    """
    folder, file = root / archive.folder, root / archive.name
    if folder.is_dir():
        return folder
    if root.name == archive.folder and root.is_dir():
        raise UserError(f"data.root: {root} is {archive.folder} itself; type data.root={root.resolve().parent}")
    try:
        with fetch.reserved(root, archive.folder):
            if not folder.is_dir():
                fetch.provide(archive.url, file, archive.digest, context)
                extract_tar(file, folder)
    except OSError as error:
        reason = f"{folder} is not there and cannot be downloaded ({error})"
        raise UserError(f"data.root: {reason}; put {archive.url} at {file}") from error
    return folder


def cifar10_listing(root: Path, size: Size) -> Listing:
    """List CIFAR-10 in `root` (see `find`), read by torchvision, which checks the MD5 of every file.

    size: images are scaled to it if that is not 32. Raises UserError as `find` does, and for a damaged folder.
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
        return stretched(np.asarray(images[number]), size)

    return Listing(
        classes=list(train.classes),
        labels=[*train.targets, *test.targets],
        parts=[0] * counts[0] + [2] * counts[1],
        ids=[f"{part}/{i:05d}" for part, count in zip(("train", "test"), counts, strict=True) for i in range(count)],
        decode=read,
    )
