"""The lives of a run: each in a process of its own that ends at a step. What came of them all, compared bit for bit."""

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cnnexp import storage
from cnnexp.errors import Interrupted
from cnnexp.records.fields import TIMING
from cnnexp.records.run_record import RunRecord
from cnnexp.training import checkpoint, hash_chain
from cnnexp.training import run as runner
from cnnexp.training import setup as start
from cnnexp.training.checkpoint import Checkpoints
from cnnexp.training.evaluation import Evaluation
from cnnexp.training.features import Features
from cnnexp.training.loop import TrainState
from cnnexp.training.plan import Plan
from cnnexp.training.progress import Progress

EPOCH = 5  # steps
# What is added to a run of 3 epochs of 5 steps on 8 x 8 images, with batch norm, dropout and random crops.
KINDS = {
    "constant": ["log.steps=4st"],
    "step": ["scheduler=step", "scheduler.every=7st", "scheduler.gamma=0.5", "optimizer=adamw"],
    "cosine": [
        *("optimizer=momentum", "optimizer.nesterov=true", "scheduler=cosine", "scheduler.warmup=3st", "clip_norm=0.5"),
        *("loss.label_smoothing=0.1", "log.steps=2st", "device.precision=bf16", "early_stopping.patience=2"),
    ],
    "mixed and averaged": [
        *(
            "loss=focal",
            "loss.class_weights=balanced",
            "sampling=balanced",
            "mix={mixup:0.4,cutmix:1.0}",
            "accumulate=3",
        ),
        *(
            "ema.decay=0.9",
            "param_groups={no_decay:true,rates:{head:3},layer_decay:0.9}",
            "optimizer=adamw",
            "monitor=f1",
        ),
    ],
    "unfrozen": [
        *("model=torchvision", "model.name=shufflenet_v2_x0_5", "model.freeze=backbone", "model.bn=frozen"),
        *("unfreeze={stage4:4st,backbone:2ep}", "optimizer=adamw", "clip_norm=1.0", "ema.decay=0.9"),
        *("param_groups={no_decay:true,rates:{stage4:0.5}}", "scheduler=cosine"),
    ],
    "onecycle": ["scheduler=onecycle", "optimizer=rmsprop", "optimizer.momentum=0.9"],
    "plateau": ["augmentation=full", "scheduler=plateau", "scheduler.patience=0", "optimizer.lr=0.01"],
    "torch's step": [
        *("~scheduler.warmup", "scheduler._target_=torch.optim.lr_scheduler.StepLR", "+scheduler.step_size=2"),
        *("+scheduler.gamma=0.3", "log.steps=1st", "data.val_fraction=0", "optimizer=momentum"),
    ],
    "torch's plateau": [
        *("~scheduler.warmup", "scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau"),
        *("+scheduler.patience=1", "+scheduler.threshold=0.9", "optimizer=adagrad"),
    ],
    "early stopping": [
        *("epochs=6ep", "early_stopping.patience=2", "scheduler=plateau", "scheduler.patience=1"),
        *("scheduler.threshold=0.9", "seed=2"),  # best epoch 2 of 4
    ],
    "loss scaled": ["optimizer=sgd", "clip_norm=1.0", "study.arm=scaled"],
    "perceptron": ["model=mlp", "model.norm=layer", "model.dropout.fc=0.2", "scheduler=plateau"],
    "residual": ["model=residual", "optimizer=momentum", "scheduler=cosine", "early_stopping.patience=2"],
    "from formulas": ["model.impl=im2col", "optimizer=reference_adam", "scheduler=step", "scheduler.every=1ep"],
}
UNTIMED_RESULT = ("best_epoch", "epochs", "val_accuracy", "val_loss", "test_accuracy", "test_loss", "train_accuracy",
                  "train_loss", "stopped")  # fmt: skip


class SignalAt(Progress):
    """Sends this process a signal at a step, and says nothing."""

    def __init__(self, step: int | None, number: signal.Signals = signal.SIGTERM):
        self.at, self.number = step, number

    def step(self, state: TrainState) -> None:
        if state.step == self.at:
            os.kill(os.getpid(), self.number)


def live(plan: Plan, end: str = "", at: int | None = None) -> str:
    """Make a run, or a part of it, in this process, which is to end after that; return how the run ended.

    end: "" goes on to the run's own end; "signal" asks it to stop at step `at`; "kill" kills the process as soon as
    the checkpoint of step `at` is durable; a key of MOMENTS asks it to stop at the beginning of what is done there for
    the `at`-th time. last.pt of a run that is done stays, so that its state can be compared.
    """
    RunRecord.drop_resume_files = lambda self: None  # type: ignore[method-assign]
    if end == "kill":
        kill_after_save(at)
        plan.config["checkpoint"]["every"] = "1st"
    if end in MOMENTS:
        signal_at_call(*MOMENTS[end], at)
    if plan.arm == "scaled":
        scale_losses()
    try:
        return runner.run(plan, SignalAt(at if end == "signal" else None)).status
    except Interrupted:
        return "interrupted"


MOMENTS = {
    "evaluation": (Evaluation, "logits"),
    "write": (storage, "draft"),
    "features": (Features, "_pass"),
    "row": (storage, "append_row"),
}


def signal_at_call(owner: Any, name: str, number: int | None) -> None:
    """Let this process send itself SIGTERM whenever a function is called for the `number`-th time."""
    original, calls = getattr(owner, name), itertools.count(1)

    def call(*arguments: Any, **named: Any) -> Any:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments, **named)

    setattr(owner, name, call)


def kill_after_save(step: int | None) -> None:
    """Let this process die when the checkpoint of a step is durable, and no later."""
    save = Checkpoints.save

    def last_save(self: Checkpoints, state: TrainState, *more: Any) -> None:
        save(self, state, *more)
        if state.step == step:
            self.wait()
            os.kill(os.getpid(), signal.SIGKILL)

    Checkpoints.save = last_save  # type: ignore[method-assign]


def scale_losses() -> None:
    """Let runs scale their losses as with fp16 on a GPU, by factors that are no powers of 2, each for 4 steps."""
    new_state = start.new_state

    def scaled(*arguments: Any) -> TrainState:
        state = new_state(*arguments)
        state.scaler = torch.amp.GradScaler("cpu", init_scale=10.0, growth_factor=1.5, growth_interval=4)
        return state

    start.new_state = scaled


def last(folder: Path) -> dict[str, Any]:
    """Return the state that a run's last checkpoint holds."""
    return checkpoint.read(folder / "checkpoints" / "last.pt")


def everything(folder: Path) -> dict[str, Any]:
    """Return all that a run computed: state at the end, best weights, rows and result without times, predictions."""
    run = RunRecord.read(folder)
    rows = [*run.rows("epoch"), *run.rows("step")]
    return {
        "hash chain": hash_chain.read(folder),
        "rows": [{key: value for key, value in row.items() if key not in TIMING} for row in rows],
        "result": {key: (run.info.get("result") or {}).get(key) for key in UNTIMED_RESULT},
        "predictions": run.predictions(),
        "best": checkpoint.read(folder / "checkpoints" / "best.pt"),
        "state": {key: value for key, value in last(folder).items() if key not in ("seconds", "epoch_seconds")},
    }


def difference(mine: dict[str, Any], theirs: dict[str, Any]) -> str | None:
    """Say where two runs first differ: by their hash chains if these tell, else in which value."""
    chains = mine["hash chain"], theirs["hash chain"]
    if all(chains) and (where := hash_chain.parting(*chains)):
        return f"first differs at {where}"
    return next(differences(mine, theirs), None)


def differences(mine: Any, theirs: Any, where: str = "") -> Iterator[str]:
    """Yield the path of every value in which two nested structures differ; tensors and arrays are equal bit for bit."""
    if type(mine) is not type(theirs):
        yield where
    elif isinstance(mine, dict):
        for key in {**mine, **theirs}:
            values = mine.get(key, "not there"), theirs.get(key, "not there")
            yield from differences(*values, f"{where}.{key}".strip("."))
    elif isinstance(mine, (list, tuple)):
        if len(mine) != len(theirs):
            yield f"{where}: {len(mine)} and {len(theirs)} of them"
        for number, (a, b) in enumerate(zip(mine, theirs, strict=False)):
            yield from differences(a, b, f"{where}[{number}]")
    elif isinstance(mine, np.ndarray):
        if (mine.dtype, mine.shape, mine.tobytes()) != (theirs.dtype, theirs.shape, theirs.tobytes()):
            yield where
    elif hash_chain.digest(mine) != hash_chain.digest(theirs):
        yield where
