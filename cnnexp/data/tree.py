"""Trees of class folders, read into prepared images; folders.py says which folders are splits and classes."""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import __version__ as pillow_version
from PIL import features

from cnnexp.config.sizes import Size
from cnnexp.data.cache import Prepared
from cnnexp.data.cut import LEFT_OUT, TEST, TRAIN, Cut, Parts, assign, keep_together
from cnnexp.data.decode import HEIF, decode, is_gray
from cnnexp.data.digests import States, check_unchanged, content_digest
from cnnexp.data.folders import alike, find_tree
from cnnexp.data.groups import group_of, joined, numbered
from cnnexp.data.image_files import SHOWN, File, Kinds, left_out, list_files
from cnnexp.data.images import PARTS, Integers, Pixels, find_copies
from cnnexp.data.outdated import names_digest, note_source
from cnnexp.data.prepare import Listing, prepare
from cnnexp.data.splits import val_as_test, without_effect
from cnnexp.errors import UserError, one_line
from cnnexp.storage import StorageError
from cnnexp.text import listed, plural


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
    is_tree: these are all images below `root`. val_as_test: if val is used as test, what messages call train, val and
    test, such as {"val": "val/"}; else {}.
    """

    root: Path
    classes: list[str]
    files: list[File]
    flat: bool
    notes: list[str] = field(default_factory=list)
    others: Kinds = field(default_factory=Kinds)
    is_tree: bool = False
    val_as_test: Mapping[str, str] = field(default_factory=dict)


def read_tree(
    name: str,
    root: Path,
    reader: Reader,
    cut: Cut,
    cache: str | None,
    rename: Mapping[str, str] | None = None,
    group: str | None = None,
) -> Prepared:
    """List, divide, decode and cache a tree of class folders. rename: {folder name: class name}. group: see `group_of`.

    Raises UserError for a root, class or image that cannot be used; see `find_tree`, `list_files` and `read_files`.
    """
    tree = find_tree(root)
    files, others, notes = list_files(root, tree)
    if group is not None:
        files = [replace(file, group=group_of(group, file.name)) for file in files]
    classes = [(rename or {}).get(folder, folder) for folder in tree.classes]
    found = Found(root, classes, files, tree.flat, [*tree.notes, *notes], others, True, tree.val_as_test)
    return read_files(name, found, reader, cut, cache)


def read_files(name: str, found: Found, reader: Reader, cut: Cut, cache: str | None) -> Prepared:
    """Divide, decode and cache images. Files that a limit leaves out are neither read nor decoded, except with folds.

    Which files those are depends on the fold, and the prepared images are those of all folds.
    Raises UserError for a class or image that cannot be used; see `decode`.
    """
    files, classes, root = found.files, found.classes, found.root
    own = _of_own_splits(found, cut)
    cut = cut if found.flat else replace(cut, test_fraction=0.0)
    labels = np.array([file.label for file in files], np.int64)
    parts = np.array([PARTS.index(file.part) for file in files], np.uint8)
    groups = [file.group for file in files] if any(file.group for file in files) else None
    assigned = assign([file.name for file in files], labels, parts, cut, len(classes), groups)
    if not cut.folds:
        files = [file for file, part in zip(files, assigned, strict=True) if part != LEFT_OUT]
        assigned = assigned[assigned != LEFT_OUT]

    states = States()
    content = content_digest([file.path for file in files], cache, states)
    key = [content, [(file.part, file.id) for file in files], classes, reader.key()]
    check = partial(check_unchanged, states)
    prepared = prepare(name, key, cache, lambda: replace(reader.listing(classes, files), check=check))

    kept = ~np.isin([file.id for file in files], prepared.skipped)
    total, files = len(files), [file for file, is_kept in zip(files, kept, strict=True) if is_kept]
    of_kept = content if len(files) == total else content_digest([file.path for file in files], cache)
    note_source(prepared, root, of_kept, names_digest(file.id for file in found.files) if found.is_tree else None)
    assigned, notes = _with_copies(prepared, files, assigned[kept], classes, cut)
    if missing := _missing(classes, prepared.labels, assigned):
        hint = "; a class needs images of two groups or more" if groups else ""
        raise UserError(f"data: {name}: {missing}{hint}")
    notes += _of_test(found, classes, prepared.labels, assigned, cut, groups is not None) if found.flat else []
    notes += _of_groups(files, assigned) if groups else []
    others = _left_out(prepared.skipped, found.others, total)
    notes = [*found.notes, *own, *alike(classes), *others, *notes, *prepared.notes]
    for note in notes:
        logging.getLogger(__name__).warning("%s", one_line(f"data: {note}"))
    drawn = _drawn_by_names(files if cut.folds else None, assigned, prepared.parts, found.flat)
    return replace(prepared, files=str(root), assigned=assigned, notes=notes, drawn=drawn)


def _of_own_splits(found: Found, cut: Cut) -> list[str]:
    """Say if val is used as test, and which fractions, other than the defaults, are not used: splits are given."""
    notes, names = list[str](), found.val_as_test
    if names and cut.test_fraction:  # 0: the source has no such setting, and its val is known to be the test split
        drawn = cut.folds is not None or cut.val_fraction > 0
        notes.append(val_as_test(**names, drawn=drawn))
    if not found.flat and cut.test_fraction:
        why = f"{names['val']} is used as test" if names else ""
        notes += without_effect("test_fraction", cut.test_fraction, "test", why)
    if cut.folds is None and any(file.part == "val" for file in found.files):
        notes += without_effect("val_fraction", cut.val_fraction, "validation")
    return notes


def _with_copies(
    prepared: Prepared, files: list[File], assigned: Parts, classes: list[str], cut: Cut
) -> tuple[Parts, list[str]]:
    """Move equal images, with their groups, into one split, if each class keeps a training image; return also notes."""
    movable = prepared.parts != TEST if cut.folds else prepared.parts == TRAIN
    copies = find_copies(prepared.images, prepared.sums, np.flatnonzero(assigned != LEFT_OUT))
    sets, notes, found = copies, list[str](), assigned
    if copies and any(file.group for file in files):
        movable = movable & (assigned != LEFT_OUT)
        sets = joined(copies, numbered([file.group for file in files])[1])
    for preferred in (None, TEST):  # into the test split, if it would have no image left
        together = assigned.copy()
        moved = keep_together(together, movable, sets, [file.name for file in files], preferred)
        if moved and not _missing(classes, prepared.labels, together):
            found = together
            where = "moved to another split, where an equal image is: copies stay together"
            notes.append(f"{plural(moved, 'image')} {where}")
            break
    odd = [str(prepared.ids[i]) for same in copies if len(set(prepared.labels[same].tolist())) > 1 for i in same]
    if odd:
        notes.append(f"{len(odd)} images equal one of another class: {listed(odd, SHOWN)}; keep each in one class")
    return found, notes


def _of_test(found: Found, classes: list[str], labels: Integers, assigned: Parts, cut: Cut, grouped: bool) -> list[str]:
    """Say which classes have no image in a test split that was drawn, or far fewer or more than their share."""
    tested, used = assigned == TEST, assigned != LEFT_OUT
    if absent := [title for label, title in enumerate(classes) if label not in set(labels[tested])]:
        shown = listed(absent, SHOWN)
        return [f"no image in the test split of {shown}: the network is trained on these, not tested"]
    if not _is_uneven(labels[used], tested[used], 1 / cut.folds if cut.folds else cut.test_fraction):
        return []
    counts = np.bincount(labels[tested])
    drawn = "in complete groups" if grouped else "by their names, so that no file moves another"
    own = "folders train/ and test/ are" if found.is_tree else "a column split with train and test is"
    return [
        f"of a class, {counts.min()} to {counts.max()} images are for the test: drawn {drawn}; data.split_seed=1 draws "
        f"others, {own} a split of your own"
    ]


def _of_groups(files: list[File], assigned: Parts) -> list[str]:
    """Say how many groups each split has, and which groups are in more than one."""
    found = [{file.group for file, part in zip(files, assigned, strict=True) if part == p} for p in range(len(PARTS))]
    train, val, test = map(len, found)
    groups = plural(len(set().union(*found)), "group")
    notes = [f"{groups} of images: {train} for training, {val} for validation, {test} for the test"]
    if split := sorted((found[0] & found[1]) | (found[0] & found[2]) | (found[1] & found[2])):
        verb = "is" if len(split) == 1 else "are"
        notes.append(f"group {listed(split, SHOWN)} {verb} in more than one split; keep all images of a group in one")
    return notes


def _drawn_by_names(folds_of: list[File] | None, assigned: Parts, parts: Parts, flat: bool) -> dict[str, str]:
    """Return `ImageData.drawn`. folds_of: the files from which all folds are cut; None without folds."""
    if folds_of is None and np.array_equal(assigned, parts):
        return {}
    named = [(file.label, file.name, *([file.group] if file.group else [])) for file in folds_of or []]
    content = assigned.tobytes() if folds_of is None else json.dumps(named).encode()
    return {"split" if flat else "validation": hashlib.blake2b(content, digest_size=16).hexdigest()}


def _is_uneven(labels: Integers, tested: NDArray[np.bool_], share: float) -> bool:
    """Tell whether a class has far fewer test images than its share, or far more."""
    counts, images = np.bincount(labels[tested]), np.bincount(labels)
    due = share * images[: len(counts)]
    return bool(((counts <= np.minimum(due / 2, due - 2)) | (counts >= np.maximum(2 * due, due + 3))).any())


def _missing(classes: list[str], labels: Iterable[int], assigned: Iterable[int]) -> str:
    """Return which class has no training image, or that there is no test image; "" if neither is so."""
    found = set(zip(assigned, labels, strict=True))
    without = [title for label, title in enumerate(classes) if (TRAIN, label) not in found]
    if without:
        return f"class '{without[0]}' has no image left for training"
    return "" if any(part == TEST for part, _ in found) else "no image is left for the test split"


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
