"""cnnexp: convolutional-network experiments from YAML to a verdict.

run = cnnexp.train(model="custom", aug="full", epochs=3)    one run: run.result, run.history, run.figure()
study = cnnexp.sweep(study="ablation")                      a study: study.table, study.report()
cnnexp.report("outputs/ablation")                           tables, figures and a page
cnnexp.load("outputs/...").predict("photo.jpg")             a trained network
cnnexp.runs("outputs"), cnnexp.Run("outputs/...")           a table of all runs; one of them
"""

import importlib
import inspect
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnexp.api import Run as Run
    from cnnexp.api import Study as Study
    from cnnexp.api import report as report
    from cnnexp.api import sweep as sweep
    from cnnexp.api import train as train
    from cnnexp.records.table import runs as runs
    from cnnexp.training.inference import load as load

from cnnexp.version import __version__

# What the package offers, and where it is: imported when it is used, so that importing cnnexp costs nothing.
PLACES = {
    **dict.fromkeys(("train", "sweep", "report", "Run", "Study"), "cnnexp.api"),
    "load": "cnnexp.training.inference",
    "runs": "cnnexp.records.table",
}
__all__ = ["Run", "Study", "__version__", "load", "report", "runs", "sweep", "train"]


class CalledModule(ModuleType):
    """A module that is called as the function of its name in cnnexp.api: cnnexp.train(...)."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _function(self)(*args, **kwargs)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return inspect.getdoc(_function(self))

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(_function(self))


def _function(module: ModuleType) -> Any:
    return getattr(importlib.import_module("cnnexp.api"), module.__name__.rpartition(".")[2])


class Package(ModuleType):
    """This package: its modules train, sweep and report are functions too, however they are imported first."""

    def __setattr__(self, name: str, value: Any) -> None:
        if PLACES.get(name) == "cnnexp.api" and isinstance(value, ModuleType):
            value.__class__ = CalledModule
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = Package


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module 'cnnexp' has no attribute '{name}'")
    if name in ("train", "sweep", "report"):
        return importlib.import_module(f"cnnexp.{name}")
    return getattr(importlib.import_module(PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
