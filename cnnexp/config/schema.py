"""The schema of a config: the keys at its top and in its closed nodes, each with its type. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cnnexp.config.signature import Count, Monitored, NonNegative, Positive, Range, Rate, Span


@dataclass
class RunConfig:
    """The top of a config. The schema of an open node (data ... scheduler) is the signature of its builder."""

    data: dict[str, Any]
    model: dict[str, Any]
    augmentation: dict[str, Any]
    mix: dict[str, Any]
    loss: dict[str, Any]
    optimizer: dict[str, Any]
    param_groups: dict[str, Any]
    ema: dict[str, Any]
    scheduler: dict[str, Any]
    device: dict[str, Any]
    cluster: dict[str, Any]
    probes: dict[str, Any]
    seed: Annotated[int, Range(low=0, high=2**32 - 1)]
    epochs: Span
    batch_size: Count
    eval_batch_size: Count | Literal["auto"]
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
    final_test: bool = True
    monitor: Monitored = "accuracy"
    shift_pixels: Count | None = None
    sampling: Literal["shuffle", "balanced"] = "shuffle"
    accumulate: Count = 1
    unfreeze: dict[str, Any] | None = None
    tracker: Literal["none", "tensorboard", "mlflow", "wandb"] = "none"
    search: dict[str, Any] | None = None


@dataclass
class DeviceConfig:
    """Where and how a run computes. `auto` is resolved when it starts, and recorded."""

    kind: str
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"]
    threads: Count | Literal["auto"]
    deterministic: bool
    channels_last: bool
    data_on_device: bool | Literal["auto"]
    keep_memory: bool = True
    compile: bool | Literal["reduce-overhead", "max-autotune"] = False
    processes: Count = 1
    sync_bn: bool = True


@dataclass
class Cluster:
    """Who makes the runs of a sweep, and what these need there."""

    engine: Literal["local", "by_hand", "slurm", "ray"]
    address: str = "auto"
    workers: Count | Literal["auto"] = 1
    cpus: Count = 1
    gpus: NonNegative = 0
    time: str | None = None
    memory: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    options: list[str] | None = None
    setup: list[str] | None = None


@dataclass
class Probes:
    """What is observed inside the training, and how often. Probes change no number."""

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
class Mix:
    """Images and labels of a batch mixed in pairs; each number is the alpha of Beta(alpha, alpha) (data/mix.py)."""

    mixup: Positive | None = None
    cutmix: Positive | None = None


@dataclass
class MovingAverage:
    """The decay of the average of the weights that is evaluated in place of the model's own (moving_average.py)."""

    decay: Rate | None = None


@dataclass
class ParamGroups:
    """Learning rates and weight decay by parameter (optim/groups.py)."""

    no_decay: bool = False
    layer_decay: Annotated[float, Range(above=0, high=1)] | None = None
    rates: dict[str, Any] | None = None


@dataclass
class Checkpoint:
    """How often the state of a run is saved, and whether that at its end is kept, for a longer run to go on from."""

    every: Literal["auto"] | Span
    final: bool = True


@dataclass
class Log:
    """How often the row of a single step is written, and whether every step has a row of hashes (hash_chain.py)."""

    steps: Span | None
    hash_chain: bool = False


@dataclass
class Backbone:
    """The weights that transfer arms start from: imagenet, a path, or `{config: NAME}`, a run that is made first."""

    weights: str | dict[str, Any]


@dataclass
class Study:
    """The study of a run: names and text only, nothing that can change a number.

    reported: the numbers of a source, {arm: test accuracy in per cent, or {metric: number}}. claims: see
    claims/grammar.py. arms, grid and seeds define the runs of a study; the config of a single run has none of them.
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


@dataclass
class Search:
    """What is searched, and how. The config of a trial has `prune` and `min_epochs` of it, any other run nothing."""

    sampler: Literal["tpe", "random"] | None = None
    space: dict[str, Any] | None = None
    trials: Count = 30
    prune: bool = True
    min_epochs: Count | Literal["auto"] = "auto"
    retrain: Annotated[int, Range(low=0)] = 0


SWEEP = ("arms", "grid", "seeds")  # the keys of `study` that define its runs
# What the caller gives by name to the builder of each open node; everything else comes from the config.
GIVEN: dict[str, tuple[str, ...]] = {
    "data": (),
    "model": ("image", "classes"),
    "augmentation": (),
    "loss": ("class_counts",),
    "optimizer": ("params",),
    "scheduler": ("optimizer", "total_steps", "steps_per_epoch"),
}
CLOSED = {
    "device": DeviceConfig,
    "cluster": Cluster,
    "probes": Probes,
    "mix": Mix,
    "ema": MovingAverage,
    "param_groups": ParamGroups,
    "early_stopping": EarlyStopping,
    "checkpoint": Checkpoint,
    "log": Log,
    "backbone": Backbone,
    "study": Study,
}
