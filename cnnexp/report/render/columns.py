"""What the tables of a report hold: the comparison, its cost, the runs."""

import math
from collections.abc import Callable, Sequence

from cnnexp.pages.tables import Table
from cnnexp.report.analysis.compare import Row
from cnnexp.report.analysis.statistics import Summary, p_value, summarise
from cnnexp.report.read.collect import Study
from cnnexp.report.read.runs import Run

DASH = "-"
NOTES = (
    "Accuracies in %: mean ± sample standard deviation over the seeds. n: seeds; (+1 div.): one more diverged.",
    "95 % interval: Student's t over the seeds, cut at 0 and 100; it does not cover the choice of test images.",
    "Difference: points against the baseline, paired by seed, with its 95 % interval; p: paired t-test, Holm-corrected "
    "over the arms, and over the study's claims that are tested beside them.",
    "better / worse: corrected p < 0.05, the interval without 0 and no diverged run on the winning side. not decided: "
    "p < 0.05 only before the correction, or too few seeds; within noise: not even before it. More seeds decide: the "
    "same command with seed=0,1,2,3,4 makes only the new runs.",
    "Epochs to its plateau: the first epoch whose validation accuracy is within 1 point of the run's own best, mean "
    "over the seeds.",
    "Training accuracy: on the training images without augmentation, in evaluation mode, at the best checkpoint.",
)


def number(value: float, digits: int = 0) -> str:
    """Format a number; a dash where there is none."""
    return DASH if math.isnan(value) else f"{value:,.{digits}f}"


def percent(summary: Summary) -> str:
    """Format accuracies as "75.67 ± 0.34"; without a deviation at n = 1."""
    if not summary.n:
        return DASH
    return f"{100 * summary.mean:.2f}" + ("" if summary.n < 2 else f" ± {100 * summary.std:.2f}")


def large(value: float) -> str:
    """Format a count with a prefix: 390 k, 12.3 M, 1.82 G."""
    if math.isnan(value):
        return DASH
    for size, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{prefix}" if value / size < 999.5 else f"{value / size:.0f}{prefix}"
    return f"{value:.0f}"


def interval(summary: Summary) -> str:
    """Format the 95 % interval of accuracies as "[75.10, 76.24]", cut at 0 and 100; "n = 1" where there is none."""
    if summary.n < 2:
        return f"n = {summary.n}"
    return f"[{100 * max(summary.low, 0):.2f}, {100 * min(summary.high, 1):.2f}]"


def _count(row: Row) -> str:
    return f"{row.test.n}" + (f" (+{row.diverged} div.)" if row.diverged else "")


def _difference(row: Row) -> str:
    if row.is_baseline:
        return "baseline"
    if row.difference is None:
        return DASH
    mean, low, high = (100 * x for x in (row.difference.mean, row.difference.low, row.difference.high))
    if row.difference.n < 2:
        return f"{mean:+.2f}"
    pairs = "" if row.difference.n == row.test.n else f", {row.difference.n} pairs"
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]{pairs}"


COLUMNS: dict[str, Callable[[Row], str]] = {
    "Arm": lambda r: r.arm.label,
    "Test accuracy (%)": lambda r: percent(r.test),
    "95 % interval": lambda r: interval(r.test),
    "n": _count,
    "Difference (points)": _difference,
    "p (Holm)": lambda r: p_value(r.p_holm),
    "Verdict": lambda r: r.verdict or DASH,
    "Best epoch": lambda r: number(r.best_epoch, 1),
    "Epochs to its plateau": lambda r: number(r.epochs_to_plateau, 1),
    "Training accuracy (%)": lambda r: percent(r.train_accuracy),
    "Training (s)": lambda r: number(r.train_seconds.mean, 1),
    "Images/s": lambda r: number(r.images_per_second),
    "Parameters": lambda r: number(r.parameters),
    "MACs": lambda r: large(r.macs),
}
WORDS = frozenset({"Verdict", "Status", "Device", "Changes", "Run", "Reason", "Class"})
ACCURACY = ("Arm", "Test accuracy (%)", "95 % interval", "n", "Difference (points)", "p (Holm)", "Verdict")
TERMINAL = {  # a shorter selection, under shorter headings
    "Arm": "Arm",
    "Test accuracy (%)": "Test (%)",
    "95 % interval": "95 % interval",
    "n": "n",
    "Difference (points)": "Difference",
    "Verdict": "Verdict",
    "Training (s)": "Train (s)",
}


def comparison(rows: Sequence[Row], columns: tuple[str, ...] = tuple(COLUMNS)) -> Table:
    """Return the comparison as it is read, in the columns chosen."""
    return Table(list(columns), [[COLUMNS[c](row) for c in columns] for row in rows], words=WORDS)


def _difference_in_points(part: str) -> Callable[[Row], float]:
    return lambda row: 100 * getattr(row.difference, part) if row.difference else math.nan


CSV_COLUMNS: dict[str, Callable[[Row], str | float | int]] = {
    "arm": lambda r: r.arm.label,
    "fingerprint": lambda r: r.arm.fingerprint,
    "is_baseline": lambda r: int(r.is_baseline),
    "seeds": lambda r: " ".join(str(run.seed) for run in r.arm.runs),
    "n": lambda r: r.test.n,
    "diverged": lambda r: r.diverged,
    "test_accuracy_mean_percent": lambda r: 100 * r.test.mean,
    "test_accuracy_std_percent": lambda r: 100 * r.test.std,
    "test_accuracy_low95_percent": lambda r: 100 * r.test.low,
    "test_accuracy_high95_percent": lambda r: 100 * r.test.high,
    "pairs": lambda r: r.difference.n if r.difference else 0,
    "difference_mean_points": _difference_in_points("mean"),
    "difference_low95_points": _difference_in_points("low"),
    "difference_high95_points": _difference_in_points("high"),
    "p_paired_t": lambda r: r.difference.p if r.difference else math.nan,
    "p_holm": lambda r: r.p_holm,
    "p_mcnemar_exact": lambda r: r.mcnemar.p if r.mcnemar else math.nan,
    "verdict": lambda r: r.verdict,
    "best_epoch_mean": lambda r: r.best_epoch,
    "epochs_to_plateau_mean": lambda r: r.epochs_to_plateau,
    "val_accuracy_mean_percent": lambda r: 100 * r.val_accuracy.mean,
    "train_accuracy_mean_percent": lambda r: 100 * r.train_accuracy.mean,
    "train_seconds_mean": lambda r: r.train_seconds.mean,
    "images_per_second_mean": lambda r: r.images_per_second,
    "peak_memory_mib_mean": lambda r: r.peak_memory_mib,
    "parameters": lambda r: r.parameters,
    "trainable_parameters": lambda r: r.trainable_parameters,
    "macs": lambda r: r.macs,
}


def comparison_terminal(rows: Sequence[Row], reported: dict[str, dict[str, float]] | None = None) -> Table:
    """Return the comparison for a terminal of 120 columns; reported: {arm: {metric: number}}, shown beside the test."""
    headings, lines = list(TERMINAL.values()), [[COLUMNS[column](row) for column in TERMINAL] for row in rows]
    if reported:
        headings.insert(2, "Reported")
        for row, line in zip(rows, lines, strict=True):
            line.insert(2, number(reported.get(row.arm.name, {}).get("test_accuracy", math.nan), 2))
    return Table(headings, lines, words=WORDS)


def comparison_csv(rows: Sequence[Row]) -> tuple[list[str], list[list[str | float | int]]]:
    """Return the comparison in full precision: headings with units, and rows."""
    return list(CSV_COLUMNS), [[get(row) for get in CSV_COLUMNS.values()] for row in rows]


RUN_COLUMNS: dict[str, Callable[[Run], str]] = {
    "Run": lambda r: r.name,
    "Status": lambda r: r.status,
    "Validation (%)": lambda r: number(100 * r.number("result", "val_accuracy"), 2),
    "Test (%)": lambda r: number(100 * r.test_accuracy, 2),
    "Best epoch": lambda r: number(r.number("result", "best_epoch")),
    "Epochs": lambda r: number(r.number("result", "epochs")),
    "Training (s)": lambda r: number(r.number("seconds", "train"), 1),
    "Evaluation (s)": lambda r: number(r.number("seconds", "evaluate"), 1),
    "Preparation (s)": lambda r: number(r.number("seconds", "prepare"), 1),
    "Memory (MiB)": lambda r: number(r.number("result", "peak_memory_mib")),
    "Resumed": lambda r: number(r.number("resumed")),
    "Device": lambda r: " ".join(t for t in (r.text("device", "name"), r.text("device", "precision")) if t),
}


def runs(study: Study) -> Table:
    """Return every run of the study that could be read, whether or not it is in the comparison."""
    readable = [r for r in study.runs if r.status != "malformed"]
    readable.sort(key=lambda r: (r.label, r.seed, r.folder.name))
    return Table(list(RUN_COLUMNS), [[get(r) for get in RUN_COLUMNS.values()] for r in readable], 2, WORDS)


def left_out(study: Study) -> Table:
    """Return the runs that are not in the comparison, with the reason."""
    rows = [[r.folder, r.status, r.arm, r.seed, r.reason] for r in study.left_out]
    return Table(["Run", "Status", "Arm", "Seed", "Reason"], rows, 3, WORDS)


_SECONDS = {
    "prepare": "Preparation (s)",
    "features": "Features (s)",
    "compile": "Compiling (s)",
    "train": "Training (s)",
    "evaluate": "Evaluation (s)",
    "checkpoint": "Checkpoints (s)",
    "total": "Total (s)",
}


def cost(rows: Sequence[Row]) -> Table:
    """Return what a run of each arm costs: seconds by what they were spent on, throughput, memory, size."""
    spent = {part: [summarise(row.arm.values("seconds", part)).mean for row in rows] for part in _SECONDS}
    for part in ("features", "compile"):
        if not any(mean > 0 for mean in spent[part]):
            del spent[part]
    headings = ["Arm", *(_SECONDS[part] for part in spent)]
    headings += ["Images/s", "Peak memory (MiB)", "Trainable parameters", "Parameters", "MACs"]
    lines = []
    for place, row in enumerate(rows):
        seconds = [number(means[place], 1) for means in spent.values()]
        lines.append([row.arm.label, *seconds, number(row.images_per_second), number(row.peak_memory_mib)])
        lines[-1] += [number(row.trainable_parameters), number(row.parameters), large(row.macs)]
    return Table(headings, lines)


def runs_csv(study: Study) -> tuple[list[str], list[list[str | float | int]]]:
    """Return every readable run in full precision: headings with units, and rows."""
    words = ("arm", "fingerprint", "status", "repeat")
    shares = ("val_accuracy", "test_accuracy", "train_accuracy", "shift_consistency")
    numbers = {f"{name}_percent": ("result", name) for name in shares}
    plain = {n: ("result", n) for n in ("val_loss", "test_loss", "train_loss", "best_epoch", "epochs")}
    plain |= {f"{part}_seconds": ("seconds", part) for part in _SECONDS}
    plain |= {n: ("result", n) for n in ("images_per_second", "peak_memory_mib")}
    lines: list[list[str | float | int]] = []
    for run in study.runs:
        line: list[str | float | int] = [run.name, run.seed, *(run.text(word) for word in words)]
        line += [100 * run.number(*path) for path in numbers.values()]
        lines.append(line + [run.number(*path) for path in plain.values()])
    return ["run", "seed", *words, *numbers, *plain], lines
