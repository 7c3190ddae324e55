"""The run directory: what a run writes down, and how everything else reads it. Imports no torch.

    outputs/<study>/study.json                       the runs that the study's present configs call for
    outputs/<study>/<arm>-s<seed>-<fingerprint>/
        config.yaml        the resolved config
        run.json           status, command, code, environment, device, data, model, seconds, result (see FIELDS)
        metrics.jsonl      a row per epoch and split, and step rows on request (see ROW)
        probes.jsonl       a row per look, layer and probe, of a run with probes (see PROBE_ROWS)
        train.log          what the run printed, with the traceback of a failure
        predictions.npz    logits (N, K) float32, labels (N,) int64, ids (N,) str: the test split, in its order
        checkpoints/       last.pt while it runs, best.pt

Accuracies are fractions in [0, 1]; times are seconds; percentages exist only in reports.
"""

import datetime
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnexp import storage
from cnnexp.errors import UserError

STATUSES = ("running", "done", "failed", "oom", "diverged", "interrupted", "skipped")
FINAL = ("done", "diverged")
TIMING = ("seconds", "images_per_second")
ROW = ("kind", "epoch", "step", "split", "loss", "accuracy", "learning_rate", *TIMING)
PROBE_ROWS = {  # kind: its columns, beside epoch, step, kind, layer, type (the class of the module)
    "gradient": "norm; numbers, zeros, not_finite, first, counts: a histogram, see probes/magnitudes.py",
    "update": "ratio: |change| / |weights| of the step, null if the weights were 0; weight_norm",
    "activation": "after: the weights before it, if they are beside it; mean, std; a histogram as of gradients",
    "dead_units": "after; units, dead: how many units there are, and how many are zero for the validation split",
    "batch_norm": "mean_shift, variance_ratio: see probes/passes.py",
}
FIELDS = {
    "status": "one of STATUSES",
    "study": "str",
    "arm": "str",
    "seed": "int",
    "fingerprint": "str: everything that can change a number, the seed apart",
    "changes": "list[str]: what the arm changes, as overrides",
    "command": "str: what was typed",
    "repeat": "str: a command that makes this run alone",
    "code": "{version, commit, digest}",
    "earlier": "list of {code, environment}: other versions that made a part of a run that was resumed",
    "environment": "{python, torch, torchvision, platform, host}",
    "device": "{kind, name, precision, threads; fp32_layers: those that bf16 on a CPU does not serve}",
    "data": "{name, fingerprint, classes, image: [C, H, W], mean, std: C floats each, of pixels / 255, "
    "train, val, test: numbers of images, skipped, prepare_seconds}",
    "model": "{parameters, trainable_parameters, macs}",
    "schedule": "{steps_per_epoch, total_steps, epochs}",
    "features": "of a frozen backbone: computed once, or why they were not; not there for others",
    "seconds": "{prepare, features, train, evaluate, checkpoint, total; probes: of a run with probes}",
    "result": "{best_epoch, epochs, val_accuracy, val_loss, test_accuracy, test_loss, train_accuracy, train_loss, "
    "images_per_second, peak_memory_mib, stopped: completed | early}",
    "error": "{type, message}, of a run that failed, diverged or was skipped",
    "started, finished": "str: ISO 8601, UTC",
    "resumed": "int: how often the run went on from a checkpoint",
}


def now() -> str:
    """Return the present time, ISO 8601, UTC, in seconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def slug(text: str) -> str:
    """Return `text` as a readable, safe folder name of at most 80 characters."""
    text = re.sub(r"[^A-Za-z0-9._=,+-]+", "-", text).strip("-.") or "run"
    return text[:80]


def run_folder(outputs: Path, study: str, arm: str, seed: int, fingerprint: str) -> Path:
    """Return where a run lives: <outputs>/<study>/<arm>-s<seed>-<fingerprint>."""
    return outputs / slug(study) / f"{slug(arm)}-s{seed}-{fingerprint}"


@dataclass
class RunRecord:
    """One run directory. `info` is run.json; reading never fails on a malformed one: `problem` says what is wrong."""

    folder: Path
    info: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None

    @classmethod
    def read(cls, folder: Path) -> "RunRecord":
        """Read a run directory. A missing or malformed run.json gives a record with `problem` set."""
        try:
            info = storage.read_json(folder / "run.json")
        except UserError as error:
            return cls(folder, problem=str(error))
        if not isinstance(info, dict) or info.get("status") not in STATUSES:
            return cls(folder, problem=f"{folder / 'run.json'}: is not the record of a run")
        return cls(folder, info)

    @property
    def status(self) -> str:
        """Return the recorded status; a run that says `running` but that no live process holds is `interrupted`."""
        status = str(self.info.get("status", "malformed"))
        if status == "running" and not storage.is_locked(self.folder / ".lock"):
            return "interrupted"
        return status

    @property
    def name(self) -> str:
        """Return the folder's name: <arm>-s<seed>-<fingerprint>."""
        return self.folder.name

    def config(self) -> dict[str, Any]:
        """Return the resolved config. Raises UserError if it cannot be read."""
        from omegaconf import OmegaConf

        try:
            config = OmegaConf.to_container(OmegaConf.load(self.folder / "config.yaml"))
        except Exception as error:  # yaml and omegaconf raise many kinds for a file that was edited badly
            raise UserError(f"{self.folder / 'config.yaml'}: cannot be read ({error})") from error
        if not isinstance(config, dict):
            raise UserError(f"{self.folder / 'config.yaml'}: is not a config")
        return {str(key): value for key, value in config.items()}

    def rows(self, kind: str = "epoch", split: str | None = None) -> list[dict[str, Any]]:
        """Return the metric rows of a kind ("epoch" or "step"), of one split or of all."""
        rows = storage.read_rows(self.folder / "metrics.jsonl")
        return [r for r in rows if r.get("kind") == kind and split in (None, r.get("split"))]

    def probe_rows(self) -> list[dict[str, Any]]:
        """Return what the probes saw, [] of a run without."""
        return storage.read_rows(self.folder / "probes.jsonl")

    def predictions(self) -> dict[str, Any]:
        """Return {logits (N, K) float32, labels (N,) int64, ids (N,) str} of the test split, as numpy arrays."""
        import numpy as np

        try:
            with np.load(self.folder / "predictions.npz", allow_pickle=False) as arrays:
                return {name: arrays[name] for name in ("logits", "labels", "ids")}
        except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
            raise UserError(f"{self.folder / 'predictions.npz'}: cannot be read ({error})") from error

    # Writing. Only the process that holds the lock writes.

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run for writing. Raises storage.Locked, naming pid and host, if a live process holds it."""
        storage.make_folder(self.folder / "checkpoints")
        with storage.lock(self.folder / ".lock"):
            yield

    def update(self, **fields: Any) -> None:
        """Set fields of run.json, durably."""
        self.info.update(fields)
        storage.write_json(self.folder / "run.json", self.info)

    def write_config(self, text: str) -> None:
        """Write config.yaml."""
        storage.write_text(self.folder / "config.yaml", text)

    def append(self, **row: Any) -> None:
        """Append a metric row; it is durable after the next `sync`."""
        storage.append_row(self.folder / "metrics.jsonl", row)

    def append_probe(self, **row: Any) -> None:
        """Append a row of what a probe saw; it is durable after the next `sync`."""
        storage.append_row(self.folder / "probes.jsonl", row)

    def log(self, line: str) -> None:
        """Append a line to train.log."""
        storage.append_text(self.folder / "train.log", line.rstrip("\n") + "\n")

    def sync(self) -> None:
        """Make the rows durable."""
        storage.sync_file(self.folder / "metrics.jsonl")
        if (self.folder / "probes.jsonl").exists():
            storage.sync_file(self.folder / "probes.jsonl")

    def keep_rows(self, count: int) -> None:
        """Drop the metric rows after the first `count`: those of steps that will be taken again."""
        storage.keep_rows(self.folder / "metrics.jsonl", count)

    def keep_probe_rows(self, count: int) -> None:
        """Drop the rows of probes after the first `count`."""
        storage.keep_rows(self.folder / "probes.jsonl", count)

    def count_rows(self) -> int:
        """Return the number of metric rows of all kinds."""
        return len(storage.read_rows(self.folder / "metrics.jsonl"))

    def write_predictions(self, logits: Any, labels: Any, ids: Any) -> None:
        """Write the test split's logits (N, K), labels (N,) and sample ids (N,)."""
        import io

        import numpy as np

        buffer = io.BytesIO()
        np.savez(
            buffer,
            logits=np.asarray(logits, np.float32),
            labels=np.asarray(labels, np.int64),
            ids=np.asarray(ids, np.str_),
        )
        storage.write_bytes(self.folder / "predictions.npz", buffer.getbuffer())


def find_runs(folder: Path) -> list[RunRecord]:
    """Return every run at or below `folder`, sorted by path. Raises UserError if `folder` does not exist."""
    if not folder.exists():
        raise UserError(f"{folder}: no such folder; runs are made with `cnnexp train`")
    folders = {file.parent for name in ("run.json", "metrics.jsonl") for file in folder.rglob(name)}
    return [RunRecord.read(f) for f in sorted(folders)]


def one_run(folder: Path) -> RunRecord:
    """Read the run at `folder`. Raises UserError if there is none, saying which runs are below it."""
    if (folder / "run.json").exists():
        run = RunRecord.read(folder)
        if run.problem:
            raise UserError(run.problem)
        return run
    below = [str(r.folder) for r in find_runs(folder)][:5]
    hint = f"; runs below it: {', '.join(below)}" if below else ""
    raise UserError(f"{folder}: is not a run directory (it has no run.json){hint}")


def write_study(folder: Path, study: dict[str, Any]) -> None:
    """Write study.json: {name, question, baseline, reported, source, claims, command, written, arms, runs}.

    runs: [{folder, arm, seed, fingerprint}]. reported, source, claims: as in the config, null without.
    """
    storage.make_folder(folder)
    storage.write_json(folder / "study.json", study)


def read_study(folder: Path) -> dict[str, Any] | None:
    """Read study.json; None if there is none or it is malformed."""
    if not (folder / "study.json").exists():
        return None
    try:
        study = storage.read_json(folder / "study.json")
    except UserError:
        return None
    return study if isinstance(study, dict) and isinstance(study.get("runs"), list) else None


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Return {"model.norm": "none", ...}: the leaves of a config by dotted key; lists are leaves."""
    if not isinstance(node, Mapping) or not node:
        return {prefix: node}
    found: dict[str, Any] = {}
    for key, value in node.items():
        found.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return found
