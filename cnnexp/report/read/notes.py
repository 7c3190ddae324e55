"""Notes for the reader of a table: what differs between its runs, and which records contradict themselves."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from cnnexp.report.read.comparable import beyond
from cnnexp.report.read.runs import Run
from cnnexp.report.read.tested import mixed_tests
from cnnexp.text import plain, plural

FEW_TESTED = 100  # test images: below it, a single one is more than a point of accuracy
MIXES = (
    ("The arms were not trained and tested on the same data", ("data", "fingerprint")),
    ("The runs come from different versions of the code", ("code", "digest")),
    ("The runs come from different devices, so times do not compare", ("device", "name")),
    ("The runs were validated on different images", ("protocol", "validate_on")),
    ("The runs do not all count the same epoch, best or last", ("protocol", "keep_epoch")),
    ("The runs do not all choose the best epoch by the same metric", ("protocol", "monitor")),
    ("The runs computed on different kinds of device", ("device", "kind")),
    ("The runs computed in different precisions", ("device", "precision")),
    ("The runs used different numbers of threads, so times do not compare", ("device", "threads")),
    ("The runs used CPU kernels for different instruction sets, so last bits differ", ("device", "instructions")),
    ("The runs come from different versions of torch", ("environment", "torch")),
)


def take_notes(used: Sequence[tuple[str, Run]]) -> list[str]:
    """Return notes on the runs of a table, each given with its arm's label."""
    notes = mixed_tests(used) + [note for what, path in MIXES for note in _mixed(what, path, used)]
    if tested := dict.fromkeys(label for label, run in used if run.text("protocol", "validate_on") == "test"):
        notes.append(f"{', '.join(tested)}: the test images were evaluated after every epoch, as published.")
    notes += _pretrained(used) + _accelerated(used) + _leaks(used) + _of_data(used)
    return notes + _of_runs(used)


def _of_runs(used: Sequence[tuple[str, Run]]) -> list[str]:
    """Return what is to be said of single runs, one note for all runs of which the same is said."""
    said: dict[str, list[tuple[str, Run]]] = {}
    for label, run in used:
        warnings = list(run.warnings)
        if run.get("earlier"):
            warnings.append("was resumed under another version of the code or its packages")
        if not math.isfinite(run.number("seconds", "train")):
            warnings.append("no training time is recorded")
        for warning in warnings:
            said.setdefault(warning, []).append((label, run))
    return [f"{_who(runs, len(used))}: {warning}." for warning, runs in said.items()]


def _who(runs: Sequence[tuple[str, Run]], of: int) -> str:
    """Name runs: "baseline, seeds 0, 2; dropout, seed 1"; "each of the 35 runs" if it is all of them."""
    if len(runs) == of > 1:
        return f"each of the {of} runs"
    seeds: dict[str, list[str]] = {}
    for label, run in runs:
        seeds.setdefault(label, []).append(run.seed_name)
    return "; ".join(f"{label}, seed{'s' * (len(which) > 1)} {', '.join(which)}" for label, which in seeds.items())


def compare_notes(arms: Sequence[tuple[str, Run]], baseline: tuple[str, Run]) -> list[str]:
    """Return a note on the arms, each given with its first run, that differ from the baseline in more than intended."""
    found: dict[str, list[str]] = {}
    for label, run in arms:
        others, of_baseline = beyond(run, baseline[1])
        parts = [_listed(others)] if others else []
        parts += [f"{_listed(of_baseline)}, which {baseline[0]} changes"] if of_baseline else []
        if parts:
            found.setdefault(" and in ".join(parts), []).append(label)
    if not found:
        return []
    names = [label for labels in found.values() for label in labels]
    own = (
        "differs from {} in more than its own changes"
        if len(names) == 1
        else "differ from {} in more than their own changes"
    )
    if len(found) == 1:
        ((keys, _),) = found.items()
        return [f"{', '.join(names)} {own.format(baseline[0])}: also in {keys}."]
    each = "; ".join(f"{', '.join(labels)}: {keys}" for keys, labels in found.items())
    return [f"{len(names)} arms {own.format(baseline[0])}: {each}."]


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(plain(key) for key in keys[:6]) + (", ..." if len(keys) > 6 else "")


def _pretrained(used: Sequence[tuple[str, Run]]) -> list[str]:
    """Name the arms whose runs all start from the same weights. Runs of one fingerprint do."""
    counts = Counter(label for label, _ in used)
    several = {label: run for label, run in used if counts[label] > 1}
    weights = _by_what((run.text("model", "weights"), label) for label, run in several.items())
    return [
        f"{labels}: every run starts from the same pretrained weights ({name}). How much results vary with another "
        "pretraining, no interval says."
        for name, labels in weights.items()
        if name not in ("", "none")
    ]


def _accelerated(used: Sequence[tuple[str, Run]]) -> list[str]:
    """Name the arms that were trained in a faster way, which can change last digits or what times mean."""
    said = []
    for label, run in used:
        if run.text("features") == "computed once":
            what = "the frozen backbone's features were computed once, and images/s are those of the head alone"
            said.append((what, label))
        if layers := run.texts("device", "fp32_layers"):
            what = f"layers that bf16 would slow down or make inaccurate computed in fp32: {', '.join(layers)}"
            said.append((what, label))
        if mode := run.text("device", "compile"):
            how = "torch.compile" if mode == "True" else f"torch.compile, {mode}"
            what = f"the training steps were compiled ({how}): times are without compiling, memory is with it"
            said.append((what, label))
    return [f"{labels}: {what}." for what, labels in _by_what(said).items()]


def _leaks(used: Sequence[tuple[str, Run]]) -> list[str]:
    """Name the data sets whose test or validation images are training images too."""
    found = {
        f"{run.text('data', 'name')}: {run.number('data', f'{split}_in_train'):,.0f} of "
        f"{run.number('data', split):,.0f} {name} images are training images too, pixel for pixel."
        for _, run in used
        for split, name in (("test", "test"), ("val", "validation"))
        if run.number("data", f"{split}_in_train") > 0
    }
    return sorted(found)


def _mixed(what: str, path: tuple[str, ...], used: Sequence[tuple[str, Run]]) -> list[str]:
    """Return a note on which arms have which value of a field of run.json, if they differ."""
    values = _by_what((run.text(*path) or "not recorded", label) for label, run in used)
    if len(values) < 2:
        return []
    who = "; ".join(f"{value[:32]}: {labels}" for value, labels in values.items())
    return [f"{what} ({who})."]


def _by_what(said: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return {what is said: the different arms of which it is, "a, b"}. said: (what, the arm's label)."""
    found: dict[str, dict[str, None]] = {}
    for what, label in said:
        found.setdefault(what, {})[label] = None
    return {what: ", ".join(labels) for what, labels in found.items()}


def _of_data(used: Sequence[tuple[str, Run]]) -> list[str]:
    """Name the data sets with few test images, and those with equal images in several classes."""
    found = dict[str, None]()
    for _, run in used:
        name, test, odd = run.text("data", "name"), run.number("data", "test"), run.number("data", "contradictory")
        if 0 < test < FEW_TESTED:
            one = f"one of them is {100 / test:.1f} points of accuracy, which no interval here accounts for"
            found[f"{name}: only {plural(int(test), 'test image')}: {one}."] = None
        if odd > 0:
            found[f"{name}: {odd:,.0f} images equal one of another class: no network gets both right."] = None
    return list(found)
