"""`cnnexp evaluate`: a trained model on a split of its own data, or of other data with the same number of classes."""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cnnexp.config.user_code import changed_code
from cnnexp.errors import EXIT_DONE, EXIT_SOME_FAILED, UserError, did_you_mean
from cnnexp.records.provenance import environment
from cnnexp.text import visible

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cnnexp.data.images import ImageData, Split
    from cnnexp.training.inference import TrainedModel

EXAMPLES = """\
examples:
  cnnexp evaluate outputs/runs/NAME                          its own test split: gives the recorded accuracy again
  cnnexp evaluate outputs/runs/NAME --split val --json
  cnnexp evaluate outputs/runs/NAME data.root=/other/place   its own data, moved
  cnnexp evaluate outputs/runs/NAME data=cifar10_jpeg        other data: brought to the run's size and channels
"""
PLACES = ("data.root", "data.cache")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    arguments = argparse.ArgumentParser(
        prog="cnnexp evaluate",
        description="Evaluate a trained model, with the normalisation that it was trained with.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument("run", metavar="RUN", help="a run directory, or a checkpoint in it")
    arguments.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help="data=NAME, data.KEY=VALUE")
    arguments.add_argument("--split", choices=("test", "val", "train"), default="test", help="without it test")
    arguments.add_argument("--device", help="cpu, cuda, mps, cuda:1; without it the kind that it was trained on")
    arguments.add_argument("--allow", action="append", default=[], metavar="TARGET", help="let its config build this")
    arguments.add_argument("--json", action="store_true", help="print the numbers as JSON; accuracies are fractions")
    return arguments


def main(argv: list[str]) -> int:
    """Print accuracy, loss and per-class accuracy. Raises UserError if the run or the data cannot be used."""
    given = parser().parse_intermixed_args(argv)
    from cnnexp.config.signature import Count, check_value
    from cnnexp.training import device
    from cnnexp.training import inference as trained
    from cnnexp.training.evaluation import Evaluation

    model = trained.load(given.run, given.device or _usual_device(given.run), given.allow)
    device.set_up(model.device)
    data = with_classes_of(model, data_of(model, given.overrides, given.allow))
    split = data.splits()[given.split]
    if not len(split):
        raise UserError(f"--split: {data.name} has no images in {given.split}")
    at_once: Any = model.config.get("eval_batch_size")
    check_value("eval_batch_size", at_once, Count | Literal["auto"])
    evaluation = Evaluation(data, model.device, at_once)
    logits, labels = evaluation.logits(model.model, split)
    facts = measured(model, logits, labels)
    own = all(o.startswith(tuple(f"{place}=" for place in PLACES)) for o in given.overrides)
    facts = {"run": str(model.record.folder), "data": data.name, "split": given.split, **facts}
    facts |= {"device": model.device.record(), "reproduced": None}
    if own:
        facts["reproduced"] = _reproduced(model, given.split, facts["accuracy"])
    if given.json:
        print(json.dumps(facts, indent=1))
    else:
        _tell(model, facts, data, own)
    there = model.record.info.get("device") or {}
    elsewhere = any(facts["device"][key] != there.get(key) for key in facts["device"])  # its last bits may differ
    return EXIT_SOME_FAILED if facts["reproduced"] is False and not elsewhere else EXIT_DONE


def _usual_device(run: str) -> str:
    """Return the kind of device that a run was trained on, if it is to be had here; else the CPU."""
    import torch

    from cnnexp.training import inference as trained

    record, _ = trained.find(Path(run))
    kind = str((record.info.get("device") or {}).get("kind"))
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return kind if here.get(kind) else "cpu"


def data_of(model: "TrainedModel", overrides: list[str], allow: list[str]) -> "ImageData":
    """Build the run's data with some settings changed, or other data in the size and channels of the run's.

    Raises UserError for an override that is not of the data, and for data that cannot be had or is of another shape.
    """
    from cnnexp.config import compose as configs
    from cnnexp.config import signature
    from cnnexp.training import build
    from cnnexp.training.allowed import check_targets
    from cnnexp.training.inference import elsewhere

    if wrong := [o for o in overrides if not o.startswith(("data=", "data."))]:
        raise UserError(f"{wrong[0]}: allowed: data=NAME and data.KEY=VALUE; all else is the run's own")
    if any(o.startswith("data=") for o in overrides):
        node = configs.resolve(configs.compose(overrides))["data"]
        _take_shape(node, model, {o.partition("=")[0] for o in overrides})
    else:
        node = dict(model.config["data"])
        _change(node, overrides)
        check_targets("data", node, allow)
        node = elsewhere(node, {o.partition("=")[0] for o in overrides}, allow)
    builder = configs.target("data", node)
    signature.check("data", node, builder)
    if callable(further := getattr(builder, "check", None)):
        further("data", node, {**model.config, "data": node})
    data = build.build_data({"data": node})
    if data.image != model.transform.image:
        given, wanted = ("x".join(map(str, shape)) for shape in (data.image, model.transform.image))
        raise UserError(f"data: {data.name} has images of {given} (C x H x W); the run's network takes {wanted}")
    return data


def _take_shape(node: dict[str, Any], model: "TrainedModel", typed: set[str]) -> None:
    """Give other data the run's size, resizing and channels, where it has such settings and none was typed."""
    shape = {"size": model.transform.image[1], "resize": model.transform.resize, "channels": model.transform.image[0]}
    node.update({k: v for k, v in shape.items() if k in node and f"data.{k}" not in typed})


def _change(node: dict[str, Any], overrides: list[str]) -> None:
    from cnnexp.config import compose as configs

    for override in configs.parse(overrides):
        key = override.key_or_group.removeprefix("data.")
        if key not in node or override.is_delete() or override.is_add():
            known = [k for k in node if k != "_target_"]
            raise UserError(f"data.{key}: no such key; the run's data has {', '.join(known)}{did_you_mean(key, known)}")
        node[key] = override.value()


def with_classes_of(model: "TrainedModel", data: "ImageData") -> "ImageData":
    """Return data whose labels and normalisation are the model's. Raises UserError if it has more or fewer classes.

    Classes of the same names in another order are put in the model's; of other names, the n-th is taken for the n-th.
    """
    if len(data.classes) != len(model.classes):
        raise UserError(
            f"data: {data.name} has {len(data.classes)} classes; the run was trained on {len(model.classes)}"
        )
    if set(data.classes) == set(model.classes) and len(set(data.classes)) == len(data.classes):
        order = [model.classes.index(name) for name in data.classes]
    else:
        order = list(range(len(data.classes)))
        pairs = [f"{a} for {b}" for a, b in zip(data.classes, model.classes, strict=True) if a != b]
        print(f"cnnexp: classes are named differently; taken by position: {visible(', '.join(pairs))}", file=sys.stderr)
    return replace(
        data,
        classes=model.classes,
        mean=model.transform.mean,
        std=model.transform.std,
        train=_relabelled(data.train, order),
        val=_relabelled(data.val, order),
        test=_relabelled(data.test, order),
    )


def _relabelled(split: "Split", order: list[int]) -> "Split":
    import numpy as np

    return replace(split, labels=np.array(order, np.int64)[split.labels])


def measured(model: "TrainedModel", logits: "NDArray[np.float32]", labels: "NDArray[np.int64]") -> dict[str, Any]:
    """Return {n, accuracy, loss, classes: {name: {n, accuracy}}}; a class without images has an accuracy of None."""
    from cnnexp import metrics

    confusion = metrics.confusion(logits, labels)
    counts, right = confusion.sum(axis=1).tolist(), confusion.diagonal().tolist()
    classes = {
        name: {"n": n, "accuracy": r / n if n else None}
        for name, n, r in zip(model.classes, counts, right, strict=True)
    }
    accuracy, loss = metrics.accuracy(logits, labels), metrics.cross_entropy(logits, labels)
    return {"n": len(labels), "accuracy": accuracy, "loss": loss, "classes": classes}


def _recorded(model: "TrainedModel", split: str) -> float | None:
    value = (model.record.info.get("result") or {}).get(f"{split}_accuracy")
    best = model.weights.name == "best.pt"
    return value if best and isinstance(value, float) else None


def _reproduced(model: "TrainedModel", split: str, accuracy: float) -> bool | None:
    """Tell whether the recorded accuracy came out again; None if none is recorded."""
    recorded = _recorded(model, split)
    return None if recorded is None else accuracy == recorded


def _tell(model: "TrainedModel", facts: Mapping[str, Any], data: "ImageData", own: bool) -> None:
    from cnnexp.text import align, plain

    rows = [("class", "images", "accuracy")]
    for name, of_class in facts["classes"].items():
        accuracy = "-" if of_class["accuracy"] is None else f"{of_class['accuracy']:.2%}"
        rows.append((plain(name), str(of_class["n"]), accuracy))
    print(align(rows))
    numbers = f"accuracy {facts['accuracy']:.2%}, loss {facts['loss']:.4f}, n {facts['n']}"
    print(f"\n{visible(facts['data'])}, {facts['split']}: {numbers}")
    if facts["reproduced"]:
        print("as recorded")
    elif facts["reproduced"] is False:
        recorded, reasons = _recorded(model, facts["split"]), _reasons(model, data)
        told = visible("; ".join(reasons)) or "neither device, data, own code nor torch has changed"
        print(f"not as recorded: {recorded:.2%}; {told}")


def _reasons(model: "TrainedModel", data: "ImageData") -> list[str]:
    """Say what is not as it was when the run was recorded."""
    info = model.record.info
    then, now = info.get("device") or {}, model.device.record()
    reasons = [f"{k} {now[k]}, then {then.get(k)}" for k in now if now[k] != then.get(k)]
    if (info.get("data") or {}).get("fingerprint") != data.fingerprint:
        reasons.append("the data has changed")
    version = environment()["torch"]
    if (before := (info.get("environment") or {}).get("torch")) != version:
        reasons.append(f"torch {version}, then {before}")
    reasons += [f"{file} has changed" for file in changed_code(info.get("own_code"), model.config["model"])]
    if now["kind"] == "cuda" and not model.device.deterministic:
        reasons.append("device.deterministic=false lets two passes differ")
    return reasons
