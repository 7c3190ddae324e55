"""Rows about a CUDA device. They are left out where there is none."""

from collections.abc import Callable
from typing import Any

from bench.lab import CNNEXP, Lab, tell
from bench.machine import gpu_name
from bench.result import Case, Check, NotMeasured, Numbers, Result, compare
from bench.runs import ours, prepare, rival, train
from bench.trees import read_by_cnnexp, subset

WORKERS = 8
BF16 = {"bf16": True, "channels_last": True, "persistent": True, "workers": WORKERS}
ARMS = "baseline,batchnorm,dropout,augmentation,combined"


def needs_gpu(measure: Callable[[Lab], Result]) -> Callable[[Lab], Result]:
    """Return a row that is not measured where there is no CUDA device."""

    def guarded(lab: Lab) -> Result:
        if gpu_name() is None:
            raise NotMeasured("no CUDA device")
        return measure(lab)

    guarded.__doc__ = measure.__doc__
    return guarded


def against_plain(lab: Lab, overrides: list[str], settings: dict[str, Any], target: float) -> Result:
    """Train on Imagenette at 160 px, bf16 on both sides, and compare whole processes."""
    tree = subset(lab, "imagenette", lab.pick(9469, 300), lab.pick(3925, 50))
    epochs = lab.trained(50)
    words = [*read_by_cnnexp(tree, 160), *overrides, f"epochs={epochs}ep", "batch_size=128", "device=cuda"]
    prepared = prepare(lab, words)
    words = [*words, "device.precision=bf16"]
    compilers = {"cnnexp compiled": "true", "cnnexp as CUDA graphs": "reduce-overhead"}
    cases = [
        ours(lab, "cnnexp", words, gpu=True),
        *(ours(lab, name, [*words, f"device.compile={mode}"], gpu=True) for name, mode in compilers.items()),
        rival(lab, "plain", {"root": str(tree), "size": 160, "epochs": epochs, **BF16, **settings}, gpu=True),
    ]
    checks = [
        Check("whole process", "seconds", target, "wall_seconds", "cnnexp", "plain"),
        Check("training", "rate", None, "images_per_second", "cnnexp", "plain"),
        *(Check(f"whole process, {name}", "seconds", None, "wall_seconds", name, "plain") for name in compilers),
    ]
    facts = {"epochs": epochs, "plain's workers": WORKERS, "decoded once, seconds": prepared.seconds}
    told = {**facts, "what torch compiled": "in the first repeat, read from its cache in the others"}
    return compare(cases, lab.repeated(3), checks, tell, told)


@needs_gpu
def compact(lab: Lab) -> Result:
    """G1: the compact network."""
    return against_plain(lab, ["model=custom", "model.norm=batch", "+aug=full"], {"network": "compact"}, 5.0)


@needs_gpu
def wide(lab: Lab) -> Result:
    """G2: the wide network."""
    return against_plain(lab, ["model=conv3_wide", "model.norm=batch", "+aug=full"], {"network": "wide"}, 2.5)


@needs_gpu
def transfer(lab: Lab) -> Result:
    """G3: a ResNet-18 of which the head and the batch norm learn."""
    overrides = ["model=resnet18", "model.freeze=backbone", "model.bn=train", "+aug=full"]
    settings: dict[str, Any] = {"network": "resnet18", "freeze": "norm"}
    if lab.weights:
        overrides.append(f"model.weights={lab.weights}")
        settings["weights"] = str(lab.weights)
    return against_plain(lab, overrides, settings, 4.0)


@needs_gpu
def packed(lab: Lab) -> Result:
    """G4: seeds of a small network, eight at a time on one device, against one after another."""
    tree = subset(lab, "cifar10", lab.pick(50000, 300), lab.pick(10000, 50))
    seeds = lab.pick(16, 2)
    words = [
        *("-m", *read_by_cnnexp(tree, 32), "model=custom", "model.norm=batch", "+aug=full", "batch_size=128"),
        *(f"epochs={lab.trained(10)}ep", f"seed={','.join(map(str, range(seeds)))}"),
    ]
    prepare(lab, words)
    accuracies: dict[str, dict[int, float]] = {}

    def swept(name: str, slots: str) -> Case:
        def run(repeat: int) -> Numbers:
            made = train(lab, [*words, f"slots={slots}"], gpu=True)
            accuracies[name] = {info["seed"]: info["result"]["test_accuracy"] for info in made.records}
            return {
                "wall_seconds": made.seconds,
                "recorded_seconds": made.recorded_seconds(),
                "test_accuracy": made.mean("test_accuracy"),
                "peak_memory_mib": max(info["result"]["peak_memory_mib"] for info in made.records),
            }

        return Case(name, lab.readable([*CNNEXP, "train", *words, f"slots={slots}"]), run)

    cases = [swept("eight at a time", "cuda:0*8"), swept("one after another", "cuda:0")]
    check = Check(f"{seeds} runs on one device", "seconds", 3.0, "wall_seconds", cases[0].name, cases[1].name)
    result = compare(cases, lab.repeated(2), [check], tell, {"epochs": lab.trained(10)})
    if len(accuracies) == 2:
        first, second = (accuracies[case.name] for case in cases)
        apart = max(abs(first[seed] - second[seed]) for seed in first)
        result.facts["largest difference of a run's test accuracy, packed or not"] = round(apart, 6)
    return result


@needs_gpu
def ablations(lab: Lab) -> Result:
    """G5: the whole ablation, one seed, with the small and with the wide network."""
    tree = subset(lab, "imagenette", lab.pick(9469, 300), lab.pick(3925, 50))
    base = [*read_by_cnnexp(tree, 160), f"epochs={lab.trained(50)}ep", "batch_size=128", "seed=0", "device=cuda"]
    prepare(lab, base)
    cases = []
    for model in ("custom", "conv3_wide"):
        words = ["+study=ablation", f"+arm={ARMS}", f"model={model}", *base]
        cases.append(sweep_case(lab, f"5 arms, model={model}", words))
    if lab.weights:
        words = ["+study=ablation", "+arm=resnet18_frozen_bn,resnet18_unfrozen_bn", *base]
        cases.append(sweep_case(lab, "2 arms that transfer", [*words, f"backbone.weights={lab.weights}"]))
    checks = [Check(case.name, "limit", 600.0, "wall_seconds", case.name) for case in cases]
    facts = {"epochs": lab.trained(50)} | ({} if lab.weights else {"arms that transfer": "left out: no --weights"})
    return compare(cases, lab.repeated(1), checks, tell, facts)


def sweep_case(lab: Lab, name: str, words: list[str]) -> Case:
    """Return the case of one sweep on the device."""

    def run(repeat: int) -> Numbers:
        made = train(lab, words, gpu=True)
        return {"wall_seconds": made.seconds, "recorded_seconds": made.recorded_seconds()}

    return Case(name, lab.readable([*CNNEXP, "train", *words]), run)
