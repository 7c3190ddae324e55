"""Which test images runs were tested on: only accuracies on the same images can be compared."""

from collections.abc import Sequence

from cnnexp.report.read.runs import Run
from cnnexp.report.read.study import Arm
from cnnexp.text import plural


def same_test_images(arm: Arm, other: Arm) -> bool:
    """Return whether two arms were tested on the same images of the same data, as far as is known."""
    if not arm.runs or not other.runs:
        return True
    mine, theirs = ({run.tested for run in a.runs} - {""} for a in (arm, other))
    if mine and theirs:
        return len(mine | theirs) == 1
    return all(arm.first.get("data", key) == other.first.get("data", key) for key in ("name", "test"))


def mixed_tests(used: Sequence[tuple[str, Run]]) -> list[str]:
    """Return a note on which arms were tested on how many images, and how many they share, unless all are the same."""
    groups: dict[str, tuple[Run, list[str]]] = {}
    for label, run in used:
        if run.tested:
            labels = groups.setdefault(run.tested, (run, []))[1]
            labels += [label] * (label not in labels)
    if len(groups) < 2:
        return []
    images = [_images(run) for run, _ in groups.values()]
    who = "; ".join(
        f"{', '.join(labels)}: {len(found):,}" for found, (_, labels) in zip(images, groups.values(), strict=True)
    )
    shared = plural(len(frozenset.intersection(*images)), "image")
    return [f"The arms were not tested on the same images ({who}; {shared} shared by all)."]


def _images(run: Run) -> frozenset[tuple[str, str, int]]:
    """Return (name of the data, id, label) of a run's test images."""
    found, name = run.predictions, run.text("data", "name")
    assert found is not None
    return frozenset((name, str(image), int(label)) for image, label in zip(found.ids, found.labels, strict=True))
