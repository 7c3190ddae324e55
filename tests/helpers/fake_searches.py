"""Searches as recorded, and as hostile ones."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile_pages import HTML

from cnnexp.records.run_record import RunRecord
from cnnexp.search.space import read_space
from cnnexp.search.trials import Search, Trials, trial_name

SPACE = {"optimizer.lr": {"low": 1e-4, "high": 0.1, "log": True}, "model.norm": ["none", "batch"]}


def made(
    folder: Path,
    count: int = 14,
    monitor: str = "accuracy",
    value: Callable[[float], float] | None = None,
    space: dict[str, Any] = SPACE,
    command: str = "cnnexp train +search=tpe",
) -> Search:
    """Record a search whose trials have the value of their learning rate: the best is 0.01. Trial 3 is pruned."""
    search = Search(folder, "tpe", read_space(space), monitor, "best", 30, 0, command, ("epochs=2",))
    folder.mkdir(parents=True)
    search.write()
    drawn = random.Random(0)
    for number in range(count):
        lr = 0.01 if number == 5 else round(10 ** drawn.uniform(-4, -1), 6)
        at = (value or (lambda lr: 0.8 - 0.1 * abs(math.log10(lr) + 2)))(lr)
        choices = {key: drawn.choice(values) for key, values in space.items() if isinstance(values, list)}
        run = folder / f"{trial_name(number)}-s0-abc"
        (run / "checkpoints").mkdir(parents=True)
        Trials(search).add(number, {"optimizer.lr": lr, **choices}, run)
        record = RunRecord.read(run)
        for epoch in (1, 2):
            row = {"kind": "epoch", "epoch": epoch, "step": epoch, "loss": 1 - at, "accuracy": at - 0.1 * (2 - epoch)}
            record.append(**row, split="val")
        result = {"stopped": "pruned" if number == 3 else "completed", "val_accuracy": at}
        record.update(
            status="done",
            result=result,
            seconds={"total": 3.0},
            data={"val": 400},
            arm=run.name,
            seed=0,
            fingerprint="abc",
        )
    return search


def hostile_search(folder: Path) -> Search:
    """Record a search of which every text that is shown is hostile: names and values of settings, errors, commands."""
    links = [*HTML[:6], '<a href="https://elsewhere.example/">x</a><b>bold</b>', *HTML[6:12]]
    space = {**SPACE, f"model.{links[6]}": links, f"model.{HTML[4]}": [*HTML[12:18], links[6]]}
    search = made(folder, space=space, command="".join(HTML))
    for number, status in ((0, "failed"), (1, "diverged")):
        run = folder / f"{trial_name(number)}-s0-abc"
        RunRecord.read(run).update(status=status, error={"type": HTML[number], "message": "".join(HTML)})
    params = {key: 0.01 if isinstance(values, dict) else values[0] for key, values in space.items()}
    Trials(search).add(14, params, error="".join(HTML))
    return search
