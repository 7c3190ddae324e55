"""The data sources that configs name: each a function from its YAML to ImageData. Imports no torch, and needs none but
to read CIFAR-10.

Parameters that all of them have:
    val_fraction, split_seed   the part of the training images held out for validation, stratified; its own fixed seed
    train_limit, val_limit,    stratified subsets for cheap studies; null takes all
        test_limit
    normalize                  "dataset": mean and std of the training split itself; or {mean: [...], std: [...]}
    cache                      where prepared images lie; null: $CNNEXP_CACHE, $XDG_CACHE_HOME/cnnexp or ~/.cache/cnnexp
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cnnexp.config.signature import Count, Index, Range, Rate
from cnnexp.data import splits
from cnnexp.data.download import CIFAR10, IMAGENETTE, IMAGENETTE_CLASSES, cifar10_listing, find
from cnnexp.data.images import ImageData
from cnnexp.data.prepare import Listing, prepare
from cnnexp.data.shapes import SHAPES, draw_shape
from cnnexp.data.textures import TEXTURES, draw_texture
from cnnexp.data.tree import Reader, read_tree

Side = Annotated[int, Range(low=8, high=1024)]
Normalize = Literal["dataset"] | dict[str, Any]


def shapes(
    num_train: Count,
    num_test: Count,
    size: Side,
    val_fraction: Rate,
    split_seed: Index,
    train_limit: Count | None,
    test_limit: Count | None,
    normalize: Normalize,
    cache: str | None,
    val_limit: Count | None = None,
) -> ImageData:
    """Ten drawn shapes, size x size RGB: embedded, the same on every machine. See data/shapes.py."""
    listing = _drawn(SHAPES, num_train, num_test, size, draw_shape)
    prepared = prepare("shapes", [num_train, num_test, size], cache, lambda: listing)
    return splits.make_splits(prepared, val_fraction, split_seed, train_limit, test_limit, normalize, val_limit)


def textures(
    num_train: Count,
    num_test: Count,
    size: Side,
    val_fraction: Rate,
    split_seed: Index,
    train_limit: Count | None,
    test_limit: Count | None,
    normalize: Normalize,
    cache: str | None,
    val_limit: Count | None = None,
) -> ImageData:
    """Ten drawn textures, size x size RGB: embedded, another task to pretrain on. See data/textures.py."""
    listing = _drawn(TEXTURES, num_train, num_test, size, draw_texture)
    prepared = prepare("textures", [num_train, num_test, size], cache, lambda: listing)
    return splits.make_splits(prepared, val_fraction, split_seed, train_limit, test_limit, normalize, val_limit)


def _drawn(classes: list[str], num_train: int, num_test: int, size: int, draw: Callable[..., Any]) -> Listing:
    """List drawn images: image i of a split is of class i modulo K and depends on (split, i) alone."""
    numbers = [(0, i) for i in range(num_train)] + [(2, i) for i in range(num_test)]
    return Listing(
        classes=classes,
        labels=[i % len(classes) for _, i in numbers],
        parts=[part for part, _ in numbers],
        ids=[f"{'train' if part == 0 else 'test'}/{i:06d}" for part, i in numbers],
        decode=lambda n: draw(numbers[n][1] % len(classes), numbers[n], size),
    )


def imagenette(
    root: str,
    size: Side,
    resize: Literal["crop", "squash"],
    val_fraction: Rate,
    split_seed: Index,
    train_limit: Count | None,
    test_limit: Count | None,
    normalize: Normalize,
    on_corrupt: Literal["error", "skip"],
    cache: str | None,
    val_limit: Count | None = None,
) -> ImageData:
    """Imagenette v2, 160 px, from root/imagenette2-160; downloaded into `root` if it is not there.

    Its 3,925 validation images are the test split, as everywhere; validation is cut from its 9,469 training images.
    """
    tree = find(IMAGENETTE, Path(root).expanduser())
    prepared = read_tree("imagenette", tree, Reader(size, resize, 3, on_corrupt), cache, IMAGENETTE_CLASSES)
    data = splits.make_splits(prepared, val_fraction, split_seed, train_limit, test_limit, normalize, val_limit)
    return replace(data, files=str(tree))


def cifar10(
    root: str,
    size: Side,
    val_fraction: Rate,
    split_seed: Index,
    train_limit: Count | None,
    test_limit: Count | None,
    normalize: Normalize,
    cache: str | None,
    val_limit: Count | None = None,
) -> ImageData:
    """CIFAR-10 from its Python archive in `root`, downloaded there if need be and checked."""
    key = [CIFAR10.name, size]
    prepared = prepare("cifar10", key, cache, lambda: cifar10_listing(Path(root).expanduser(), size))
    return splits.make_splits(prepared, val_fraction, split_seed, train_limit, test_limit, normalize, val_limit)


def folder(
    name: str,
    root: str,
    path: str,
    size: Side,
    resize: Literal["crop", "squash"],
    channels: Literal["auto", 1, 3],
    val_fraction: Rate,
    split_seed: Index,
    train_limit: Count | None,
    test_limit: Count | None,
    normalize: Normalize,
    on_corrupt: Literal["error", "skip"],
    cache: str | None,
    val_limit: Count | None = None,
) -> ImageData:
    """Any tree of class folders: root/path/train/<class>/..., and test/ or val/ or both.

    With test/ and val/ each is used as what it is; with test/ alone validation is cut from train/; with val/ alone
    that is the test split, and validation is cut from train/. See data/decode.py for what happens to odd images.
    """
    tree = Path(root).expanduser() / path
    prepared = read_tree(name, tree, Reader(size, resize, channels, on_corrupt), cache)
    data = splits.make_splits(prepared, val_fraction, split_seed, train_limit, test_limit, normalize, val_limit)
    return replace(data, files=str(tree))


for _source in (shapes, textures, imagenette, cifar10, folder):
    setattr(_source, "check", splits.check)  # noqa: B010 - a function has no such attribute for a type checker
for _source, _archive in ((imagenette, IMAGENETTE), (cifar10, CIFAR10)):
    setattr(_source, "archive", _archive)  # noqa: B010
