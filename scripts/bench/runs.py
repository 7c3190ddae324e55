"""How cnnexp and its rivals are started, and how their numbers are read."""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import process
from bench.lab import BENCH, CNNEXP, REPOSITORY, Lab, tell
from bench.process import Memory
from bench.result import Case, Failed, Numbers, Result
from cnnexp.records.run_record import find_runs

RESULTS = ("images_per_second", "val_accuracy", "test_accuracy", "peak_memory_mib")


@dataclass(frozen=True)
class Trained:
    """What one command of cnnexp made.

    seconds: of the whole process; records: run.json of each of its runs; slots: how many ran at a time.
    """

    seconds: float
    records: list[dict[str, Any]]
    slots: int
    memory: Memory

    def numbers(self) -> Numbers:
        """Return the numbers of the one run that was made."""
        (info,) = self.records
        found: Numbers = {"wall_seconds": self.seconds}
        for name in RESULTS:
            if info["result"].get(name) is not None:
                found[name] = info["result"][name]
        for name, seconds in info["seconds"].items():
            found[f"{name}_seconds"] = seconds
        return found

    def mean(self, name: str) -> float:
        """Return the mean of a result over the runs."""
        return float(sum(info["result"][name] for info in self.records) / len(self.records))

    def recorded_seconds(self) -> float:
        """Return the sum of what the runs recorded as their time."""
        return float(sum(info["seconds"]["total"] for info in self.records))

    def overhead_seconds(self) -> float:
        """Return what is left of the process's time without its runs, shared out evenly among the slots."""
        return self.seconds - self.recorded_seconds() / self.slots


def train(lab: Lab, overrides: Sequence[str], watch: bool = False, gpu: bool = False) -> Trained:
    """Run `cnnexp train` with fresh outputs, which do not stay. Raises Failed if a run is not done."""
    outputs = lab.fresh()
    try:
        return train_in(lab, overrides, outputs, watch, gpu)
    finally:
        lab.drop(outputs)


def train_in(
    lab: Lab,
    overrides: Sequence[str],
    outputs: Path,
    watch: bool = False,
    gpu: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Trained:
    """Run `cnnexp train` with its outputs in a folder. Raises Failed if a run is not done.

    environment: variables on top of the lab's.
    """
    command = [*CNNEXP, "train", *overrides, f"outputs={outputs}"]
    finished = process.run(command, {**lab.environment(gpu), **(environment or {})}, lab.work, watch)
    records = [run.info for run in find_runs(outputs)]
    if not records or any(info.get("status") != "done" for info in records):
        raise Failed("a run is not done: " + (finished.errors.strip() or "no message").splitlines()[-1])
    return Trained(finished.seconds, records, slots_of(finished.output), finished.memory)


def slots_of(output: str) -> int:
    """Return the number of slots that a sweep said it has: "6 runs, 0 done before, on 2 slot(s) (cpu; ...)"."""
    found = re.search(r"done before, on (\d+) slot", output)
    return int(found.group(1)) if found else 1


def ours(lab: Lab, name: str, overrides: Sequence[str], gpu: bool = False, seen: dict[str, Any] | None = None) -> Case:
    """Return the case of one run of cnnexp; its seed is the number of the repeat. seen[name]: its last run.json."""

    def run(repeat: int) -> Numbers:
        made = train(lab, [*overrides, f"seed={repeat}"], gpu=gpu)
        if seen is not None:
            seen[name] = made.records[0]
        return made.numbers()

    return Case(name, lab.readable([*CNNEXP, "train", *overrides, "seed=REPEAT"]), run)


def script(folder: str, file: str) -> Path:
    """Return a script of the benchmark that is started as a process of its own."""
    return BENCH / folder / file


def tell_one_line(
    lab: Lab, command: Sequence[str | Path], watch: bool = False, gpu: bool = False
) -> tuple[dict[str, Any], process.Finished]:
    """Run a script that prints its results as one line of JSON; return them."""
    finished = process.run(command, lab.environment(gpu), lab.work, watch)
    try:
        told = json.loads(finished.last_line())
    except ValueError as error:
        raise Failed(f"its last line is no JSON: {finished.last_line()[:200]}") from error
    return told, finished


def in_turn(
    lab: Lab, result: Result, name: str, file: str, settings: dict[str, Any]
) -> list[dict[str, dict[str, float]]]:
    """Run a script of `inside` that trains in turn in one process; return what it told of every repeat.

    Its command goes into the result under this name. Raises Failed if it ends otherwise than well.
    """
    outputs = lab.fresh()
    command = [sys.executable, str(script("inside", file)), json.dumps({**settings, "outputs": str(outputs)})]
    told_as = {"outputs": "WORK/outputs/RUN", "repeats": "REPEATS"}  # the same however often, so that repeats add up
    result.commands[name] = lab.readable([*command[:2], json.dumps({**settings, **told_as})])
    tell(f"{name}: {settings['repeats']} times in turn")
    try:
        told: list[dict[str, dict[str, float]]] = tell_one_line(lab, command)[0]  # type: ignore[assignment]
    finally:
        lab.drop(outputs)
    return told


def rival_command(file: str, settings: dict[str, Any], python: Path | str = sys.executable) -> list[str | Path]:
    """Return the command of a rival with its settings."""
    return [python, script("rivals", file), json.dumps(settings)]


def rival(
    lab: Lab,
    name: str,
    settings: dict[str, Any],
    file: str = "plain.py",
    gpu: bool = False,
    python: Callable[[], Path | str] = lambda: sys.executable,
    seen: dict[str, Any] | None = None,
) -> Case:
    """Return the case of one run of a rival; its seed is the number of the repeat. seen[name]: what it told last.

    python: returns the interpreter; it is asked when the case is first run, since it may have to be installed.
    """

    def run(repeat: int) -> Numbers:
        command = rival_command(file, {**settings, "seed": repeat}, python())
        told, finished = tell_one_line(lab, command, gpu=gpu)
        if seen is not None:
            seen[name] = told
        return {"wall_seconds": finished.seconds, **{k: v for k, v in told.items() if isinstance(v, int | float)}}

    return Case(name, lab.readable(rival_command(file, settings)), run)


@dataclass(frozen=True)
class Prepared:
    """The decoded images of a data set. seconds: it took to make them; image_bytes: of the file that runs map."""

    folder: Path
    seconds: float
    image_bytes: int


def prepare(lab: Lab, overrides: Sequence[str]) -> Prepared:
    """Let cnnexp decode a data set into its cache, if it is not there; runs measured later find it warm."""
    words = [word for word in overrides if word.startswith(("data=", "data."))]
    finished = process.run([*CNNEXP, "data", *words], lab.environment(), REPOSITORY)
    lines = [line for line in finished.output.splitlines() if line.startswith("cache ")]
    folder = Path(lines[0].removeprefix("cache").strip().rpartition(" (")[0])
    seconds = json.loads((folder / "meta.json").read_text())["seconds"]
    return Prepared(folder, seconds, (folder / "images.npy").stat().st_size)
