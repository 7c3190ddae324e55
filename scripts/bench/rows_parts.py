"""Rows about parts of a run: input, start, the runner's own cost, checkpoints and rows."""

import json
import sys

from bench import process
from bench.lab import CNNEXP, Lab, tell
from bench.result import Case, Check, Failed, NotMeasured, Numbers, Result, compare, measure
from bench.rows_training import COMPACT
from bench.runs import ours, prepare, rival, script, tell_one_line
from bench.trees import read_by_cnnexp, subset

# What looking costs: a row of the table each, against a run with none of them. Add a probe here.
PROBES = {
    "checkpoint every epoch": ["checkpoint.every=1ep"],
    "checkpoint as by default": ["checkpoint.every=auto"],
    "a row for every step": ["checkpoint.every=1000ep", "log.steps=1st"],
    "a hash chain": ["checkpoint.every=1000ep", "log.hash_chain=true"],
    "probes=none, typed": ["checkpoint.every=1000ep", "probes=none"],
    **{
        f"probes={name}": ["checkpoint.every=1000ep", f"probes={name}"]
        for name in ("gradients", "updates", "activations", "dead_units", "batch_norm", "all")
    },
}
NO_PROBES = ["checkpoint.every=1000ep"]
SHORT_RUNS = 3  # times as many repeats of what takes seconds, beside what takes minutes


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
            told = in_turn(lab, result, name, [*overrides, "device.precision=fp32"])
        except Failed as failure:
            result.problems[ours_name] = str(failure)
            continue
        for key, case in (("cnnexp", ours_name), ("bare", bare)):
            result.series[case] = {metric: [repeat[key][metric] for repeat in told] for metric in told[0][key]}
    return result


def in_turn(lab: Lab, result: Result, name: str, overrides: list[str]) -> list[dict[str, dict[str, float]]]:
    """Train by both in one process; return what was told of every repeat but the first, which warms both up."""
    outputs = lab.fresh()
    settings = {"overrides": overrides, "repeats": lab.repeated() + 1, "outputs": str(outputs)}
    command = [sys.executable, str(script("inside", "bare.py")), json.dumps(settings)]
    result.commands[name] = lab.readable([*command[:2], json.dumps({**settings, "outputs": "WORK/outputs/RUN"})])
    tell(f"{name}: by cnnexp and by hand, {lab.repeated() + 1} times in turn")
    try:
        told: list[dict[str, dict[str, float]]] = tell_one_line(lab, command)[0]  # type: ignore[assignment]
    finally:
        lab.drop(outputs)
    return told[1:]


def probes(lab: Lab) -> Result:
    """C9: what checkpoints, evaluation, rows of steps and looks inside the training cost, once an epoch."""
    trained = [*COMPACT, "device.precision=fp32", f"epochs={lab.trained(3)}ep"]
    sets = {name: [f"data={name}", *trained, "batch_size=32"] for name in ("shapes", "textures")}
    missing = {}
    try:
        tree = subset(lab, "imagenette", lab.pick(2000, 300), lab.pick(500, 50))
        sets["imagenette 64 px"] = [*read_by_cnnexp(tree, 64), *trained]
    except NotMeasured as reason:
        missing["imagenette 64 px"] = str(reason)
    cases, checks = [], []
    for data, base in sets.items():
        prepare(lab, base)
        none = f"{data}: none of them"
        cases.append(ours(lab, none, [*base, *NO_PROBES]))
        for name, overrides in PROBES.items():
            cases.append(ours(lab, f"{data}: {name}", [*base, *overrides]))
            checks.append(Check(f"{data}: {name}", "percent", None, "loop_seconds", f"{data}: {name}", none))
    result = compare(cases, lab.repeated(3), checks, tell, missing)
    add_loop(result)
    return result


def safety(lab: Lab) -> Result:
    """What checkpoints cost as they are by default, against a run that saves at its end alone.

    The wide network's has 2.5 GB with Adam: more than any other network here.
    """
    sets = {"embedded study": ["data=shapes", "model=custom", "model.norm=batch", f"epochs={lab.trained(10)}ep"]}
    missing = {}
    try:
        tree = subset(lab, "imagenette", lab.pick(712, 200), lab.pick(500, 50))
        wide = ["model=custom_wide", "model.norm=batch", "data.train_limit=300", "data.test_limit=50", "batch_size=32"]
        sets["wide network, 160 px"] = [*read_by_cnnexp(tree, lab.pick(160, 32)), *wide, f"epochs={lab.trained(2)}ep"]
    except NotMeasured as reason:
        missing["wide network, 160 px"] = str(reason)
    result = Result({}, facts=dict(missing))
    for name, words in sets.items():
        overrides = [*words, "device=cpu", "device.precision=fp32"]
        prepare(lab, overrides)
        kept, none = f"{name}: as by default", f"{name}: at the end alone"
        cases = [ours(lab, kept, overrides), ours(lab, none, [*overrides, *NO_PROBES])]
        times = lab.repeated(3) * (SHORT_RUNS if name == "embedded study" and not lab.quick else 1)
        result.add(compare(cases, times, [], tell))
        result.facts[f"repeats, {name}"] = times
    add_loop(result)
    for name in sets:
        add_saves(result, name)
    return result


def add_saves(result: Result, name: str) -> None:
    """Compare the loop with what it would take without the seconds for which its saves keep it, all but the last save.

    Beside it stands the difference of the whole loops, which holds what saving does to the training beside it, and what
    else the machine does meanwhile: that is more than 3 % of such a run.
    """
    kept, none, less = f"{name}: as by default", f"{name}: at the end alone", f"{name}: as by default, less its saves"
    if kept not in result.series or none not in result.series:
        return
    own, end = result.series[kept], result.series[none]
    saves = [a - b for a, b in zip(own["checkpoint_seconds"], end["checkpoint_seconds"], strict=False)]
    result.series[less] = {"loop_seconds": [a - b for a, b in zip(own["loop_seconds"], saves, strict=False)]}
    result.checks += [
        Check(f"{name}: for which the loop waits", "percent", 3.0, "loop_seconds", kept, less),
        Check(f"{name}: whole loop", "percent", 3.0, "loop_seconds", kept, none),
    ]


def add_loop(result: Result) -> None:
    """Add to every case the time of the whole loop, and what share of it went elsewhere than into training."""
    for name, metrics in result.series.items():
        parts = [
            part for part in ("train", "evaluate", "checkpoint", "probes", "hash_chain") if f"{part}_seconds" in metrics
        ]
        metrics["loop_seconds"] = [
            sum(repeat) for repeat in zip(*(metrics[f"{p}_seconds"] for p in parts), strict=True)
        ]
        shares = {p: 100 * sum(metrics[f"{p}_seconds"]) / sum(metrics["loop_seconds"]) for p in parts[1:]}
        result.facts[f"share of the loop, {name}"] = ", ".join(
            f"{part} {share:.1f} %" for part, share in shares.items()
        )
