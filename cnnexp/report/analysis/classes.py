"""Per class: confusion matrices summed over seeds, accuracies, and what is most often taken for what."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnexp.pages.tables import Table
from cnnexp.report.analysis.statistics import Summary, summarise
from cnnexp.report.read.collect import Arm
from cnnexp.report.render.columns import interval, percent

MATRIX = 40  # classes; a matrix of more has no room for their names, and the most frequent confusions stand for it
LOWEST = 10  # classes that stand for more than MATRIX


def class_names(arm: Arm) -> list[str]:
    """Return the names of the arm's classes; numbers where the record has none of the right count."""
    size = next((len(r.confusion) for r in arm.runs if r.confusion is not None), 0)
    names = arm.first.texts("data", "classes")
    return names if len(names) == size else [str(i) for i in range(size)]


def confusion(arm: Arm) -> tuple[np.ndarray[Any, Any], int] | None:
    """Return the arm's (K, K) counts, true by predicted class, summed over its seeds, and how many seeds they are."""
    counts = [r.confusion for r in arm.runs if r.confusion is not None]
    counts = [c for c in counts if c.shape == counts[0].shape]
    return (np.sum(counts, axis=0), len(counts)) if counts else None


def class_accuracies(arm: Arm) -> list[Summary]:
    """Summarise over the seeds, for each class, the share of its test images that are recognised."""
    return [summarise(list(shares.values())) for shares in shares_by_seed(arm)]


def shares_by_seed(arm: Arm) -> list[dict[int, float]]:
    """Return, for each class, {seed: the share of its test images that are recognised}, of seeds that have any."""
    size = len(class_names(arm))
    tables = {r.seed: r.confusion for r in arm.runs if r.confusion is not None and len(r.confusion) == size}
    return [
        {seed: float(table[k, k] / table[k].sum()) for seed, table in tables.items() if table[k].sum()}
        for k in range(size)
    ]


def per_class(arms: list[Arm]) -> Table | None:
    """Return accuracy per class, a column per arm; None unless all arms with predictions have the same classes."""
    arms = [a for a in arms if confusion(a)]
    if not arms or any(class_names(a) != class_names(arms[0]) for a in arms):
        return None
    columns = [class_accuracies(a) for a in arms]
    rows = [[name, *(percent(c[k]) for c in columns)] for k, name in enumerate(class_names(arms[0]))]
    return Table(["Class", *(a.label for a in arms)], rows)


@dataclass(frozen=True)
class Confusion:
    """How often images of a class are taken for another, over an arm's seeds. share: of the true class's images."""

    true: str
    answered: str
    count: int
    share: float


def confusions(arm: Arm, count: int) -> list[Confusion]:
    """Return the arm's most frequent confusions, the most frequent first, at most `count`."""
    found = confusion(arm)
    if found is None:
        return []
    counts, names = found[0], class_names(arm)
    wrong = counts * (1 - np.eye(len(counts), dtype=np.int64))
    pairs = [divmod(int(i), len(wrong)) for i in np.argsort(-wrong, axis=None, kind="stable")[:count]]
    return [
        Confusion(names[t], names[p], int(wrong[t, p]), float(wrong[t, p] / counts[t].sum()))
        for t, p in pairs
        if wrong[t, p]
    ]


def most_confused(arm: Arm, count: int = 3) -> list[str]:
    """Say which true classes are most often taken for which others, over the arm's seeds."""
    return [f"{c.true} taken for {c.answered} ({c.count} times)" for c in confusions(arm, count)]


def confusions_table(arms: list[Arm], count: int = 20) -> Table:
    """Return the confusions that are most frequent over the arms, a column an arm; without rows if classes differ."""
    found = [(arm, c[0]) for arm in arms if (c := confusion(arm))]
    if not found or any(class_names(arm) != class_names(found[0][0]) for arm, _ in found):
        return Table(["True class", "Answered"], [])
    names = class_names(found[0][0])
    shares = np.stack([counts / np.maximum(counts.sum(1, keepdims=True), 1) for _, counts in found])
    shares[:, range(len(names)), range(len(names))] = 0
    mean = shares.mean(0)
    pairs = [divmod(int(i), len(names)) for i in np.argsort(-mean, axis=None, kind="stable")[:count]]
    rows = [
        [names[t], names[p], *(f"{100 * share:.1f}" for share in shares[:, t, p])] for t, p in pairs if mean[t, p] > 0
    ]
    return Table(["True class", "Answered", *(arm.label for arm, _ in found)], rows, 2)


def confusions_csv(arms: list[Arm], count: int = 20) -> tuple[list[str], list[list[str | float | int]]]:
    """Return each arm's most frequent confusions in full precision: headings with units, and rows."""
    headings = ["arm", "rank", "true_class", "answered_class", "count", "share_of_true_class_percent"]
    rows: list[list[str | float | int]] = []
    for arm in arms:
        for rank, c in enumerate(confusions(arm, count), start=1):
            rows.append([arm.label, rank, c.true, c.answered, c.count, 100 * c.share])
    return headings, rows


def own_table(arm: Arm) -> Table:
    """Return an arm's accuracy per class with its interval; of many classes the lowest ones."""
    found = list(zip(class_names(arm), class_accuracies(arm), strict=True))
    if len(found) > MATRIX:
        found = sorted((pair for pair in found if pair[1].n), key=lambda pair: pair[1].mean)[:LOWEST]
    rows = [[name, percent(s), interval(s)] for name, s in found]
    return Table(["Class", "Accuracy (%)", "95 % interval"], rows)


def per_class_csv(arms: list[Arm]) -> tuple[list[str], list[list[str | float | int]]]:
    """Return accuracy per arm and class in full precision: headings with units, and rows."""
    headings = ["arm", "class", "n", "accuracy_mean_percent", "accuracy_std_percent"]
    headings += ["accuracy_low95_percent", "accuracy_high95_percent"]
    lines: list[list[str | float | int]] = []
    for arm in arms:
        for name, s in zip(class_names(arm), class_accuracies(arm), strict=True):
            lines.append([arm.label, name, s.n, *(100 * x for x in (s.mean, s.std, s.low, s.high))])
    return headings, lines
