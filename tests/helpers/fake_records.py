"""Plausible run directories for tests of what reads records, written by RunRecord as training writes them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnexp.records import run_record as record
from cnnexp.records import study as study_file
from cnnexp.records.names import distinct_slug, run_folder
from cnnexp.records.study import Plan
from cnnexp.report.read.runs import Run
from cnnexp.report.read.study import Arm, Schedule, Study

CLASSES = [
    "tench",
    "springer",
    "cassette",
    "chain saw",
    "church",
    "horn",
    "truck",
    "gas pump",
    "golf ball",
    "parachute",
]
ARMS = {  # arm: (test accuracy, by how much training accuracy exceeds it, training seconds)
    "baseline": (0.51, 0.35, 60.0),
    "batchnorm": (0.66, 0.25, 75.0),
    "dropout": (0.62, 0.06, 62.0),
    "augmentation": (0.64, 0.03, 80.0),
    "combined": (0.75, 0.04, 98.0),
    "resnet18_frozen": (0.9, 0.02, 160.0),
    "resnet18_unfrozen": (0.91, 0.05, 210.0),
}


def predictions(
    accuracy: float, seed: int, classes: int = 10, images: int = 1000
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return logits (N, K), labels (N,), ids (N,) of a network that has round(accuracy * N) images right.

    Wrong answers favour the next class. Labels and ids are the same for every seed.
    """
    generator = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    wrong = generator.permutation(images)[: images - round(accuracy * images)]
    shift = generator.choice(np.arange(1, classes), size=len(wrong), p=_mostly_first(classes - 1))
    answers = labels.copy()
    answers[wrong] = (labels[wrong] + shift) % classes
    logits = generator.normal(size=(images, classes)).astype(np.float32)
    logits[np.arange(images), answers] = 9.0
    return logits, labels, np.array([f"test/{i:05d}.jpg" for i in range(images)])


def _mostly_first(count: int) -> np.ndarray[Any, Any]:
    weights = 0.5 ** np.arange(count)
    return weights / weights.sum()


def write_run(
    outputs: Path,
    arm: str = "baseline",
    seed: int = 0,
    accuracy: float = 0.6,
    *,
    study: str = "demo",
    fingerprint: str = "",
    status: str = "done",
    gap: float = 0.2,
    seconds: float = 60.0,
    epochs: int = 15,
    classes: list[str] | None = None,
    images: int = 1000,
    with_predictions: bool = True,
    **fields: Any,
) -> record.RunRecord:
    """Write one run directory; `fields` replace fields of run.json. Its test accuracy is round(accuracy * N) / N."""
    classes = CLASSES if classes is None else classes
    fingerprint = fingerprint or f"{abs(sum(map(ord, arm))) * 2654435761 % 2**40:010x}"
    run = record.RunRecord(run_folder(outputs, study, arm, seed, fingerprint))
    finished = status == "done"
    accuracy = round(accuracy * images) / images
    with run.held():
        run.write_config({"seed": seed})
        _write_curves(run, accuracy, gap, epochs if finished else 3, seed)
        if finished and with_predictions:
            run.write_predictions(*predictions(accuracy, seed, len(classes), images))
        info = _info(study, arm, seed, fingerprint, status, classes, images)
        if finished:
            info |= _outcome(run, accuracy, gap, seconds, epochs)
        run.update(**{**info, **fields})
    return run


def _write_curves(run: record.RunRecord, accuracy: float, gap: float, epochs: int, seed: int) -> None:
    generator = np.random.default_rng(1000 + seed)
    for epoch in range(1, epochs + 1):
        rise = 1 - np.exp(-4 * epoch / max(epochs, 1))
        for split, top in (("train", accuracy + gap), ("val", accuracy)):
            value = float(np.clip(0.1 + (top - 0.1) * rise + generator.normal(0, 0.008), 0, 1))
            loss = float(2.3 * (1 - value) + (0.02 * epoch if split == "val" and gap > 0.1 else 0))
            rate = 0.001 if split == "train" else None
            run.append(
                kind="epoch", epoch=epoch, step=epoch * 70, split=split, loss=loss, accuracy=value,
                learning_rate=rate, seconds=4.0, images_per_second=2200.0,
            )  # fmt: skip
    run.sync()


def _info(
    study: str, arm: str, seed: int, fingerprint: str, status: str, classes: list[str], images: int
) -> dict[str, Any]:
    return {
        "status": status,
        "study": study,
        "arm": arm,
        "seed": seed,
        "fingerprint": fingerprint,
        "changes": [] if arm == "baseline" else [f"model.{arm}=true"],
        "command": f"cnnexp train +study={study}",
        "repeat": f"cnnexp train +study={study} +arm={arm} seed={seed}",
        "code": {"version": "0.1.0", "commit": "abc1234", "digest": "d" * 16},
        "environment": {
            "python": "3.11", "torch": "2.11.0", "torchvision": "0.26.0", "platform": "Linux", "host": "lab",
        },
        "device": {"kind": "cpu", "name": "Example CPU", "precision": "fp32", "threads": 2},
        "data": {
            "name": "postcards", "fingerprint": "data01", "classes": classes, "image": [3, 64, 64],
            "train": 9000, "val": 1000, "test": images, "skipped": [],
        },
        "model": {"parameters": 390410, "trainable_parameters": 390410, "macs": 12345678},
        "schedule": {"steps_per_epoch": 70, "total_steps": 1050, "epochs": 15},
        "started": "2025-01-01T00:00:00+00:00",
        "finished": "2025-01-01T00:01:30+00:00",
        "resumed": 0,
    }  # fmt: skip


def _outcome(run: record.RunRecord, accuracy: float, gap: float, seconds: float, epochs: int) -> dict[str, Any]:
    rows = {row["epoch"]: row for row in run.rows(split="val")}
    best = max(rows, key=lambda epoch: rows[epoch]["accuracy"])
    return {
        "seconds": {"prepare": 1.5, "train": seconds, "evaluate": 2.5, "checkpoint": 0.4, "total": seconds + 4.4},
        "result": {
            "best_epoch": best,
            "epochs": epochs,
            "val_accuracy": rows[best]["accuracy"],
            "val_loss": rows[best]["loss"],
            "test_accuracy": accuracy,
            "test_loss": 2.3 * (1 - accuracy),
            "train_accuracy": min(1.0, accuracy + gap),
            "train_loss": 2.3 * (1 - min(1.0, accuracy + gap)),
            "images_per_second": 9000 * epochs / seconds,
            "peak_memory_mib": 512.0,
            "stopped": "completed",
        },
    }


def write_study(
    outputs: Path,
    arms: dict[str, tuple[float, float, float]] | None = None,
    seeds: int = 3,
    study: str = "demo",
    images: int = 1000,
    **fields: Any,
) -> Path:
    """Write a whole study, seeds spread by about a point around each arm's accuracy, and its study.json.

    fields: of study.json, beside or in place of what it has.
    """
    arms = ARMS if arms is None else arms
    generator = np.random.default_rng(7)
    runs = [
        write_run(
            outputs,
            arm,
            seed,
            top + generator.normal(0, 0.008),
            study=study,
            gap=gap,
            seconds=seconds * (1 + seed / 50),
            images=images,
        )
        for arm, (top, gap, seconds) in arms.items()
        for seed in range(seeds)
    ]
    folder = outputs / distinct_slug(study)
    plan = [{"folder": r.folder.name, **{k: r.info[k] for k in ("arm", "seed", "fingerprint")}} for r in runs]
    study_file.write_study(
        folder,
        {
            "name": study,
            "question": "Does each change help on its own, and do they add up?",
            "baseline": "baseline",
            "plan": {"seeds": list(range(seeds))},
            "command": f"cnnexp train +study={study}",
            "written": record.now(),
            "arms": list(arms),
            "runs": plan,
            **fields,
        },
    )
    return folder


def study_in_memory(
    arms: Mapping[str, Sequence[float]], changes: Mapping[str, list[str]] | None = None, **fields: Any
) -> Study:
    """Return a study without files, of its arms' test accuracies, fractions, for seeds 0, 1, ...

    The first arm is the baseline. changes: what each arm's runs record; fields: of the study, such as its claims.
    """
    made = []
    for name, accuracies in arms.items():
        info = {"arm": name, "status": "done", "changes": (changes or {}).get(name, [])}
        records = [
            record.RunRecord(Path(f"{name}-s{seed}"), {**info, "seed": seed, "result": {"test_accuracy": accuracy}})
            for seed, accuracy in enumerate(accuracies)
        ]
        runs = [Run(r, "done", arm=name, seed=r.info["seed"]) for r in records]
        made.append(Arm(name, "f", runs, label=name, key=name))
    whole = {"folder": Path(), "name": "s", "question": "", "command": "", "left_out": [], "notes": [], "runs": []}
    schedule = Schedule(Plan(tuple(range(max(map(len, arms.values()))))))
    return Study(**{**whole, "arms": made, "baseline": made[0], "schedule": schedule, **fields})
