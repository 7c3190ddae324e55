"""The data sources that configs name: each a function from its YAML to ImageData. Only CIFAR-10 imports torch.

A source is written as a function that prepares images; `@with_splits` adds the parameters that all sources share:
val_fraction, split_seed, train_limit, val_limit, test_limit, folds, fold and normalize (see splits.make_splits). One
that divides its images itself takes `**splitting`: all of these but normalize. cache is the folder of prepared images;
None: $CNNEXP_CACHE, $XDG_CACHE_HOME/cnnexp or ~/.cache/cnnexp.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cnnexp.config import signature
from cnnexp.config.signature import Count, Range
from cnnexp.config.sizes import Size, height_width
from cnnexp.data import splits
from cnnexp.data.cache import Prepared
from cnnexp.data.cut import Cut
from cnnexp.data.digests import States, check_unchanged, content_digest
from cnnexp.data.download import CIFAR10, CIFAR10_CLASSES, IMAGENETTE, IMAGENETTE_CLASSES, cifar10_listing, find
from cnnexp.data.folders import find_tree
from cnnexp.data.groups import check_pattern
from cnnexp.data.labels_file import classes_of, read_table
from cnnexp.data.pixels import stretched
from cnnexp.data.postcards import POSTCARDS, draw_postcard
from cnnexp.data.prepare import Listing, prepare
from cnnexp.data.public import SETS, files_of, public_listing
from cnnexp.data.splits import with_splits
from cnnexp.data.textures import TEXTURES, draw_texture
from cnnexp.data.tree import Reader, read_files, read_tree
from cnnexp.errors import UserError

Resize = Literal["crop", "squash"]
OnCorrupt = Literal["error", "skip"]
Channels = Literal["auto", 1, 3]
Bits = Annotated[int, Range(low=8, high=31)] | None
TestFraction = Annotated[float, Range(above=0, below=1)]
PublicName = Literal[
    "MNIST", "FashionMNIST", "CIFAR100", "SVHN", "STL10", "Flowers102", "Food101", "OxfordIIITPet", "EuroSAT"
]  # fmt: skip


@with_splits
def postcards(num_train: Count, num_test: Count, size: Size, cache: str | None) -> Prepared:
    """Ten kinds of drawn postcards, RGB of one size: drawn by the package, the same on every machine.

    See data/postcards.py.
    """
    listing = _drawn(POSTCARDS, num_train, num_test, size, draw_postcard)
    return prepare("postcards", [num_train, num_test, size], cache, lambda: listing)


@with_splits
def textures(num_train: Count, num_test: Count, size: Size, cache: str | None) -> Prepared:
    """Ten drawn textures, RGB of one size: drawn by the package, a task to pretrain on. See data/textures.py."""
    listing = _drawn(TEXTURES, num_train, num_test, size, draw_texture)
    return prepare("textures", [num_train, num_test, size], cache, lambda: listing)


def _drawn(classes: list[str], num_train: int, num_test: int, size: Size, draw: Callable[..., Any]) -> Listing:
    """List drawn images: image i of a split is of class i modulo K and depends on (split, i) alone.

    They are drawn square; of another shape, the drawing is stretched.
    """
    side = max(height_width(size) or (0,))
    numbers = [(0, i) for i in range(num_train)] + [(2, i) for i in range(num_test)]
    return Listing(
        classes=classes,
        labels=[i % len(classes) for _, i in numbers],
        parts=[part for part, _ in numbers],
        ids=[f"{'train' if part == 0 else 'test'}/{i:06d}" for part, i in numbers],
        decode=lambda n: stretched(draw(numbers[n][1] % len(classes), numbers[n], side), size),
    )


@with_splits
def imagenette(
    root: str, size: Size, resize: Resize, on_corrupt: OnCorrupt, cache: str | None, **splitting: Any
) -> Prepared:
    """Imagenette v2, 160 px, from root/imagenette2-160; downloaded into `root` if it is not there.

    Its 3,925 validation images are the test split, as is usual; validation is drawn from its 9,469 training images.
    """
    tree = find(IMAGENETTE, Path(root))
    reader, cut = Reader(size, resize, 3, on_corrupt), Cut(0.0, **splitting)
    return read_tree("imagenette", tree, reader, cut, cache, IMAGENETTE_CLASSES)


@with_splits
def cifar10(root: str, size: Size, cache: str | None) -> Prepared:
    """CIFAR-10 from its Python archive in `root`, downloaded into `root` if it is not there, and checked."""
    return prepare("cifar10", [CIFAR10.name, size], cache, lambda: cifar10_listing(Path(root), size))


@with_splits
def public_set(name: PublicName, root: str, size: Size | None, resize: Resize, cache: str | None) -> Prepared:
    """Read a public data set with torchvision, from `root`, downloaded there if it is not; its splits are its own.

    size: null is that of its images, or 64 if they have many. resize: of other images.
    """
    place, size = Path(root), size or SETS[name].size
    reader = Reader(size, resize, SETS[name].channels, "error")
    states = States()
    key = [content_digest(files_of(name, place), cache, states), reader.key()]
    check = partial(check_unchanged, states)
    prepared = prepare(name, key, cache, lambda: replace(public_listing(name, place, size, resize), check=check))
    return replace(prepared, files=root if (place / str(prepared.ids[0])).is_file() else None)


@with_splits
def table(
    name: str,
    file: str,
    columns: dict[str, str | None],
    root: str | None,
    size: Size,
    resize: Resize,
    channels: Channels,
    bits: Bits,
    on_corrupt: OnCorrupt,
    test_fraction: TestFraction,
    cache: str | None,
    **splitting: Any,
) -> Prepared:
    """Read images that a CSV file lists by path and label, and by split if it has that column; else as a flat folder.

    file: the table. columns: the names of its columns for path, label, split and group; images of one group stay in one
    split. root: the folder that its paths start from; null: that of the table. See data/labels_file.py.
    """
    cut, place = Cut(test_fraction, **splitting), Path(file).parent if root is None else Path(root)
    found = read_table(Path(file), columns, place, on_corrupt == "skip")
    return read_files(name, found, Reader(size, resize, channels, on_corrupt, bits), cut, cache)


@with_splits
def folder(
    name: str,
    root: str,
    path: str,
    size: Size,
    resize: Resize,
    channels: Channels,
    bits: Bits,
    on_corrupt: OnCorrupt,
    test_fraction: TestFraction,
    cache: str | None,
    group: str | None,
    **splitting: Any,
) -> Prepared:
    """Read any tree of class folders: root/path/train/<class>/... and test/ or val/ or both, or root/path/<class>/...

    With test/ and val/, each is used under its own name. With test/ alone, validation is drawn from train/. With val/
    alone, val/ is the test split and validation is drawn from train/. Of a flat tree, test_fraction of the images are
    the test split, or the fold is. Images of one group stay in one split: "folder", of the folder below the class, or
    a regular expression that finds the group in their paths. data/decode.py says how unusual images are read.
    """
    cut = Cut(test_fraction, **splitting)
    return read_tree(name, _tree(root, path), Reader(size, resize, channels, on_corrupt, bits), cut, cache, None, group)


def _tree(root: str, path: str) -> Path:
    tree = Path(root) / path
    if not tree.is_dir() and Path(root).is_dir():
        here = Path(root).resolve()
        hint = f"data.root={here.parent}" if here.name == path else "data.root=DIR, the folder that holds it"
        raise UserError(f"data.root: {root} has no folder {path}; type {hint}")
    return tree


def _check_table(where: str, node: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    splits.check(where, node, config)
    signature.check(f"{where}.columns", node["columns"], _columns, inner=True)


def _columns(path: str, label: str, split: str | None, group: str | None) -> None:
    """State the schema of `columns`."""


def _check_folder(where: str, node: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    splits.check(where, node, config)
    check_pattern(f"{where}.group", node.get("group"))


vars(table)["check"], vars(folder)["check"] = _check_table, _check_folder
vars(public_set)["image"] = lambda node: {"size": SETS[node["name"]].size, "channels": SETS[node["name"]].channels}
# Of a source: what it downloads into its root, and a function from its settings to its classes, which prepares nothing.
for _source, _place, _classes in (
    (textures, None, lambda _: TEXTURES),
    (postcards, None, lambda _: POSTCARDS),
    (imagenette, lambda _: IMAGENETTE.folder, lambda _: list(IMAGENETTE_CLASSES.values())),
    (cifar10, lambda _: CIFAR10.folder, lambda _: CIFAR10_CLASSES),
    (public_set, lambda node: Path(SETS[node["name"]].files[0]).parts[0], None),
    (table, None, lambda node: classes_of(Path(node["file"]), node["columns"])),
    (folder, None, lambda node: find_tree(_tree(node["root"], node["path"])).classes),
):
    vars(_source).update({"classes": _classes} | ({"place": _place} if _place else {}))
