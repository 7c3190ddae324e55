"""The image files of folders, and the kinds of files that are left out."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cnnexp.data.decode import HEIC, HEIF, RAW, SUFFIXES, is_image
from cnnexp.data.folders import Tree, is_ignored, nfc
from cnnexp.errors import UserError
from cnnexp.storage import StorageError
from cnnexp.text import listed, plural

Kinds = Counter[str]  # of files that are no images: {".txt": 3}
SHOWN = 3  # names in a note
KINDS_SHOWN = 6


@dataclass(frozen=True)
class File:
    """An image file. id: its path relative to the tree's root. name: its class and its path within the class.

    group: files of one group stay in one split; "" without groups.
    """

    path: Path
    id: str
    name: str
    part: str
    label: int
    group: str = ""


def image_files(folder: Path) -> tuple[list[Path], Kinds]:
    """Return the images below a folder, sorted by path, and the kinds of all other files.

    Hidden files, and those of file managers, are ignored. Links to folders are followed, to each folder once.
    Raises StorageError for a folder that cannot be listed: its images would be missing without a word.
    """
    found, seen, kinds = list[Path](), set[str](), Kinds()

    def stop(error: OSError) -> None:
        raise StorageError(error.filename or folder, error, "read") from error

    for place, folders, names in os.walk(folder, onerror=stop, followlinks=True):
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
    """Return the images below a folder, sorted, and the kinds of its other files.

    Raises UserError if it has none, or if a folder below it cannot be listed.
    """
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


def left_out(others: Kinds) -> str:
    """Return "3 files left out: 2 .heic: install pillow-heif, 1 .txt"."""
    return f"{plural(others.total(), 'file')} left out: {', '.join(_counts(others))}"
