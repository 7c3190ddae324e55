"""Rows about memory: of a run and of a sweep's worker, against the plain loop; and data larger than the memory."""

from pathlib import Path
from typing import Any

from bench import process
from bench.cgroup import forget, limited
from bench.lab import CNNEXP, Lab, tell
from bench.result import Case, Check, Failed, NotMeasured, Numbers, Result, compare
from bench.rows_training import COMPACT
from bench.runs import prepare, rival_command, tell_one_line, train
from bench.trees import copies, read_by_cnnexp, subset
from cnnexp.records.run_record import find_runs


def memory(lab: Lab) -> Result:
    """C10: the most memory of a run, of a sweep's worker and of the plain loop, and a run that has too little."""
    whole = Result({})
    for name, source, size, num_train in (
        ("cifar10 32 px", "cifar10", 32, lab.pick(10000, 200)),
        ("imagenette 160 px", "imagenette", 160, lab.pick(2000, 200)),
    ):
        try:
            part = peaks(lab, name, subset(lab, source, num_train, lab.pick(1000, 50)), size)
        except NotMeasured as missing:
            whole.facts[name] = str(missing)
            continue
        whole.add(part)
    larger_than_memory(lab, whole)
    return whole


def peaks(lab: Lab, name: str, tree: Path, size: int) -> Result:
    """Compare the peaks of memory on one data set."""
    overrides = [*read_by_cnnexp(tree, size), *COMPACT, "epochs=1ep", "device.precision=fp32"]
    prepared = prepare(lab, overrides)
    settings: dict[str, Any] = {"root": str(tree), "size": size}
    frugal = [*overrides, "device.keep_memory=false"]
    sweep = ["-m", *overrides, "slots=cpu:1", "device.threads=1"]

    def run(repeat: int) -> Numbers:
        return peak_numbers(train(lab, [*overrides, f"seed={repeat}"], watch=True).memory)

    def give_back(repeat: int) -> Numbers:
        return peak_numbers(train(lab, [*frugal, f"seed={repeat}"], watch=True).memory)

    def worker(repeat: int) -> Numbers:
        seen = train(lab, [*sweep, f"seed={2 * repeat},{2 * repeat + 1}"], watch=True).memory
        return {"peak_mib": seen.child, "whole_sweep_mib": seen.without_data}

    def plain(repeat: int) -> Numbers:
        _, finished = tell_one_line(lab, rival_command("plain.py", {**settings, "seed": repeat}), watch=True)
        return peak_numbers(finished.memory)

    cases = [
        Case(f"cnnexp, {name}", lab.readable([*CNNEXP, "train", *overrides]), run),
        Case(f"cnnexp, memory given back, {name}", lab.readable([*CNNEXP, "train", *frugal]), give_back),
        Case(f"a sweep's worker, {name}", lab.readable([*CNNEXP, "train", *sweep, "seed=0,1"]), worker),
        Case(f"plain, {name}", lab.readable(rival_command("plain.py", settings)), plain),
    ]
    checks = [
        Check(
            f"{case.name}, against the plain loop with its workers", "share", 1.2, "peak_mib", case.name, cases[-1].name
        )
        for case in cases[:-1]
    ]
    facts = {f"prepared images, {name}, MiB": round(prepared.image_bytes / 2**20, 1)}
    return compare(cases, lab.repeated(3), checks, tell, facts)


def peak_numbers(memory: process.Memory) -> Numbers:
    """Return the peaks: peak_mib of a process and all that it starts, without the prepared images."""
    return {
        "peak_mib": memory.without_data,
        "peak_with_data_mib": memory.tree,
        "main_process_mib": memory.main,
    }


def larger_than_memory(lab: Lab, result: Result) -> None:
    """Make a run on data that is larger than the memory it may have, pages of files included."""
    count, limit = lab.pick(28_000, 300), 2**30
    name = "a run on data larger than its memory"
    network = "model.blocks=[{conv:{out:4,kernel:3,stride:4}},{pool:{kernel:2}},{fc:{out:16}}]"
    tree = copies(lab, count, 160)
    overrides = [*read_by_cnnexp(tree, 160), network, "epochs=1ep", "batch_size=64", "device=cpu"]
    prepared = prepare(lab, overrides)
    forget(prepared.folder / "images.npy")
    result.commands[name] = lab.readable([*CNNEXP, "train", *overrides])
    result.facts[f"{name}: the data, GiB"] = round(prepared.image_bytes / 2**30, 2)
    result.facts[f"{name}: the limit (a control group), GiB"] = round(limit / 2**30, 2)
    tell(f"{name}: {prepared.image_bytes / 2**30:.2f} GiB within {limit / 2**30:.2f} GiB")
    try:
        result.facts |= {f"{name}: {key}": value for key, value in within(lab, overrides, limit).items()}
    except (NotMeasured, Failed) as missing:
        result.problems[name] = str(missing)
    finally:
        for folder in (tree, prepared.folder):
            lab.drop(folder)


def within(lab: Lab, overrides: list[str], limit: int) -> dict[str, Any]:
    """Make a run in a control group that may hold `limit` bytes; return what is to be told of it."""
    outputs = lab.fresh()
    try:
        with limited(limit) as group:
            command = group.entering([*CNNEXP, "train", *overrides, f"outputs={outputs}"])
            finished = process.run(command, lab.environment(), lab.work, watch=True)
            peak = group.peak_mib()
        done = [run.status for run in find_runs(outputs)] == ["done"]
    finally:
        lab.drop(outputs)
    return {
        "done": done,
        "the most that the group held, pages of files that it read first included, GiB": peak
        and round(peak / 2**10, 2),
        "proportional set size without the images, GiB": round(finished.memory.without_data / 2**10, 2),
        "seconds": round(finished.seconds, 1),
    }
