"""The calibration of a report's arms, computed a second time from the logits: bins, ECE, Brier score, likelihood."""

import math
from collections import defaultdict
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnexp.report.read.study import Arm
from recomputed.arithmetic import Key, log_softmax, spread
from recomputed.of_effects import Effects
from recomputed.of_runs import Recomputed
from recomputed.of_tests import Table, limits

BINS = 15
MOST_CLASSES = 4096  # of more, nothing is counted by class
Array = NDArray[Any]


class Calibrated(Effects):
    """The calibration of one study's arms."""

    def finite(self, arm: Arm) -> dict[Key, Recomputed]:
        """Return the arm's runs whose probabilities are numbers."""
        return self._finite[arm.key]

    @cached_property
    def _finite(self) -> dict[str, dict[Key, Recomputed]]:
        found: dict[str, dict[Key, Recomputed]] = {}
        for arm in self.study.arms:
            runs = {seed: run for seed, run in self.of(arm).items() if run.answers is not None}
            found[arm.key] = {s: r for s, r in runs.items() if not np.isnan(log_softmax(answers_of(r)[0])).any()}
        return found

    def calibration(self, arm: Arm) -> dict[str, Any]:
        """Return an arm's line of calibration.csv."""
        numbers: dict[str, dict[Key, float]] = defaultdict(dict)
        for key, run in self.finite(arm).items():
            logits, labels, _ = answers_of(run)
            logs = log_softmax(logits)
            p, own = np.exp(logs), logs[np.arange(len(labels)), labels]
            sure, right = p.max(1), p.argmax(1) == labels
            gaps, chance = [], []
            for chosen in in_bins(sure):
                gaps.append(abs(math.fsum(right[chosen]) - math.fsum(sure[chosen])))
                variance = math.fsum(sure[chosen] * (1 - sure[chosen]))
                chance.append(min(math.sqrt(2 * variance / math.pi), 2 * variance))
            numbers["ece"][key] = 100 * math.fsum(gaps) / len(sure)
            numbers["chance"][key] = 100 * math.fsum(chance) / len(sure)
            numbers["brier"][key] = math.fsum((p**2).sum(1) - 2 * np.exp(own) + 1) / len(sure)
            numbers["nll"][key] = -math.fsum(own) / len(sure)
            numbers["sure"][key] = 100 * math.fsum(sure) / len(sure)
            numbers["right"][key] = 100 * int(right.sum()) / len(sure)
        found = {name: spread(values) for name, values in numbers.items()}
        gap = spread({key: sure - numbers["right"][key] for key, sure in numbers["sure"].items()})
        ece = found["ece"]
        return {
            **{"arm": arm.label, "fingerprint": arm.fingerprint, "n": ece["n"]},
            **{f"ece_{k}{limits(k)}_percent": ece[k] for k in ("mean", "std", "low", "high")},
            "ece_by_chance_percent": found["chance"]["mean"],
            **{f"brier_{k}": found["brier"][k] for k in ("mean", "std")},
            **{f"nll_{k}_nats": found["nll"][k] for k in ("mean", "std")},
            **{"confidence_mean_percent": found["sure"]["mean"], "accuracy_mean_percent": found["right"]["mean"]},
            "confidence_minus_accuracy_points": gap["mean"],
            **{f"confidence_minus_accuracy_{k}95_points": gap[k] for k in ("low", "high")},
        }

    def bins(self, arm: Arm) -> Table:
        """Return an arm's lines of calibration_bins.csv."""
        counts, sums, rights = np.zeros(BINS), np.zeros(BINS), np.zeros(BINS)
        runs = self.finite(arm).values()
        for run in runs:
            logits, labels, _ = answers_of(run)
            p = np.exp(log_softmax(logits))
            for m, chosen in enumerate(in_bins(p.max(1))):
                counts[m] += chosen.sum()
                sums[m] += math.fsum(p.max(1)[chosen])
                rights[m] += (p.argmax(1) == labels)[chosen].sum()
        return [
            {
                **{"arm": arm.label, "bin": m + 1, "images_per_seed": counts[m] / len(runs)},
                **{"confidence_above_percent": 100 * m / BINS, "confidence_up_to_percent": 100 * (m + 1) / BINS},
                "confidence_mean_percent": 100 * sums[m] / counts[m] if counts[m] else math.nan,
                "accuracy_percent": 100 * rights[m] / counts[m] if counts[m] else math.nan,
            }
            for m in range(BINS)
        ]


def answers_of(run: Recomputed) -> tuple[Array, Array, Array]:
    """Return logits (N, K), labels (N,) and ids (N,) of a run that has some."""
    assert run.answers is not None
    return run.answers


def class_names(arm: Arm) -> list[str]:
    """Return the names of the classes of an arm's first run that counts by class; numbers if the record has others."""
    sizes = [run.predictions.classes for run in arm.runs if run.predictions is not None]
    size = next((size for size in sizes if size <= MOST_CLASSES), 0)
    names = arm.first.texts("data", "classes")
    return names if len(names) == size else [str(number) for number in range(size)]


def in_bins(sure: Array) -> list[Array]:
    """Return for each bin ((m - 1) / 15, m / 15] which confidences (N,) are in it; 0 is in the first."""
    edges = [m / BINS for m in range(BINS + 1)]
    return [(sure <= edges[m + 1]) & ((sure > edges[m]) | (m == 0)) for m in range(BINS)]
