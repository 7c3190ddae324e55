"""Try the parts of a config before anything is trained: what does not fit together is one line, also with --plan.

The network takes one batch of zeros. The optimiser steps once, the scheduler to the end of the run. An augmentation
from outside the package gets one batch. The user's own code is tried when its run starts.
"""

import functools
import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cnnexp.config import checks
from cnnexp.config.signature import steps
from cnnexp.config.sizes import height_width
from cnnexp.config.user_code import user_frames
from cnnexp.errors import UserError, is_out_of_memory, warn_once
from cnnexp.records.run_record import RunRecord
from cnnexp.text import plural
from cnnexp.training import build, dry_run_schedule

if TYPE_CHECKING:
    from torch import nn

    from cnnexp.data.images import ImageData

Image = tuple[int, int, int]
CLASSES = 10  # before the data is read
SIZES = (32, 64, 96, 128, 160, 192, 224, 256, 299, 384)  # of images, to suggest one that the network takes
FEW_IMAGES = 20  # one of 20 is 5 points of accuracy
BEST = "checkpoints/best.pt"  # of a run
_TRIED_LOSSES: set[str] = set()
FAR_OUTSIDE, ROUNDING = (-1.0, 2.0), 1e-3  # of augmented images, whose numbers are in [0, 1]


def origin(config: Mapping[str, Any], name: str) -> Literal["ours", "torch", "own"]:
    """Tell where the builder of a node is from: this package, torch or torchvision, or the user."""
    package = str(config[name]["_target_"]).partition(".")[0]
    return "ours" if package == "cnnexp" else "torch" if package in ("torch", "torchvision") else "own"


def before_data(config: Mapping[str, Any]) -> None:
    """Try the network on images of `data.size`, if the config has one. Raises UserError if it refuses them."""
    sides = height_width(config["data"].get("size"))
    if sides and origin(config, "model") != "own":
        channels = config["data"].get("channels")
        try_network(config, (channels if isinstance(channels, int) else 3, *sides), None)


def with_data(
    config: Mapping[str, Any], data: "ImageData", steps_per_epoch: int, total_steps: int, own: bool = False
) -> None:
    """Try the parts on the data they will get. Raises UserError for what they refuse, or what contradicts the run.

    own: try the parts in the user's own code, which may do anything, also end the process: so the run does this, and
    not the plan of a sweep. Otherwise those of this package and of torch are tried.
    """
    sides, tried = height_width(config["data"].get("size")) or (), ("own",) if own else ("ours", "torch")
    of = {name: origin(config, name) for name in ("model", "loss", "optimizer", "scheduler", "augmentation")}
    if of["model"] in tried and (of["model"] != "ours" or data.image != (3, *sides)):
        try_network(config, data.image, len(data.classes))
    if ("own" in (of["optimizer"], of["scheduler"])) == own:
        nodes = {name: config[name] for name in ("optimizer", "scheduler")}
        dry_run_schedule.try_both(json.dumps(nodes), total_steps, steps_per_epoch, len(data.val) > 0)
    if of["loss"] in tried:
        what = json.dumps([config["loss"], config["batch_size"], data.fingerprint])
        if own or what not in _TRIED_LOSSES:  # the runs of a sweep have one loss, and a try takes as long as the rest
            try_loss(config, data)
            _TRIED_LOSSES.add(what)
    if of["model"] in tried and (config["unfreeze"] or any(config["param_groups"].values())):
        try_groups(config, data.image)
    for name, duration in (config["unfreeze"] or {}).items():
        if steps(duration, steps_per_epoch) >= total_steps:
            raise UserError(f"unfreeze.{name}: given {duration}; allowed: less than epochs, {config['epochs']}")
    if of["augmentation"] != "ours" and of["augmentation"] in tried:
        try_augmentation(config, data)
    if 0 < (count := len(data.val)) < FEW_IMAGES and config["keep_epoch"] == "best":
        warn_once(
            "few", f"cnnexp: chance chooses the best epoch: {plural(count, 'validation image')}{more_of(config, data)}"
        )


def note_patience(config: Mapping[str, Any], epochs: int) -> None:
    """Say that a run can never stop early, because it has fewer epochs than its patience."""
    patience = config["early_stopping"]["patience"]
    if patience is not None and patience > epochs:
        line = f"given {patience}, longer than the {plural(epochs, 'epoch')} of the run, which never stops early"
        warn_once("patience", f"cnnexp: early_stopping.patience: {line}")


def more_of(config: Mapping[str, Any], data: "ImageData") -> str:
    """Return what to type for more validation images, where they are drawn from the training images.

    With folds, the fold is the validation split; of images without a test split of their own it is the test split.
    """
    node = config["data"]
    if node.get("val_limit"):
        return "; raise data.val_limit"
    if node.get("folds") and "split" not in data.drawn:
        return "; lower data.folds"
    return "; raise data.val_fraction, unless the validation split is your own"


def weights(config: Mapping[str, Any], data: "ImageData") -> None:
    """Load the weights that the network starts from, if they are of a run or a file. Raises UserError if they misfit.

    Planning does so for a run that a network of this package or of torch starts from, the run itself before it is
    recorded.
    """
    source = config["model"].get("weights")
    if isinstance(source, str) and source not in ("none", "imagenet"):
        files = (Path(source), Path(source) / BEST)
        modified = max((file.stat().st_mtime_ns for file in files if file.exists()), default=0)
        _try_weights(json.dumps({"model": config["model"]}), data.image, len(data.classes), source, modified)


@functools.lru_cache(maxsize=64)
def _try_weights(node: str, image: Image, classes: int, source: str, modified: int) -> None:
    import torch

    config = json.loads(node)
    with torch.random.fork_rng(devices=[]):
        try:
            build.build_model(config, image, classes)
        except UserError as error:
            record = RunRecord.read(Path(source))
            if not record.info or "weights" not in str(error):
                raise
            bare = build.build_model({"model": {**config["model"], "weights": "none"}}, image, classes)
            here = f"{called(config['model'])}, {sum(p.numel() for p in bare.parameters()):,} parameters"
            there = (
                f"{called(record.config()['model'])}, {(record.info.get('model') or {}).get('parameters')} parameters"
            )
            both = f"{here}, cannot start from {there}"
            raise UserError(f"model.weights: {both}: {str(error).removeprefix('model.weights: ')}") from error


def called(node: Any) -> str:
    """Return what to call the network of a `model` node: torchvision's name, or that of its class or function."""
    return str(node.get("name") or str(node.get("_target_")).rpartition(".")[2])


def try_network(config: Mapping[str, Any], image: Image, classes: int | None) -> None:
    """Pass a batch of zeros of this shape through the network, in training and in evaluation mode.

    classes: None before the data is read: then the number of logits is not compared. A described network is checked
    without torch, so it is tried only with a batch of one. Raises UserError if it refuses them.
    """
    batch = max(1, min(config["batch_size"] // config["accumulate"], 2))  # of the smallest part
    if batch == 1 or not config["model"]["_target_"].startswith("cnnexp.models.convnet."):
        node, _ = checks.loading(config["model"])
        if origin(config, "model") == "ours" and "weights" in node:
            node["weights"] = "none"
        _try_network(json.dumps({"model": node}), image, classes, batch, bool(height_width(config["data"].get("size"))))


@functools.lru_cache(maxsize=64)
def _try_network(node: str, image: Image, classes: int | None, batch: int, sized: bool) -> None:
    import torch

    config = json.loads(node)
    with torch.random.fork_rng(devices=[]):
        try:
            model = build.build_model(config, image, classes or CLASSES)
            output = forward(model, image, batch)
        except UserError:
            raise
        except Exception as error:
            raise _network_error(config, image, batch, sized, error) or error from error
    check_logits(output, (batch, classes), origin(config, "model") == "ours")


def forward(model: "nn.Module", image: Image, batch: int) -> Any:
    """Return the output in evaluation mode for images of zeros (N, C, H, W), after a pass in training mode."""
    import torch

    device = next((p.device for p in model.parameters()), None)
    zeros = torch.zeros(batch, *image, device=device)
    with torch.inference_mode():
        model.train()(zeros)
        return model.eval()(zeros)


def _network_error(config: Any, image: Image, batch: int, sized: bool, error: Exception) -> UserError | None:
    """Return the error for a network that refuses an image; None for one of memory, or in the user's code."""
    shape = "x".join(map(str, image))
    if is_out_of_memory(error) or build.raised_here(error) or user_frames(error):
        error.add_note(f"the network was tried with {batch} images of {shape} (C x H x W)")
        return None
    if batch == 1 and "more than 1 value per channel" in str(error):
        return UserError("batch_size: given 1; allowed with batch norm over a 1 x 1 map: 2 or more, in each part")
    name = config["model"].get("name", config["model"]["_target_"])
    size = next((s for s in SIZES if sized and s > image[1] and takes(config, (image[0], s, s), batch)), None)
    hint = f"; try data.size={size}" if size else ""
    return UserError(f"model: {name} does not take images of {shape}: {build.first_line(error)}{hint}")


def takes(config: Any, image: Image, batch: int) -> bool:
    """Tell whether the network takes images of this shape."""
    try:
        forward(build.build_model(config, image, CLASSES), image, batch)
    except Exception:
        return False
    return True


def check_logits(output: Any, expected: tuple[int, int | None], ours: bool) -> None:
    """Raise UserError unless the output is logits (N, K): a tensor of this shape, and not of probabilities.

    expected: (N, K); K is not compared if it is None.
    """
    import torch

    if not isinstance(output, torch.Tensor):
        raise UserError(f"model: gave a {type(output).__name__} for a batch; it must give a tensor of logits (N, K)")
    given, (count, classes) = tuple(output.shape), expected
    if len(given) != 2 or given[0] != count or classes not in (None, given[1]):
        wanted = f"({count}, {classes or 'K'})"
        raise UserError(f"model: gave {given} for {count} images; it must give {wanted}, a number per class")
    sums = output.float().sum(1)
    if not ours and given[1] > 1 and bool((output >= 0).all() and (sums - 1).abs().max() < 1e-4):
        raise UserError("model: gave probabilities, which add up to 1; the loss takes logits: leave out the softmax")


def try_groups(config: Mapping[str, Any], image: Image) -> None:
    """Build the optimiser for the network itself. Raises UserError for a wrong name in `param_groups`, `unfreeze`."""
    import torch

    node, _ = checks.loading(config["model"])
    with torch.random.fork_rng(devices=[]):
        bare = {"model": {**node, "weights": "none"} if "weights" in node else node}
        build.build_optimizer(config, build.build_model(bare, image, CLASSES))


def try_loss(config: Mapping[str, Any], data: "ImageData") -> None:
    """Build the loss and compute it, with its gradient, for equal logits. Raises UserError if it is no number.

    Also if it has no lower limit, as torch.nn.NLLLoss has none for logits: it would fall, and nothing be learned.
    """
    import torch

    images = min(7 if len(data.classes) == 8 else 8, len(data.train))  # as many as classes would hide a wrong shape
    labels = torch.from_numpy(data.train.labels[:images]).long()
    with build.refused("loss", config, "loss"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of such a shape, before the error
        loss = build.build_loss(config, data.train.labels, "cpu")
        found = loss(torch.zeros(images, len(data.classes), requires_grad=True), labels)
    if not isinstance(found, torch.Tensor) or found.ndim != 0 or not found.isfinite() or not found.requires_grad:
        given = f"a tensor of {tuple(found.shape)}" if isinstance(found, torch.Tensor) and found.ndim else str(found)
        raise UserError(
            f"loss: gave {given:.80}; it must give the mean over the images, a finite number with a gradient"
        )
    right = torch.nn.functional.one_hot(labels, len(data.classes)).float()
    with build.refused("loss", config, "loss"):
        once, twice = (float(loss((size * right).requires_grad_(), labels).detach()) for size in (1e3, 2e3))
    if twice < 1.5 * once < 0:
        raise UserError(
            f"loss: {config['loss']['_target_']} has no lower limit: it gives {once:g} and {twice:g} for logits of "
            "1000 and 2000; if it takes log probabilities, use one that takes logits, such as loss=cross_entropy"
        )


def try_augmentation(config: Mapping[str, Any], data: "ImageData") -> None:
    """Build the augmentation and apply it to a batch of training images. Raises UserError for what is wrong."""
    import numpy as np
    import torch

    from cnnexp.data.batches import as_float

    with build.refused("augmentation", config, "augmentation"):
        augmentation = build.build_augmentation(config)
    images = np.array(data.train.images[data.train.indices[: config["batch_size"]]])
    x = augmentation(as_float(torch.from_numpy(images).permute(0, 3, 1, 2)), torch.Generator())
    check_augmented(config["augmentation"]["_target_"], float(x.min()), float(x.max()))


def check_augmented(name: str, low: float, high: float) -> None:
    """Check the lowest and highest number of augmented images. Raises UserError for what cannot be an image.

    Noise may pass [0, 1] a little: that is one line. Numbers beyond FAR_OUTSIDE are of another scale.
    """
    if not math.isfinite(low) or not math.isfinite(high):
        raise UserError(f"augmentation: {name} gave numbers that are not finite (NaN or infinite); allowed: 0 to 1")
    said = f"augmentation: {name} gave numbers from {low:.3g} to {high:.3g}"
    if low < FAR_OUTSIDE[0] or high > FAR_OUTSIDE[1]:
        raise UserError(f"{said}; allowed: 0 to 1; leave out Normalize and scaling, cnnexp normalizes afterwards")
    if low < -ROUNDING or high > 1 + ROUNDING:
        warn_once(said, f"cnnexp: {said}, images are in [0, 1]; to stay there, end with .clamp(0, 1)")
