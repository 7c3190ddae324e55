"""Per class: confusion matrices summed over seeds, accuracies, and what is most often taken for what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnexp.pages.tables import Table
from cnnexp.report.analysis.statistics import Difference, Summary, paired, summarise
from cnnexp.report.read.collect import Arm
from cnnexp.report.render.columns import interval, percent

MATRIX = 40  # classes; a matrix of more has no room for their names, and the most frequent confusions stand for it
LOWEST = 10  # classes that stand for more than MATRIX


@dataclass(frozen=True)
class ClassResults:
    """An arm's results by class, K classes. names: as they can be shown. seeds: how many have predictions.

    counts: (K, K) test images, true by predicted class, summed over the seeds. by_seed: for each class, {seed: the
    share of its test images that are recognised}, of the seeds that have any. accuracies: their summary.
    """

    arm: Arm
    names: list[str]
    counts: np.ndarray[Any, Any]
    seeds: int
    by_seed: list[dict[int, float]]
    accuracies: list[Summary]


def class_results(arm: Arm) -> ClassResults | None:
    """Return the arm's results by class; None without predictions. A seed with other classes is left out."""
    tables = {run.seed: run.confusion for run in arm.runs if run.confusion is not None}
    if not tables:
        return None
    size = len(next(iter(tables.values())))
    tables = {seed: table for seed, table in tables.items() if len(table) == size}
    by_seed = [
        {seed: float(table[k, k] / table[k].sum()) for seed, table in tables.items() if table[k].sum()}
        for k in range(size)
    ]
    accuracies = [summarise(list(shares.values())) for shares in by_seed]
    return ClassResults(arm, class_names(arm), np.sum(list(tables.values()), axis=0), len(tables), by_seed, accuracies)


def class_names(arm: Arm) -> list[str]:
    """Return the names of the arm's classes; numbers where the record has none of the right count."""
    size = next((len(r.confusion) for r in arm.runs if r.confusion is not None), 0)
    names = arm.first.texts("data", "classes")
    return names if len(names) == size else [str(i) for i in range(size)]


def class_differences(results: Mapping[str, ClassResults], baseline: Arm | None) -> dict[str, list[Difference]]:
    """Return each arm's accuracy by class minus the baseline's, paired by seed, of the arms with the same classes.

    results and the answer: by arm.key.
    """
    base = results.get(baseline.key) if baseline else None
    if base is None:
        return {}
    others = {key: found for key, found in results.items() if found is not base and found.names == base.names}
    return {
        key: [paired(mine, theirs) for mine, theirs in zip(found.by_seed, base.by_seed, strict=True)]
        for key, found in others.items()
    }


@dataclass(frozen=True)
class Confusion:
    """How often images of a class are taken for another, over an arm's seeds. share: of the true class's images."""

    true: str
    answered: str
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


def most_confused(found: ClassResults, count: int = 3) -> list[str]:
    """Say which true classes are most often taken for which others, over the arm's seeds."""
    return [f"{c.true} taken for {c.answered} ({c.count} times)" for c in confusions(found, count)]


def per_class(results: Sequence[ClassResults]) -> Table | None:
    """Return accuracy per class, a column per arm; None unless all arms have the same classes."""
    if not results or any(found.names != results[0].names for found in results):
        return None
    rows = [[name, *(percent(r.accuracies[k]) for r in results)] for k, name in enumerate(results[0].names)]
    return Table(["Class", *(found.arm.label for found in results)], rows)


def confusions_table(results: Sequence[ClassResults], count: int = 20) -> Table:
    """Return the confusions that are most frequent over the arms, a column an arm; without rows if classes differ."""
    if not results or any(found.names != results[0].names for found in results):
        return Table(["True class", "Answered"], [])
    names = results[0].names
    shares = np.stack([r.counts / np.maximum(r.counts.sum(1, keepdims=True), 1) for r in results])
    shares[:, range(len(names)), range(len(names))] = 0
    mean = shares.mean(0)
    pairs = [divmod(int(i), len(names)) for i in np.argsort(-mean, axis=None, kind="stable")[:count]]
    rows = [
        [names[t], names[p], *(f"{100 * share:.1f}" for share in shares[:, t, p])] for t, p in pairs if mean[t, p] > 0
    ]
    return Table(["True class", "Answered", *(found.arm.label for found in results)], rows, 2)


def confusions_csv(results: Sequence[ClassResults], count: int = 20) -> tuple[list[str], list[list[str | float | int]]]:
    """Return each arm's most frequent confusions in full precision: headings with units, and rows."""
    headings = ["arm", "rank", "true_class", "answered_class", "count", "share_of_true_class_percent"]
    rows: list[list[str | float | int]] = []
    for found in results:
        for rank, c in enumerate(confusions(found, count), start=1):
            rows.append([found.arm.label, rank, c.true, c.answered, c.count, 100 * c.share])
    return headings, rows


def own_table(results: ClassResults) -> Table:
    """Return an arm's accuracy per class with its interval; of many classes the lowest ones."""
    found = list(zip(results.names, results.accuracies, strict=True))
    if len(found) > MATRIX:
        found = sorted((pair for pair in found if pair[1].n), key=lambda pair: pair[1].mean)[:LOWEST]
    rows = [[name, percent(s), interval(s)] for name, s in found]
    return Table(["Class", "Accuracy (%)", "95 % interval"], rows)


def per_class_csv(results: Sequence[ClassResults]) -> tuple[list[str], list[list[str | float | int]]]:
    """Return accuracy per arm and class in full precision: headings with units, and rows."""
    headings = ["arm", "class", "n", "accuracy_mean_percent", "accuracy_std_percent"]
    headings += ["accuracy_low95_percent", "accuracy_high95_percent"]
    lines: list[list[str | float | int]] = []
    for found in results:
        for name, s in zip(found.names, found.accuracies, strict=True):
            lines.append([found.arm.label, name, s.n, *(100 * x for x in (s.mean, s.std, s.low, s.high))])
    return headings, lines
