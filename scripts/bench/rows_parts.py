"""Rows about parts of a run: input, start, the runner's own cost."""

import json
import sys

from bench import process
from bench.lab import CNNEXP, Lab, tell
from bench.result import Case, Check, Failed, Numbers, Result, compare, measure
from bench.rows_training import COMPACT
from bench.runs import in_turn, prepare, rival, script, tell_one_line
from bench.trees import read_by_cnnexp, subset


def input_pipeline(lab: Lab) -> Result:
    """C5: making batches, without training on them."""
    num_train = lab.pick(4000, 300)
    tree = subset(lab, "imagenette", num_train, lab.pick(500, 50))
    overrides = [*read_by_cnnexp(tree, 64), *COMPACT]
    prepared = prepare(lab, overrides)
    settings = {"root": str(tree), "size": 64, "epochs": lab.pick(2, 1)}
    words = json.dumps({"overrides": overrides, "steps": lab.pick(100, 3)})
    command = [sys.executable, str(script("inside", "pipeline.py")), words]

    def run(repeat: int) -> Numbers:
        told, _ = tell_one_line(lab, command)
        return {name: float(value) for name, value in told.items()}

    cases = [
        Case("cnnexp", lab.readable(command), run),
        rival(lab, "plain, 2 workers", settings, "plain_loader.py"),
    ]
    check = Check("batches of augmented images", "rate", 10.0, "images_per_second", "cnnexp", cases[1].name)
    facts = {"training images": num_train * 9 // 10, "decoded once, seconds": prepared.seconds}
    return compare(cases, lab.repeated(), [check], tell, facts)


def limit(lab: Lab) -> Result:
    """The rows C1, C3 and C7 without all that a runner could spare: what no runner could be faster than."""
    imagenette, cifar10 = (
        subset(lab, name, lab.pick(2000, 300), lab.pick(500, 50)) for name in ("imagenette", "cifar10")
    )
    compact = [*read_by_cnnexp(imagenette, 64), *COMPACT]
    vgg_like = [*read_by_cnnexp(cifar10, 32), "model=vgg_like", "optimizer=adagrad", "batch_size=64", "device=cpu"]
    small = ["data=shapes", "model=custom", "device=cpu"]
    sets = {
        "C1, fp32": [*compact, "device.precision=fp32"],
        "C1, bf16": [*compact, "device.precision=bf16"],
        "C3, fp32": [*vgg_like, "device.precision=fp32"],
        "C7's baseline, fp32, two threads": small,
        "C7's baseline, fp32, one thread": [*small, "device.threads=1"],
    }

    def case(name: str, overrides: list[str]) -> Case:
        words = json.dumps({"overrides": overrides, "seconds": lab.pick(8, 1)})
        command = [sys.executable, str(script("inside", "limit.py")), words]

        def run(repeat: int) -> Numbers:
            told, _ = tell_one_line(lab, command)
            return {name: float(value) for name, value in told.items()}

        return Case(name, lab.readable(command), run)

    for overrides in sets.values():
        prepare(lab, overrides)
    return compare([case(name, overrides) for name, overrides in sets.items()], lab.repeated(), [], tell)


def start(lab: Lab) -> Result:
    """C6: what a person waits for before anything happens: the help, and the answer to a wrong key."""

    def timed(words: list[str], code: int) -> Case:
        def run(repeat: int) -> Numbers:
            return {"wall_seconds": process.run([*CNNEXP, *words], lab.environment(), lab.work, False, [code]).seconds}

        return Case(" ".join(["cnnexp", *words]), lab.readable([*CNNEXP, *words]), run)

    cases = [timed(["--help"], 0), timed(["train", "model.nrom=batch"], 2)]
    measure(cases, 1, lambda line: None)  # so that what Python compiles and the disk reads once is not counted
    limits = zip(cases, (0.3, 1.5), strict=True)
    checks = [Check(case.name, "limit", target, "wall_seconds", case.name) for case, target in limits]
    words = [sys.executable, "-X", "importtime", *CNNEXP[1:], "train", "model.nrom=batch"]
    wrong = process.run(words, lab.environment(), lab.work, expected=[2])
    imported = {
        line.rpartition("|")[2].strip() for line in wrong.errors.splitlines() if line.startswith("import time:")
    }
    facts = {"the answer": wrong.errors.strip().splitlines()[-1], "torch is imported for it": "torch" in imported}
    return compare(cases, lab.repeated(), checks, tell, facts)


def runner(lab: Lab) -> Result:
    """C8: what the runner adds to a loop written by hand with the same tricks."""
    small = [
        "data=shapes",
        "device=cpu",
        "model=custom",
        "model.norm=batch",
        "batch_size=32",
        f"epochs={lab.trained(5)}ep",
    ]
    sets = {"shapes 32 px": [*small, "+aug=full"]}
    result = Result({})
    try:
        tree = subset(lab, "imagenette", lab.pick(2000, 300), lab.pick(500, 50))
        sets["imagenette 64 px"] = [*read_by_cnnexp(tree, 64), *COMPACT, f"epochs={lab.trained(2)}ep"]
    except Exception as missing:
        result.facts["imagenette 64 px"] = str(missing)
    for name, overrides in sets.items():
        ours_name, bare = f"cnnexp, {name}", f"by hand, {name}"
        result.checks += [
            Check(f"training steps, {name}", "percent", 3.0, "train_seconds", ours_name, bare),
            Check(f"with validation, rows and checkpoints, {name}", "percent", None, "loop_seconds", ours_name, bare),
        ]
        try:
            prepare(lab, overrides)
            settings = {"overrides": [*overrides, "device.precision=fp32"], "repeats": lab.repeated() + 1}
            told = in_turn(lab, result, name, "bare.py", settings)[1:]  # the first warms both up
        except Failed as failure:
            result.problems[ours_name] = str(failure)
            continue
        for key, case in (("cnnexp", ours_name), ("bare", bare)):
            result.series[case] = {metric: [repeat[key][metric] for repeat in told] for metric in told[0][key]}
    return result
