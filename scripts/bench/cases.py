"""The kinds of cases: the command of each, and the numbers that are read from what it wrote."""

import itertools
import json
import os
import re
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import process
from bench.lab import BENCH, CNNEXP, Lab, say
from bench.process import Finished, NotMeasured
from bench.results import Numbers, combined
from bench.table import Case, Set, fill
from cnnexp.records.run_record import find_runs

Command = list[Any]
RESULTS = ("images_per_second", "val_accuracy", "test_accuracy", "peak_memory_mib")
RIVALS = {"plain": "plain.py", "lightning": "with_lightning.py", "fastai": "with_fastai.py"}
RIVALS["photographs"] = "photographs.py"
WITHOUT_WEIGHTS = re.compile(r"model\.weights=imagenet: the weights of \S+ are not available")
FOR_READERS = {"repeat": "REPEAT", "arm": "ARM", "seed": "SEED", "outputs": "WORK/outputs/RUN"}


def measure(lab: Lab, part: Set, case: Case, repeat: int) -> Numbers:
    """Measure a case once. Raises NotMeasured if its command fails."""
    found = []
    for names in each_command(case, {"repeat": repeat}):
        with tempfile.TemporaryDirectory(dir=lab.folder("outputs"), ignore_cleanup_errors=True) as outputs:
            line = command(lab, part, case, {**names, "outputs": outputs})
            numbers = KINDS[next(iter(case))](lab, line, case, Path(outputs))
        if "arm" in names:
            numbers[f"{names['arm']}_test_accuracy"] = numbers["test_accuracy"]
        found.append(numbers)
    return combined(found)


def each_command(case: Case, names: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the placeholders of each command of a case: one, or with `for_each` every combination of its values."""
    each: dict[str, list[Any]] = case.get("for_each", {})
    return [{**names, **dict(zip(each, values, strict=True))} for values in itertools.product(*each.values())]


def command(lab: Lab, part: Set, case: Case, names: Mapping[str, Any]) -> Command:
    """Return a command of a case."""
    kind = next(iter(case))
    argument = fill(case[kind], names)
    if kind == "command":
        return [*CNNEXP, *argument]
    if kind == "python":
        return [sys.executable, *argument]
    if kind in RIVALS:
        root = {"root": str(part["images"].make(lab)), "size": part["images"].size, "seed": names["repeat"]}
        settings = root | part["rival"] | argument | case.get("of_arm", {}).get(names.get("arm"), {})
        return [sys.executable, BENCH / "rivals" / RIVALS[kind], json.dumps(settings)]
    if kind in ("steps", "stages"):
        return [
            sys.executable,
            BENCH / "inside" / f"{kind}.py",
            json.dumps({"overrides": [*part["words"], *case.get("words", [])], **argument}),
        ]
    words = [*part["words"], *argument]
    if kind == "prepared":
        return [*CNNEXP, "data", "--no-page", *(word for word in words if word.startswith(("data=", "data.")))]
    if not any(word.startswith(("seed=", "--until-decided")) for word in words):
        words.append(f"seed={names['repeat']}")
    variables = [f"{name}={value}" for name, value in fill(case.get("environment", {}), names).items()]
    return [*(["env", *variables] if variables else []), *CNNEXP, "train", *words]


def readable(lab: Lab, part: Set, case: Case) -> str:
    """Return the command of a case for a reader."""
    text = lab.readable(command(lab, part, case, FOR_READERS))
    changed = ", with the settings of each arm" if "of_arm" in case else ""
    times = len(each_command(case, {}))
    return f"{text}     # {times} times{changed}" if times > 1 else text


def of_runs(finished: Finished, records: list[dict[str, Any]]) -> Numbers:
    """Return the means of the results, the sums of the times, and the time and memory of one `cnnexp train`."""
    runs, seconds, peaks = len(records), finished.seconds, finished.peaks
    found = combined([of_run(info) | later_epoch(info.get("rows", [])) for info in records])
    found |= {"wall_seconds": seconds, "recorded_seconds": found["total_seconds"], **peaks}
    found["start_seconds"] = seconds - found["recorded_seconds"] / slots_of(finished.output)
    if peaks and runs > 1:
        found |= {"peak_mib": peaks["largest_child_mib"], "complete_sweep_mib": peaks["peak_mib"]}
    label = "arm" if len({info.get("arm") for info in records}) > 1 else "seed"
    each = [{f"{info[label]}_test_accuracy": float(info["result"]["test_accuracy"])} for info in records]
    return found | (combined(each) if runs > 1 else {})


def of_run(info: Mapping[str, Any]) -> Numbers:
    """Return the numbers of a run.json."""
    result, device = info["result"], info["device"]
    found: Numbers = {name: float(result[name]) for name in RESULTS if result.get(name) is not None}
    found |= {f"{name}_seconds": float(seconds) for name, seconds in info["seconds"].items()}
    in_fp32 = {"layers kept in fp32": ", ".join(device.get("fp32_layers") or ["none"])}
    return found | (in_fp32 if device.get("precision") == "bf16" else {})


def later_epoch(rows: Sequence[Mapping[str, Any]]) -> Numbers:
    """Return {"later_epoch_seconds": the mean time of an epoch after the first}, from the metric rows of a run.

    An epoch is its training and its validation. Returns {} if there is one epoch only.
    """
    later = [row for row in rows if row["kind"] == "epoch" and row["epoch"] > 1]
    epochs = len({row["epoch"] for row in later})
    return {"later_epoch_seconds": sum(row["seconds"] for row in later) / epochs} if epochs else {}


def slots_of(output: str) -> int:
    """Return the number of slots that a sweep printed: "6 runs, 0 done before, on 2 slot(s) (cpu; ...)"."""
    found = re.search(r"done before, on (\d+) slot", output)
    return int(found.group(1)) if found else 1


def run_train(lab: Lab, line: Command, outputs: Path, sample: bool) -> tuple[Finished, list[dict[str, Any]]]:
    """Run `cnnexp train`; return also run.json of each run, and its metric rows as `rows`.

    Raises NotMeasured if a run is not done.
    """
    finished = lab.run([*line, f"outputs={outputs}"], sample)
    records = [run.info | {"rows": run.rows()} for run in find_runs(outputs)]
    if WITHOUT_WEIGHTS.search(str([info.get("error") for info in records])):
        raise NotMeasured("needs ImageNet weights, which are not on this machine")
    if not records or any(info.get("status") != "done" for info in records):
        raise NotMeasured("a run is not done: " + (finished.errors.strip() or "no message").splitlines()[-1])
    return finished, records


def train(lab: Lab, line: Command, case: Case, outputs: Path) -> Numbers:
    """Measure `cnnexp train`: one run, or a sweep."""
    return of_runs(*run_train(lab, line, outputs, case.get("sample", False)))


def study(lab: Lab, line: Command, case: Case, outputs: Path) -> Numbers:
    """Measure a sweep, its plan and its report."""
    sample = case.get("sample", False)
    planned = lab.run([*line, "--plan", f"outputs={outputs}"])
    swept, records = run_train(lab, line, outputs, sample)
    report: Command = [*CNNEXP, "report", outputs / "runs", "--quiet"]
    reported = lab.run(report, sample)
    bare = lab.run([*report, "--no-figures", "--out", outputs / "without-figures"])
    added = of_runs(swept, records)["start_seconds"]
    shutil.copytree(outputs / "runs", outputs / "again", copy_function=os.link)
    listed = lab.run([*CNNEXP, "runs", outputs])
    peaks = {"sweep_parent_mib": swept.peaks, "report_mib": reported.peaks} if sample else {}
    return {name: peak["main_process_mib"] for name, peak in peaks.items()} | {
        "plan_seconds": planned.seconds,
        "plan_seconds_per_run": planned.seconds / len(records),
        "runs_seconds": listed.seconds,
        "sweep_seconds": swept.seconds,
        "runs_over_slots_seconds": swept.seconds - added,
        "added_seconds": added,
        "sweep_seconds_per_run": swept.seconds / len(records),
        "added_seconds_per_run": added / len(records),
        "report_seconds": reported.seconds,
        "report_without_figures_seconds": bare.seconds,
    }


def first_start(lab: Lab, line: Command, case: Case, outputs: Path) -> Numbers:
    """Prepare a data set in an empty cache, then make a run of it."""
    cache = f"data.cache={outputs / 'cache'}"
    data = [word for word in line if str(word).startswith(("data=", "data."))]
    prepared = lab.run([*CNNEXP, "data", "--no-page", *data, cache], sample=True)
    (meta,) = (outputs / "cache").rglob("meta.json")
    made, records = run_train(lab, [*line, cache], outputs / "runs", sample=True)
    return {
        "prepare_seconds": json.loads(meta.read_text())["seconds"],
        "start_seconds": of_runs(made, records)["start_seconds"],
        "evaluate_seconds": records[0]["seconds"]["evaluate"],
        "prepare_mib": prepared.peaks["peak_mib"],
        "run_mib": made.peaks["peak_mib"],
        "run_with_data_mib": made.peaks["peak_with_data_mib"],
    }


def prepared(lab: Lab, line: Command, case: Case, outputs: Path) -> Numbers:
    """Prepare a data set in an empty cache."""
    finished = lab.run([*line, f"data.cache={outputs / 'cache'}"], sample=True)
    (array,) = (outputs / "cache").rglob("labels.npy")
    rate = len(np.load(array, allow_pickle=False)) / finished.seconds
    return {"wall_seconds": finished.seconds, "images_per_second": rate, **finished.peaks}


def predicted(lab: Lab, line: Command, case: Case, outputs: Path) -> Numbers:
    """Make a run, then predict its training images with it."""
    run_train(lab, line, outputs, sample=False)
    (run,) = find_runs(outputs)
    words = dict(str(word).partition("=")[::2] for word in line)
    photographs = Path(words["data.root"]) / words["data.path"] / "train"
    finished = lab.run([*CNNEXP, "predict", run.folder, photographs, "--format", "csv"], sample=True)
    rate = (len(finished.output.splitlines()) - 1) / finished.seconds
    return {"wall_seconds": finished.seconds, "images_per_second": rate, **finished.peaks}


def python(lab: Lab, line: Command, case: Case, outputs: Path) -> Numbers:
    """Measure a program of Python."""
    return {"wall_seconds": lab.run(line).seconds}


def group() -> tuple[Path, str, str]:
    """Return a control group below that of this process, and the names of its files for the limit and the peak."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    if "memory" in paths:
        root, names = f"/sys/fs/cgroup/memory{paths['memory']}", ("memory.limit_in_bytes", "memory.max_usage_in_bytes")
    else:
        root, names = f"/sys/fs/cgroup{paths['']}", ("memory.max", "memory.peak")
    return Path(root) / "cnnexp-benchmark", *names


def limited(folder: Path, limit: str, count: int, command: Command) -> Command:
    """Return a command that enters a control group of at most `count` bytes before it does anything else."""
    enter = f'cd "{folder}" && echo {count} > {limit} && echo $$ > cgroup.procs && cd - > /dev/null && exec "$@"'
    return ["/bin/sh", "-c", f'mkdir -p "{folder}" && {enter}', "sh", *command]


def train_in_little_memory(lab: Lab, line: Command, case: Case, outputs: Path) -> Numbers:
    """Make a run in `gib` GiB of memory. Returns texts, for the facts of the row."""
    for file in lab.folder("cache").rglob("images.npy"):  # drop its pages, so that the group is charged for them
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    folder, limit, peak = group()
    try:
        finished = lab.run(limited(folder, limit, case["gib"] * 2**30, [*line, f"outputs={outputs}"]), sample=True)
        used = int((folder / peak).read_text()) / 2**30
    finally:
        if folder.exists():
            folder.rmdir()
    return {
        "limit of the control group": f"{case['gib']} GiB",
        "done": [run.status for run in find_runs(outputs)] == ["done"],
        "peak of the control group, with the pages of files that it read first": f"{used:.2f} GiB",
        "proportional set size without the images": f"{finished.peaks['peak_mib'] / 2**10:.2f} GiB",
        "complete process": f"{finished.seconds:.1f} s",
    }


def answer(lab: Lab, line: Command, case: Case, outputs: Path) -> Numbers:
    """Measure a command of cnnexp that trains nothing, and trace whether it imports torch."""
    code = case.get("code", 0)
    lab.run(line, code=code)  # compiles Python's files and reads them from the disk
    finished = lab.run(line, code=code)
    traced = lab.run([line[0], "-X", "importtime", *line[1:]], code=code)
    imported = re.search(r"\| +torch$", traced.errors, re.MULTILINE) is not None
    last = finished.errors.strip().rpartition("\n")[2]
    return {"wall_seconds": finished.seconds, "torch is imported": imported, **({"the answer": last} if last else {})}


def program(lab: Lab, line: Command, case: Case, outputs: Path) -> Numbers:
    """Measure a program that prints its results as one line of JSON: a rival, or a part of cnnexp."""
    finished = lab.run([python_of(lab, next(iter(case))), *line[1:]], case.get("sample", False))
    result = finished.result()
    found: Numbers = later_epoch(result.pop("rows", []))
    found |= {k: v if isinstance(v, str) else float(v) for k, v in result.items()}
    if "recorded_seconds" in found:
        found["start_seconds"] = finished.seconds - found["recorded_seconds"]
    return {"wall_seconds": finished.seconds, **found, **finished.peaks}


def python_of(lab: Lab, kind: str) -> str | Path:
    """Return the interpreter of a program. Lightning and fastai are installed, each in an environment of its own.

    Such an environment also sees the packages of this one, so that all sides measure the same torch.
    """
    if kind not in ("lightning", "fastai"):
        return sys.executable
    folder = lab.folder("envs") / kind
    python = folder / "bin" / "python"
    if not (folder / ".ready").exists():
        say(f"installing {kind}")
        process.run([sys.executable, "-m", "venv", "--clear", folder])
        (own,) = folder.glob("lib/python*/site-packages")
        (own / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
        process.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", kind])
        (folder / ".ready").touch()
    return python


def stages(lab: Lab, line: Command, case: Case, outputs: Path) -> Numbers:
    """Measure the stages of one `cnnexp train`, and the end of its process."""
    finished = lab.run([*line, outputs, str(time.time())])
    result = finished.result()
    ended = finished.seconds - result.pop("all stages")
    return {**result, "end of the process": ended, "complete process": finished.seconds}


KINDS: dict[str, Callable[[Lab, Command, Case, Path], Numbers]] = dict.fromkeys((*RIVALS, "steps"), program)
KINDS |= {"train": train, "study": study, "first_start": first_start, "stages": stages, "command": answer}
KINDS |= {"prepared": prepared, "predicted": predicted, "python": python}
KINDS["train_in_little_memory"] = train_in_little_memory
