"""Fake runs in which every number agrees, and the changes that `cnnexp verify` and the oracle must find."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from checksummed import lines_of
from fake_records import write_run

from cnnexp import metrics
from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.records.study import write_study as write_study_file

CLAIMS = [
    *("combined > batchnorm", "std(dropout) < std(baseline)", "batchnorm - baseline >= 5 points"),
    *("combined > baseline at every epoch", "combined converges faster than baseline", "nobody > baseline"),
    *("dropout.test_loss < baseline.test_loss", "combined - batchnorm < 20 points", "batchnorm.train_accuracy > 50 %"),
    *("baseline < combined", "baseline < combined at every epoch", "std(baseline) > std(dropout)"),
    *("combined.f1 > baseline.f1", "combined.precision[tench] > baseline.precision[tench]"),
]
REPORTED = {"baseline": 60.0, "combined": {"test_accuracy": 75.0, "std": 1.0, "val_accuracy": 74.0}, "nobody": 1.0}
NORM, DROPOUT, CROP = "model.norm=batch", "model.dropout.fc=0.5", "augmentation=crop"
FACTORIAL = {"baseline": [], "batchnorm": [NORM], "dropout": [DROPOUT], "combined": [NORM, DROPOUT]}
THREE = {  # a full factorial
    **FACTORIAL,
    "augmentation": [CROP],
    **{"batchnorm_crop": [NORM, CROP], "dropout_crop": [DROPOUT, CROP], "all": [NORM, DROPOUT, CROP]},
}
GAINS = {**FACTORIAL, "combined": [NORM, DROPOUT, CROP], "augmentation": [CROP]}
ROWS = {  # of the CSV tables of the report
    **{
        "comparison": 7,
        "runs": 23,
        "per_class": 70,
        "reported": 4,
        "claims": 14,
        "scores": 7,
        "effects": 3,
        "calibration": 7,
    },
    **{"calibration_bins": 105, "confusions": 140, "mistakes": 84, "disagreement": 6, "never_agreed": 30},
    "per_class_difference": 60,
}
CELLS = {  # {table: columns}: a cell of each kind of number, and of the words
    "comparison": [
        *("test_accuracy_mean_percent", "test_accuracy_high95_percent", "n", "difference_low95_points", "p_paired_t"),
        *("p_limit", "rule", "train_seconds_mean", "epochs_to_plateau_mean", "verdict", "seeds", "macs", "diverged"),
    ],
    "runs": ["test_accuracy_percent", "val_loss", "train_seconds", "best_epoch", "status"],
    "scores": ["test_f1_mean_percent", "test_balanced_accuracy_mean_percent", "test_top5_std_percent", "arm"],
    "per_class": ["accuracy_mean_percent", "accuracy_std_percent", "precision_mean_percent", "class", "n"],
    "reported": ["reported", "mean", "low95", "difference"],
    "claims": ["mean", "low95", "p", "p_limit", "n", "verdict"],
    "calibration": ["ece_mean_percent", "ece_by_chance_percent", "brier_std", "nll_mean_nats", "accuracy_mean_percent"],
    "calibration_bins": ["bin", "images_per_seed", "confidence_mean_percent", "accuracy_percent"],
    "confusions": ["rank", "true_class", "predicted_class", "count", "share_of_true_class_percent"],
    "mistakes": ["image", "true_class", "predicted_class", "confidence_percent", "seeds_wrong", "seeds"],
    "disagreement": ["images", "both_mean_percent", "only_baseline_at_every_seed_images", "two_seeds_of_arm_percent"],
    "never_agreed": ["right_at_every_seed", "image", "predicted_by_the_other", "confidence_percent"],
    "per_class_difference": ["class", "difference_mean_points", "difference_low95_points"],
    "effects": ["points_mean", "points_low95", "p", "p_limit", "verdict"],
}


def make_consistent(outputs: Path, changes: dict[str, list[str]]) -> None:
    """Give fake runs the loss of their logits, the sum of their seconds, and what their arms change."""
    for run in find_runs(outputs):
        run.update(changes=changes.get(run.info["arm"], [f"other={run.info['arm']}"]))
        if run.status == "done":
            stored = run.predictions()
            loss = metrics.cross_entropy(stored["logits"], stored["labels"])
            spent = {part: seconds for part, seconds in run.info["seconds"].items() if part != "total"}
            accuracy = {**run.info["result"], "test_loss": loss, "shift_consistency": 0.875}
            run.update(result=accuracy, seconds={**spent, "total": sum(spent.values())})


def write_edge_cases(outputs: Path) -> Path:
    """Write a study of arms that differ by nothing, by the same at every seed, at other seeds, or have no runs done."""
    baseline = {0: 0.5, 1: 0.52, 2: 0.51, 3: 0.53}
    arms = {
        "baseline": baseline,
        "equal": baseline,
        "shifted": {seed: value + 0.1 for seed, value in baseline.items()},
        "constant": dict.fromkeys(baseline, 0.6),
        "near": {0: 0.51, 1: 0.51, 2: 0.52, 3: 0.53},
        "other_seeds": {1: 0.6, 2: 0.55, 3: 0.62, 7: 0.7},
        "two_seeds": {0: 0.55, 1: 0.58},
        "one_seed": {2: 0.4},
        "one_equal_seed": {0: 0.5},
        **{
            f"norm={norm},lr={lr}": {0: 0.6 + lr / 50, 1: 0.6, 2: 0.6 + norm / 20 * lr}
            for norm in (1, 2)
            for lr in (1, 2)
        },
    }
    for arm, accuracies in arms.items():
        for seed, accuracy in accuracies.items():
            gap, epochs = (0.2 if arm == "constant" else 0.1 + seed / 100), 5 + 2 * len(arm) % 7
            run = write_run(outputs, arm, seed, accuracy, study="edges", gap=gap, images=200, epochs=epochs)
            _vary_confidence(run, 3.0 if arm == "constant" else 1.0)
            _round_curves(run)
    write_run(outputs, "diverging", 0, status="diverged", study="edges")
    write_run(outputs, "near", 9, status="diverged", study="edges")
    claims = [
        *("equal > baseline", "shifted > baseline", "near >= baseline", "other_seeds - baseline > 5 points"),
        *("std(constant) < std(baseline)", "std(near) < std(baseline)", "std(two_seeds) < std(baseline)"),
        *("std(other_seeds) > std(baseline)", "equal < baseline at every epoch"),
        *("shifted - baseline > 4 points at every epoch", "shifted - baseline > 20 points at every epoch"),
        *("two_seeds > baseline", "one_seed < baseline", "diverging > baseline", "near > baseline at every epoch"),
        *("two_seeds converges faster than baseline", "other_seeds converges faster than near"),
        *("near.epochs_to_plateau < baseline.epochs_to_plateau", "near < baseline at every epoch"),
        *("near - baseline > 5 points", "baseline - near > 5 points", 'spread("norm=1") < spread("norm=2")'),
    ]
    folder = outputs / "edges"
    reported = {"near": {"test_accuracy": 51.0, "std": 3.0}, "baseline": {"test_accuracy": 50.0, "std": 2.0}}
    write_study_file(
        folder,
        {"name": "edges", "question": "", "baseline": "baseline", "reported": reported, "runs": []}
        | {"source": "", "claims": claims, "command": "", "written": "", "arms": list(arms)}
        | {"plan": {"seeds": sorted({seed for accuracies in arms.values() for seed in accuracies})}},
    )
    make_consistent(outputs, {})
    return folder


def _vary_confidence(run: RunRecord, most: float) -> None:
    """Multiply the logits of each image by another number, so that the confidences spread over all bins."""
    stored = run.predictions()
    scales = np.random.default_rng([run.info["seed"], len(run.info["arm"])]).uniform(0, most, (len(stored["ids"]), 1))
    run.write_predictions(stored["logits"] * scales, stored["labels"], stored["ids"])


def _round_curves(run: RunRecord) -> None:
    """Round the accuracies of the curves to points, so that epochs tie."""
    rows = [{**row, "accuracy": round(row["accuracy"], 2)} for row in run.rows()]
    run.keep_rows(0)
    for row in rows:
        run.append(**row)
    run.sync()
    best = max((row for row in rows if row["split"] == "val"), key=lambda row: row["accuracy"])
    numbers = {"best_epoch": best["epoch"], "val_accuracy": best["accuracy"], "val_loss": best["loss"]}
    run.update(result={**run.info["result"], **numbers})


def rows_of(file: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with open(file, newline="") as lines:
        return list(csv.DictReader(lines))


def change_a_cell(file: Path, column: str) -> None:
    """Change a cell of a CSV table in its eighth digit, or its words."""
    rows = rows_of(file)
    row = next(row for row in rows[1:] if row[column])
    try:
        row[column] = repr(float(row[column]) * (1 + 1e-8) or 1.0)
    except ValueError:
        row[column] = "changed"
    with open(file, "w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def change_cells(tables: Path, cells: dict[str, list[str]]) -> set[tuple[str, str]]:
    """Change one cell of each of the columns; return {(table, column)}."""
    for table, columns in cells.items():
        for column in columns:
            change_a_cell(tables / f"{table}.csv", column)
    return {(table, column) for table, columns in cells.items() for column in columns}


def _change_result(run: RunRecord, **fields: Any) -> None:
    run.update(result={**run.info["result"], **fields})


def _lower_a_logit(run: RunRecord) -> None:
    stored = run.predictions()
    stored["logits"][4, stored["labels"][4]] -= 0.1
    run.write_predictions(**stored)


def _change_a_label(run: RunRecord) -> None:
    stored = run.predictions()
    stored["labels"][0] = (stored["labels"][0] + 1) % 10
    run.write_predictions(**stored)


def _change_a_row(run: RunRecord) -> None:
    rows = run.rows()
    best = run.info["result"]["best_epoch"]
    next(row for row in rows if row["split"] == "val" and row["epoch"] == best)["accuracy"] -= 0.5
    (run.folder / "metrics.jsonl").write_bytes(lines_of(rows))


TAMPER: list[tuple[str, Callable[[RunRecord], Any]]] = [  # the name of the value that must not agree; the change
    ("result.test_accuracy", lambda run: _change_result(run, test_accuracy=run.info["result"]["test_accuracy"] + 1e-6)),
    ("result.test_loss", lambda run: _change_result(run, test_loss=run.info["result"]["test_loss"] * 1.0001)),
    ("result.val_accuracy", lambda run: _change_result(run, val_accuracy=0.99)),
    ("result.best_epoch", lambda run: _change_result(run, best_epoch=1)),
    ("train_accuracy_percent", lambda run: _change_result(run, train_accuracy=0.99)),
    ("seconds.total", lambda run: run.update(seconds={**run.info["seconds"], "total": 1.0})),
    ("data.test", lambda run: run.update(data={**run.info["data"], "test": 999})),
    ("result.test_loss", _lower_a_logit),
    ("result.test_accuracy", _change_a_label),
    ("result.best_epoch", _change_a_row),
    ("content", lambda run: (run.folder / "predictions.npz").write_bytes(b"no")),
    ("content", lambda run: (run.folder / "metrics.jsonl").unlink()),
]


def tamper(folder: Path) -> tuple[list[tuple[str, str]], set[str]]:
    """Change a run by each of TAMPER; return [(run, name of the value)], and the names of the runs left as they were.

    The runs are done and in the order of their folders, so the first ones are changed.
    """
    done = [run for run in find_runs(folder) if run.info["status"] == "done"]
    for (_, change), run in zip(TAMPER, done, strict=False):
        change(run)
    changed = [(run.name, name) for (name, _), run in zip(TAMPER, done, strict=False)]
    return changed, {run.name for run in done[len(TAMPER) :]}
