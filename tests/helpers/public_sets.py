"""Small public data sets, drawn in the format of each: what torchvision reads."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
from image_folders import picture
from scipy.io import savemat

COUNTS = {"train": 20, "val": 4, "test": 6}  # images of a part


def pixels(part: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(len(part)).integers(0, 256, shape, np.uint8)


def _idx(file: Path, array: np.ndarray) -> None:
    """Write MNIST's format: 0, 0, 8 for uint8, the number of dimensions, each as 4 bytes, then the numbers."""
    file.parent.mkdir(parents=True, exist_ok=True)
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    file.write_bytes(head + array.astype(np.uint8).tobytes())


def mnist(root: Path, name: str = "MNIST") -> None:
    for part, word in (("train", "train"), ("test", "t10k")):
        count = COUNTS[part]
        _idx(root / name / "raw" / f"{word}-images-idx3-ubyte", pixels(part, (count, 28, 28)))
        _idx(root / name / "raw" / f"{word}-labels-idx1-ubyte", np.arange(count) % 10)


def cifar100(root: Path) -> None:
    (root / "cifar-100-python").mkdir(parents=True)
    for part in ("train", "test"):
        content = {"data": pixels(part, (COUNTS[part], 3072)), "fine_labels": [i % 3 for i in range(COUNTS[part])]}
        (root / "cifar-100-python" / part).write_bytes(pickle.dumps(content))
    (root / "cifar-100-python" / "meta").write_bytes(pickle.dumps({"fine_label_names": ["apple", "bee", "can"]}))


def svhn(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        labels = np.arange(COUNTS[part]) % 10 + 1  # 10 stands for the digit 0
        savemat(root / f"{part}_32x32.mat", {"X": pixels(part, (32, 32, 3, COUNTS[part])), "y": labels[:, None]})


def stl10(root: Path) -> None:
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    for part in ("train", "test"):
        (folder / f"{part}_X.bin").write_bytes(pixels(part, (COUNTS[part], 3, 96, 96)).tobytes())
        (folder / f"{part}_y.bin").write_bytes((np.arange(COUNTS[part], dtype=np.uint8) % 3 + 1).tobytes())
    (folder / "unlabeled_X.bin").write_bytes(b"")
    (folder / "class_names.txt").write_text("airplane\nbird\ncar\n")


def flowers102(root: Path) -> None:
    folder, total = root / "flowers-102", sum(COUNTS.values())
    (folder / "jpg").mkdir(parents=True)
    for i in range(1, total + 1):
        picture(i, size=(40, 30)).save(folder / "jpg" / f"image_{i:05d}.jpg")
    ids = np.split(np.arange(1, total + 1), [COUNTS["train"], COUNTS["train"] + COUNTS["val"]])
    savemat(folder / "setid.mat", dict(zip(("trnid", "valid", "tstid"), ids, strict=True)))
    savemat(folder / "imagelabels.mat", {"labels": np.arange(total) % 102 + 1})


def food101(root: Path) -> None:
    folder, titles = root / "food-101", ["apple_pie", "waffles"]
    (folder / "meta").mkdir(parents=True)
    for part in ("train", "test"):
        listed = {t: [f"{t}/{part}{i}" for i in range(COUNTS[part] // 2)] for t in titles}
        (folder / "meta" / f"{part}.json").write_text(json.dumps(listed))
        for name in (name for names in listed.values() for name in names):
            (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            picture(len(name), size=(40, 30)).save(folder / "images" / f"{name}.jpg")


def pets(root: Path) -> None:
    folder = root / "oxford-iiit-pet"
    for place in ("images", "annotations"):
        (folder / place).mkdir(parents=True)
    for part, word in (("train", "trainval"), ("test", "test")):
        names = [(f"{('Abyssinian', 'basset_hound')[i % 2]}_{part}{i}", i % 2) for i in range(COUNTS[part])]
        lines = [f"{name} {label + 1} {label + 1} 1" for name, label in names]
        (folder / "annotations" / f"{word}.txt").write_text("\n".join(lines) + "\n")
        for name, label in names:
            picture(label, size=(40, 30)).save(folder / "images" / f"{name}.jpg")


def eurosat(root: Path) -> None:
    for k, title in enumerate(("Forest", "River")):
        folder = root / "eurosat" / "2750" / title
        folder.mkdir(parents=True)
        for i in range(15):
            picture(100 * k + i, size=(64, 64)).save(folder / f"{title}_{i}.jpg")


DRAWN: dict[str, Callable[[Path], None]] = {
    "MNIST": mnist,
    "FashionMNIST": lambda root: mnist(root, "FashionMNIST"),
    "CIFAR100": cifar100,
    "SVHN": svhn,
    "STL10": stl10,
    "Flowers102": flowers102,
    "Food101": food101,
    "OxfordIIITPet": pets,
    "EuroSAT": eurosat,
}
