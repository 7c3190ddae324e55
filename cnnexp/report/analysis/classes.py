"""Results by class: confusion matrices summed over the seeds, accuracies, and the most frequent confusions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnexp.metrics import by_class
from cnnexp.report.analysis.statistics import Estimate, paired, summarise
from cnnexp.report.read.comparable import settings_apart
from cnnexp.report.read.study import Arm
from cnnexp.report.read.tested import same_test_images
from cnnexp.text import plural

MAX_MATRIX_CLASSES = 40  # more names do not fit beside a matrix: the most frequent confusions are shown instead
WORST_CLASSES = 10  # shown of more than MAX_MATRIX_CLASSES


@dataclass(frozen=True)
class ClassResults:
    """An arm's results by class, K classes. names: as they can be shown. seeds: how many have predictions.

    counts: (K, K) test images, true by predicted class, summed over the seeds. by_seed: for each class, {seed: its
    accuracy}, of the seeds that have test images of it. accuracies: their means. scores: precision and f1 by
    class.
    """

    arm: Arm
    names: list[str]
    counts: np.ndarray[Any, Any]
    seeds: int
    by_seed: list[dict[int, float]]
    accuracies: list[Estimate]
    scores: Mapping[str, list[Estimate]]


def class_results(arm: Arm) -> ClassResults | None:
    """Return the arm's results by class; None without predictions. A seed with other classes is left out."""
    tables = {run.unit: run.confusion for run in arm.runs if run.confusion is not None}
    if not tables:
        return None
    size = len(next(iter(tables.values())))
    tables = {seed: table for seed, table in tables.items() if len(table) == size}
    by_seed = [
        {seed: float(table[k, k] / table[k].sum()) for seed, table in tables.items() if table[k].sum()}
        for k in range(size)
    ]
    accuracies = [summarise(shares) for shares in by_seed]
    found = {run.unit: run.predictions for run in arm.runs if run.unit in tables and run.predictions}
    of_runs = {unit: by_class(each.predicted, each.labels, size) for unit, each in found.items()}
    scores = {
        name: [summarise({unit: float(of_run[name][k]) for unit, of_run in of_runs.items()}) for k in range(size)]
        for name in ("precision", "f1")
    }
    counts = np.sum(list(tables.values()), axis=0)
    return ClassResults(arm, arm.class_names(size), counts, len(tables), by_seed, accuracies, scores)


def class_differences(results: Mapping[str, ClassResults], baseline: Arm | None) -> dict[str, list[Estimate]]:
    """Return each arm's accuracy by class minus the baseline's, paired by seed, of the arms with the same images.

    results, and what is returned: by arm.key.
    """
    base = results.get(baseline.key) if baseline else None
    if base is None:
        return {}
    others = {key: found for key, found in results.items() if found is not base and found.names == base.names}
    return {
        key: [paired(mine, theirs) for mine, theirs in zip(found.by_seed, base.by_seed, strict=True)]
        for key, found in others.items()
        if not settings_apart(found.arm, base.arm) and same_test_images(found.arm, base.arm)
    }


@dataclass(frozen=True)
class Confusion:
    """How often images of a class are classified as another, over an arm's seeds. share: of the true class."""

    true: str
    predicted: str
    count: int
    share: float


def confusions(found: ClassResults, count: int) -> list[Confusion]:
    """Return the arm's most frequent confusions, the most frequent first, at most `count`."""
    counts, names = found.counts, found.names
    wrong = counts * (1 - np.eye(len(counts), dtype=np.int64))
    pairs = [divmod(int(i), len(wrong)) for i in np.argsort(-wrong, axis=None, kind="stable")[:count]]
    return [
        Confusion(names[t], names[p], int(wrong[t, p]), float(wrong[t, p] / counts[t].sum()))
        for t, p in pairs
        if wrong[t, p]
    ]


def most_confused(found: ClassResults) -> list[str]:
    """Name the three most frequent confusions over the arm's seeds."""
    return [f"{c.true} classified as {c.predicted} ({plural(c.count, 'time')})" for c in confusions(found, 3)]
