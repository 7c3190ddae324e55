"""One run in Python: its settings, its history as a table, its result, its figures."""

import html
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnexp.claims.metrics import SCORES
from cnnexp.errors import UserError, unknown
from cnnexp.records import convergence
from cnnexp.records.fields import ROW
from cnnexp.records.find import find_run
from cnnexp.records.run_record import RunRecord, one_run
from cnnexp.text import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from cnnexp.training.inference import TrainedModel

FIGURES = ("curves", "confusion", "gradcam", "filters")


class InFolder:
    """What lies in a folder, wherever the program goes: `folder` is as given, or absolute after os.chdir."""

    def __init__(self, folder: Path):
        """folder: absolute, or relative to the present working directory."""
        self._given, self._absolute = folder, folder.absolute()

    @property
    def folder(self) -> Path:
        """Return where it is."""
        return self._given if self._given.absolute() == self._absolute else self._absolute


class Run(InFolder):
    """A run directory. Everything is read when it is asked for, so a run under way shows what it has so far.

    folder: where it is. Accuracies are fractions, losses nats, times seconds.
    """

    def __init__(self, run: str | os.PathLike[str]):
        """run: a run directory, its name=, study/arm/seed, the first digits of a fingerprint, or "latest".

        Raises UserError if there is no such run, or a damaged one.
        """
        super().__init__(find_run(run).folder)

    @property
    def record(self) -> RunRecord:
        """Return what the run directory holds, read now. Raises UserError if it is damaged."""
        return one_run(self.folder)

    @property
    def status(self) -> str:
        """Return running, done, failed, oom, diverged, interrupted or skipped."""
        return self.record.status

    @property
    def config(self) -> dict[str, Any]:
        """Return the resolved config, as nested dicts. Raises UserError if it cannot be read."""
        return self.record.config()

    @property
    def result(self) -> dict[str, Any]:
        """Return test_accuracy, best_epoch, ...; {} until the run is done. cnnexp/records/fields.py lists them."""
        return dict(self.record.info.get("result") or {})

    @property
    def history(self) -> "DataFrame":
        """Return the metrics as a table: a row for each epoch and split (train, val), in the order they were made.

        Columns: epoch (from 1), step (optimiser steps so far), split, loss (nats), accuracy (a fraction), a score that
        is monitored (a fraction), learning_rate, seconds, images_per_second. Values of `train` are running means over
        the epoch, with augmentation and dropout. Raises UserError if the run is done and its rows have changed.
        """
        import pandas as pd

        rows = [row for row in self.record.rows() if isinstance(row.get("epoch"), int)]
        unused = {"kind", *(name for name in SCORES if not any(name in row for row in rows))}
        return pd.DataFrame(rows, columns=[name for name in ROW if name not in unused])

    def figure(self, kind: str = "curves", allow: Iterable[str] = ()) -> "Figure":
        """Return a matplotlib Figure.

        kind: "curves" (loss and accuracy over the epochs, training and validation), "confusion" (test images, true by
        predicted class), "gradcam" (where the most confident mistakes come from) or "filters" (of the first
        convolution). allow: of the last two, see `cnnexp.load`. Raises UserError for another kind, or if the run lacks
        what is drawn.
        """
        from cnnexp.api.process import import_matplotlib

        if kind not in FIGURES:
            raise unknown("figure", "kind", kind, FIGURES)
        import_matplotlib()
        from cnnexp.explain.figures import KINDS as NETWORK_FIGURES
        from cnnexp.explain.figures import draw
        from cnnexp.report.figures.of_run import confusion, curves

        if kind in NETWORK_FIGURES:
            return draw(kind, self.record, allow)
        figure = curves(self.record) if kind == "curves" else confusion(self.record)
        if figure is None:
            missing = "finished epoch" if kind == "curves" else "predictions of at most 40 classes"
            raise UserError(f"{self.folder}: has no {missing} to draw (the run is {self.status})")
        return figure

    def load(self, device: str = "cpu", allow: Iterable[str] = ()) -> "TrainedModel":
        """Return the trained network with its transform and class names: see `cnnexp.load`."""
        from cnnexp.training.inference import load

        return load(self.folder, device, allow)

    def _facts(self) -> dict[str, str]:
        """Return what a person wants to see first."""
        record = self.record
        result = record.info.get("result") or {}
        facts = {"run": f"{record.info.get('arm')}, seed {record.info.get('seed')}", "status": record.status}
        for name in ("test_accuracy", "val_accuracy", "train_accuracy"):
            if isinstance(value := result.get(name), (int, float)):
                facts[name.replace("_", " ")] = percent(value)
        if "best_epoch" in result:
            facts["best epoch"] = f"{result['best_epoch']} of {result.get('epochs')}"
        if record.status == "done" and (problem := convergence.sentence(record)):
            facts["note"] = problem
        if record.status not in ("done", "running") and isinstance(error := record.info.get("error"), dict):
            facts["reason"] = str(error.get("message"))
        return {**facts, "folder": str(self.folder)}

    def __repr__(self) -> str:
        return "Run: " + ", ".join(f"{name} {value}" for name, value in self._facts().items() if name != "run")

    def _repr_html_(self) -> str:
        """Show a notebook a small table."""
        lines = (
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for name, value in self._facts().items()
        )
        return f"<table>{''.join(lines)}</table>"
