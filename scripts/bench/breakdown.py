"""Where the time of one run, of a sweep and of its report goes."""

import json
import sys
import time

from bench import process
from bench.lab import CNNEXP, Lab, tell
from bench.result import Failed, Numbers, Result
from bench.runs import prepare, script, tell_one_line, train_in


def breakdown(lab: Lab) -> Result:
    """Measure a run, a sweep, its plan and its report, stage by stage."""
    base = ["data=shapes", "device=cpu", "model=custom", "model.norm=batch", "+aug=full", f"epochs={lab.trained(10)}ep"]
    prepare(lab, base)
    series: dict[str, dict[str, list[float]]] = {}
    problems: dict[str, str] = {}
    sweep = ["-m", *base, f"seed={','.join(map(str, range(lab.pick(6, 2))))}"]
    for repeat in range(lab.repeated()):
        for name, part in (("run", one_run), ("sweep", one_sweep)):
            try:
                numbers = part(lab, base if name == "run" else sweep, repeat)
            except Failed as failure:
                problems[name] = str(failure)
                continue
            tell(f"{name}: repeat {repeat + 1}")
            for stage, seconds in numbers.items():
                series.setdefault(stage, {"seconds": []})["seconds"].append(seconds)
    commands = {"run": lab.readable([*CNNEXP, "train", *base]), "sweep": lab.readable([*CNNEXP, "train", *sweep])}
    return Result(series, problems=problems, commands=commands)


def one_run(lab: Lab, overrides: list[str], repeat: int) -> Numbers:
    """Return the seconds of every stage of one run."""
    outputs = lab.fresh()
    settings = {"overrides": [*overrides, f"seed={repeat}"], "outputs": str(outputs), "begun": time.time()}
    try:
        told, finished = tell_one_line(lab, [sys.executable, script("inside", "stages.py"), json.dumps(settings)])
    finally:
        lab.drop(outputs)
    stages = {f"one run: {name}": float(seconds) for name, seconds in told.items() if name != "whole"}
    ended = finished.seconds - float(told["whole"])
    return {**stages, "one run: end of the process": ended, "one run: whole process": finished.seconds}


def one_sweep(lab: Lab, overrides: list[str], repeat: int) -> Numbers:
    """Return the seconds of a sweep, of its plan and of its report."""
    outputs = lab.fresh()
    try:
        planned = process.run(
            [*CNNEXP, "train", "--plan", *overrides, f"outputs={outputs}"], lab.environment(), lab.work
        )
        swept = train_in(lab, overrides, outputs)
        reported = process.run([*CNNEXP, "report", outputs / "runs", "--quiet"], lab.environment(), lab.work)
        bare = process.run(
            [*CNNEXP, "report", outputs / "runs", "--quiet", "--no-figures", "--out", outputs / "second"],
            lab.environment(),
            lab.work,
        )
    finally:
        lab.drop(outputs)
    return {
        "sweep: plan only": planned.seconds,
        "sweep: whole process": swept.seconds,
        "sweep: recorded time of its runs, over its slots": swept.recorded_seconds() / swept.slots,
        "sweep: the rest (its start and that of its workers)": swept.overhead_seconds(),
        "report: whole process": reported.seconds,
        "report: without figures": bare.seconds,
    }
