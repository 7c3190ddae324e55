"""`cnnexp evaluate`: a trained model on a split of its own data, or of other data with the same number of classes."""

import json
import math
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cnnexp.commands import arguments
from cnnexp.commands.arguments import PLACES
from cnnexp.errors import EXIT_DONE, EXIT_SOME_FAILED, UserError, did_you_mean
from cnnexp.text import align, at_home, percent, plain, plural, visible

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cnnexp.data.images import ImageData, Split
    from cnnexp.training.device import Device
    from cnnexp.training.inference import TrainedModel

_PLACES = tuple(f"{place}=" for place in PLACES)
EXAMPLES = """\
examples:
  cnnexp evaluate latest                                     its own test split: the recorded accuracy again
  cnnexp evaluate ablation/baseline/0 --split val --json
  cnnexp evaluate outputs/runs/NAME data.root=/other/place   its own data, moved
  cnnexp evaluate outputs/runs/NAME data=cifar10_jpeg        other data, in the size and channels of the run's images
"""


def main(argv: list[str]) -> int:
    """Print accuracy, loss and accuracy per class. Raises UserError if the run or the data cannot be used.

    Returns 3 if the recorded accuracy is not reproduced on the same device.
    """
    parser = arguments.parser("evaluate", "Evaluate a trained model, with its own normalisation.", EXAMPLES)
    parser.add_argument("run", metavar="RUN", help=f"{arguments.RUN}; or a checkpoint in it")
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help="data=NAME, data.KEY=VALUE")
    parser.add_argument("--split", choices=("test", "val", "train"), default="test", help="default: test")
    arguments.add_device(parser, None, "default: the kind that it was trained on")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON; accuracies are fractions")
    given = parser.parse_intermixed_args(argv)
    from cnnexp.config.signature import Count, check_value
    from cnnexp.training import device, inference
    from cnnexp.training.evaluation import Evaluation

    check_parts(given.run, given.overrides, given.allow)
    model = inference.load(given.run, given.device or _recorded_device(given.run), given.allow)
    device.set_up(model.device)
    data, matched = with_classes_of(model, data_of(model, given.overrides, given.allow))
    split = data.splits()[given.split]
    if not len(split):
        raise UserError(f"--split: {data.name} has no images in {given.split}")
    batch_size: Any = model.config.get("eval_batch_size")
    check_value("eval_batch_size", batch_size, Count | Literal["auto"])
    numbers = measure(model, *Evaluation(data, model.device, batch_size).logits(model.model, split))
    places_only = all(o.startswith(_PLACES) for o in given.overrides)
    elsewhere = any(o.startswith(("data.root=", "data.file=")) for o in given.overrides)
    own_data = places_only and (not elsewhere or _same_images(model, data))
    if places_only and not own_data:
        print("cnnexp: other images than the run's, so the recorded accuracy is not compared", file=sys.stderr)
    recorded = _recorded_accuracy(model, given.split) if own_data else None
    reproduced = None if recorded is None else numbers["accuracy"] == recorded
    trained_on = None
    if given.split != "train" and not places_only:
        trained_on = _trained_on(model, data, given.split, given.overrides, given.allow)
    facts = {"run": str(model.record.folder), "data": data.name, "split": given.split, **matched, **numbers}
    facts |= {"device": model.device.record(), "reproduced": reproduced, "trained_on": trained_on}
    if given.json:
        print(json.dumps(facts, indent=1))
    else:
        print(as_text(facts))
        if reproduced is not None:
            print("as recorded" if reproduced else f"not as recorded: {percent(recorded)}; {_changes(model, data)}")
    exact = is_exact(model.device, model.record.info.get("device") or {})
    return EXIT_SOME_FAILED if reproduced is False and exact else EXIT_DONE


def _same_images(model: "TrainedModel", data: "ImageData") -> bool:
    return bool((model.record.info.get("data") or {}).get("fingerprint") == data.fingerprint)


def _trained_on(
    model: "TrainedModel", data: "ImageData", split: str, overrides: list[str], allow: list[str]
) -> int | None:
    """Return how many images of a split, drawn anew from the run's own images, it was trained on; say so if any.

    None where that is not known: of other images, and if the run's own data cannot be read.
    """
    other = any(o.startswith("data=") for o in overrides)
    if other and not _same_images(model, data):
        return None
    try:
        own = data_of(model, [o for o in overrides if o.startswith(_PLACES) and not other], allow)
    except UserError:
        return None
    if own.fingerprint != data.fingerprint and (data.files is None or data.files != own.files):
        return None  # ids name the same images only within the same files
    import numpy as np

    chosen = data.splits()[split]
    count = int(np.isin(chosen.ids, own.train.ids).sum())
    if count:
        print(
            f"cnnexp: {count} of these {plural(len(chosen), 'image')} were training images of this run, so this is not "
            f"the accuracy on new images",
            file=sys.stderr,
        )
    return count


def is_exact(device: "Device", then: dict[str, Any]) -> bool:
    """Tell whether a device gives every bit as a recorded one did: the same, and a CPU or a deterministic GPU."""
    same = all(then.get(key) == value for key, value in device.record().items())
    return same and (device.kind == "cpu" or device.deterministic)


def check_parts(run: str, overrides: list[str], allow: list[str]) -> None:
    """Raise UserError that names every own part of a run that is not allowed: the network, and its data if used."""
    from cnnexp.training import allowed, inference

    record, _ = inference.find(Path(run))
    used = ("model",) if any(o.startswith("data=") for o in overrides) else ("model", "data")
    config = record.config()
    allowed.check_nodes({name: config[name] for name in used if name in config}, allow)


def _recorded_device(run: str) -> str:
    """Return the kind of device that a run was trained on, if this machine has it; else the CPU."""
    import torch

    from cnnexp.training import inference

    record, _ = inference.find(Path(run))
    kind = str((record.info.get("device") or {}).get("kind"))
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return kind if here.get(kind) else "cpu"


def data_of(model: "TrainedModel", overrides: list[str], allow: list[str]) -> "ImageData":
    """Build the run's data with some settings changed, or other data in the size and channels of the run's images.

    Raises UserError for an override that is not of the data, and for data that is missing or of another shape.
    """
    from cnnexp.config import checks
    from cnnexp.config import compose as configs
    from cnnexp.config.sizes import as_size
    from cnnexp.training import build
    from cnnexp.training.allowed import check_targets, confined_data

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


def _change(node: dict[str, Any], overrides: list[str]) -> None:
    from cnnexp.config import compose as configs

    for override in configs.parse(overrides):
        key = override.key_or_group.removeprefix("data.")
        if key not in node or override.is_delete() or override.is_add():
            known = [k for k in node if k != "_target_"]
            raise UserError(f"data.{key}: no such key; the run's data has {', '.join(known)}{did_you_mean(key, known)}")
        value = override.value()
        node[key] = at_home(value) if isinstance(value, str) else value


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


def with_classes_of(model: "TrainedModel", data: "ImageData") -> tuple["ImageData", dict[str, Any]]:
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


def _relabelled(split: "Split", order: list[int]) -> "Split":
    import numpy as np

    labels = np.array(order, np.int64)[split.labels]
    kept = labels >= 0
    return replace(split, indices=split.indices[kept], labels=labels[kept], ids=split.ids[kept])


def measure(model: "TrainedModel", logits: "NDArray[np.float32]", labels: "NDArray[np.int64]") -> dict[str, Any]:
    """Return n, accuracy, loss and other scores of all images, and `classes`: {name: the same of its images}.

    Fractions, but for n and the loss (nats). A class without images has an accuracy of None, and without predictions
    too None everywhere.
    """
    import numpy as np

    from cnnexp import metrics

    of_classes = metrics.by_class(np.argmax(logits, axis=1), labels, len(model.classes))
    counts = np.bincount(labels, minlength=len(model.classes)).tolist()
    classes = {}
    for k, (name, n) in enumerate(zip(model.classes, counts, strict=True)):
        scores = {score: None if math.isnan(values[k]) else float(values[k]) for score, values in of_classes.items()}
        classes[name] = {"n": n, "accuracy": scores.pop("recall") if n else None, **scores}
    accuracy, loss = metrics.accuracy(logits, labels), metrics.cross_entropy(logits, labels)
    of_all = metrics.class_scores(logits, labels)
    return {"n": len(labels), "accuracy": accuracy, "loss": loss, **of_all, "classes": classes}


def as_text(facts: dict[str, Any]) -> str:
    """Return a table of the classes, and two lines with the numbers of all images."""
    columns = ("accuracy", "precision", "f1")
    classes = [
        (plain(name), str(c["n"]), *(percent(c[column]) for column in columns)) for name, c in facts["classes"].items()
    ]
    top5 = f", top-5 {percent(facts['top5'])}" if len(classes) > 5 else ""
    numbers = f"accuracy {percent(facts['accuracy'])}, loss {facts['loss']:.4f}{top5}, n {facts['n']}"
    scores = {"balanced_accuracy": "balanced accuracy", "precision": "precision", "recall": "recall", "f1": "F1"}
    means = ", ".join(f"{words} {percent(facts[name])}" for name, words in scores.items())
    table = align([("class", "images", *columns), *classes], right=(1, 2, 3, 4))
    return f"{table}\n\n{visible(facts['data'])}, {facts['split']}: {numbers}\nmean over the classes: {means}"


def _recorded_accuracy(model: "TrainedModel", split: str) -> float | None:
    """Return the accuracy that the run recorded for its best weights."""
    value = (model.record.info.get("result") or {}).get(f"{split}_accuracy")
    return value if model.weights.name == "best.pt" and isinstance(value, float) else None


def _changes(model: "TrainedModel", data: "ImageData") -> str:
    """Describe what has changed since the run was recorded."""
    from cnnexp.config.user_code import changed_code
    from cnnexp.records.provenance import environment

    info = model.record.info
    then, now = info.get("device") or {}, model.device.record()
    found = [f"{k} {now[k]}, then {then.get(k)}" for k in now if now[k] != then.get(k)]
    before = info.get("data") or {}
    if before.get("fingerprint") != data.fingerprint:
        found.append("the data has changed")
    changed = [key for key in data.drawn if before.get(key) != data.drawn[key]]
    found += [f"the {key} drawn by the names of its files has changed" for key in changed]
    version = environment()["torch"]
    if (earlier := (info.get("environment") or {}).get("torch")) != version:
        found.append(f"torch {version}, then {earlier}")
    found += [f"{file} has changed" for file in changed_code(info.get("user_code"), model.config["model"])]
    if now["kind"] == "cuda" and not model.device.deterministic:
        found.append("device.deterministic=false lets two passes differ")
    return visible("; ".join(found)) or "device, data, own code and torch are unchanged"
