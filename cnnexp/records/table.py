"""Runs as rows of a table, for `cnnexp.runs(FOLDER)` and `cnnexp runs`. Imports no torch."""

import functools
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnexp.config.keys import flatten, is_below
from cnnexp.errors import UserError
from cnnexp.records.identical import varying
from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.records.study import read_study
from cnnexp.text import at_home

if TYPE_CHECKING:
    from pandas import DataFrame

# The columns of a table of runs: type, and place in run.json. Accuracies are fractions.
COLUMNS: dict[str, tuple[type, str]] = {
    "study": (str, "study"),
    "arm": (str, "arm"),
    "seed": (int, "seed"),
    "fold": (int, "fold.fold"),
    "status": (str, "status"),
    "fingerprint": (str, "fingerprint"),
    "superseded": (bool, ""),
    "val_accuracy": (float, "result.val_accuracy"),
    "test_accuracy": (float, "result.test_accuracy"),
    "train_accuracy": (float, "result.train_accuracy"),
    "test_loss": (float, "result.test_loss"),
    "val_loss": (float, "result.val_loss"),
    "train_loss": (float, "result.train_loss"),
    "best_epoch": (int, "result.best_epoch"),
    "epochs": (int, "result.epochs"),
    "stopped": (str, "result.stopped"),
    "train_seconds": (float, "seconds.train"),
    "total_seconds": (float, "seconds.total"),
    "images_per_second": (float, "result.images_per_second"),
    "peak_memory_mib": (float, "result.peak_memory_mib"),
    "parameters": (int, "model.parameters"),
    "trainable_parameters": (int, "model.trainable_parameters"),
    "macs": (int, "model.macs"),
    "data": (str, "data.name"),
    "device": (str, "device.kind"),
    "device_name": (str, "device.name"),
    "precision": (str, "device.precision"),
    "threads": (int, "device.threads"),
    "code": (str, "code.digest"),
    "started": (str, "started"),
    "finished": (str, "finished"),
    "error": (str, "error.message"),
}
NOT_SETTINGS = ("seed", "study", "outputs")  # of a config: they have columns already


def row(run: RunRecord) -> dict[str, Any]:
    """Return a run as {column: value}, with its `folder`; None where run.json has no value, or one of another type."""
    values = {name: _value(run.info, kind, path) for name, (kind, path) in COLUMNS.items()}
    values["status"] = "malformed" if run.problem else run.status
    try:
        values["superseded"] = is_superseded(run)
    except UserError:  # study.json cannot be read
        values["superseded"] = False
    return {**values, "error": run.problem or values["error"], "folder": str(run.folder)}


def is_superseded(run: RunRecord) -> bool:
    """Tell whether study.json now has other runs for the run's arm: of another config, data or user code.

    Raises UserError if study.json cannot be read.
    """
    folder, arm = run.folder.parent, run.info.get("arm")
    try:
        file = (folder / "study.json").lstat()
    except OSError:
        return False
    called = _called(folder, (file.st_ino, file.st_size, file.st_mtime_ns))
    present = called.get(arm, set()) if isinstance(arm, str) else set()
    return bool(present) and run.info.get("fingerprint") not in present


@functools.lru_cache(maxsize=64)
def _called(folder: Path, file: tuple[int, ...]) -> dict[str, set[str]]:
    """Return the fingerprints that study.json has of each arm. It is read once, however many runs the study has."""
    found: dict[str, set[str]] = {}
    for entry in (read_study(folder) or {"runs": []})["runs"]:
        found.setdefault(entry["arm"], set()).add(entry["fingerprint"])
    return found


def _value(info: Any, kind: type, path: str) -> Any:
    for key in path.split("."):
        info = info.get(key) if isinstance(info, dict) else None
    allowed = (int, float) if kind is float else kind
    if not isinstance(info, allowed) or isinstance(info, bool) or (isinstance(info, int) and abs(info) >= 2**63):
        return None
    return kind(info)


def settings(records: Sequence[RunRecord]) -> dict[str, dict[str, Any]]:
    """Return {folder: {key: value}} of the settings in which the configs of runs differ; a list is JSON text.

    A key that is a column too, such as epochs, is called config.epochs. The seed and the study have columns already.
    """
    configs = {}
    for run in records:
        with suppress(UserError):  # it has none, or one that cannot be read
            configs[str(run.folder)] = flatten(run.config())
    differ = varying(configs.values())
    named = {key: f"config.{key}" if key in COLUMNS else key for key in differ if not is_below(key, NOT_SETTINGS)}
    return {folder: {name: _cell(config.get(key)) for key, name in named.items()} for folder, config in configs.items()}


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int, float)) else json.dumps(value, default=str)


def runs(folder: str | os.PathLike[str] = "outputs", superseded: bool = False) -> "DataFrame":
    """Return a table of all runs at or below a folder, one row per run. Raises UserError if there is no such folder.

    Accuracies are fractions; times are seconds; `started` and `finished` are UTC. After these come the settings in
    which the runs differ, such as optimizer.lr. A run that cannot be read has the status "malformed", and the reason
    under `error`. superseded: include the runs whose arm has another config now.
    """
    import pandas as pd

    records = find_runs(Path(at_home(os.fspath(folder))))
    rows = [found for run in records if not (found := row(run))["superseded"] or superseded]
    listed = {found["folder"] for found in rows}
    more = settings([run for run in records if str(run.folder) in listed])
    rows = [{**found, **more.get(found["folder"], {})} for found in rows]
    columns = dict.fromkeys([*COLUMNS, "folder", *(key for found in rows for key in found)])
    frame = pd.DataFrame(rows, columns=list(columns))
    dtypes = {float: "float64", bool: "bool"}
    frame = frame.astype({name: dtypes[kind] for name, (kind, _) in COLUMNS.items() if kind in dtypes})
    for name in (name for name, (kind, _) in COLUMNS.items() if kind is int):  # beside None, pandas makes them floats
        frame[name] = pd.array([found[name] for found in rows], dtype="Int64")
    for name in ("started", "finished"):
        frame[name] = pd.to_datetime(frame[name], utc=True, errors="coerce")
    return frame
