"""What a config may ask of the data that it gets: batches that are there, classes, and a validation split."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnexp.claims.grammar import parse
from cnnexp.data.images import ImageData, Integers
from cnnexp.errors import UserError, unknown, warn_once
from cnnexp.training.probes import OF_A_PASS

MOST_LEFT_OUT = 0.1  # of the training images, by an epoch, before it is remarked


def check_data(config: dict[str, Any], data: ImageData) -> None:
    """Raise UserError for a batch larger than the data, and for a setting that needs a missing validation split.

    Remarks say if an epoch leaves out many images, because they fill no batch, and if classes are balanced twice.
    """
    if config["batch_size"] > len(data.train):
        raise UserError(
            f"batch_size: given {config['batch_size']}; allowed: at most {len(data.train)}, the training images; "
            f"try batch_size={2 ** max(0, int(math.log2(len(data.train) / 4)))}"
        )
    if config["accumulate"] > config["batch_size"]:
        raise UserError(
            f"accumulate: given {config['accumulate']}; allowed: at most batch_size, {config['batch_size']}"
        )
    if config["batch_size"] == 1 and any(alpha is not None for alpha in config["mix"].values()):
        raise UserError("mix: given with batch_size=1, where there is no other image to mix with; use larger batches")
    if "top5" in (config["monitor"], config["scheduler"].get("monitor")) and len(data.classes) <= 5:
        raise UserError(f"monitor: top5 is always 100 % of {len(data.classes)} classes; give another metric")
    check_claims(config, data)
    if config["sampling"] == "shuffle" and (remark := left_out_remark(len(data.train), config["batch_size"])):
        warn_once("left out", f"cnnexp: {remark}")
    if remark := balanced_twice_remark(config, data.train.labels):
        warn_once("balanced twice", f"cnnexp: {remark}")
    if len(data.val):
        return
    if watched := [name for name in OF_A_PASS if config["probes"][name]]:
        raise UserError(f"probes.{watched[0]}: there is no validation split to look at; set data.val_fraction above 0")
    if config["early_stopping"]["patience"] is not None:
        raise UserError("early_stopping.patience: there is no validation split to watch; set data.val_fraction above 0")
    if config["monitor"] != "accuracy":
        raise UserError("monitor: there is no validation split to look at; set data.val_fraction above 0")
    if config["scheduler"]["_target_"].endswith((".plateau", ".ReduceLROnPlateau")):
        raise UserError("scheduler: plateau watches the validation loss; set data.val_fraction above 0")


def left_out_remark(images: int, batch_size: int) -> str:
    """Say how many of the training images an epoch leaves out; "" unless they are more than MOST_LEFT_OUT."""
    left = images % batch_size
    if left <= MOST_LEFT_OUT * images:
        return ""
    fits = next(size for size in range(batch_size - 1, 0, -1) if images % size <= MOST_LEFT_OUT * images)
    return (
        f"each epoch leaves out {left} of {images} training images, others each time, because they fill no "
        f"batch of {batch_size}; batch_size={fits} leaves out {images % fits}"
    )


def balanced_twice_remark(config: Mapping[str, Any], labels: Integers) -> str:
    """Say that classes of different size are balanced by sampling and by weights too; "" if they are not.

    labels: (N,), of the training images.
    """
    both = config["sampling"] == "balanced" and config["loss"].get("class_weights") == "balanced"
    if not both or len(set(np.bincount(labels).tolist()) - {0}) < 2:
        return ""
    return (
        "sampling=balanced and loss.class_weights=balanced: images of small classes are drawn more often, and each "
        "counts more too, so small classes count more than large ones; use one of them"
    )


def check_claims(config: dict[str, Any], data: ImageData) -> None:
    """Raise UserError if the study claims a number of this run's arm that the run will not have.

    Not if a claim is about epochs and there is no validation split: the report says that it cannot be tested.
    """
    for text in config["study"]["claims"] or ():
        where = f"study.claims: '{text}'"
        claim = parse(text)
        for term in claim.terms:
            if term.spread or term.arm != config["study"]["arm"]:
                continue
            name, _, title = term.metric.removesuffix("]").partition("[")
            if title and title not in data.classes:
                raise unknown(where, "class", title, data.classes)
            if name == "shift_consistency" and config["shift_pixels"] is None:
                raise UserError(f"{where}: shift_consistency is not measured; set shift_pixels, as in shift_pixels=2")
            if name.startswith("val_") and claim.kind in ("mean", "within", "std") and not len(data.val):
                raise UserError(f"{where}: there is no validation split; set data.val_fraction above 0")
