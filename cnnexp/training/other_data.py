"""Data for a trained model: its own with some settings changed, or other data; with its classes and normalisation."""

import logging
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnexp.config import checks
from cnnexp.config import compose as configs
from cnnexp.config.sizes import as_size
from cnnexp.data.images import ImageData, Split
from cnnexp.errors import UserError, did_you_mean
from cnnexp.text import at_home, plural, visible
from cnnexp.training import build
from cnnexp.training.allowed import check_targets, confined_data

if TYPE_CHECKING:
    from cnnexp.training.inference import TrainedModel


def data_of(model: "TrainedModel", overrides: list[str], allow: list[str]) -> ImageData:
    """Build the run's data with some settings changed, or other data in the size and channels of the run's images.

    Raises UserError for an override that is not of the data, and for data that is missing or of another shape.
    """
    if wrong := [o for o in overrides if not o.startswith(("data=", "data."))]:
        raise UserError(f"{wrong[0]}: allowed: data=NAME and data.KEY=VALUE; all else is the run's own")
    typed = {o.partition("=")[0] for o in overrides}
    if "data" in typed:
        node = configs.resolve(configs.compose(overrides))["data"]
        channels, *sides = model.transform.image
        transform = model.transform
        shape = {"size": as_size(*sides), "resize": transform.resize, "channels": channels, "bits": transform.bits}
        node.update({k: v for k, v in shape.items() if k in node and f"data.{k}" not in typed})
    else:
        node = dict(model.config["data"])
        _change(node, overrides)
        check_targets("data", node, allow)
        node = confined_data(node, typed, allow)
    checks.check_node("data", node, {**model.config, "data": node})
    classes_of = getattr(checks.target("data", node), "classes", None)
    if classes_of:  # before anything is prepared
        match_classes(model.classes, classes_of(node), node.get("name", "it"))
    data = build.build_data({"data": node})
    if data.image != model.transform.image:
        given, wanted = ("x".join(map(str, shape)) for shape in (data.image, model.transform.image))
        raise UserError(f"data: {data.name} has images of {given} (C x H x W); the run's network takes {wanted}")
    return data


def own_data_of(model: "TrainedModel", places: list[str], allow: list[str]) -> ImageData | None:
    """Return the data that a model was trained on, from `places`, or else from its recorded place; None if unreadable.

    places: overrides of data.root, data.file and data.cache. If it has changed at both places, the recorded one is
    used; `is_recorded` tells. Its notes are not logged: the user may have asked for other data.
    """
    cache = [o for o in places if o.startswith("data.cache=")]
    found = list[ImageData]()
    for typed in [places] * (places != cache) + [cache]:
        with _without_notes(), suppress(Exception):  # of any kind, by a user's own code
            data = data_of(model, typed, allow)
            if is_recorded(model, data):
                return data
            found.append(data)
    return found[-1] if found else None


def is_recorded(model: "TrainedModel", data: ImageData) -> bool:
    """Tell whether data has the images, the labels and the draw of test and validation that a run recorded."""
    before: dict[str, Any] = model.record.info.get("data") or {}
    return all(before.get(key) == value for key, value in {"fingerprint": data.fingerprint, **data.drawn}.items())


@contextmanager
def _without_notes() -> Iterator[None]:
    logger = logging.getLogger("cnnexp.data")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _change(node: dict[str, Any], overrides: list[str]) -> None:
    """Change settings of `node` that exist, data.KEY=VALUE and data.KEY.SUB=VALUE. Raises UserError for others."""
    for override in configs.parse(overrides):
        *outer, key = override.key_or_group.removeprefix("data.").split(".")
        place, held, owner = "data", node, "the run's data"
        for name in outer:
            _check_key(place, held, owner, name)
            inner, place = held[name], f"{place}.{name}"
            held[name] = held = dict(inner) if isinstance(inner, Mapping) else {}  # a copy: the node may share it
            owner = place
        _check_key(place, held, owner, key, refused=override.is_delete() or override.is_add())
        value = override.value()
        held[key] = at_home(value) if isinstance(value, str) else value


def _check_key(place: str, held: Mapping[str, Any], owner: str, key: str, refused: bool = False) -> None:
    if key in held and not refused:
        return
    known = [name for name in held if name != "_target_"]
    has = f"{', '.join(known)}{did_you_mean(key, known)}" if known else "no keys"
    raise UserError(f"{place}.{key}: no such key; {owner} has {has}")


def match_classes(run: list[str], data: list[str], name: str) -> tuple[list[int], str]:
    """Return the run's class of each class of the data, -1 for none, and "name" or "position".

    Classes of equal names belong together. If no name is the same, and there are as many, they are matched by position.
    Raises UserError otherwise.
    """
    known = {unicodedata.normalize("NFC", title): number for number, title in enumerate(run)}
    order = [known.get(unicodedata.normalize("NFC", title), -1) for title in data]
    if any(number >= 0 for number in order):
        return order, "name"
    if len(run) != len(data):
        here = f"data: {name} has {plural(len(data), 'class')}; the run was trained on {len(run)}"
        raise UserError(f"{here}, and no name is the same: {', '.join(data[:3])}; {', '.join(run[:3])}")
    return list(range(len(run))), "position"


def with_classes_of(model: "TrainedModel", data: ImageData) -> tuple[ImageData, dict[str, Any]]:
    """Return data whose labels and normalisation are the model's, without the images of classes that it does not know.

    Also returns what --json says of it: how classes were matched, and which were left out. Raises UserError as
    `match_classes` does.
    """
    order, by = match_classes(model.classes, data.classes, data.name)
    left_out = [title for title, number in zip(data.classes, order, strict=True) if number < 0]
    if by == "position":
        pairs = ", ".join(f"{a} for {b}" for a, b in zip(data.classes, model.classes, strict=True))
        print(
            f"cnnexp: no class has the name of one of the run's; matched by position: {visible(pairs)}", file=sys.stderr
        )
    if left_out:
        print(f"cnnexp: not among the run's classes, and left out: {visible(', '.join(left_out))}", file=sys.stderr)
    splits: dict[str, Any] = {name: _relabelled(split, order) for name, split in data.splits().items()}
    changed = replace(data, classes=model.classes, mean=model.transform.mean, std=model.transform.std, **splits)
    return changed, {"classes_matched_by": by, "classes_left_out": left_out}


def _relabelled(split: Split, order: list[int]) -> Split:
    labels = np.array(order, np.int64)[split.labels]
    kept = labels >= 0
    return replace(split, indices=split.indices[kept], labels=labels[kept], ids=split.ids[kept])
