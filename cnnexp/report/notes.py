"""What a reader must know before believing a table: what mixes in it, and which records contradict themselves."""

import math
from collections.abc import Sequence

from cnnexp.report.runs import Run

MIXES = (
    ("The arms were not trained and tested on the same data", ("data", "fingerprint")),
    ("The runs come from different versions of the code", ("code", "digest")),
    ("The runs come from different devices, so times do not compare", ("device", "name")),
)


def take_notes(used: Sequence[tuple[str, Run]]) -> list[str]:
    """Return notes on the runs of a table, each given with its arm's label."""
    notes = [note for what, path in MIXES for note in _mixed(what, path, used)]
    for label, run in used:
        notes += [f"{label}, seed {run.seed}: {doubt}." for doubt in run.doubts]
        if not math.isfinite(run.number("seconds", "train")):
            notes.append(f"{label}, seed {run.seed}: no training time is recorded.")
    return notes


def _mixed(what: str, path: tuple[str, ...], used: Sequence[tuple[str, Run]]) -> list[str]:
    """Say which arms have which value of a field of run.json, if they differ."""
    values: dict[str, list[str]] = {}
    for label, run in used:
        labels = values.setdefault(run.text(*path) or "not recorded", [])
        if label not in labels:
            labels.append(label)
    if len(values) < 2:
        return []
    who = "; ".join(f"{value[:32]}: {', '.join(labels)}" for value, labels in values.items())
    return [f"{what} ({who})."]
