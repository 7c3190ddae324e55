"""Rows of docs/performance.md, measured once with few epochs."""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from bench import results
from bench.table import ROWS

from gpu.commands import REPOSITORY, Bench, Failed

EPOCHS = 3


def measured_row(name: str) -> Callable[[Bench], dict[str, Any]]:
    """Return a check that measures a row of docs/performance.md once, with few epochs."""

    def measure(bench: Bench) -> dict[str, Any]:
        out, words = bench.work / "rows", [name, "--repeats", "1", "--epochs", str(EPOCHS)]
        words += ["--work", str(bench.work / "benchmark"), *(["--data", str(bench.data)] if bench.data else [])]
        words += ["--quick"] if bench.quick else []
        command = [sys.executable, str(REPOSITORY / "scripts" / "benchmark.py"), *words, "--out", str(out)]
        left = max(bench.deadline - time.monotonic(), 1)
        done = subprocess.run(command, env=bench.environment(), capture_output=True, text=True, timeout=left)
        if done.returncode:
            raise Failed(done.stderr.strip().splitlines()[-1])
        row = results.read(out)[name]
        if bench.cuda and row["not_measured"]:
            raise Failed(row["not_measured"])
        return {"row": extrapolated(row, ROWS[name]["names"]["epochs"][0])}

    measure.__doc__ = f"Row {name} of docs/performance.md, measured once, with {EPOCHS} epochs."
    return measure


def extrapolated(row: dict[str, Any], epochs: int) -> dict[str, Any]:
    """Return a row of EPOCHS epochs with wall times as of `epochs`: the missing ones take as long as those measured."""
    repeats = [
        {**line, "measured_seconds": line["wall_seconds"], "wall_seconds": line["wall_seconds"] + more}
        for line in row["repeats"]
        for more in [training_seconds(line) * (epochs / EPOCHS - 1)]
    ]
    note = f"extrapolated from {EPOCHS} to {epochs} epochs: the measured time, and the training of the missing epochs"
    return {**row, "repeats": repeats, "facts": {**row["facts"], "complete process": note}}


def training_seconds(line: dict[str, Any]) -> float:
    """Return the wall time for which a case trained. Of runs at the same time, `train_seconds` is the sum."""
    active = line["wall_seconds"] - line.get("start_seconds", line["wall_seconds"] - line["recorded_seconds"])
    return float(active * line["train_seconds"] / line["recorded_seconds"])
