"""What was tried and did not help: the same run in other circumstances."""

import json
import sys
from pathlib import Path

from bench.lab import CNNEXP, Lab, tell
from bench.result import Case, Failed, Numbers, Result, compare
from bench.rows_training import COMPACT
from bench.runs import prepare, script, tell_one_line, train_in
from bench.trees import read_by_cnnexp, subset

CIRCUMSTANCES: dict[str, tuple[dict[str, str], list[str]]] = {  # name: (environment, overrides)
    "as it is": ({}, []),
    "threads bound to cores": ({"OMP_PROC_BIND": "true"}, []),
    "threads that spin long": ({"GOMP_SPINCOUNT": "1000000000"}, []),
    "huge pages for the heap": ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}, []),
    "freed memory given back": ({}, ["device.keep_memory=false"]),
    "channels first": ({}, ["device.channels_last=false"]),
    "one slot of two threads, two runs": ({}, ["-m", "slots=cpu:1"]),
    "two slots of one thread, two runs": ({}, ["-m", "slots=cpu:2"]),
}


def tried(lab: Lab) -> Result:
    """Train the compact network in each circumstance, in fp32."""
    tree = subset(lab, "imagenette", lab.pick(2000, 300), lab.pick(500, 50))
    overrides = [*read_by_cnnexp(tree, 64), *COMPACT, f"epochs={lab.trained(2)}ep", "device.precision=fp32"]
    prepare(lab, overrides)
    cases = [case(lab, name, *words, overrides) for name, words in CIRCUMSTANCES.items()]
    result = compare(cases, lab.repeated(3), [], tell)
    compiled(lab, overrides, result)
    return result


def case(lab: Lab, name: str, more: dict[str, str], words: list[str], overrides: list[str]) -> Case:
    """Return a case: one run, or two of a sweep, with a changed environment."""
    everything = [*words, *overrides, "seed=0,1" if "-m" in words else "seed=0"]

    def run(repeat: int) -> Numbers:
        outputs = lab.fresh()
        try:
            made = train_in(lab, everything, outputs, environment=more)
        finally:
            lab.drop(outputs)
        rates = [info["result"]["images_per_second"] for info in made.records]
        return {"wall_seconds": made.seconds, "images_per_second": sum(rates) / len(rates)}

    settings = " ".join(f"{key}={value}" for key, value in more.items())
    return Case(name, f"{settings} {lab.readable([*CNNEXP, 'train', *everything])}".strip(), run)


def compiled(lab: Lab, overrides: list[str], result: Result) -> None:
    """Add what torch.compile takes and gives."""
    words = json.dumps({"overrides": overrides, "steps": lab.pick(30, 5)})
    command: list[str | Path] = [sys.executable, script("inside", "compiled.py"), words]
    result.commands["torch.compile"] = lab.readable(command)
    try:
        told, _ = tell_one_line(lab, command)
    except Failed as failure:
        result.problems["torch.compile"] = str(failure)
        return
    result.facts["torch.compile, the first step, seconds"] = round(told["compile_seconds"], 1)
    result.facts["torch.compile, images/s"] = round(told["compiled"], 1)
    result.facts["the same loop without, images/s"] = round(told["as it is"], 1)
