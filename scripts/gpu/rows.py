"""Rows of docs/performance.md, measured once with few epochs."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

from bench import results
from bench.table import ROWS

from gpu.commands import REPOSITORY, Bench, Failed, finish, started

EPOCHS = 3
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
LACKING = ("no data", "no CUDA device", "needs ImageNet weights")  # what a machine has not, and no fault


def measured_row(name: str) -> Callable[[Bench], dict[str, Any]]:
    """Return a check that measures a row of docs/performance.md once, with few epochs."""

    def measure(bench: Bench) -> dict[str, Any]:
        if bench.data is None:
            return {"status": "not run: no data (give --data)"}
        out, words = bench.work / "rows", [name, "--repeats", "1", "--epochs", str(EPOCHS)]
        words += ["--work", str(bench.work / "benchmark"), "--data", str(bench.data)]
        words += ["--quick"] if bench.quick else []
        command = [sys.executable, str(REPOSITORY / "scripts" / "benchmark.py"), *words, "--out", str(out)]
        with started(command, bench.work, bench.environment(), PIPES) as process:
            _, errors = finish(process, bench.deadline)
        if process.returncode:
            raise Failed((errors.strip() or f"exit code {process.returncode}").splitlines()[-1])
        return judged(results.read(out)[name], ROWS[name]["names"]["epochs"][0])

    measure.__doc__ = f"Row {name} of docs/performance.md, measured once, with {EPOCHS} epochs."
    return measure


def judged(row: dict[str, Any], epochs: int) -> dict[str, Any]:
    """Return {row, ...} of a measured row, and its status unless it passed.

    It failed if one of its cases failed. It is not run if the machine lacks what all cases need. Cases that lack
    something alone are named as not run, and the others pass.
    """
    lacking = {case: f"not run: {why}" for case, why in row["problems"].items() if why.startswith(LACKING)}
    failed = {case: why for case, why in row["problems"].items() if case not in lacking}
    found: dict[str, Any] = {"cases not run": lacking} if lacking else {}
    if failed:
        found |= {"status": "failed", "why": "; ".join(f"{case}: {why}" for case, why in failed.items())}
    elif row["not_measured"]:
        found |= {"status": f"not run: {row['not_measured']}"}
    return found if row["not_measured"] else found | {"row": extrapolated(row, epochs)}


def extrapolated(row: dict[str, Any], epochs: int) -> dict[str, Any]:
    """Return a row of EPOCHS epochs with wall times as of `epochs`.

    To what was measured, each missing epoch adds the mean time, training and validation, of the epochs after the first.
    The first one also loads kernels, searches for the fastest and starts workers.
    """
    repeats = [
        {**line, "measured_seconds": line["wall_seconds"], "wall_seconds": line["wall_seconds"] + more}
        for line in row["repeats"]
        for more in [epoch_seconds(line) * (epochs - EPOCHS)]
    ]
    note = f"extrapolated from {EPOCHS} to {epochs} epochs: the measured time, and for each missing epoch that of "
    note += f"training and validation in epochs 2 to {EPOCHS}"
    return {**row, "repeats": repeats, "facts": {**row["facts"], "complete process": note}}


def epoch_seconds(line: dict[str, Any]) -> float:
    """Return by how much an epoch more lengthens a case. Of runs at the same time, `later_epoch_seconds` is the sum."""
    active = line["wall_seconds"] - line.get("start_seconds", line["wall_seconds"] - line["recorded_seconds"])
    return float(active * line["later_epoch_seconds"] / line["recorded_seconds"])
