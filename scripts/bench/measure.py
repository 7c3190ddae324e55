"""Measure a row: prepare the images of each set, then run its cases in turn."""

import dataclasses
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import cases, lab, process
from bench.images import EMBEDDED
from bench.lab import BENCH, CNNEXP, Lab, say
from bench.process import NotMeasured
from bench.results import Numbers, add
from bench.table import Row, Set, sets_of

GPU = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"


def measure(row: Row, where: Lab) -> dict[str, Any]:
    """Measure a row. If nothing of it can be measured, `not_measured` says why."""
    gpu = process.run([sys.executable, "-c", GPU]).output.strip() if row["gpu"] else None
    found = {**lab.machine(gpu), "quick": where.quick, "not_measured": None}
    found |= {"commands": {}, "facts": {}, "problems": {}, "repeats": []}
    for part in sets_of(row, where):
        try:
            if gpu == "":
                raise NotMeasured("no CUDA device")
            measure_set(part, dataclasses.replace(where, gpu=row["gpu"]), found)
        except NotMeasured as reason:
            say(f"not measured: {reason}")
            found["problems"][part["name"] or "all cases"] = str(reason)
    if found["problems"] and not found["repeats"]:
        found["not_measured"] = next(iter(found["problems"].values()))
    return found


def measure_set(part: Set, where: Lab, found: dict[str, Any]) -> None:
    """Measure the cases of a set and add them to the row. Raises NotMeasured without its images."""
    repeats = 1 if where.quick else where.repeats or part["repeats"]
    facts = prepare(part, where) if part["images"] else {}
    for name, case in part["before"].items():
        numbers = cases.measure(where, part, case, 0)
        facts[f"{name}, seconds"] = round(numbers["wall_seconds"], 2)
    found["facts"] |= {f"{part['name']}: {name}".removeprefix(": "): value for name, value in facts.items()}
    if part["one_process"]:
        in_one_process(part, where, repeats, found)
        return
    found["commands"] |= {name: cases.readable(where, part, case) for name, case in part["cases"].items()}
    for repeat in range(repeats):
        for name in order(list(part["cases"]), repeat):
            if name in found["problems"]:
                continue
            say(f"{name}: repeat {repeat + 1} of {repeats}")
            try:
                add(found, name, repeat + 1, cases.measure(where, part, part["cases"][name], repeat))
            except NotMeasured as reason:
                found["problems"][name] = str(reason)
                say(f"failed: {reason}")
    if part["images"] and part["images"].source == "copies":  # a million names slow down whoever walks over them
        shutil.rmtree(part["images"].root(where))


def order(names: list[str], repeat: int) -> list[str]:
    """Return the order of a repeat: A B C, C B A, A B C, ... so that a drift of the machine affects all cases alike."""
    return names[:: 1 if repeat % 2 == 0 else -1]


def prepare(part: Set, where: Lab) -> dict[str, Any]:
    """Make the images and let cnnexp decode them into its cache, if they are not there; return facts about them.

    Raises NotMeasured if they are missing. Embedded images are made only for a rival, by its command.
    """
    if part["images"].source not in EMBEDDED:
        part["images"].make(where)
    words = [word for word in part["words"] if word.startswith(("data=", "data."))]
    output = where.run([*CNNEXP, "data", *words]).output
    (line,) = [line for line in output.splitlines() if line.startswith("cache ")]
    folder = Path(line.removeprefix("cache").strip().rpartition(" (")[0])
    return {
        "decoded once, seconds": json.loads((folder / "meta.json").read_text())["seconds"],
        "prepared images, MiB": round((folder / "images.npy").stat().st_size / 2**20, 1),
    }


def in_one_process(part: Set, where: Lab, repeats: int, found: dict[str, Any]) -> None:
    """Train the cases of a set in turn in one process, and add their numbers to the row."""
    words = {name: [*part["words"], *next(iter(case.values()))] for name, case in part["cases"].items()}
    settings = {"cases": words, "by_hand": [name for name, case in part["cases"].items() if "by_hand" in case]}
    program: list[Any] = [sys.executable, BENCH / "inside" / "turns.py"]
    for_readers = {**settings, "repeats": "REPEATS", "outputs": "RUN"}  # the same for any number of repeats
    found["commands"][part["name"]] = where.readable([*program, json.dumps(for_readers)])
    say(f"{part['name']}: {repeats} times in turn")
    with tempfile.TemporaryDirectory(dir=where.folder("outputs")) as outputs:
        result = where.run([*program, json.dumps({**settings, "repeats": repeats, "outputs": outputs})]).result()
    for number, repeat in enumerate(result["repeats"], 1):
        derive(repeat, part["name"])
        for case, numbers in repeat.items():
            add(found, case, number, numbers)


def derive(repeat: dict[str, Numbers], name: str) -> None:
    """Add to the numbers of a set what its own clocks say. Both leave out the last save, which every run has.

    The share of its loop that each probe, hash chain or checkpoint takes, in percent. As a case, the loop `by default`
    without the time for which it waits for its saves; complete loops also differ by what saving does to the training.
    """
    if none := repeat.get(f"{name}: none"):
        for case, own in repeat.items():
            seconds = own.get("probes_seconds", own.get("hash_chain_seconds"))
            if "checkpoint" in case:
                seconds = own["checkpoint_seconds"] - none["checkpoint_seconds"]
            if seconds is not None:
                own["own_share_percent"] = 100 * seconds / own["loop_seconds"]
    if last := repeat.get(f"{name}: only at the end"):
        own = repeat[f"{name}: by default"]
        waits = own["checkpoint_seconds"] - last["checkpoint_seconds"]
        repeat[f"{name}: by default, minus its saves"] = {"loop_seconds": own["loop_seconds"] - waits}
