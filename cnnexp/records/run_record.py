"""The run directory: what a run writes down, and how everything else reads it. Imports no torch.

    outputs/<study>/study.json                       the runs that the study's present configs call for
    outputs/<study>/<arm>-s<seed>-<fingerprint>/
        config.yaml        the resolved config
        run.json           status, command, code, environment, device, data, model, seconds, result (see FIELDS)
        metrics.jsonl      a row per epoch and split, and step rows on request (see ROW)
        probes.jsonl       a row per look, layer and probe, of a run with probes (see PROBE_ROWS)
        train.log          what the run printed, with the traceback of a failure
        hash_chain.jsonl   a row of hashes per training step, on request (see hash_chain.py)
        predictions.npz    logits (N, K) float32, labels (N,) int64, ids (N,) str: the test split, in its order
        checkpoints/       last.pt and previous.pt while it runs, best.pt

run.json and every row hold a checksum, and run.json, once the run is done, that of the other files. Readers check them.
Accuracies are fractions in [0, 1]; times are seconds; percentages exist only in reports.
"""

import datetime
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnexp import storage
from cnnexp.errors import UserError, warn_once
from cnnexp.records import provenance
from cnnexp.storage.untrusted import checked_file, checked_folder

STATUSES = ("running", "done", "failed", "oom", "diverged", "interrupted", "skipped")
FINAL = ("done", "diverged")
LAST, PREVIOUS = "last.pt", "previous.pt"
FOR_RESUMING = (LAST, PREVIOUS, "best-*.pt")  # of checkpoints/: what a run that is done needs no more
TIMING = ("seconds", "images_per_second")
HASH_CHAIN, PROBES = "hash_chain.jsonl", "probes.jsonl"
RESULT_FILES = ("config.yaml", "metrics.jsonl", "predictions.npz", HASH_CHAIN, PROBES)
PLACE = ("folder", "arm", "fingerprint")  # what every entry of study.json's `runs` has
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
    "own_code": "{module or file: hash} of a person's own code that a `_target_` names; not there without",
    "environment": "{python, torch, torchvision, platform, host}",
    "device": "{kind, name, precision, threads; fp32_layers: those that bf16 on a CPU does not serve; compile: if on}",
    "data": "{name, fingerprint, classes, image: [C, H, W], mean, std: C floats each, of pixels / 255, "
    "train, val, test: numbers of images; test_in_train: test images that are training images too; "
    "skipped, prepare_seconds}",
    "model": "{parameters, trainable_parameters, macs}",
    "schedule": "{steps_per_epoch, total_steps, epochs}",
    "features": "of a frozen backbone: computed once, or why they were not; not there for others",
    "seconds": "{prepare, features, train, evaluate, checkpoint, total; probes, hash_chain, compile: where used}",
    "result": "{best_epoch, epochs, val_accuracy, val_loss, test_accuracy, test_loss, train_accuracy, train_loss, "
    "images_per_second, peak_memory_mib, stopped: completed | early}",
    "files": "{name: crc32, eight hexadecimal digits} of the other files of a run that is done",
    "error": "{type, message; step, samples: of the batch whose loss was not finite}, of a run that is not done",
    "started, finished": "str: ISO 8601, UTC",
    "resumed": "int: how often the run went on from a checkpoint",
}

KINDS: dict[str, type] = {  # of fields that may be missing; see one_run
    **dict.fromkeys(
        ("code", "own_code", "environment", "device", "data", "model", "schedule", "seconds", "result", "error"), dict
    ),
    **dict.fromkeys(("changes", "earlier"), list),
    "resumed": int,
}


def now() -> str:
    """Return the present time, ISO 8601, UTC, in seconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def slug(text: str) -> str:
    """Return `text` as a readable, safe folder name of at most 80 characters; a long one loses its middle."""
    text = re.sub(r"[^A-Za-z0-9._=,+-]+", "-", text).strip("-.") or "run"
    return text if len(text) <= 80 else f"{text[:39]}..{text[-39:]}"


def run_folder(outputs: Path, study: str, arm: str, seed: int, fingerprint: str) -> Path:
    """Return where a run lives: <outputs>/<study>/<arm>-s<seed>-<fingerprint>."""
    return outputs / slug(study) / f"{slug(arm)}-s{seed}-{fingerprint}"


@dataclass
class RunRecord:
    """One run directory. `info` is run.json; reading never fails on a malformed one: `problem` says what is wrong."""

    folder: Path
    info: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None
    rows_digest: int = 0  # of the metric rows written so far, by who writes them

    @classmethod
    def read(cls, folder: Path) -> "RunRecord":
        """Read a run directory. A missing or malformed run.json gives a record with `problem` set."""
        try:
            info = storage.read_json(checked_file(folder, "run.json"))
        except UserError as error:
            return cls(folder, problem=str(error))
        if not isinstance(info, dict) or info.get("status") not in STATUSES:
            return cls(folder, problem=f"{folder / 'run.json'}: is not the record of a run")
        run = cls(folder, info)
        named = re.search(r"-s(\d+)-([0-9a-f]{10})$", folder.name)
        if named and "fingerprint" in info and run.identity != f"{named[2]}-s{named[1]}":
            return cls(folder, problem=f"{folder / 'run.json'}: is the record of another run ({run.identity})")
        return run

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

    @property
    def identity(self) -> str:
        """Return what tells the run from every other, wherever its folder lies: <fingerprint>-s<seed>."""
        return f"{self.info.get('fingerprint')}-s{self.info.get('seed')}"

    @property
    def metrics(self) -> Path:
        """Return the file of the metric rows. Raises UserError if it is a link, or larger than a run writes."""
        return checked_file(self.folder, "metrics.jsonl")

    def check_file(self, name: str) -> None:
        """Raise Damaged if one of RESULT_FILES of a run that is done is not what the run left there."""
        files = self.info.get("files")
        expected = files.get(name) if isinstance(files, dict) else None
        file = checked_file(self.folder, name)
        if expected is not None and (not file.exists() or f"{storage.crc32_of(file):08x}" != expected):
            raise storage.Damaged(f"{file}: is not what the run left there; it was damaged, changed or deleted")

    def config(self) -> dict[str, Any]:
        """Return the resolved config. Says so if it was changed by hand. Raises UserError if it cannot be read."""
        from omegaconf import OmegaConf

        file = checked_file(self.folder, "config.yaml")
        try:
            self.check_file("config.yaml")
        except storage.Damaged as error:
            warn_once(str(error), f"cnnexp: {error}")
        try:
            _check_aliases(file.read_text(encoding="utf-8"))
            config = OmegaConf.to_container(OmegaConf.load(file))
        except Exception as error:  # yaml and omegaconf raise many kinds for a file that was edited badly
            raise UserError(f"{file}: cannot be read ({' '.join(str(error).split())})") from error
        if not isinstance(config, dict):
            raise UserError(f"{self.folder / 'config.yaml'}: is not a config")
        return {str(key): value for key, value in config.items()}

    def rows(self, kind: str = "epoch", split: str | None = None) -> list[dict[str, Any]]:
        """Return the metric rows of a kind ("epoch" or "step"), of one split or of all.

        Raises Damaged if the run is done and they are not what it left; else rows after a torn one do not count.
        """
        self.check_file("metrics.jsonl")
        rows = storage.read_rows(self.metrics)
        return [r for r in rows if r.get("kind") == kind and split in (None, r.get("split"))]

    def probe_rows(self) -> list[dict[str, Any]]:
        """Return what the probes saw, [] of a run without. Raises Damaged if the run is done and they are not that."""
        self.check_file(PROBES)
        return storage.read_rows(checked_file(self.folder, PROBES))

    def predictions(self) -> dict[str, Any]:
        """Return {logits (N, K) float32, labels (N,) int64, ids (N,) str} of the test split, as numpy arrays.

        Raises UserError if there are none, or they are not what the run left.
        """
        import numpy as np

        self.check_file("predictions.npz")
        try:
            file = checked_file(self.folder, "predictions.npz")
            with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as arrays:
                if any(member.compress_type for member in arrays.zip.infolist()):  # a small file may unpack to any size
                    raise ValueError("it is compressed, which a run's own is not")
                return {name: arrays[name] for name in ("logits", "labels", "ids")}
        except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
            raise UserError(f"{self.folder / 'predictions.npz'}: cannot be read ({error})") from error

    # Writing. Only the process that holds the lock writes.

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run for writing. Raises storage.Locked, naming pid and host, if a live process holds it."""
        storage.make_folder(checked_folder(self.folder, "checkpoints"))
        with storage.lock(self.folder / ".lock"):
            storage.remove_drafts(self.folder)
            yield

    @property
    def resumes(self) -> bool:
        """Tell whether there is a checkpoint to resume from."""
        return any((self.folder / "checkpoints" / name).exists() for name in (LAST, PREVIOUS))

    def begin(self, config: dict[str, Any], **fields: Any) -> None:
        """Write config.yaml and what the run is, before anything can go wrong."""
        from omegaconf import OmegaConf

        self.problem = None
        before = {name: self.info.get(name) for name in ("code", "environment")}
        now_made_by = provenance.made_by()
        earlier = self.info.get("earlier", []) if self.resumes else []
        self.write_config(OmegaConf.to_yaml(OmegaConf.create(config)))
        self.update(
            status="running",
            **fields,
            **now_made_by,
            earlier=[*earlier, before] if self.resumes and before != now_made_by else earlier,
            started=self.info.get("started", now()),
            finished=None,
            error=None,
            resumed=self.info.get("resumed", 0),
        )

    def update(self, **fields: Any) -> None:
        """Set fields of run.json, durably."""
        self.info.update(fields)
        storage.write_json(self.folder / "run.json", self.info)

    def write_config(self, text: str) -> None:
        """Write config.yaml."""
        storage.write_text(self.folder / "config.yaml", text)

    def append(self, **row: Any) -> None:
        """Append a metric row; it is durable after the next `sync`."""
        storage.append_row(self.metrics, row)
        self.rows_digest = digest(row, self.rows_digest)

    def append_probe(self, **row: Any) -> None:
        """Append a row of what a probe saw; it is durable after the next `sync`."""
        storage.append_row(checked_file(self.folder, PROBES), row)

    def log(self, line: str) -> None:
        """Append a line to train.log."""
        storage.append_text(self.folder / "train.log", line.rstrip("\n") + "\n")

    def sync(self) -> None:
        """Make the rows durable: metrics, and what there is of hashes and of what probes saw."""
        storage.sync_file(self.metrics)
        for name in (HASH_CHAIN, PROBES):
            if (self.folder / name).exists():
                storage.sync_file(self.folder / name)

    def keep_rows(self, count: int) -> None:
        """Drop the metric rows after the first `count`: those of steps that will be taken again."""
        self.rows_digest = 0
        for row in storage.keep_rows(self.metrics, count):
            self.rows_digest = digest(row, self.rows_digest)

    def digest(self, count: int) -> int | None:
        """Return the digest of the first `count` metric rows; None if there are fewer that can be read."""
        rows, found = storage.read_rows(self.metrics)[:count], 0
        for row in rows:
            found = digest(row, found)
        return found if len(rows) == count else None

    def cut_back(self, rows: int, probe_rows: int, step: int) -> None:
        """Drop what was written after a checkpoint: all but so many rows, and the hashes of the steps after `step`."""
        self.keep_rows(rows)
        storage.keep_rows(checked_file(self.folder, PROBES), probe_rows)
        hashes = checked_file(self.folder, HASH_CHAIN)
        storage.keep_rows(hashes, sum(row["step"] <= step for row in storage.read_rows(hashes)))

    def drop_resume_files(self) -> None:
        """Delete the checkpoints that only a resumed run needs. Called once the result is durable."""
        for pattern in reversed(FOR_RESUMING):
            for file in (self.folder / "checkpoints").glob(pattern):
                storage.remove(file)

    def count_rows(self) -> int:
        """Return the number of metric rows of all kinds."""
        return len(storage.read_rows(self.metrics))

    def seal(self) -> dict[str, str]:
        """Return the checksums of RESULT_FILES, for run.json."""
        files = (checked_file(self.folder, name) for name in RESULT_FILES)
        return {file.name: f"{storage.crc32_of(file):08x}" for file in files if file.exists()}

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


def digest(row: Mapping[str, Any], before: int) -> int:
    """Return the digest of metric rows that `before` is the digest of, and one more; times do not count."""
    return zlib.crc32(json.dumps({key: row[key] for key in row if key not in TIMING}).encode(), before)


def find_runs(folder: Path) -> list[RunRecord]:
    """Return every run at or below `folder`, sorted by path. Raises UserError if `folder` does not exist."""
    if not folder.exists():
        raise UserError(f"{folder}: no such folder; runs are made with `cnnexp train`")
    folders = {file.parent for name in ("run.json", "metrics.jsonl") for file in folder.rglob(name)}
    return [RunRecord.read(f) for f in sorted(folders)]


def one_run(folder: Path) -> RunRecord:
    """Read the run at `folder`. Raises UserError if there is none, saying which runs are below it; or a spoilt one."""
    if (folder / "run.json").exists():
        run = RunRecord.read(folder)
        if run.problem:
            raise UserError(run.problem)
        for name, kind in KINDS.items():
            if not isinstance(run.info.get(name), kind | None):
                raise UserError(f"{folder / 'run.json'}: {name} is not as a run writes it")
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
    """Read study.json; None if there is none, or what is there is no study. Raises UserError if it cannot be read."""
    if not (folder / "study.json").exists():
        return None
    try:
        study = storage.read_json(checked_file(folder, "study.json"))
    except UserError as error:
        raise UserError(f"{error}; put a copy back, or delete it: the study's commands write it anew") from error
    if not isinstance(study, dict) or not isinstance(study.get("runs"), list):
        return None
    arms: Any = study.get("arms")
    named = [run for run in study["runs"] if isinstance(run, dict) and all(isinstance(run.get(k), str) for k in PLACE)]
    return {**study, "runs": named, "arms": [a for a in arms if isinstance(a, str)] if isinstance(arms, list) else []}


def _check_aliases(text: str) -> None:
    """Raise ValueError for YAML that repeats a node by name: a few lines could stand for any number of values."""
    import yaml

    if "&" in text and "*" in text and any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
        raise ValueError("it has aliases, which a recorded config has not")
