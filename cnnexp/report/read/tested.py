"""Which images runs were tested and validated on: only accuracies on the same images can be compared."""

from collections.abc import Sequence

from cnnexp.report.read.folds import fold_of
from cnnexp.report.read.runs import Run
from cnnexp.report.read.study import Arm
from cnnexp.text import plural


def same_test_images(arm: Arm, other: Arm) -> bool:
    """Return whether two arms were tested on the same images of the same data, as far as is known.

    Of cross-validation, where a fold may be the test: on the same images in every fold that both have.
    """
    if not arm.runs or not other.runs:
        return True
    mine, theirs = (_by_fold(a.runs) for a in (arm, other))
    if shared := mine.keys() & theirs.keys():
        return all(len(mine[fold] | theirs[fold]) == 1 for fold in shared)
    return all(arm.first.get("data", key) == other.first.get("data", key) for key in ("name", "test"))


def _by_fold(runs: Sequence[Run]) -> dict[int, set[str]]:
    """Return {fold: hashes of the test images}, of -1 for runs without folds; a run without predictions has none."""
    found: dict[int, set[str]] = {}
    for run in runs:
        if run.tested:
            found.setdefault(fold_of(run.unit), set()).add(run.tested)
    return found


def same_validation_images(arm: Arm, other: Arm) -> bool:
    """Return whether two arms were validated on the same images at every unit that both have, as far as is known.

    Known are how many images there are, the settings that draw them, and of folders and CSV files a digest of the draw.
    That is of all three splits, so it tells nothing of the validation images where the sizes of the others differ.
    """
    theirs = {run.unit: run for run in other.runs}
    return all(_same_validation(run, theirs[run.unit]) for run in arm.runs if run.unit in theirs)


def _same_validation(run: Run, other: Run) -> bool:
    on_test = [r.text("protocol", "validate_on") == "test" for r in (run, other)]
    if any(on_test):
        return all(on_test) and (run.tested == other.tested or not run.tested or not other.tested)
    if any(run.get("data", key) != other.get("data", key) for key in ("name", "val")):
        return False
    if run.drawn_by != other.drawn_by:
        return False
    same_sizes = all(run.get("data", key) == other.get("data", key) for key in ("train", "test"))
    return not same_sizes or all(run.get("data", key) == other.get("data", key) for key in ("split", "validation"))


def mixed_tests(used: Sequence[tuple[str, Run]]) -> list[str]:
    """Return a note on which arms were tested on how many images, and how many they share, unless all are the same."""
    groups: dict[str, tuple[Run, list[str]]] = {}
    first = min((fold_of(run.unit) for _, run in used), default=-1)
    for label, run in used:
        if run.tested and fold_of(run.unit) in (-1, first):
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
