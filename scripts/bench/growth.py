"""How cost grows: with the number of runs in a sweep, and with the number of images in a data set."""

import json
import re
from pathlib import Path

from bench import process
from bench.lab import CNNEXP, Lab, tell
from bench.result import Case, Numbers, Result, compare
from bench.runs import train_in
from bench.trees import copies, read_by_cnnexp

RUNS = (1, 10, 100, 1000)
IMAGES = (1_000, 10_000, 100_000, 1_000_000)
NETWORK = "model.blocks=[{conv:{out:4,kernel:3}},{pool:{kernel:2}},{fc:{out:8}}]"  # the row is not about training


def runs(lab: Lab) -> Result:
    """Sweeps of 1 to 1,000 tiny runs: the plan, the sweep, the report."""
    counts = (1, 3) if lab.quick else RUNS
    words = [
        "-m",
        "data.num_train=100",
        "data.num_test=50",
        "data.size=16",
        "epochs=1ep",
        "batch_size=32",
        "device=cpu",
    ]
    process.run([*CNNEXP, "data", "shapes", *words[1:4]], lab.environment(), lab.work)

    def case(count: int) -> Case:
        overrides = [*words, f"seed=range({count})"]

        def run(repeat: int) -> Numbers:
            return one_sweep(lab, overrides, count)

        return Case(str(count), lab.readable([*CNNEXP, "train", *overrides]), run)

    return compare([case(count) for count in counts], lab.repeated(3), [], tell)


def one_sweep(lab: Lab, overrides: list[str], count: int) -> Numbers:
    """Plan, make and report a sweep of `count` runs."""
    outputs = lab.fresh()
    try:
        words = [*CNNEXP, "train", "--plan", *overrides, f"outputs={outputs}"]
        planned = process.run(words, lab.environment(), lab.work, watch=True)
        swept = train_in(lab, overrides, outputs, watch=True)
        words = [*CNNEXP, "report", str(outputs / "runs"), "--quiet"]
        reported = process.run(words, lab.environment(), lab.work, watch=True)
    finally:
        lab.drop(outputs)
    assert len(swept.records) == count
    return {
        "plan_seconds": planned.seconds,
        "sweep_seconds": swept.seconds,
        "sweep_seconds_per_run": swept.seconds / count,
        "added_seconds_per_run": swept.overhead_seconds() / count,
        "report_seconds": reported.seconds,
        "sweep_parent_mib": swept.memory.main,
        "report_mib": reported.memory.main,
    }


def images(lab: Lab) -> Result:
    """Data sets of 1,000 to 1,000,000 images: preparing them once, and starting a run with them prepared."""
    counts = (200, 400) if lab.quick else IMAGES
    folders = {count: copies(lab, count, 8) for count in counts}

    def case(count: int) -> Case:
        overrides = [*read_by_cnnexp(folders[count], 8), NETWORK, "epochs=1st", "batch_size=32", "device=cpu"]

        def run(repeat: int) -> Numbers:
            return one_start(lab, overrides)

        return Case(str(count), lab.readable([*CNNEXP, "train", *overrides]), run)

    try:
        return compare([case(count) for count in counts], lab.repeated(3), [], tell)
    finally:
        for folder in folders.values():  # a million names are slow to walk over for whoever looks through the scratch
            lab.drop(folder)


def one_start(lab: Lab, overrides: list[str]) -> Numbers:
    """Prepare a data set from nothing, then make a run of one step on it."""
    cache, outputs = lab.fresh(), lab.fresh()
    words = [*overrides, f"data.cache={cache}"]
    try:
        data = [*CNNEXP, "data", "--no-page", *(word for word in words if word.startswith("data"))]
        prepared = process.run(data, lab.environment(), lab.work, watch=True)
        seconds = json.loads(found(prepared.output, cache).read_text())["seconds"]
        swept = train_in(lab, words, outputs, watch=True)
    finally:
        lab.drop(cache)
        lab.drop(outputs)
    recorded = swept.records[0]["seconds"]
    return {
        "prepare_seconds": seconds,
        "start_seconds": swept.seconds - swept.recorded_seconds(),
        "evaluate_seconds": recorded["evaluate"],
        "prepare_mib": prepared.memory.without_data,
        "run_mib": swept.memory.without_data,
        "run_with_data_mib": swept.memory.tree,
    }


def found(output: str, cache: Path) -> Path:
    """Return meta.json of the prepared data that `cnnexp data` told of."""
    line = re.search(rf"{re.escape(str(cache))}/\S+", output)
    assert line is not None, output
    return Path(line.group(0)) / "meta.json"
