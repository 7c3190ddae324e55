"""Trees of class folders: root/train/<class>/..., root/val/<class>/... and root/test/<class>/..."""

import logging
import os
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cnnexp.data.cache import Prepared
from cnnexp.data.decode import SUFFIXES, decode, is_gray
from cnnexp.data.images import PARTS, Pixels
from cnnexp.data.prepare import Listing, prepare
from cnnexp.errors import UserError, one_line


def find_parts(root: Path) -> dict[str, Path]:
    """Return the split folders of a tree. Without test/, its val/ is used as test.

    Raises UserError if `root` is missing or has no train/, or neither val/ nor test/.
    """
    if not root.is_dir():
        raise UserError(f"data.root: {root} is not a folder")
    found = {part: root / part for part in PARTS if (root / part).is_dir()}
    if "train" not in found or len(found) == 1:
        names = ", ".join(sorted(f.name for f in root.iterdir() if f.is_dir())[:5]) or "no folder"
        needs = "train/ and test/ (or val/, then used as test)"
        raise UserError(f"data.root: {root} has {names}; it needs {needs}, each with a folder per class: data.root=DIR")
    if "test" not in found:
        found["test"] = found.pop("val")
    return found


@dataclass(frozen=True)
class File:
    """An image file. id: its path relative to the tree's root. modified: its modification time in ns."""

    path: Path
    id: str
    part: str
    label: int
    bytes: int
    modified: int


def find_images(split: Path, folder: str, part: str, label: int) -> list[File]:
    """Return the images below one class folder of a split, sorted by path.

    Hidden files, and files whose suffix is not in decode.SUFFIXES, are ignored. Links to folders are followed, to each
    folder once. Raises UserError if there are no images.
    """
    files, seen = list[File](), set[str]()
    for place, folders, names in os.walk(split / folder, followlinks=True):
        here = os.path.realpath(place)
        folders[:] = [] if here in seen else [f for f in folders if not f.startswith(".")]
        names = [] if here in seen else names
        seen.add(here)
        for path in (Path(place, n) for n in names if n.lower().endswith(SUFFIXES) and not n.startswith(".")):
            status = path.stat() if path.exists() else path.lstat()  # decoding reports a dangling link
            name = path.relative_to(split.parent).as_posix()
            files.append(File(path, name, part, label, status.st_size, status.st_mtime_ns))
    if not files:
        raise UserError(f"{split / folder}: has no images ({' '.join(SUFFIXES)}); add some, or remove the folder")
    return sorted(files, key=lambda file: file.id)


def find_classes(parts: dict[str, Path]) -> list[str]:
    """Return the sorted names of the class folders. Raises UserError unless all splits have the same ones."""
    names = {
        part: sorted(f.name for f in path.iterdir() if f.is_dir() and f.name[0] != ".") for part, path in parts.items()
    }
    for part, path in parts.items():
        for name in names[part]:
            if not is_text(name):
                raise UserError(f"{path / name}: its name is that of a class and has control characters; rename it")
        if not names[part]:
            raise UserError(f"{path}: has no class folders")
        for one, other in ((part, "train"), ("train", part)):
            extra = sorted(set(names[one]) - set(names[other]))
            if extra:
                raise UserError(f"{parts[other]}: class '{extra[0]}' is missing; it is in {parts[one]}")
    return names["train"]


def is_text(name: str) -> bool:
    """Return whether a name has no control characters, line ends, or bytes that are not UTF-8."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name)


@dataclass(frozen=True)
class Reader:
    """How the files of a tree are decoded: the parameters of `decode`, and whether damaged files are skipped."""

    size: int
    resize: str
    channels: str | int
    on_corrupt: str

    def listing(self, classes: list[str], files: list[File]) -> Listing:
        """List the files to decode. channels "auto" is 1 if every file is stored as grayscale, else 3."""
        gray = self.channels == "auto" and all(is_gray(file.path) for file in files)
        channels = (1 if gray else 3) if self.channels == "auto" else int(self.channels)

        def read(number: int) -> Pixels | None:
            try:
                return decode(files[number].path, self.size, self.resize, channels)
            except UserError as error:
                if self.on_corrupt == "error":
                    raise UserError(f"{error}; data.on_corrupt=skip leaves such images out and counts them") from error
                return None

        parts = [PARTS.index(file.part) for file in files]
        return Listing(classes, [f.label for f in files], parts, [f.id for f in files], read)


def read_tree(
    name: str, root: Path, reader: Reader, cache: str | None, rename: Mapping[str, str] | None = None
) -> Prepared:
    """List, decode and cache a tree of class folders. rename: {folder name: class name}.

    Raises UserError for a root, class or image that cannot be used; see `find_parts`, `find_classes` and `decode`.
    """
    parts = find_parts(root)
    folders = find_classes(parts)
    files = [
        f for part, path in parts.items() for k, name in enumerate(folders) for f in find_images(path, name, part, k)
    ]
    classes = [(rename or {}).get(folder, folder) for folder in folders]
    key = [[(f.part, f.id, f.bytes, f.modified) for f in files], classes, asdict(reader)]
    prepared = prepare(name, key, cache, lambda: reader.listing(classes, files))
    if prepared.skipped:
        first = ", ".join(prepared.skipped[:3]) + (", ..." if len(prepared.skipped) > 3 else "")
        count = f"{len(prepared.skipped)} of {len(files)}"
        message = one_line(f"data: {count} images cannot be read and are left out: {first}")
        logging.getLogger(__name__).warning("%s", message)
    return replace(prepared, files=str(root))
