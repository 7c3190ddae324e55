"""Public data sets that torchvision downloads and reads: its classes say where they are and what their splits are."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from cnnexp import storage
from cnnexp.config.sizes import Size
from cnnexp.data.decode import decode, raise_if_transient
from cnnexp.data.images import PARTS, Pixels
from cnnexp.data.pixels import fit, flatten
from cnnexp.data.prepare import Listing
from cnnexp.data.splits import validation
from cnnexp.errors import UserError, one_line, reason_of
from cnnexp.storage import fetch

BY_TRAIN = {"train": {"train": True}, "test": {"train": False}}
BY_SPLIT = {"train": {"split": "train"}, "test": {"split": "test"}}
TEST_FRACTION = 0.2  # of a set without a test split


@dataclass(frozen=True)
class PublicSet:
    """A class of torchvision.datasets. size: of its images, or the usual one if they differ.

    files: patterns of what is read, below the root. archives: what the download leaves beside them. parts: {part:
    arguments of the class}.
    """

    size: int
    files: tuple[str, ...]
    archives: tuple[str, ...] = ()
    channels: int = 3
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: BY_SPLIT)


SETS = {
    "MNIST": PublicSet(28, ("MNIST/raw/*-ubyte",), channels=1, parts=BY_TRAIN),
    "FashionMNIST": PublicSet(28, ("FashionMNIST/raw/*-ubyte",), channels=1, parts=BY_TRAIN),
    "CIFAR100": PublicSet(32, ("cifar-100-python/*",), ("cifar-100-python.tar.gz",), parts=BY_TRAIN),
    "SVHN": PublicSet(32, ("train_32x32.mat", "test_32x32.mat")),
    "STL10": PublicSet(96, ("stl10_binary/t*.bin", "stl10_binary/class_names.txt"), ("stl10_binary.tar.gz",)),
    "Flowers102": PublicSet(
        64, ("flowers-102/*.mat", "flowers-102/jpg/*"), parts={**BY_SPLIT, "val": {"split": "val"}}
    ),
    "Food101": PublicSet(64, ("food-101/meta/*.json", "food-101/images/*/*"), ("food-101.tar.gz",)),
    "OxfordIIITPet": PublicSet(
        64,
        ("oxford-iiit-pet/annotations/*.txt", "oxford-iiit-pet/images/*"),
        parts={"train": {"split": "trainval"}, "test": {"split": "test"}},
    ),
    "EuroSAT": PublicSet(64, ("eurosat/2750/*/*",), parts={"train": {}}),
}


def files_of(name: str, root: Path) -> list[Path]:
    """Return the files of a set in `root`, sorted, after downloading them if there are none.

    Raises UserError in one line if they cannot be downloaded; what the attempt has made is deleted then.
    """
    if found := _present(name, root):
        return found
    tops = {Path(pattern).parts[0] for pattern in SETS[name].files} | set(SETS[name].archives)
    before = {top for top in tops if (root / top).exists()}
    try:
        with fetch.reserved(root, name):
            if not _present(name, root):
                try:
                    _datasets(name, root, download=True)
                except BaseException:
                    for top in tops - before:
                        storage.remove(root / top)
                    raise
    except (OSError, RuntimeError) as error:
        reason = reason_of(error)[:300]
        fix = f"type data.root=DIR, where torchvision has put {Path(SETS[name].files[0]).parts[0]}"
        raise UserError(f"data.root: {name} is not in {root} and cannot be downloaded ({reason}); {fix}") from error
    return _present(name, root)


def _present(name: str, root: Path) -> list[Path]:
    found = (path for pattern in SETS[name].files for path in _matching(root, Path(pattern).parts))
    return sorted(path for path in found if path.is_file())


def _matching(folder: Path, pattern: Sequence[str]) -> list[Path]:
    """Return the paths below a folder that match a pattern's parts. Raises StorageError if a folder cannot be listed.

    Path.glob would leave out what is in such a folder.
    """
    with storage.reading(folder):
        inside = list(folder.iterdir()) if folder.is_dir() else []
    found = [path for path in inside if fnmatch(path.name, pattern[0])]
    return [below for path in found for below in _matching(path, pattern[1:])] if pattern[1:] else found


def _datasets(name: str, root: Path, download: bool = False) -> dict[str, Any]:
    """Return torchvision's data set of each part. What it prints while downloading is not shown."""
    from torchvision import datasets

    of = getattr(datasets, name)
    with contextlib.redirect_stdout(io.StringIO()):
        return {part: of(str(root), download=download, **given) for part, given in SETS[name].parts.items()}


def public_listing(name: str, root: Path, size: Size, resize: str) -> Listing:
    """List a set's images, as torchvision reads them. Raises UserError if it cannot, naming the folder."""
    try:
        parts = _datasets(name, root)
    except Exception as error:  # of many kinds, by the format
        raise_if_transient(root, error)
        reason = one_line(error)[:200] or type(error).__name__
        raise UserError(f"{root}: its {name} is damaged or incomplete ({reason}); delete it to load it anew") from error
    ordered = [(part, dataset, _files(dataset)) for part in PARTS if (dataset := parts.get(part)) is not None]
    places = [(dataset, files, i) for _, dataset, files in ordered for i in range(len(dataset))]
    labels = [int(label) for _, dataset, _ in ordered for label in _labels(dataset)]
    numbers = [PARTS.index(part) for part, dataset, _ in ordered for _ in range(len(dataset))]
    classes = [str(title) for title in getattr(ordered[0][1], "classes", None) or range(max(labels) + 1)]
    if "test" not in parts:
        drawn = validation(np.array(labels, np.int64), TEST_FRACTION, len(classes), 0, "test_fraction")
        numbers = np.where(drawn, PARTS.index("test"), PARTS.index("train")).tolist()

    def read(number: int) -> Pixels:
        dataset, files, index = places[number]
        channels = SETS[name].channels
        if files is not None:
            return decode(files[index], size, resize, channels)
        image = fit(flatten(dataset[index][0], "L" if channels == 1 else "RGB"), size, resize)
        return np.asarray(image).reshape(image.height, image.width, channels)

    ids = [
        f"{part}/{i:06d}" if files is None else files[i].relative_to(root).as_posix()
        for part, dataset, files in ordered
        for i in range(len(dataset))
    ]
    return Listing(classes, labels, numbers, ids, read)


def _labels(dataset: Any) -> Any:
    return next(found for key in ("targets", "labels", "_labels") if (found := getattr(dataset, key, None)) is not None)


def _files(dataset: Any) -> list[Path] | None:
    """Return the paths of a data set's images; None if they are in arrays."""
    samples = getattr(dataset, "samples", None)
    found = [path for path, _ in samples] if samples is not None else None
    for key in ("_image_files", "_images"):
        found = found or getattr(dataset, key, None)
    return None if found is None else [Path(path) for path in found]
