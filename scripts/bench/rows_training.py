"""Rows about training a network on a CPU, against a plain loop, Lightning and fastai."""

from functools import partial
from typing import Any

from bench.envs import python_of
from bench.lab import Lab, tell
from bench.result import Check, Result, compare
from bench.runs import Prepared, ours, prepare, rival, train
from bench.trees import read_by_cnnexp, subset

COMPACT = ("model=custom", "model.norm=batch", "+aug=full", "batch_size=128", "device=cpu")
FAST_BF16 = {"bf16": True, "channels_last": True, "persistent": True}
LIBRARIES = {"Lightning": ("with_lightning.py", "lightning"), "fastai": ("with_fastai.py", "fastai")}


def compact_64(lab: Lab) -> Result:
    """C1: the compact network on 64 px images."""
    return compact(lab, 64, lab.pick(2000, 300), 1.8, 2.0)


def compact_160(lab: Lab) -> Result:
    """C2: the compact network on 160 px images."""
    return compact(lab, 160, lab.pick(712, 200), 1.7, 1.7)


def compact(lab: Lab, size: int, num_train: int, target_fp32: float, target_bf16: float) -> Result:
    """Train the compact network with full augmentation, in fp32 and in bf16, on both sides."""
    tree = subset(lab, "imagenette", num_train, lab.pick(500, 50))
    epochs = lab.trained(2)
    overrides = [*read_by_cnnexp(tree, size), *COMPACT, f"epochs={epochs}ep"]
    settings = {"root": str(tree), "size": size, "epochs": epochs}
    prepared = prepare(lab, overrides)
    seen: dict[str, Any] = {}
    in_bf16 = [*overrides, "device.precision=bf16"]
    cases = [
        ours(lab, "cnnexp fp32", [*overrides, "device.precision=fp32"]),
        rival(lab, "plain fp32", settings),
        ours(lab, "cnnexp bf16", in_bf16, seen=seen),
        rival(lab, "plain bf16", {**settings, **FAST_BF16}),
    ]
    first = train(lab, [*in_bf16, "epochs=1st"]).seconds  # tests the layers in bf16, once a machine
    checks = [
        Check("training, fp32 against fp32", "rate", target_fp32, "images_per_second", "cnnexp fp32", "plain fp32"),
        Check(
            "training, bf16 against bf16, channels_last and persistent workers",
            "rate",
            target_bf16,
            "images_per_second",
            "cnnexp bf16",
            "plain bf16",
        ),
        Check("whole process, fp32", "seconds", None, "wall_seconds", "cnnexp fp32", "plain fp32"),
        Check("whole process, bf16", "seconds", None, "wall_seconds", "cnnexp bf16", "plain bf16"),
    ]
    result = compare(cases, lab.repeated(), checks, tell, sizes(num_train, epochs, prepared))
    result.facts["a first run of one step in bf16, seconds (tests each layer, once a machine)"] = round(first, 1)
    if "cnnexp bf16" in seen:
        kept = seen["cnnexp bf16"]["device"].get("fp32_layers") or ["none"]
        result.facts["layers that cnnexp keeps in fp32 then"] = ", ".join(kept)
    return result


def sizes(num_train: int, epochs: int, prepared: Prepared) -> dict[str, Any]:
    """Return the facts of a row about its size and the cache."""
    return {"training images": num_train * 9 // 10, "epochs": epochs, "decoded once, seconds": prepared.seconds}


def vgg_like(lab: Lab) -> Result:
    """C3: a VGG-like network on CIFAR-10, Adagrad, full augmentation; three rivals."""
    num_train, epochs = lab.pick(6000, 200), lab.trained(1)
    tree = subset(lab, "cifar10", num_train, lab.pick(1000, 50))
    overrides = [
        *read_by_cnnexp(tree, 32),
        *("model=vgg_like", "augmentation=flip_rotate_shift", "scheduler=constant", "batch_size=64"),
        *("optimizer=adagrad", "optimizer.lr=0.05", "optimizer.weight_decay=0"),
        *("device=cpu", "device.precision=fp32", f"epochs={epochs}ep"),
    ]
    settings = {
        **{"root": str(tree), "size": 32, "network": "vgg_like", "augmentation": "crop_full", "epochs": epochs},
        **{"optimizer": "adagrad", "lr": 0.05, "batch_size": 64},
    }
    prepared = prepare(lab, overrides)
    cases = [ours(lab, "cnnexp", overrides), rival(lab, "plain", settings)]
    checks = [Check("training, against the plain loop", "rate", 2.0, "images_per_second", "cnnexp", "plain")]
    seen: dict[str, Any] = {}
    for name, (file, package) in LIBRARIES.items():
        python = partial(python_of, lab, package, [package])
        cases.append(rival(lab, name, settings, file, python=python, seen=seen))
        checks.append(Check(f"training, against {name}", "rate", 1.0, "images_per_second", "cnnexp", name))
    checks += [
        Check(f"whole process, against {case.name}", "seconds", None, "wall_seconds", "cnnexp", case.name)
        for case in cases[1:]
    ]
    result = compare(cases, lab.repeated(), checks, tell, sizes(num_train, epochs, prepared))
    for name, told in seen.items():
        result.facts[f"versions of {name}"] = ", ".join(f"{k} {v}" for k, v in told["versions"].items())
    return result


def frozen_backbone(lab: Lab) -> Result:
    """C4: a ResNet-18 of which only the head learns: its features are computed once."""
    num_train, epochs = lab.pick(3000, 100), lab.trained(20)
    tree = subset(lab, "imagenette", num_train, lab.pick(500, 50))
    overrides = [
        *read_by_cnnexp(tree, 64),
        *("model=resnet18", "model.freeze=backbone", "model.bn=frozen", f"batch_size={lab.pick(128, 32)}"),
        *("device=cpu", "device.precision=fp32", f"epochs={epochs}ep"),
    ]
    settings = {
        **{"root": str(tree), "size": 64, "network": "resnet18", "augmentation": "none", "freeze": "frozen"},
        **{"epochs": epochs, "batch_size": lab.pick(128, 32)},
    }
    prepared = prepare(lab, overrides)
    flips = [*overrides, "+aug=flip"]
    cases = [
        ours(lab, "cnnexp", overrides),
        ours(lab, "cnnexp, features computed anew", [*overrides, "cache_features=false"]),
        ours(lab, "cnnexp, flips", flips),
        ours(lab, "cnnexp, flips, features computed anew", [*flips, "cache_features=false"]),
        rival(lab, "plain", settings),
    ]
    wall = "wall_seconds"
    anew, flipped = cases[1].name, cases[3].name
    checks = [
        Check("whole process, against the plain loop", "seconds", 15.0, wall, "cnnexp", "plain"),
        Check("whole process, against features computed anew", "seconds", 10.0, wall, "cnnexp", anew),
        Check("the same with flips", "seconds", 6.0, wall, "cnnexp, flips", flipped),
    ]
    result = compare(cases, lab.repeated(3), checks, tell, sizes(num_train, epochs, prepared))
    for ours_name, other in (("cnnexp", anew), ("cnnexp, flips", flipped)):
        pairs = [result.series.get(name, {}).get("val_accuracy", []) for name in (ours_name, other)]
        differences = [abs(a - b) for a, b in zip(*pairs, strict=False)]
        if differences:
            label = f"largest difference of validation accuracy, {ours_name}, cached or not"
            result.facts[label] = round(max(differences), 6)
    return result
