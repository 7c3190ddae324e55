"""What the probes of an arm's runs recorded: by layer and step, averaged over the seeds.

No row is fatal: one without a layer or a step, or with a value that is no number, is left out.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnexp.records.fields import PROBE_ROWS
from cnnexp.report.read.run_predictions import Array
from cnnexp.report.read.study import Arm
from cnnexp.text import plain

Series = dict[str, dict[int, float]]  # {layer: {step: value}}, both in order
MIN_EXPONENT, MAX_EXPONENT = -126, 128  # exponents of a histogram
MAX_NUMBER = 1e38  # about the largest single-precision number


@dataclass
class Probes:
    """The probe rows of an arm's runs: of those that are done, or if there are none, of those that diverged."""

    arm: Arm
    seeds: int
    steps_per_epoch: float
    rows: dict[str, list[dict[str, Any]]]  # by kind, of all seeds, each with its seed

    def epoch(self, step: int) -> float:
        """Return how many epochs a number of steps is."""
        return step / self.steps_per_epoch

    def epoch_number(self, step: int) -> int:
        """Return the 1-based epoch of a step."""
        return math.ceil(self.epoch(step))

    def type(self, layer: str) -> str:
        """Return the class of a layer's module, "" if it is not known."""
        return next((plain(r.get("type", "")) for rows in self.rows.values() for r in rows if r["layer"] == layer), "")

    def label(self, layer: str) -> str:
        """Return how people know an activation: by the weights in front of it, "conv3" of act3, or its own name."""
        after = {r["layer"]: r.get("after") for kind in ("activation", "dead_units") for r in self.rows[kind]}
        alone = list(after.values()).count(after.get(layer)) == 1
        return plain(after.get(layer) or layer) if alone else layer

    def series(self, kind: str, column: str, per: str = "") -> Series:
        """Return a column by layer and step, the mean over the seeds that have it. per: a column to divide by."""
        found: dict[str, dict[int, list[float]]] = {}
        for row in self.rows[kind]:
            value, unit = number(row.get(column)), number(row.get(per)) if per else 1.0
            if math.isfinite(value) and unit > 0:
                found.setdefault(row["layer"], {}).setdefault(row["step"], []).append(value / unit)
        return {layer: {s: float(np.mean(v)) for s, v in sorted(steps.items())} for layer, steps in found.items()}

    def per_weight(self) -> Series:
        """Return the root mean square of the gradients of each layer that is not a normalisation."""
        norms, numbers = self.series("gradient", "norm"), self.series("gradient", "numbers")
        return {
            layer: {step: norm / math.sqrt(numbers[layer][step]) for step, norm in steps.items()}
            for layer, steps in norms.items()
            if "Norm" not in self.type(layer) and all(numbers.get(layer, {}).get(step, 0) > 0 for step in steps)
        }

    def gradient_ratios(self) -> Series:
        """Return the gradients of per_weight, divided by the largest of all layers at the step."""
        gradients = self.per_weight()
        largest: dict[int, float] = {}
        for steps in gradients.values():
            largest |= {step: max(value, largest.get(step, 0.0)) for step, value in steps.items()}
        return {
            layer: {step: value / largest[step] for step, value in steps.items() if largest[step] > 0}
            for layer, steps in gradients.items()
        }

    def updates(self) -> Series:
        """Return |change| / |weights| of a step, of each layer that is not a normalisation."""
        return {n: steps for n, steps in self.series("update", "ratio").items() if "Norm" not in self.type(n)}

    def dead_units(self) -> Series:
        """Return the share of dead units by the label of each activation."""
        return {self.label(layer): steps for layer, steps in self.series("dead_units", "dead", per="units").items()}

    def total_norm(self) -> dict[int, float]:
        """Return the norm of the complete gradient by step: over all layers of a seed, then its mean over the seeds."""
        squares: dict[int, dict[int, float]] = {}
        for row in self.rows["gradient"]:
            if math.isfinite(norm := number(row.get("norm"))):
                of_seeds = squares.setdefault(row["step"], {})
                of_seeds[row["seed"]] = of_seeds.get(row["seed"], 0.0) + norm**2
        return {step: float(np.mean([s**0.5 for s in squares[step].values()])) for step in sorted(squares)}

    def histograms(self, kind: str) -> dict[str, tuple[list[int], Array]]:
        """Return by layer the steps and the shares (254, steps), [e - MIN_EXPONENT]: where 2**e <= |x| < 2**(e+1).

        The counts of all seeds are added up. A share is of all numbers, zeros included.
        """
        found: dict[str, dict[int, Array]] = {}
        for row in self.rows[kind]:
            if (counts := _counts(row)) is not None:
                steps = found.setdefault(row["layer"], {})
                steps[row["step"]] = steps.get(row["step"], 0) + counts
        return {
            layer: (sorted(steps), np.stack([steps[s][:-1] / max(steps[s][-1], 1) for s in sorted(steps)], 1))
            for layer, steps in found.items()
        }


def number(value: Any) -> float:
    """Return a value as a number that can be drawn; nan if it is none, negative or too large."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < MAX_NUMBER
    return float(value) if good else math.nan


def _counts(row: dict[str, Any]) -> Array | None:
    """Return (255,): a row's histogram by exponent, and how many numbers there were; None if malformed."""
    first, counts, numbers = row.get("first"), row.get("counts"), number(row.get("numbers"))
    if not isinstance(first, int) or not isinstance(counts, list) or not numbers > 0:
        return None
    if (
        first < MIN_EXPONENT
        or first + len(counts) > MAX_EXPONENT
        or not all(type(c) is int and 0 <= c < MAX_NUMBER for c in counts)
    ):
        return None
    full = np.zeros(MAX_EXPONENT - MIN_EXPONENT + 1)
    full[first - MIN_EXPONENT : first - MIN_EXPONENT + len(counts)] = counts
    full[-1] = numbers
    return full


def read_probes(arm: Arm) -> Probes | None:
    """Read the probe rows of an arm's runs; None if there are none."""
    rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in PROBE_ROWS}
    seeds = 0
    for run in arm.runs or arm.diverged:
        found = list(_usable(run.record.probe_rows()))
        seeds += bool(found)
        for row in found:
            rows[row["kind"]].append({**row, "seed": run.unit})
    steps = arm.first.number("schedule", "steps_per_epoch")
    return Probes(arm, seeds, steps if steps > 0 else 1.0, rows) if seeds else None


def _usable(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        kind, layer, step = (row.get(key) for key in ("kind", "layer", "step"))
        known = isinstance(kind, str) and kind in PROBE_ROWS and isinstance(layer, str)
        if known and type(step) is int and 0 < step < MAX_NUMBER:
            yield {**row, "layer": plain(layer)}
