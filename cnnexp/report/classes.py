"""Per class: confusion matrices summed over seeds, accuracies, and what is most often taken for what."""

import math
from typing import Any

import numpy as np

from cnnexp.report.collect import Arm
from cnnexp.report.columns import percent
from cnnexp.report.statistics import Summary, summarise
from cnnexp.report.tables import Table


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
    tables = [r.confusion for r in arm.runs if r.confusion is not None and len(r.confusion) == len(class_names(arm))]
    shares = [[_share(t, k) for t in tables] for k in range(len(class_names(arm)))]
    return [summarise(values) for values in shares]


def _share(table: np.ndarray[Any, Any], k: int) -> float:
    return float(table[k, k] / table[k].sum()) if table[k].sum() else math.nan


def per_class(arms: list[Arm]) -> Table | None:
    """Return accuracy per class, a column per arm; None unless all arms with predictions have the same classes."""
    arms = [a for a in arms if confusion(a)]
    if not arms or any(class_names(a) != class_names(arms[0]) for a in arms):
        return None
    columns = [class_accuracies(a) for a in arms]
    rows = [[name, *(percent(c[k]) for c in columns)] for k, name in enumerate(class_names(arms[0]))]
    return Table(["Class", *(a.label for a in arms)], rows)


def most_confused(arm: Arm, count: int = 3) -> list[str]:
    """Say which true classes are most often taken for which others, over the arm's seeds."""
    found = confusion(arm)
    if found is None:
        return []
    wrong = found[0] * (1 - np.eye(len(found[0]), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = [divmod(int(i), len(wrong)) for i in order]
    names = class_names(arm)
    return [f"{names[t]} taken for {names[p]} ({wrong[t, p]} times)" for t, p in pairs if wrong[t, p]]


def per_class_csv(arms: list[Arm]) -> tuple[list[str], list[list[str | float | int]]]:
    """Return accuracy per arm and class in full precision: headings with units, and rows."""
    headings = ["arm", "class", "n", "accuracy_mean_percent", "accuracy_std_percent"]
    lines: list[list[str | float | int]] = []
    for arm in arms:
        for name, s in zip(class_names(arm), class_accuracies(arm), strict=True):
            lines.append([arm.label, name, s.n, 100 * s.mean, 100 * s.std])
    return headings, lines
