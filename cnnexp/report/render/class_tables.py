"""The tables of classes: accuracy per class, the most frequent confusions, differences from the baseline."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cnnexp.pages.tables import Column, Table, csv_fields
from cnnexp.report.analysis.classes import MAX_MATRIX_CLASSES, WORST_CLASSES, ClassResults, confusions
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.analysis.units import in_words
from cnnexp.report.render.formats import decimals, interval, percent, points

LISTED_CONFUSIONS = 20
SCORES = ("precision", "f1")
CLASS_NOTES = ("The accuracy of a class is its recall.",)
NOTES = ("Accuracy in %: mean ± sample standard deviation {over}.",)
DIFFERENCE_NOTE = (
    "{paired}, with 95 % intervals that are not corrected for the number of classes. They show where to "
    "look and are not a test: about one in 20 excludes 0 by chance."
)


def same_classes(results: Sequence[ClassResults]) -> bool:
    """Return whether there are results, all of the same classes."""
    return bool(results) and all(found.names == results[0].names for found in results)


def per_class(results: Sequence[ClassResults]) -> Table[int]:
    """Return the accuracy per class, a column per arm, of arms with the same classes."""
    arms = [_column(found.arm.label, found.accuracies, percent) for found in results]
    notes = in_words(NOTES, max(found.arm.folds for found in results))
    return Table([_classes(results[0].names), *arms], range(len(results[0].names)), notes)


def _classes(names: Sequence[str]) -> Column[int]:
    """Return the column of the names of classes, for rows that are their numbers."""
    return Column("Class", "", lambda k: names[k], kind="label")


def _column(heading: str, values: Any, format: Callable[[Any], str]) -> Column[Any]:
    """Return a column of values by row."""
    return Column(heading, "", lambda row: values[row], format)


def per_class_csv(results: Sequence[ClassResults]) -> Table[Any]:
    """Return the accuracy per class, a row per arm and class."""
    parts = [f"accuracy_{part}_percent" for part in ("mean", "std", "low95", "high95")]
    rows = [
        (
            *(found.arm.label, name, (s := found.accuracies[k]).n, *(100 * x for x in (s.mean, s.std, s.low, s.high))),
            *(100 * found.scores[score][k].mean for score in SCORES),
        )
        for found in results
        for k, name in enumerate(found.names)
    ]
    return Table(csv_fields("arm", "class", "n", *parts, *(f"{score}_mean_percent" for score in SCORES)), rows)


def classes_of_arm(results: ClassResults) -> Table[int]:
    """Return accuracy, precision and F1 of one arm per class; of many classes those of the lowest accuracy."""
    accuracies, shown = results.accuracies, list(range(len(results.names)))
    if len(shown) > MAX_MATRIX_CLASSES:
        kept = [k for k in shown if accuracies[k].n]
        shown = sorted(kept, key=lambda k: accuracies[k].mean)[:WORST_CLASSES]
    columns: list[Column[int]] = [
        _classes(results.names),
        _column("Accuracy (%)", accuracies, percent),
        _column("95 % interval", accuracies, interval),
        _column("Precision (%)", results.scores["precision"], percent),
        _column("F1 (%)", results.scores["f1"], percent),
    ]
    return Table(columns, shown, CLASS_NOTES)


def frequent_confusions(results: Sequence[ClassResults], count: int = LISTED_CONFUSIONS) -> Table[Any]:
    """Return the most frequent confusions over all arms, a column per arm, of arms with the same classes."""
    names = results[0].names
    shares = np.stack([r.counts / np.maximum(r.counts.sum(1, keepdims=True), 1) for r in results])
    shares[:, range(len(names)), range(len(names))] = 0
    mean = shares.mean(0)
    pairs = [divmod(int(i), len(names)) for i in np.argsort(-mean, axis=None, kind="stable")[:count]]
    columns: list[Column[tuple[int, int]]] = [
        Column("True class", "", lambda pair: names[pair[0]], kind="label"),
        Column("Predicted", "", lambda pair: names[pair[1]], kind="label"),
        *(_column(found.arm.label, 100 * of_arm, decimals(1)) for found, of_arm in zip(results, shares, strict=True)),
    ]
    return Table(columns, [pair for pair in pairs if mean[pair] > 0])


def confusions_csv(results: Sequence[ClassResults]) -> Table[Any]:
    """Return each arm's most frequent confusions, the most frequent first."""
    rows = [
        (found.arm.label, rank, c.true, c.predicted, c.count, 100 * c.share)
        for found in results
        for rank, c in enumerate(confusions(found, LISTED_CONFUSIONS), start=1)
    ]
    names = ("arm", "rank", "true_class", "predicted_class", "count", "share_of_true_class_percent")
    return Table(csv_fields(*names), rows)


def class_differences(findings: Findings) -> Table[int]:
    """Return each class's difference from the baseline, a column per arm."""
    base = findings.baseline
    if not base or not findings.class_differences:
        return Table([], [])
    arms = [arm for arm in findings.arms if arm.key in findings.class_differences]
    names = findings.classes[base.key].names
    notes = in_words([DIFFERENCE_NOTE], findings.study.folds)
    columns = [_classes(names), *(_column(arm.label, findings.class_differences[arm.key], points) for arm in arms)]
    return Table(columns, range(len(names)), [f"Points of accuracy against {base.label}, {note}" for note in notes])


def class_differences_csv(findings: Findings) -> Table[Any]:
    """Return each class's difference from the baseline, a row per arm and class."""
    base, parts = findings.baseline, [f"difference_{part}_points" for part in ("mean", "low95", "high95")]
    rows = [
        (arm.label, base.label, name, d.n, 100 * d.mean, 100 * d.low, 100 * d.high)
        for arm in findings.arms
        if base and arm.key in findings.class_differences
        for name, d in zip(findings.classes[base.key].names, findings.class_differences[arm.key], strict=True)
    ]
    return Table(csv_fields("arm", "baseline", "class", "n", *parts), rows)
