"""The rows of the benchmark, in the order of the page."""

from collections.abc import Callable
from dataclasses import dataclass

from bench import (
    breakdown,
    growth,
    rows_costs,
    rows_gpu,
    rows_memory,
    rows_parts,
    rows_sweep,
    rows_training,
    rows_tried,
)
from bench.lab import Lab
from bench.result import Result

TRAINING = ("images_per_second", "wall_seconds", "train_seconds", "val_accuracy", "test_accuracy")
PARTS_OF_THE_LOOP = ("loop_seconds", "train_seconds", "evaluate_seconds", "checkpoint_seconds")
WHOLE = ("wall_seconds", "train_seconds", "images_per_second", "val_accuracy", "test_accuracy")


@dataclass(frozen=True)
class Row:
    """A row: what is measured, what was aimed at, and the metrics that the page shows of it (all are in the JSON)."""

    id: str
    title: str
    target: str
    measure: Callable[[Lab], Result]
    metrics: tuple[str, ...] = ()
    gpu: bool = False


_ALL = (
    Row("C1", "Compact network, Imagenette 64 px", "1.8x fp32, 2.0x bf16", rows_training.compact_64, TRAINING),
    Row("C2", "Compact network, Imagenette 160 px", "1.7x fp32, 1.7x bf16", rows_training.compact_160, TRAINING),
    Row(
        "C3",
        "VGG-like network, CIFAR-10 32 px, Adagrad, against three loops",
        "2.0x the plain loop; ahead of Lightning and fastai",
        rows_training.vgg_like,
        TRAINING,
    ),
    Row(
        "C4",
        "ResNet-18, all but the head frozen, 20 epochs",
        "15x the plain loop; 10x without the cache of features, 6x with flips",
        rows_training.frozen_backbone,
        WHOLE,
    ),
    Row("C5", "Augmented batches, without training", "10x the plain loader", rows_parts.input_pipeline),
    Row("C6", "The help, and the answer to a wrong key", "0.3 s and 1.5 s", rows_parts.start),
    Row(
        "C7",
        "An ablation of 5 arms and 3 seeds on the embedded data",
        "4x plain loops one after another, 1.5x cnnexp run by run",
        rows_sweep.ablation,
        ("wall_seconds", "start_seconds", "recorded_seconds", "train_seconds", "test_accuracy"),
    ),
    Row("C8", "What the runner adds to a loop by hand", "less than 3 %", rows_parts.runner),
    Row(
        "C9",
        "What checkpoints, evaluation, rows of steps and probes cost",
        "told, no target",
        rows_costs.probes,
        (*PARTS_OF_THE_LOOP, "probes_seconds", "hash_chain_seconds", "own_share_percent"),
    ),
    Row(
        "safety",
        "What checkpoints cost as they are by default",
        "at most 3 % of the loop",
        rows_costs.safety,
        PARTS_OF_THE_LOOP,
    ),
    Row("C10", "Memory of a run and of a sweep's worker", "at most 1.2x the plain loop", rows_memory.memory),
    Row("G1", "Compact network, Imagenette 160 px, 50 epochs, bf16, GPU", "5x", rows_gpu.compact, WHOLE, True),
    Row("G2", "Wide network, Imagenette 160 px, 50 epochs, bf16, GPU", "2.5x", rows_gpu.wide, WHOLE, True),
    Row("G3", "ResNet-18, head and batch norm learn, 50 epochs, bf16, GPU", "4x", rows_gpu.transfer, WHOLE, True),
    Row("G4", "16 seeds of a small network on one GPU", "3x one after another", rows_gpu.packed, gpu=True),
    Row("G5", "The ablation on a GPU, 160 px, 50 epochs", "10 minutes a study", rows_gpu.ablations, gpu=True),
    Row(
        "limit",
        "Forward, backward and update alone, on one batch that is there: no runner can train faster with these kernels",
        "told, no target",
        rows_parts.limit,
    ),
    Row("growth-runs", "Sweeps of 1 to 1,000 runs", "told, no target", growth.runs),
    Row("growth-images", "Data sets of 1,000 to 1,000,000 images", "told, no target", growth.images),
    Row("breakdown", "Where the time of a run, a sweep and a report goes", "told, no target", breakdown.breakdown),
    Row(
        "tried",
        "What did not help: the same training in other circumstances",
        "told, no target",
        rows_tried.tried,
        ("images_per_second", "wall_seconds", "compile_seconds"),
    ),
)
ROWS = {row.id: row for row in _ALL}
