"""Test images to show: each arm's most confident mistakes, and those on which two arms disagree at every seed.

An arm's probabilities are the mean of its seeds' softmax probabilities. Only the first arms of a study are shown.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnexp.report.analysis.classes import MAX_MATRIX_CLASSES
from cnnexp.report.analysis.disagreement import Disagreement
from cnnexp.report.read.predictions import Predictions, rows_of
from cnnexp.report.read.study import Arm

MAX_ARMS = 12  # arms shown, the baseline among them
MISTAKES_PER_ARM = 12  # images of an arm
EXAMPLES_PER_SIDE = 6  # images for each side of a disagreement
PER_CELL = 3  # images of a cell of a confusion matrix
MAX_CONFUSED = 500  # images of all cells
Array = np.ndarray[Any, Any]
Cell = tuple[int, int]  # true class, predicted class


@dataclass(frozen=True)
class Example:
    """A test image and the class predicted for it. true, predicted: class names as they can be shown.

    confidence: the mean probability of the predicted class. wrong, seeds: how many networks are wrong, of how many.
    """

    id: str
    label: int
    true: str
    predicted: str
    confidence: float
    wrong: int
    seeds: int


@dataclass(frozen=True)
class Examples:
    """Examples by arm. left_out: labels of the arms that are not shown.

    never_agreed: (disagreement, images that only the arm classifies correctly, images that only the baseline does).
    confused: images by (true, predicted) class.
    """

    mistakes: list[tuple[Arm, list[Example]]]
    never_agreed: list[tuple[Disagreement, list[Example], list[Example]]]
    left_out: list[str]
    confused: list[tuple[Arm, dict[Cell, list[Example]]]] = field(default_factory=list)


def find_examples(
    predictions: Mapping[str, Predictions], disagreements: Sequence[Disagreement], baseline: Arm | None
) -> Examples:
    """Choose examples from the first arms, whose predictions are read a second time for their probabilities.

    predictions: by arm.key, the baseline's first.
    """
    against = {found.arm.arm.key: found for found in disagreements}
    usable, mistakes, never, base = list(predictions.values()), [], [], np.empty(0)
    cells = most_voted(usable[:MAX_ARMS])
    confused = []
    for of_arm in usable[:MAX_ARMS]:
        probabilities = of_arm.probabilities()
        mistakes.append((of_arm.arm, most_confident(of_arm, probabilities)))
        confused.append((of_arm.arm, _confused(of_arm, cells[of_arm.arm.key], probabilities)))
        if of_arm.arm is baseline:
            base = probabilities
        elif of_arm.arm.key in against:
            never.append(_never_agreed(against[of_arm.arm.key], probabilities, base))
    return Examples(mistakes, never, [of_arm.arm.label for of_arm in usable[MAX_ARMS:]], confused)


def most_voted(usable: Sequence[Predictions]) -> dict[str, dict[Cell, list[int]]]:
    """Return {arm.key: {cell: rows}}: of each wrong cell, the images that most seeds put there.

    The first image of every cell comes before the second of any, those of the largest cells first, until MAX_CONFUSED
    images are named; nothing for arms with more than MAX_MATRIX_CLASSES classes.
    """
    ranked: list[tuple[int, int, int, Cell, int]] = []
    for place, of_arm in enumerate(usable):
        if len(of_arm.names) <= MAX_MATRIX_CLASSES:
            ranked += [(rank, -size, place, cell, row) for rank, size, cell, row in _ranked(of_arm)]
    found: dict[str, dict[Cell, list[int]]] = {of_arm.arm.key: {} for of_arm in usable}
    named = set[str]()
    for _, _, place, cell, row in sorted(ranked):
        of_arm, id = usable[place], str(usable[place].ids[row])
        if id in named or len(named) < MAX_CONFUSED:
            named.add(id)
            found[of_arm.arm.key].setdefault(cell, []).append(row)
    return found


def _ranked(of_arm: Predictions) -> Iterator[tuple[int, int, Cell, int]]:
    """Yield (rank in the cell, images in the cell, cell, row) of the first PER_CELL images of each wrong cell."""
    wrong = ~of_arm.right
    rows = np.broadcast_to(np.arange(len(of_arm.labels)), wrong.shape)[wrong]
    votes = Counter(zip(of_arm.labels[rows].tolist(), of_arm.predicted[wrong].tolist(), rows.tolist(), strict=True))
    cells: dict[Cell, list[int]] = {}
    for true, predicted, row in sorted(votes, key=lambda kind: (-votes[kind], kind)):
        cells.setdefault((true, predicted), []).append(row)
    for cell, found in cells.items():
        for rank, row in enumerate(found[:PER_CELL]):
            yield rank, len(found), cell, row


def _confused(
    predictions: Predictions, cells: Mapping[Cell, list[int]], probabilities: Array
) -> dict[Cell, list[Example]]:
    """Return the examples of cells. confidence: the mean probability of the class of the cell."""
    names, found = predictions.names, {}
    for (true, predicted), rows in cells.items():
        found[true, predicted] = [
            Example(
                *(str(predictions.ids[row]), true, names[true], names[predicted]),
                float(probabilities[row, predicted]),
                int((predictions.predicted[:, row] == predicted).sum()),
                len(predictions.runs),
            )
            for row in rows
        ]
    return found


def most_confident(predictions: Predictions, probabilities: Array, count: int = MISTAKES_PER_ARM) -> list[Example]:
    """Return the images whose likeliest class is wrong, the most confident first. probabilities: (N, K)."""
    predicted = probabilities.argmax(1)
    confidence = probabilities.max(1)
    rows = np.flatnonzero(predicted != predictions.labels)
    return _examples(predictions, rows[np.argsort(-confidence[rows], kind="stable")][:count], probabilities)


def _never_agreed(found: Disagreement, arm: Array, base: Array) -> tuple[Disagreement, list[Example], list[Example]]:
    """Choose the images that the one side is surest of, and the other least. arm, base: (N, K) probabilities."""
    rows = rows_of(found.base.ids, found.arm.ids)
    assert rows is not None, "a disagreement is of the same images"
    true = np.arange(len(rows)), found.base.labels
    lead = arm[rows][true] - base[true]
    by_arm = found.always_arm[np.argsort(-lead[found.always_arm], kind="stable")][:EXAMPLES_PER_SIDE]
    by_base = found.always_base[np.argsort(lead[found.always_base], kind="stable")][:EXAMPLES_PER_SIDE]
    return found, _examples(found.base, by_arm, base), _examples(found.arm, rows[by_base], arm)


def _examples(predictions: Predictions, rows: Array, probabilities: Array) -> list[Example]:
    """Return images with the likeliest class that is not the true one."""
    names, examples = predictions.names, []
    for row in rows:
        label = int(predictions.labels[row])
        others = probabilities[row].copy()
        others[label] = -1.0
        predicted = int(others.argmax())
        wrong = int((predictions.predicted[:, row] != label).sum())
        shown = names[label], names[predicted], float(others[predicted])
        examples.append(Example(str(predictions.ids[row]), label, *shown, wrong, len(predictions.runs)))
    return examples
