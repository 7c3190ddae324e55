"""Trainings by `cnnexp train` in one process, in turn: what the machine does meanwhile, they all meet alike.

Run: python turns.py '{"cases": {"one": ["data=shapes"], "other": [...]}, "repeats": 3, "outputs": "somewhere"}'
Prints one line of JSON: a list of repeats, [{"one": {metric: value}, "other": {...}}, ...], all times in seconds.
The first case is trained once before, which is not told: it warms the process up.
"""

import contextlib
import gc
import importlib
import io
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from cnnexp import cli
from cnnexp.records.run_record import find_runs


def main(cases: dict[str, list[str]], repeats: int, outputs: str) -> list[dict[str, dict[str, float]]]:
    """Train every case `repeats` times, each repeat with a seed of its own."""

    def side(number: int, overrides: list[str]) -> Callable[[int], dict[str, float]]:
        return lambda repeat: by_cnnexp([*overrides, f"seed={repeat}"], Path(outputs) / f"{number}-{repeat}")

    sides = {name: side(number, cases[name]) for number, name in enumerate(cases)}
    next(iter(sides.values()))(0)
    return in_turn(sides, repeats)


def in_turn(sides: Mapping[str, Callable[[int], dict[str, float]]], repeats: int) -> list[dict[str, dict[str, float]]]:
    """Call the sides with the number of the repeat, in an order that is reversed every time: A B C, C B A, A B C."""
    found = []
    for repeat in range(repeats):
        names = list(sides)[:: 1 if repeat % 2 == 0 else -1]
        found.append({name: sides[name](repeat) for name in names})
    return found


def by_cnnexp(overrides: list[str], outputs: Path) -> dict[str, float]:
    """Run `cnnexp train` in this process; what it wrote does not stay.

    loop_seconds: of `fit`, with rows, evaluation, checkpoints, probes, signals, bar. NAME_seconds: of run.json.
    """
    runner: Any = importlib.import_module("cnnexp.training.run")
    fit, spent = runner.fit, [0.0]

    def timed(*arguments: Any, **named: Any) -> None:
        started = perf_counter()
        fit(*arguments, **named)
        spent[0] = perf_counter() - started

    gc.collect()
    runner.fit = timed
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            code = cli.main(["train", *overrides, f"outputs={outputs}"])
    finally:
        runner.fit = fit
    (record,) = find_runs(outputs)
    assert code == 0, record.info
    told = {f"{name}_seconds": value for name, value in record.info["seconds"].items()}
    shutil.rmtree(outputs)
    return {"loop_seconds": spent[0], **told, "val_accuracy": record.info["result"]["val_accuracy"]}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
