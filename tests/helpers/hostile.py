"""Payloads that leave a canary, a file, when they run; and a run directory to plant them in. All made in code."""

import functools
import io
import logging
import mmap
import operator
import os
import pickle
import shutil
import subprocess
import tempfile
import timeit
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny import TINY

from cnnexp import storage
from cnnexp.records.names import run_folder
from cnnexp.records.run_record import RunRecord
from cnnexp.training import checkpoint
from cnnexp.training.build import build_model


class Call:
    """An object that is pickled as the call of a function: unpickling it calls."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None, setter: Any = None):
        self.reduced = (function, arguments, state, None, None, setter) if setter else (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced

    def __call__(self) -> None:
        """Pickle asks whether a function can be called."""


def _source(canary: Path) -> str:
    return f"open({str(canary)!r}, 'w').close()"


# What each of them does is to make the file `canary`. The first ones need no torch to fire.
PAYLOADS: dict[str, Callable[[Path], Any]] = {
    "os.system": lambda canary: Call(os.system, f"touch {canary}"),
    "subprocess.call": lambda canary: Call(subprocess.call, ["touch", str(canary)]),
    "subprocess.getoutput": lambda canary: Call(subprocess.getoutput, f"touch {canary}"),
    "eval": lambda canary: Call(eval, _source(canary)),
    "exec": lambda canary: Call(exec, _source(canary)),
    "exec of compile": lambda canary: Call(exec, Call(compile, _source(canary), "x", "exec")),
    "open": lambda canary: Call(open, str(canary), "w"),
    "os.open": lambda canary: Call(os.open, str(canary), os.O_CREAT),
    "os.mkdir": lambda canary: Call(os.mkdir, str(canary)),
    "os.symlink": lambda canary: Call(os.symlink, "/", str(canary)),
    "getattr of import": lambda canary: Call(Call(getattr, Call(__import__, "os"), "system"), f"touch {canary}"),
    "functools.partial": lambda canary: Call(functools.partial(os.system, f"touch {canary}")),
    "operator.methodcaller": lambda canary: Call(operator.methodcaller("touch"), canary),
    "list of map": lambda canary: Call(list, Call(map, os.system, [f"touch {canary}"])),
    "pickle.loads": lambda canary: Call(pickle.loads, pickle.dumps(Call(os.system, f"touch {canary}"))),
    "timeit.timeit": lambda canary: Call(timeit.timeit, _source(canary), "pass", timeit.default_timer, 1),
    "shutil.copyfile": lambda canary: Call(shutil.copyfile, __file__, str(canary)),
    "zipfile.ZipFile": lambda canary: Call(zipfile.ZipFile, str(canary), "w"),
    "io.FileIO": lambda canary: Call(io.FileIO, str(canary), "w"),
    "logging.FileHandler": lambda canary: Call(logging.FileHandler, str(canary)),
    "state setter": lambda canary: Call(str, _source(canary), state={}, setter=exec),
}
TORCH_PAYLOADS: dict[str, Callable[[Path], Any]] = {
    "torch.save": lambda canary: Call(torch.save, 0, str(canary)),
    "torch.storage._load_from_bytes": lambda canary: Call(
        torch.storage._load_from_bytes, _bytes(Call(os.system, f"touch {canary}"))
    ),
    "torch._utils._rebuild_parameter_with_state": lambda canary: Call(
        torch._utils._rebuild_parameter_with_state, torch.zeros(1), True, {}, Call(os.mkdir, str(canary))
    ),
    "torch.fx.graph_module._exec_with_source": lambda canary: Call(
        __import__("torch.fx.graph_module").fx.graph_module._exec_with_source, _source(canary), {}
    ),
    "numpy.memmap": lambda canary: Call(np.memmap, str(canary), "uint8", "w+", 0, (mmap.PAGESIZE,)),
}


def _bytes(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _archive(path: Path, content: Any) -> None:
    torch.save(content, path)


def _legacy(path: Path, content: Any) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def _bare(path: Path, content: Any) -> None:
    path.write_bytes(pickle.dumps(content))


CONTAINERS = {"archive": _archive, "legacy": _legacy, "bare": _bare}


def untrained_run(outputs: Path) -> Path:
    """Write a run directory with the weights of a network that was never trained; return it."""
    made = Path(_made().name)
    shutil.copytree(made, outputs)
    edit_config(next(outputs.glob("*/*")), str(made), str(outputs))
    return next(outputs.glob("*/*"))


def with_answers(run: Path) -> Path:
    """Give a run directory test logits, so that `rerun` has something to compare with; return it."""
    RunRecord(run).write_predictions(np.zeros((4, 10)), np.arange(4), list("abcd"))
    return run


@functools.cache
def _made() -> tempfile.TemporaryDirectory[str]:
    """Make the run once a process; the folder goes with it."""
    from cnnexp.config import compose as configs

    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    outputs = Path(folder.name)
    config = configs.resolve(configs.compose([*TINY, f"outputs={outputs}"]))
    run = RunRecord(run_folder(outputs, "strange", "baseline", 0, "abcdef0123"))
    data = {"name": "postcards", "classes": list("abcdefghij"), "image": [3, 8, 8], "mean": [0.5] * 3, "std": [0.2] * 3}
    with run.held():
        run.write_config(config)
        weights = build_model(config, (3, 8, 8), 10).state_dict()
        run.info.update(seed=0, fingerprint="abcdef0123")
        best = run.folder / "checkpoints" / "best.pt"
        storage.publish(checkpoint.draft(best, {"model": weights, "epoch": 1, "run": run.identity}), best)
        run.update(
            status="done", study="strange", arm="baseline", seed=0, fingerprint="abcdef0123", data=data,
            device={"kind": "cpu", "precision": "fp32", "threads": 1}, result={"test_accuracy": 0.5}, resumed=0,
        )  # fmt: skip
    return folder


def edit_config(run: Path, old: str, new: str) -> None:
    """Write other text in place of some in a run's config.yaml."""
    text = (run / "config.yaml").read_text()
    assert old in text
    storage.write_text(run / "config.yaml", text.replace(old, new))


def edit_record(run: Path, **fields: Any) -> None:
    """Replace fields of a run's run.json."""
    storage.write_json(run / "run.json", {**storage.read_json(run / "run.json"), **fields})
