"""The images of a row, as a tree that cnnexp and its rivals both read: train/<class>/* and test/<class>/*."""

import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from bench.lab import Lab
from bench.process import NotMeasured

REAL = {"imagenette": ("imagenette2-160", "train", "val"), "cifar10": ("cifar10-jpeg", "train", "test")}
EMBEDDED = ("postcards", "textures")
COPIES = ("copies", "photographs")
WIDTH, HEIGHT = 4000, 3000  # of a photograph
MAX_LINKS = 50_000  # ext4 allows 65,000 names of one file


@dataclass(frozen=True)
class Images:
    """Images, `size` pixels wide and high.

    source: imagenette, cifar10 (stratified samples of `train` and `test` images), postcards, textures (drawn), or
    copies (`train` and `test` names of a few drawn images), or photographs (the same, 4000 x 3000 pixels each, whatever
    `size` cnnexp reads them with). A tenth of the drawn training images is held out.
    """

    source: str
    train: int = 0
    test: int = 0
    size: int = 32

    def root(self, lab: Lab) -> Path:
        """Return the folder of the tree."""
        parts = (self.source, self.train, self.size if self.source in COPIES else self.test)
        return lab.work / "trees" / "-".join(str(part) for part in parts if part)

    def words(self, lab: Lab) -> list[str]:
        """Return the overrides with which cnnexp reads the images."""
        if self.source in EMBEDDED:
            counts = [f"data.num_train={self.train}", f"data.num_test={self.test}"]
            return [f"data={self.source}", *counts, f"data.size={self.size}", "data.val_fraction=0.1"]
        root = self.root(lab)
        return ["data=folder", f"data.root={root.parent}", f"data.path={root.name}", f"data.size={self.size}"]

    def make(self, lab: Lab) -> Path:
        """Make the tree if it does not exist, and return it. Raises NotMeasured if the real images are missing."""
        root = self.root(lab)
        if root.exists():
            return root
        unfinished = lab.folder("trees") / f".{root.name}.part"
        shutil.rmtree(unfinished, ignore_errors=True)
        make = self._sample if self.source in REAL else self._save if self.source in EMBEDDED else self._copy
        make(lab, unfinished)
        return unfinished.rename(root)

    def _sample(self, lab: Lab, tree: Path) -> None:
        name, *parts = REAL[self.source]
        if lab.data is None or not (lab.data / name / parts[0]).is_dir():
            raise NotMeasured(f"no data: there is no {name} in --data")
        for part, wanted, count in zip(parts, ("train", "test"), (self.train, self.test), strict=True):
            classes = sorted(folder for folder in (lab.data / name / part).iterdir() if folder.is_dir())
            for number, folder in enumerate(classes):
                share = count // len(classes) + (number < count % len(classes))
                files = sorted(folder.iterdir())
                (tree / wanted / folder.name).mkdir(parents=True)
                for file in random.Random(0).sample(files, min(share, len(files))):
                    link = tree / wanted / folder.name / file.name
                    try:
                        link.hardlink_to(file.resolve())
                    except OSError:  # another file system
                        link.symlink_to(file.resolve())

    def _save(self, lab: Lab, tree: Path) -> None:
        from PIL import Image

        from cnnexp.config import compose
        from cnnexp.training import build

        os.environ["CNNEXP_CACHE"] = str(lab.folder("cache"))
        data = build.build_data(compose.resolve(compose.compose(self.words(lab))))
        for part, split in (("train", data.train), ("train", data.val), ("test", data.test)):
            for index, label in zip(split.indices, split.labels, strict=True):
                folder = tree / part / data.classes[label]
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(split.images[index]).save(folder / f"{index:06d}.png")

    def _copy(self, lab: Lab, tree: Path) -> None:
        from PIL import Image

        for part, number in [("train", n) for n in range(self.train)] + [("test", n) for n in range(self.test)]:
            label, number_in_class = number % 10, number // 10
            first = tree / part / f"class{label}" / f"{number_in_class // MAX_LINKS}.jpg"
            if number_in_class % MAX_LINKS:
                (first.parent / f"{number:07d}.jpg").hardlink_to(first)
            else:
                first.parent.mkdir(parents=True, exist_ok=True)
                large = self.source == "photographs"
                sides, given = ((WIDTH, HEIGHT), (500, 375)) if large else ((self.size, self.size), (8, 8))
                colours = Image.frombytes("RGB", given, random.Random(number).randbytes(3 * given[0] * given[1]))
                colours.resize(sides, Image.Resampling.BILINEAR).save(first, quality=85)
