"""Trees of images that cnnexp and its rivals both read: train/<class>/* and test/<class>/*."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from bench.lab import Lab
from bench.result import NotMeasured

SOURCES = {"imagenette": ("imagenette2-160", "train", "val"), "cifar10": ("cifar10-jpeg", "train", "test")}
MOST_LINKS = 50_000  # ext4 allows 65,000 names of one file


def subset(lab: Lab, source: str, num_train: int, num_test: int) -> Path:
    """Return a stratified subset of real images as a tree of links. Raises NotMeasured if the images are not there."""
    name, *parts = SOURCES[source]
    if lab.data is None:
        raise NotMeasured(f"no data: {name} is looked for in --data")
    if not (lab.data / name / parts[0]).is_dir():
        raise NotMeasured(f"no data: there is no {name} in --data")
    whole = lab.data / name

    def fill(tree: Path) -> None:
        for part, wanted, count in zip(parts, ("train", "test"), (num_train, num_test), strict=True):
            classes = sorted(folder for folder in (whole / part).iterdir() if folder.is_dir())
            for number, folder in enumerate(classes):
                share = count // len(classes) + (number < count % len(classes))
                files = sorted(folder.iterdir())
                chosen = files if share >= len(files) else random.Random(0).sample(files, share)
                (tree / wanted / folder.name).mkdir(parents=True)
                for file in chosen:
                    link(file, tree / wanted / folder.name / file.name)

    return made(lab, f"{source}-{num_train}-{num_test}", fill)


def made(lab: Lab, name: str, fill: Callable[[Path], None]) -> Path:
    """Return a tree of the scratch, filled in if it is not there; one that was cut short is made again."""
    tree = lab.folder("trees") / name
    if not tree.exists():
        unfinished = tree.with_name(f".{name}.part")
        shutil.rmtree(unfinished, ignore_errors=True)
        fill(unfinished)
        unfinished.rename(tree)
    return tree


def link(file: Path, name: Path) -> None:
    """Give a file another name: a hard link, or a symbolic one to another file system."""
    try:
        name.hardlink_to(file.resolve())
    except OSError:
        name.symlink_to(file.resolve())


def shapes(lab: Lab) -> Path:
    """Return the embedded shapes, as cnnexp draws them, saved as PNG."""

    def fill(tree: Path) -> None:
        from PIL import Image

        from cnnexp.config import compose as config
        from cnnexp.training import build

        os.environ["CNNEXP_CACHE"] = str(lab.folder("cache"))
        data = build.build_data(config.resolve(config.compose(["data=shapes"])))
        for part, split in (("train", data.train), ("train", data.val), ("test", data.test)):
            for row, label in zip(split.indices, split.labels, strict=True):
                folder = tree / part / data.classes[label]
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(split.images[row]).save(folder / f"{row:06d}.png")

    return made(lab, "shapes", fill)


def copies(lab: Lab, count: int, side: int, num_test: int = 100) -> Path:
    """Return a tree of `count` training images of side x side pixels, which are names of a few files only."""

    def fill(tree: Path) -> None:
        for part, images in (("train", count), ("test", num_test)):
            for label in range(10):
                folder = tree / part / f"class{label}"
                folder.mkdir(parents=True)
                original = folder
                for number in range(label, images, 10):
                    name = folder / f"{number:07d}.jpg"
                    if number // 10 % MOST_LINKS == 0:
                        original = name
                        draw(name, side, number)
                    else:
                        name.hardlink_to(original)

    return made(lab, f"copies-{count}-{side}", fill)


def draw(file: Path, side: int, seed: int) -> None:
    """Save a small picture of coarse random colours as JPEG."""
    from PIL import Image

    pixels = random.Random(seed).randbytes(3 * 8 * 8)
    Image.frombytes("RGB", (8, 8), pixels).resize((side, side), Image.Resampling.BILINEAR).save(file, quality=85)


def read_by_cnnexp(tree: Path, size: int) -> list[str]:
    """Return the overrides that let cnnexp read a tree."""
    return ["data=folder", f"data.root={tree.parent}", f"data.path={tree.name}", f"data.size={size}"]
