"""`cnnexp evaluate`: a trained model on a split of its own data, or of other data with the same number of classes."""

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cnnexp.commands import arguments
from cnnexp.commands.arguments import PLACES
from cnnexp.errors import EXIT_DONE, EXIT_SOME_FAILED, UserError
from cnnexp.text import align, percent, plain, plural, visible

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cnnexp.data.images import ImageData
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
    from cnnexp.training.other_data import data_of, is_recorded, own_data_of, with_classes_of

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
    places = [o for o in given.overrides if o.startswith(_PLACES)]
    places_only = len(places) == len(given.overrides)
    elsewhere = any(o.startswith(("data.root=", "data.file=")) for o in given.overrides)
    fingerprint = (model.record.info.get("data") or {}).get("fingerprint")
    own_data = places_only and (not elsewhere or fingerprint == data.fingerprint)
    not_compared = places_only and not own_data
    recorded = _recorded_accuracy(model, given.split) if own_data else None
    reproduced = None if recorded is None else numbers["accuracy"] == recorded
    trained_on = None
    if not_compared or not (given.split == "train" or (places_only and is_recorded(model, data))):
        if any(o.startswith("data=") for o in given.overrides):  # the root is that of the other data
            places = [o for o in places if o.startswith("data.cache=")]
        own = own_data_of(model, places, given.allow)
        trained_on = _trained_on(model, data, given.split, own, not_compared)
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


def _trained_on(
    model: "TrainedModel", data: "ImageData", split: str, own: "ImageData | None", not_compared: bool
) -> int | None:
    """Return how many images of a split the run was trained on; say so if any, or that nothing is compared.

    own: the run's own data, None if it cannot be read. An image counts if it equals a training image in every pixel, or
    is of the same file, read in another way. None where that is not known, and of training images.
    """
    from cnnexp.data.images import equal_to_any
    from cnnexp.training.other_data import is_recorded

    chosen, count, line = data.splits()[split], 0, ""
    known = own is not None and is_recorded(model, own)
    if own is not None and split != "train":
        count = int(_in_training(data, split, own).sum())
    if count:
        were = "were training images of this run"
        were = were if known else "are training images in this run's data, which has changed since"
        line = f"{count} of these {plural(len(chosen), 'image')} {were}, so this is not the accuracy on new images"
        line += ", and it is not compared with the recorded one" if not_compared else ""
    elif not_compared:
        parts = (own.val, own.test, *([own.train] if split == "train" else [])) if own and known else ()
        other = known and not any(equal_to_any(chosen, part).any() for part in parts)
        images = "other images than the run's" if other else "not the images and labels that the run recorded"
        line = f"{images}, so the recorded accuracy is not compared"
        if not known and split != "train":
            line += "; the run's own data cannot be read or has changed, so some may be its training images"
    if line:
        print(f"cnnexp: {line}", file=sys.stderr)
    return count if split != "train" and (count or known) else None


def _in_training(data: "ImageData", split: str, own: "ImageData") -> "NDArray[np.bool_]":
    """Return which images of a split equal a training image of `own`, or are of the same file: (N,)."""
    import numpy as np

    from cnnexp.data.images import equal_to_any

    chosen = data.splits()[split]
    if data.files is None or own.files is None or Path(data.files).resolve() != Path(own.files).resolve():
        return equal_to_any(chosen, own.train)
    if data.fingerprint != own.fingerprint:
        return equal_to_any(chosen, own.train) | np.isin(chosen.ids, own.train.ids)
    trained = np.zeros(len(own.train.images), bool)  # of the same prepared images, whose copies are known
    trained[own.train.indices] = True
    for group in (*own.copies, *data.copies):
        trained[group] = trained[group].any()
    return np.asarray(trained[chosen.indices])


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
