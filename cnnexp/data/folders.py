"""Which folders of a tree are its splits and classes: root/train/<class>/... beside test/ or val/, or root/<class>/...

Names are compared as people read them: in Unicode's composed form (NFC), and those of splits in lower case.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnexp import storage
from cnnexp.data.decode import SUFFIXES
from cnnexp.data.images import PARTS
from cnnexp.errors import UserError
from cnnexp.text import listed, plural

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
FILL = r"[\W_]*(data)?sets?$|[\W_]+(data|images|imgs|split)$"  # training_set, testset, val-images
MISNAMED = ("eval", "evaluation", "holdout")  # folders that are meant as splits, and not read as such
WORDS = {**SPLITS, **dict.fromkeys(("trn", "trainval"), "train"), "tst": "test", **dict.fromkeys(MISNAMED, "val")}
NEW_WORD = r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])"  # between the words of XTrainImages
NO_IMAGES = ("@eadir", "__macosx", "$recycle.bin", "#recycle", "lost+found", "thumbs.db", "desktop.ini", "icon\r")
SHOWN = 5  # names in a message


@dataclass(frozen=True)
class Tree:
    """The folders of a tree. flat: it has class folders only, and its test split is drawn from them.

    parts: {"train", "val" or "test": its folder}. folders: the class folders of each part, by class. notes: sentences
    about what is not read.
    """

    parts: dict[str, Path]
    flat: bool
    classes: list[str]
    folders: dict[str, dict[str, Path]]
    notes: list[str]

    @property
    def val_as_test(self) -> dict[str, str]:
        """Return what messages call train, val and test if val/ is used as test, such as {"val": "valid/"}; else {}."""
        test = self.parts.get("test")
        if test is None or split_of(test.name) != "val":
            return {}
        return {"train": f"{self.parts['train'].name}/", "val": f"{test.name}/", "test": "test/"}


def find_tree(root: Path) -> Tree:
    """Find the splits and classes of a tree. Without test/, its val/ is used as test.

    Raises UserError if `root` is missing, has no train/ beside a test/ or val/ and no class folders, has class folders
    that are named like splits (x_train, x_test), two folders of one name, one class only, or a class that train/ has
    not.
    """
    if not root.is_dir():
        raise UserError(f"data.root: {root} is not a folder; type data.root=DIR, where your images are")
    parts = _find_parts(root)
    flat = not parts
    parts = parts or {"train": root}
    folders = {part: _named(path, subfolders(path)) for part, path in parts.items()}
    notes = _of_classes(root, folders["train"]) if flat else _not_read(root, parts)
    notes += [note for path in dict.fromkeys([root, *parts.values()]) if (note := _loose_images(path))]
    return Tree(parts, flat, _classes(parts, folders), folders, notes)


def nfc(name: str) -> str:
    """Return a name in Unicode's composed form: "e" with a combining accent becomes one letter."""
    return unicodedata.normalize("NFC", name)


def split_of(name: str) -> str | None:
    """Return the split that a folder's name stands for: "train" for Training_Set; None for another name."""
    return SPLITS.get(re.sub(FILL, "", name.lower()))


def split_within(name: str) -> str | None:
    """Return the split that the first such word of a folder's name stands for: "train" for seg_train and train2017."""
    words = re.findall(r"[^\W\d_]+", re.sub(NEW_WORD, " ", nfc(name)))
    return next((WORDS[word.lower()] for word in words if word.lower() in WORDS), None)


def is_ignored(name: str) -> bool:
    """Return whether a file or folder is hidden, or one that file managers and archives add."""
    return name.startswith(".") or name.lower() in NO_IMAGES


def subfolders(path: Path) -> list[Path]:
    """Return the folders in a folder, sorted by name, without those that file managers add.

    Raises StorageError if the folder cannot be listed.
    """
    with storage.reading(path):
        found = [folder for folder in path.iterdir() if not is_ignored(folder.name) and folder.is_dir()]
    return sorted(found, key=lambda folder: (nfc(folder.name), folder.name))


def _find_parts(root: Path) -> dict[str, Path]:
    """Return {part: folder} of a tree with splits, {} of a flat one."""
    found = dict[str, Path]()
    folders = subfolders(root)
    for folder in folders:
        part = split_of(folder.name)
        if part in found:
            raise UserError(f"{root}: {found[part].name}/ and {folder.name}/ both name the {part} split; keep one")
        if part:
            found[part] = folder
    if "train" in found and len(found) > 1:
        if "test" not in found:
            found["test"] = found.pop("val")
        return {part: found[part] for part in PARTS if part in found}
    names = [folder.name for folder in folders]
    if len(found) == 1 and len(folders) > 2 and not any(map(subfolders, found.values())):
        found = {}  # a class that is called so, as a train among vehicles
    if found or any(name.lower() in MISNAMED for name in names) or len(names) < 2:
        needs = "train/ and test/ (or val/, then used as test), each with a folder per class"
        inside = [f"{folder.name}/ holds {_listed(held)}" for folder in folders[:1] if (held := subfolders(folder))]
        hint = f" ({inside[0]}: data.path={names[0]} reads that folder)" if len(names) == 1 and inside else ""
        flat = "or two or more class folders, of which data.test_fraction is the test split"
        raise UserError(f"data.root: {root} has {_listed(folders)}{hint}; it needs {needs}, {flat}: data.root=DIR")
    return {}


def _listed(folders: list[Path]) -> str:
    return listed([folder.name for folder in folders], SHOWN) or "no folder"


def _named(path: Path, folders: list[Path]) -> dict[str, Path]:
    """Return {class: folder}. Raises UserError for two equal names, and for one that cannot be shown."""
    found = dict[str, Path]()
    for folder in folders:
        if not is_text(folder.name):
            raise UserError(f"{folder}: its name is that of a class and has control characters; rename it")
        if nfc(folder.name) in found:
            spelt = "two folders look alike, with accents stored in two ways (Unicode NFC and NFD)"
            raise UserError(f"{path}: '{folder.name}' is there twice: {spelt}; move the images into one of them")
        found[nfc(folder.name)] = folder
    return found


def _classes(parts: dict[str, Path], folders: dict[str, dict[str, Path]]) -> list[str]:
    """Return the sorted classes: those of train/. Raises UserError if there are fewer than two, or others in a part."""
    classes, train = sorted(folders["train"]), parts["train"]
    if not classes:
        raise UserError(f"{train}: has no class folders")
    for part, path in parts.items():
        if extra := sorted(folders[part].keys() - set(classes)):
            raise UserError(f"{train}: class '{extra[0]}' is missing; it is in {path}")
    if len(classes) == 1:
        inside = subfolders(folders["train"][classes[0]])
        fix = f"; {classes[0]}/ holds the folders {_listed(inside)}: move them up, into {train}" if inside else ""
        raise UserError(f"{train}: has one class, '{classes[0]}'; at least two are needed{fix}")
    return classes


def alike(classes: Sequence[str]) -> list[str]:
    """Return a note for each two classes whose names differ only in capitals, spaces, hyphens or underscores."""
    notes, seen = list[str](), dict[str, str]()
    for name in classes:
        first = seen.setdefault(re.sub(r"[\s_-]+", "", name.casefold()), name)
        if first != name and any(map(str.isalpha, name)):
            notes.append(f"the classes '{first}' and '{name}' are named nearly alike; rename one if they are the same")
    return notes


def is_text(name: str) -> bool:
    """Return whether a name has no control characters, line ends, or bytes that are not UTF-8."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name)


def _of_classes(root: Path, classes: dict[str, Path]) -> list[str]:
    """Return notes on a flat tree that may be meant otherwise. Raises UserError if splits are the classes, or in them.

    Folders are splits if their names have words of two splits or more, and they are half of all or hold folders: a
    class may be called test_tube, and another one bullet_train.
    """
    named = {name: path for name, path in classes.items() if split_within(name)}
    half = 2 * len(named) >= len(classes)
    if len(set(map(split_within, named))) > 1 and (half or all(map(subfolders, named.values()))):
        raise UserError(
            f"data.root: {root} has {_listed(list(named.values()))}, which are named like splits, not like classes; "
            "rename them train/, val/, test/, each with the class folders directly in it (not train/train/CLASS), or "
            "leave these words out of the names of classes, "
            "or list the images in a table with a column split: data=csv data.file=FILE"
        )
    inside = [{folder.name for folder in subfolders(path)} for path in classes.values()]
    notes = [f"{name}/ is read as a class: it has no class folders" for name in classes if split_of(name)]
    if len(inside) < 2 or not inside[0] or any(names != inside[0] for names in inside):
        return notes
    each = f"each folder in {root} holds the folders {', '.join(sorted(inside[0])[:SHOWN])}"
    if len(inside[0]) > 1 and all(map(split_of, inside[0])):
        raise UserError(f"data.root: {each}; splits come first: {root}/train/CLASS, {root}/test/CLASS")
    return [*notes, f"{each}: {_listed(list(classes.values()))} are read as the classes"]


def _not_read(root: Path, parts: dict[str, Path]) -> list[str]:
    others = [folder for folder in subfolders(root) if folder not in parts.values()]
    read = ", ".join(f"{path.name}/" for path in parts.values())
    names = listed([f"{folder.name}/" for folder in others], SHOWN)
    return [f"in {root}, {names} {'is' if len(others) == 1 else 'are'} not read; {read} are"] if others else []


def _loose_images(path: Path) -> str:
    with storage.reading(path):
        names = [f for f in path.iterdir() if f.name.lower().endswith(SUFFIXES) and not is_ignored(f.name)]
        found = [f for f in names if f.is_file()]
    return f"not read, because in no class folder: {plural(len(found), 'image')} directly in {path}" if found else ""
