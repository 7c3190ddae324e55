"""All test images that one run has wrong, the most confident first."""

from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from cnnexp.errors import UserError, unknown
from cnnexp.metrics import log_softmax
from cnnexp.report.read.runs import Run


@dataclass(frozen=True)
class Mistake:
    """A wrong test image. file: its path, or its id where images are no files. probability: of the predicted class.

    label, true: the number and the name of its class. of_true: the probability of that class.
    """

    id: str
    file: str
    label: int
    true: str
    predicted: str
    probability: float
    of_true: float


def find_mistakes(run: Run, of_class: str | None = None) -> tuple[list[Mistake], int]:
    """Return the wrong test images of a run, and how many test images it has. of_class: only images of this class.

    Raises UserError if there is no such class, or if the run has no predictions.
    """
    if run.predictions is None:
        run.record.predictions()  # says what is missing or damaged
        raise UserError(f"{run.folder}: its predictions cannot be used (the run is {run.status})")
    stored, labels = run.record.predictions(), run.predictions.labels
    probabilities = np.exp(log_softmax(stored["logits"]))
    names = run.get("data", "classes")
    names = [str(n) for n in names] if isinstance(names, list) and len(names) == probabilities.shape[1] else []
    names = names or [str(k) for k in range(probabilities.shape[1])]
    if of_class is not None and of_class not in names:
        raise unknown("--class", "class", of_class, names)
    asked = np.ones(len(labels), bool) if of_class is None else labels == names.index(of_class)
    predicted = run.predictions.predicted
    rows = np.flatnonzero(asked & (predicted != labels))
    rows = rows[np.argsort(-probabilities[rows, predicted[rows]], kind="stable")]
    root = run.get("data", "files")
    found = []
    for row in rows.tolist():
        name, label = str(run.predictions.ids[row]), int(labels[row])
        file = str(PurePath(root) / name) if isinstance(root, str) else name
        chances = float(probabilities[row, predicted[row]]), float(probabilities[row, label])
        found.append(Mistake(name, file, label, names[label], names[predicted[row]], *chances))
    return found, int(asked.sum())
