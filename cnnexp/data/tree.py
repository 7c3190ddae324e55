"""Trees of class folders, read into prepared images; folders.py says which folders are splits and classes."""

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import __version__ as pillow_version
from PIL import features

from cnnexp.config.sizes import Size
from cnnexp.data.cache import Prepared
from cnnexp.data.cut import LEFT_OUT, TEST, TRAIN, Cut, Parts, assign, keep_together
from cnnexp.data.decode import HEIC, HEIF, RAW, SUFFIXES, decode, is_gray, is_image
from cnnexp.data.digests import content_digest
from cnnexp.data.folders import Tree, alike, find_tree, is_ignored, nfc
from cnnexp.data.images import PARTS, Integers, Pixels, find_copies
from cnnexp.data.prepare import Listing, prepare
from cnnexp.errors import UserError, one_line
from cnnexp.storage import StorageError
from cnnexp.text import listed, plural

Kinds = Counter[str]  # of files that are no images: {".txt": 3}
SHOWN = 3  # names in a note
KINDS_SHOWN = 6


@dataclass(frozen=True)
class File:
    """An image file. id: its path relative to the tree's root. name: its class and its path within the class."""

    path: Path
    id: str
    name: str
    part: str
    label: int


def image_files(folder: Path) -> tuple[list[Path], Kinds]:
    """Return the images below a folder, sorted by path, and the kinds of all other files.

    Hidden files, and those of file managers, are ignored. Links to folders are followed, to each folder once.
    """
    found, seen, kinds = list[Path](), set[str](), Kinds()
    for place, folders, names in os.walk(folder, followlinks=True):
        here = os.path.realpath(place)
        folders[:] = [] if here in seen else [f for f in folders if not is_ignored(f)]
        names = [] if here in seen else names
        seen.add(here)
        for path in (Path(place, name) for name in names if not is_ignored(name)):
            if is_image(path):
                found.append(path)
            else:
                kinds[path.suffix.lower() or "without suffix"] += 1
    return sorted(found, key=lambda path: (nfc(path.as_posix()), path)), kinds


def find_images(folder: Path) -> tuple[list[Path], Kinds]:
    """Return the images below a folder, sorted, and the kinds of its other files. Raises UserError if it has none."""
    found, kinds = image_files(folder)
    if not found:
        raise UserError(
            f"{folder}: has no images ({' '.join(SUFFIXES)}){_others(kinds)}; add some, or remove the folder"
        )
    return found, kinds


def _others(kinds: Kinds) -> str:
    return f", but {', '.join(_counts(kinds))}" if kinds else ""


def _counts(kinds: Kinds) -> list[str]:
    """Return "2 .heic: install pillow-heif", "40 .txt", the most frequent first."""
    fixes = dict.fromkeys(HEIC, ": install pillow-heif") if not HEIF else {}
    fixes |= dict.fromkeys(RAW, ": convert these camera files to JPEG")
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    kept = [f"{count:,} {kind}{fixes.get(kind, '')}" for kind, count in ordered[:KINDS_SHOWN]]
    return kept + [plural(len(kinds) - KINDS_SHOWN, "other kind")] * (len(kinds) > KINDS_SHOWN)


def list_files(root: Path, tree: Tree) -> tuple[list[File], Kinds, list[str]]:
    """Return the images of a tree, part by part and class by class, the kinds of other files, and notes.

    Raises UserError if a class has no training images, or a part no images.
    """
    files, others, notes = list[File](), Kinds(), list[str]()
    for part, place in tree.parts.items():
        empty = []
        for label, title in enumerate(tree.classes):
            folder = tree.folders[part].get(title)
            found, kinds = image_files(folder) if folder else ([], Kinds())
            others += kinds
            if not found:
                empty.append(title)
                if part == "train" and folder:
                    find_images(folder)  # says so
            for path in found:
                inside = nfc(path.relative_to(folder or root).as_posix())
                files.append(File(path, path.relative_to(root).as_posix(), f"{title}/{inside}", part, label))
        if len(empty) == len(tree.classes):
            raise UserError(f"{place}: has no images in any class folder")
        if empty:
            notes.append(
                f"no image in {place.name}/ of {listed(empty, SHOWN)}: the network is trained on these, not tested"
            )
    return files, others, notes


@dataclass(frozen=True)
class Reader:
    """How the files of a tree are decoded: the parameters of `decode`, and whether damaged files are skipped.

    deep: the largest values of images with more than 8 bits, in the order of their decoding.
    """

    size: Size
    resize: str
    channels: str | int
    on_corrupt: str
    bits: int | None = None
    deep: list[int] = field(default_factory=list, compare=False)

    def key(self) -> dict[str, object]:
        """Return what determines the pixels of a file, beside its content."""
        libraries = [pillow_version, features.version("libjpeg_turbo"), features.version("webp"), list(HEIF)]
        return {**asdict(replace(self, deep=[])), "libraries": libraries}

    def listing(self, classes: list[str], files: list[File]) -> Listing:
        """List the files to decode. channels "auto" is 1 if every file is stored as grayscale, else 3."""
        gray = self.channels == "auto" and all(is_gray(file.path) for file in files)
        channels = (1 if gray else 3) if self.channels == "auto" else int(self.channels)
        self.deep.clear()

        def read(number: int) -> Pixels | None:
            try:
                return decode(files[number].path, self.size, self.resize, channels, self.bits, self.deep.append)
            except StorageError:  # the image is not damaged
                raise
            except UserError as error:
                if self.on_corrupt == "error":
                    raise UserError(f"{error}; data.on_corrupt=skip leaves such images out and counts them") from error
                return None

        parts = [PARTS.index(file.part) for file in files]
        return Listing(classes, [f.label for f in files], parts, [f.id for f in files], read, self._notes)

    def _notes(self) -> list[str]:
        """Warn of images that look black, because fewer than their 16 bits are used."""
        largest = max(self.deep, default=1 << 15)
        if self.bits or largest >= 1 << 15:
            return []
        images = f"{plural(len(self.deep), 'image')} with 16 bits or more {'has' if len(self.deep) == 1 else 'have'}"
        fix = f"if 12 bits are meant, say data.bits=12 (the smallest possible is {max(8, largest.bit_length())})"
        return [f"{images} no value above {largest:,} of 65,535, and come out dark: {fix}"]


@dataclass(frozen=True)
class Found:
    """Images and their classes, before they are divided. flat: the test split is drawn, because none is given.

    notes: what is not read, and of which classes a part has no image. others: the kinds of files that are no images.
    """

    root: Path
    classes: list[str]
    files: list[File]
    flat: bool
    notes: list[str] = field(default_factory=list)
    others: Kinds = field(default_factory=Kinds)


def read_tree(
    name: str, root: Path, reader: Reader, cut: Cut, cache: str | None, rename: Mapping[str, str] | None = None
) -> Prepared:
    """List, divide, decode and cache a tree of class folders. rename: {folder name: class name}.

    Raises UserError for a root, class or image that cannot be used; see `find_tree`, `list_files` and `read_files`.
    """
    tree = find_tree(root)
    files, others, notes = list_files(root, tree)
    classes = [(rename or {}).get(folder, folder) for folder in tree.classes]
    return read_files(name, Found(root, classes, files, tree.flat, [*tree.notes, *notes], others), reader, cut, cache)


def read_files(name: str, found: Found, reader: Reader, cut: Cut, cache: str | None) -> Prepared:
    """Divide, decode and cache images. Files that a limit leaves out are neither read nor decoded, except with folds.

    Which files those are depends on the fold, and the prepared images are those of all folds.
    Raises UserError for a class or image that cannot be used; see `decode`.
    """
    files, classes, root, notes = found.files, found.classes, found.root, list[str]()
    cut = cut if found.flat else replace(cut, test_fraction=0.0)
    labels = np.array([file.label for file in files], np.int64)
    parts = np.array([PARTS.index(file.part) for file in files], np.uint8)
    assigned = assign([file.name for file in files], labels, parts, cut, len(classes))
    if not cut.folds:
        files = [file for file, part in zip(files, assigned, strict=True) if part != LEFT_OUT]
        assigned = assigned[assigned != LEFT_OUT]

    content = content_digest([file.path for file in files], cache)
    key = [content, [(file.part, file.id) for file in files], classes, reader.key()]
    prepared = prepare(name, key, cache, lambda: reader.listing(classes, files))

    kept = ~np.isin([file.id for file in files], prepared.skipped)
    assigned, movable = assigned[kept], prepared.parts != TEST if cut.folds else prepared.parts == TRAIN
    names = [file.name for file, is_kept in zip(files, kept, strict=True) if is_kept]
    used = assigned != LEFT_OUT
    copies = find_copies(prepared.images, prepared.sums, np.flatnonzero(used))
    together = assigned.copy()
    moved = keep_together(together, movable, copies, names)
    if moved and not _missing(classes, prepared.labels, together):
        assigned = together
        notes.append(f"{plural(moved, 'image')} moved to another split, where an equal image is: copies stay together")
    odd = [str(prepared.ids[i]) for group in copies if len(set(prepared.labels[group].tolist())) > 1 for i in group]
    if odd:
        notes.append(f"{len(odd)} images equal one of another class: {listed(odd, SHOWN)}; keep each in one class")
    if missing := _missing(classes, prepared.labels, assigned):
        raise UserError(f"data: {name}: {missing}")
    tested = set(prepared.labels[assigned == TEST])
    if absent := [title for label, title in enumerate(classes) if found.flat and label not in tested]:
        notes.append(
            f"no image in the test split of {listed(absent, SHOWN)}: the network is trained on these, not tested"
        )
    elif found.flat and (
        uneven := _uneven(
            prepared.labels[used], assigned[used] == TEST, 1 / cut.folds if cut.folds else cut.test_fraction
        )
    ):
        notes.append(uneven)
    notes = [
        *found.notes,
        *alike(classes),
        *_left_out(prepared.skipped, found.others, len(files)),
        *notes,
        *prepared.notes,
    ]
    for note in notes:
        logging.getLogger(__name__).warning("%s", one_line(f"data: {note}"))
    pairs = [(int(label), title) for label, title in zip(prepared.labels, names, strict=True)] if cut.folds else None
    drawn = _drawn_by_names(pairs, assigned, prepared.parts, found.flat)
    return replace(prepared, files=str(root), assigned=assigned, notes=notes, drawn=drawn)


def _drawn_by_names(
    folds_of: list[tuple[int, str]] | None, assigned: Parts, parts: Parts, flat: bool
) -> dict[str, str]:
    """Return `ImageData.drawn`. folds_of: label and name of each image, from which all folds are cut; None without."""
    if folds_of is None and np.array_equal(assigned, parts):
        return {}
    content = assigned.tobytes() if folds_of is None else json.dumps(folds_of).encode()
    return {"split" if flat else "validation": hashlib.blake2b(content, digest_size=16).hexdigest()}


def _uneven(labels: Integers, tested: NDArray[np.bool_], share: float) -> str:
    """Say so if a class has far fewer test images than its share, or far more; "" if not."""
    counts, images = np.bincount(labels[tested]), np.bincount(labels)
    due = share * images[: len(counts)]
    if not ((counts <= np.minimum(due / 2, due - 2)) | (counts >= np.maximum(2 * due, due + 3))).any():
        return ""
    return (
        f"of a class, {counts.min()} to {counts.max()} images are for the test: drawn by their names, so that no file "
        "moves another; data.split_seed=1 draws others, folders train/ and test/ are a split of your own"
    )


def _missing(classes: list[str], labels: Iterable[int], assigned: Iterable[int]) -> str:
    """Return which class has no training image, or that there is no test image; "" if neither is so."""
    found = set(zip(assigned, labels, strict=True))
    without = [title for label, title in enumerate(classes) if (TRAIN, label) not in found]
    if without:
        return f"class '{without[0]}' has no image left for training"
    return "" if any(part == TEST for part, _ in found) else "no image is left for the test split"


def left_out(others: Kinds) -> str:
    """Return "3 files left out: 2 .heic: install pillow-heif, 1 .txt"."""
    return f"{plural(others.total(), 'file')} left out: {', '.join(_counts(others))}"


def _left_out(skipped: list[str], others: Kinds, total: int) -> list[str]:
    """Describe the files that are left out, counted by kind."""
    sentences = []
    if skipped:
        verb = "is" if len(skipped) == 1 else "are"
        sentences.append(
            f"{len(skipped)} of {total} images cannot be read and {verb} left out: {listed(skipped, SHOWN)}"
        )
    if others:
        sentences.append(left_out(others))
    return sentences
