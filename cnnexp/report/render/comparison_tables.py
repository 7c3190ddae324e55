"""The tables of arms and runs: the comparison with the baseline, the cost of a run, every run, and those left out."""

import math
from collections.abc import Sequence

from cnnexp.claims.metrics import SCORES
from cnnexp.pages.tables import Column, Table, csv_columns
from cnnexp.report.analysis.compare import Row
from cnnexp.report.analysis.decisions import BEFORE_NOTE
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.analysis.statistics import Estimate, summarise
from cnnexp.report.analysis.units import in_words
from cnnexp.report.read.comparable import NOT_COMPARABLE
from cnnexp.report.read.runs import Run
from cnnexp.report.read.study import LeftOut, Study
from cnnexp.report.render.formats import decimals, decision_columns, interval, or_dash, percent, points
from cnnexp.text import DASH, large

IN_COST = ("Training (s)", "Images/s", "Parameters", "MACs")  # of the comparison: the page has them under Cost


def notes(rows: Sequence[Row]) -> list[str]:
    """Return what the reader of a comparison must know, of what occurs in it."""
    own_images = any(row.arm.fold_is_test for row in rows)
    verdicts = {_kind(row.verdict) for row in rows}
    diverged = " (+1 div.): one more run diverged." if any(row.diverged for row in rows) else ""
    chance = " At chance: runs that are not significantly better than one answer for all images."
    found = [
        f"Accuracies in %: mean ± sample standard deviation {{over}}. n: number of {{units}}.{diverged}",
        "95 % interval: {t} over the {units}, cut at 0 and 100."
        + " It leaves out the choice of images, which all seeds share." * (not own_images)
        + chance * any(run.at_chance for row in rows for run in row.arm.runs),
    ]
    if any(row.difference for row in rows):
        found.append(
            "Difference: points against the baseline, {paired}, with its 95 % interval. p: paired {t_test}. Limit: "
            "what p must be below for a verdict."
        )
        found += [" ".join(words for kinds, words in VERDICT_NOTES if kinds & verdicts)]
        found += [BEFORE_NOTE] * any(" (at " in row.verdict for row in rows)
    if any(math.isfinite(row.outlook.detectable) for row in rows):
        found.append(
            "Detectable: the smallest true difference that these {units} would find with probability 0.8, with the "
            "observed deviation."
        )
    return in_words([note for note in [*found, *TRAINING_NOTES] if note], folds_of(rows))


def _kind(verdict: str) -> str:
    """Return a verdict without its numbers; "diverged" of one that diverged runs keep open."""
    return "diverged" if verdict.endswith("diverged)") else verdict.split(":")[0].split(" (")[0].split(" over ")[0]


def folds_of(rows: Sequence[Row]) -> int:
    """Return how many folds the arms have; 0 without cross-validation."""
    return max((row.arm.folds for row in rows), default=0)


VERDICT_NOTES = (
    ({"better", "worse"}, "better / worse: p below the limit, and no diverged run on the winning side."),
    ({"provisional"}, "provisional: {planned} are not done."),
    ({NOT_COMPARABLE}, "not comparable: the arm and the baseline differ in settings that neither sets."),
    ({"within noise"}, "within noise: no detectable difference, p >= 0.05."),
    ({"not decided"}, "not decided: p < 0.05 but above the limit, or too few {units}, or no spread."),
    (
        {"diverged"},
        "not decided (diverged): p below the limit, but the arm that is ahead has diverged runs, which are left out.",
    ),
)
TRAINING_NOTES = (
    "Epochs to plateau: the first epoch with a validation accuracy within 1 point of the run's own best, mean {over}.",
    "Training accuracy: on the training images without augmentation, in evaluation mode, at the best checkpoint.",
)
SCORE_NOTES = (
    "On the test images: mean ± sample standard deviation {over}. Precision, recall and F1 are means over the "
    "classes (macro). Balanced accuracy: the mean recall. Top-5: the label is among the five most probable classes.",
)
COST_NOTES = (
    "Seconds per run, mean {over}. Memory is the peak of the process; on a CPU, also what earlier runs left there.",
)
SECONDS = {
    "prepare": "Preparation (s)",
    "features": "Features (s)",
    "compile": "Compiling (s)",
    "train": "Training (s)",
    "evaluate": "Evaluation (s)",
    "checkpoint": "Checkpoints (s)",
    "total": "Total (s)",
}
OPTIONAL = (SECONDS["features"], SECONDS["compile"])  # in the table of costs only if a run spent any


def _count(row: Row) -> str:
    return f"{row.test.n}" + (f" (+{row.diverged} div.)" if row.diverged else "")


def _difference(row: Row) -> str:
    if row.is_baseline:
        return "baseline"
    some = row.difference and 2 <= row.difference.n != row.test.n
    return points(row.difference) + (f", {row.difference.n} pairs" if row.difference and some else "")


def _interval(row: Row) -> str:
    lost = sum(run.at_chance for run in row.arm.runs)
    return interval(row.test) + (f", {lost} at chance" if lost else "")


ARM: list[Column[Row]] = [
    Column("Arm", "arm", lambda r: r.arm.label, kind="label", terminal="Arm"),
    Column("", "fingerprint", lambda r: r.arm.fingerprint),
    Column("", "is_baseline", lambda r: int(r.is_baseline)),
    Column("", "seeds", lambda r: " ".join(dict.fromkeys(str(run.seed) for run in r.arm.runs))),
]
VALIDATION: Column[Row] = Column(
    "Validation accuracy (%)", "", lambda r: r.over_seeds("result", "val_accuracy"), percent, terminal="Validation (%)"
)
ACCURACY: list[Column[Row]] = [
    Column("Test accuracy (%)", "", lambda r: r.test, percent, terminal="Test (%)"),
    Column("95 % interval", "", _interval, terminal="95 % interval"),
    Column("n", "", _count, terminal="n"),
    Column("", "n", lambda r: r.test.n),
    Column("", "diverged", lambda r: r.diverged),
    *csv_columns("test_accuracy_{}_percent", ("mean", "std", "low", "high"), lambda r: r.test, 100),
    Column("Difference (points)", "", _difference, terminal="Difference"),
    Column("", "pairs", lambda r: r.difference.n if r.difference else 0),
    *csv_columns("difference_{}_points", ("mean", "low", "high"), lambda r: r.difference, 100),
    Column("", "p_paired_t", lambda r: r.difference.p if r.difference else math.nan),
    *decision_columns(lambda r: (r.decision, r.difference.p if r.difference else math.nan)),
    Column("Detectable (points)", "detectable_points", lambda r: r.outlook.detectable, decimals(2)),
    Column("", "p_mcnemar_exact", lambda r: r.mcnemar.p if r.mcnemar else math.nan),
    Column("Verdict", "verdict", lambda r: r.verdict, or_dash, kind="verdict", terminal="Verdict"),
]
TRAINING: list[Column[Row]] = [
    Column("Best epoch", "best_epoch_mean", lambda r: r.mean("result", "best_epoch"), decimals(1)),
    Column("Epochs to plateau", "epochs_to_plateau_mean", lambda r: r.epochs_to_plateau, decimals(1)),
    *csv_columns("val_accuracy_{}_percent", ("mean", "std"), lambda r: r.over_seeds("result", "val_accuracy"), 100),
    Column("Training accuracy (%)", "", lambda r: r.over_seeds("result", "train_accuracy"), percent),
    *csv_columns("train_accuracy_{}_percent", ("mean", "std"), lambda r: r.over_seeds("result", "train_accuracy"), 100),
    Column("Training (s)", "train_seconds_mean", lambda r: r.train_seconds.mean, decimals(1), terminal="Train (s)"),
    Column("Images/s", "images_per_second_mean", lambda r: r.mean("result", "images_per_second"), decimals(0)),
    Column("", "peak_memory_mib_mean", lambda r: r.mean("result", "peak_memory_mib")),
    Column("Parameters", "parameters", lambda r: r.model("parameters"), decimals(0)),
    Column("", "trainable_parameters", lambda r: r.model("trainable_parameters")),
    Column("MACs", "macs", lambda r: r.model("macs"), large),
]


def comparison(findings: Findings) -> Table[Row]:
    """Return the comparison of the arms with the baseline. Where a setting is chosen, validation comes first.

    In a terminal also what is reported of their accuracies.
    """
    reported: list[Column[Row]] = []
    if findings.study.reported:
        by_name = findings.study.reported

        def accuracy(row: Row) -> float:
            return by_name.get(row.arm.name, {}).get("test_accuracy", math.nan)

        reported = [Column("", "", accuracy, decimals(2), terminal="Reported")]
    validation = [VALIDATION] if findings.study.is_choice else []
    return Table(
        [*ARM, *validation, ACCURACY[0], *reported, *ACCURACY[1:], *TRAINING], findings.rows, notes(findings.rows)
    )


def for_papers(findings: Findings) -> Table[Row]:
    """Return the comparison without what is about training, and without a baseline without its empty columns."""
    table = comparison(findings)
    columns = [column for column in table.columns if column not in TRAINING and column.heading]
    if findings.baseline is None:
        columns = [column for column in columns if any(column.text(row) != DASH for row in table.rows)]
    about_training = in_words(TRAINING_NOTES, folds_of(table.rows))
    return Table(columns, table.rows, [note for note in table.notes if note not in about_training])


def _mean_seconds(stage: str) -> Column[Row]:
    return Column(SECONDS[stage], "", lambda r: r.mean("seconds", stage), decimals(1))


COST: list[Column[Row]] = [
    ARM[0],
    *(_mean_seconds(stage) for stage in SECONDS),
    Column("Images/s", "", lambda r: r.mean("result", "images_per_second"), decimals(0)),
    Column("Peak memory (MiB)", "", lambda r: r.mean("result", "peak_memory_mib"), decimals(0)),
    Column("Trainable parameters", "", lambda r: r.model("trainable_parameters"), decimals(0)),
    Column("Parameters", "", lambda r: r.model("parameters"), decimals(0)),
    Column("MACs", "", lambda r: r.model("macs"), large),
]


def cost(rows: Sequence[Row]) -> Table[Row]:
    """Return the cost of a run of each arm: seconds by stage, throughput, memory and size."""
    rows = [row for row in rows if row.test.n]
    unused = [c for c in COST if c.heading in OPTIONAL and not any(c.value(row) > 0 for row in rows)]
    return Table([column for column in COST if column not in unused], rows, in_words(COST_NOTES, folds_of(rows)))


def _score(name: str) -> list[Column[Row]]:
    heading = {"f1": "F1", "top5": "Top-5"}.get(name, name.replace("_", " ").capitalize())

    def value(row: Row) -> Estimate:
        return summarise({run.unit: run.metric(f"test_{name}") for run in row.arm.runs})

    numbers = csv_columns(f"test_{name}_{{}}_percent", ("mean", "std"), value, 100)
    return [Column(f"{heading} (%)", "", value, percent), *numbers]


def scores(rows: Sequence[Row]) -> Table[Row]:
    """Return precision, recall, F1 and other scores of each arm on the test images."""
    named = [name for name in SCORES if name != "top5" or any(_classes(row) > 5 for row in rows)]
    columns = [ARM[0], *(column for name in named for column in _score(name))]
    return Table(columns, [row for row in rows if _classes(row)], in_words(SCORE_NOTES, folds_of(rows)))


def _classes(row: Row) -> int:
    return max((run.predictions.classes for run in row.arm.runs if run.predictions), default=0)


def _result(heading: str, name: str, digits: int = 0) -> Column[Run]:
    return Column(heading, name, lambda r: r.number("result", name), decimals(digits))


def _result_percent(heading: str, name: str) -> Column[Run]:
    return Column(heading, f"{name}_percent", lambda r: 100 * r.number("result", name), decimals(2))


def _stage(stage: str) -> Column[Run]:
    heading = SECONDS[stage] if stage in ("prepare", "train", "evaluate") else ""
    return Column(heading, f"{stage}_seconds", lambda r: r.number("seconds", stage), decimals(1))


FOLD: Column[Run] = Column("Fold", "fold", lambda r: math.nan if r.fold is None else r.fold.number, decimals(0))
RUNS: list[Column[Run]] = [
    Column("Run", "run", lambda r: r.name, kind="label"),
    Column("", "seed", lambda r: r.seed),
    FOLD,
    Column("", "arm", lambda r: r.text("arm")),
    Column("", "fingerprint", lambda r: r.text("fingerprint")),
    Column("Status", "status", lambda r: r.status, kind="label"),
    Column("", "repeat", lambda r: r.text("repeat")),
    _result_percent("Validation (%)", "val_accuracy"),
    _result_percent("Test (%)", "test_accuracy"),
    _result_percent("", "train_accuracy"),
    _result_percent("", "shift_consistency"),
    *(_result("", name) for name in ("val_loss", "test_loss", "train_loss")),
    _result("Best epoch", "best_epoch"),
    _result("Epochs", "epochs"),
    *(_stage(stage) for stage in SECONDS),
    _result("", "images_per_second"),
    _result("Memory (MiB)", "peak_memory_mib"),
    Column("Resumed", "", lambda r: r.number("resumed"), decimals(0)),
    Column("Device", "", lambda r: f"{r.text('device', 'name')} {r.text('device', 'precision')}".strip(), kind="label"),
]


def readable_runs(study: Study) -> Table[Run]:
    """Return every run that can be read, whether or not it is in the comparison."""
    readable = [run for run in study.runs if run.status != "malformed"]
    return Table(run_columns(study), sorted(readable, key=lambda r: (r.label, r.unit, r.folder.name)))


def run_columns(study: Study) -> list[Column[Run]]:
    """Return the columns of a table of runs: the fold only where there are folds."""
    return [column for column in RUNS if column is not FOLD or any(run.fold for run in study.runs)]


LEFT_OUT: list[Column[LeftOut]] = [
    Column("Run", "", lambda r: r.folder, kind="label"),
    Column("Status", "", lambda r: r.status, kind="label"),
    Column("Arm", "", lambda r: r.arm, kind="label"),
    Column("Seed", "", lambda r: r.seed),
    Column("Reason", "", lambda r: r.reason, kind="reason"),
]
