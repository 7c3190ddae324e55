"""What a config may hold: the keys of its top and of its closed nodes, each with its type. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cnnexp.config.signature import Count, Positive, Range, Rate, Span


@dataclass
class RunConfig:
    """The top of a config; the open nodes (data ... scheduler) have their builders' signatures for a schema."""

    data: dict[str, Any]
    model: dict[str, Any]
    augmentation: dict[str, Any]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    device: dict[str, Any]
    probes: dict[str, Any]
    seed: Annotated[int, Range(low=0, high=2**32 - 1)]
    epochs: Span
    batch_size: Count
    eval_batch_size: Count | Literal["auto"]
    label_smoothing: Rate
    clip_norm: Positive | None
    cache_features: bool
    early_stopping: dict[str, Any]
    checkpoint: dict[str, Any]
    log: dict[str, Any]
    backbone: dict[str, Any]
    outputs: str
    slots: str | list[str]
    study: dict[str, Any]
    validate_on: Literal["val", "test"] = "val"
    keep_epoch: Literal["best", "last"] = "best"
    shift_pixels: Count | None = None


@dataclass
class DeviceConfig:
    """Where and how a run computes; `auto` is resolved when it starts, and recorded."""

    kind: str
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"]
    threads: Count | Literal["auto"]
    deterministic: bool
    channels_last: bool
    data_on_device: bool | Literal["auto"]
    keep_memory: bool = True
    compile: bool | Literal["reduce-overhead", "max-autotune"] = False


@dataclass
class Probes:
    """What is looked at inside the training, and how often; it changes no number."""

    every: Span
    gradients: bool
    updates: bool
    activations: bool
    dead_units: bool
    batch_norm: bool


@dataclass
class EarlyStopping:
    """Stop after `patience` epochs without a better validation accuracy."""

    patience: Count | None


@dataclass
class Checkpoint:
    """How often the state of a run is made durable."""

    every: Literal["auto"] | Span


@dataclass
class Log:
    """How often a row of a single step is written; whether every step leaves a row of hashes (hash_chain.py)."""

    steps: Span | None
    hash_chain: bool = False


@dataclass
class Backbone:
    """What the arms that transfer start from: imagenet, a path, or `{config: NAME}`, a run that is made first."""

    weights: str | dict[str, Any]


@dataclass
class Study:
    """What a run belongs to: names and words only, nothing that can change a number.

    reported: what a source says, {arm: test accuracy in per cent, or {metric: number}}; claims: see claims/grammar.py.
    arms, grid and seeds make the runs of a study; a run's own config does not have them.
    """

    name: str
    arm: str | None
    question: str | None
    baseline: str | None
    reported: dict[str, Any] | None = None
    source: str | None = None
    claims: list[str] | None = None
    arms: dict[str, Any] | None = None
    grid: dict[str, Any] | None = None
    seeds: list[int] | None = None


SWEEP = ("arms", "grid", "seeds")  # keys of `study` that make its runs
CLOSED = {
    "device": DeviceConfig,
    "probes": Probes,
    "early_stopping": EarlyStopping,
    "checkpoint": Checkpoint,
    "log": Log,
    "backbone": Backbone,
    "study": Study,
}
