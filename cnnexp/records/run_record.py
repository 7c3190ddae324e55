"""A run directory: how a run writes it, and how everything else reads it. Its contents: fields.py. Imports no torch."""

import datetime
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

from cnnexp import storage
from cnnexp.errors import UserError, warn_once
from cnnexp.records import fields, files, provenance
from cnnexp.records.names import RERUNS
from cnnexp.storage.untrusted import checked_file, checked_folder
from cnnexp.text import visible


def now() -> str:
    """Return the present time, ISO 8601, UTC, in seconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@dataclass
class RunRecord:
    """One run directory. info: run.json. problem: what is wrong with run.json, if it cannot be used."""

    folder: Path
    info: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None
    rows_digest: int = 0  # of the metric rows written so far, in the process that writes them
    probes_digest: int = 0  # of the rows of the probes, likewise

    @classmethod
    def read(cls, folder: Path) -> "RunRecord":
        """Read a run directory. A missing or malformed run.json gives a record with `problem` set."""
        try:
            info = storage.read_json(checked_file(folder, "run.json"))
        except UserError as error:
            return cls(folder, problem=str(error))
        if not isinstance(info, dict) or info.get("status") not in fields.STATUSES:
            return cls(folder, problem=f"{folder / 'run.json'}: is not the record of a run")
        run = cls(folder, info)
        named = re.search(r"-s(\d+)-([0-9a-f]{10})$", folder.name)
        if named and "fingerprint" in info and run.identity != f"{named[2]}-s{named[1]}":
            return cls(folder, problem=f"{folder / 'run.json'}: is the record of another run ({run.identity})")
        return run

    @property
    def status(self) -> str:
        """Return the recorded status; `running` means `interrupted` if no live process holds the run."""
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
        """Return <fingerprint>-s<seed>, which identifies the run wherever its folder is."""
        return f"{self.info.get('fingerprint')}-s{self.info.get('seed')}"

    @property
    def is_rerun(self) -> bool:
        """Tell whether `cnnexp rerun` has made the run, to compare it with another."""
        return self.info.get("study") == RERUNS and str(self.info.get("command")).startswith("cnnexp rerun ")

    @property
    def metrics(self) -> Path:
        """Return the file of the metric rows. Raises UserError if it is a link, or larger than a run writes."""
        return checked_file(self.folder, fields.METRICS)

    @property
    def is_tested(self) -> bool:
        """Tell whether the run has evaluated the test images; with `final_test: false` it has not."""
        result = self.info.get("result")
        return isinstance(result, dict) and "test_accuracy" in result

    def check_file(self, name: str) -> None:
        """Raise Damaged if one of RESULT_FILES does not match the checksum that the finished run recorded."""
        checksums = self.info.get("files")
        expected = checksums.get(name) if isinstance(checksums, dict) else None
        file = checked_file(self.folder, name)
        if expected is not None and (not file.exists() or f"{storage.crc32_of(file):08x}" != expected):
            raise storage.Damaged(f"{file}: is not what the run left there; it was damaged, changed or deleted")

    def config(self) -> dict[str, Any]:
        """Return the resolved config. Warns if it was changed by hand. Raises UserError if it cannot be read."""
        try:
            self.check_file("config.yaml")
        except storage.Damaged as error:
            warn_once(str(error), f"cnnexp: {error}")
        return files.read_config(checked_file(self.folder, "config.yaml"))

    def rows(self, kind: str = "epoch", split: str | None = None) -> list[dict[str, Any]]:
        """Return the metric rows of a kind ("epoch" or "step"), of one split or of all.

        Raises Damaged if the run is done and the file has changed. Otherwise reading stops at the first damaged row.
        """
        self.check_file(fields.METRICS)
        rows = storage.read_rows(self.metrics)
        return [r for r in rows if r.get("kind") == kind and split in (None, r.get("split"))]

    def probe_rows(self) -> list[dict[str, Any]]:
        """Return the rows of the probes, [] without. Raises Damaged if the run is done and the file has changed."""
        self.check_file(fields.PROBES)
        return storage.read_rows(checked_file(self.folder, fields.PROBES))

    def predictions(self) -> dict[str, Any]:
        """Return {logits (N, K) float32, labels (N,) int64, ids (N,) str} of the test split, as numpy arrays.

        Raises UserError if there are none, or if the file has changed.
        """
        if self.info.get("status") == "done" and not self.is_tested:
            raise UserError(f"{self.folder}: was made with final_test=false, so it has no predictions of test images")
        if self.status != "done" and not (self.folder / "predictions.npz").exists():
            raise UserError(f"{self.folder}: has no predictions of test images (the run is {self.status})")
        self.check_file("predictions.npz")
        return files.read_predictions(checked_file(self.folder, "predictions.npz"))

    # Writing: only by the process that holds the lock.

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run for writing. Raises storage.Locked, naming pid and host, if a live process holds it."""
        if self.folder.is_symlink():  # `runs` and `report` would not find it
            fix = f"move {self.folder.resolve()} here, or choose another outputs=DIR"
            raise UserError(f"{self.folder}: is a link; runs are made only in folders; {fix}")
        storage.make_folder(checked_folder(self.folder, "checkpoints"))
        with storage.lock(self.folder / ".lock"):
            storage.remove_drafts(self.folder)
            yield

    @property
    def resumes(self) -> bool:
        """Tell whether there is a checkpoint to resume from."""
        return any((self.folder / "checkpoints" / name).exists() for name in (fields.LAST, fields.PREVIOUS))

    def begin(self, config: dict[str, Any], **values: Any) -> None:
        """Write config.yaml and what the run is, before anything can go wrong."""
        self.problem = None
        made_by, before = provenance.made_by(), {name: self.info.get(name) for name in ("code", "environment")}
        earlier = self.info.get("earlier", []) if self.resumes else []
        if self.resumes and before != made_by:
            earlier = [*earlier, before]
        self.write_config(config)
        self.update(
            status="running",
            **values,
            **made_by,
            earlier=earlier,
            started=self.info.get("started", now()),
            finished=None,
            error=None,
            resumed=self.info.get("resumed", 0),
        )

    def update(self, **values: Any) -> None:
        """Set fields of run.json, durably."""
        self.info.update(values)
        storage.write_json(self.folder / "run.json", self.info)

    def write_config(self, config: dict[str, Any]) -> None:
        """Write config.yaml."""
        files.write_config(self.folder / "config.yaml", config)

    def append(self, **row: Any) -> None:
        """Append a metric row; it is durable after the next `sync`."""
        storage.append_row(self.metrics, row)
        self.rows_digest = digest(row, self.rows_digest)

    def append_probe(self, **row: Any) -> None:
        """Append a row of a probe; it is durable after the next `sync`."""
        storage.append_row(checked_file(self.folder, fields.PROBES), row)
        self.probes_digest = digest(row, self.probes_digest)

    def log(self, line: str) -> None:
        """Append a line to train.log."""
        storage.append_text(self.folder / "train.log", line.rstrip("\n") + "\n")

    def sync(self) -> None:
        """Make the rows durable: of metrics, probes and hashes."""
        storage.sync_file(self.metrics)
        for name in (fields.HASH_CHAIN, fields.PROBES):
            if (self.folder / name).exists():
                storage.sync_file(self.folder / name)

    def keep_rows(self, count: int) -> None:
        """Drop the metric rows after the first `count`."""
        self.rows_digest = digest_of(storage.keep_rows(self.metrics, count))

    def digest(self, count: int, file: str = fields.METRICS) -> int | None:
        """Return the digest of the first `count` rows of the metrics or probes; None if fewer can be read."""
        rows = storage.read_rows(checked_file(self.folder, file))[:count]
        return digest_of(rows) if len(rows) == count else None

    @property
    def digests(self) -> dict[str, int]:
        """Return what a checkpoint says of the rows written so far."""
        return {"rows_digest": self.rows_digest, "probes_digest": self.probes_digest}

    def cut_back(self, rows: int, probe_rows: int, chain_rows: int) -> None:
        """Drop the rows of steps that will be taken again; the numbers of rows are those of the checkpoint."""
        self.keep_rows(rows)
        self.probes_digest = digest_of(storage.keep_rows(checked_file(self.folder, fields.PROBES), probe_rows))
        storage.keep_rows(checked_file(self.folder, fields.HASH_CHAIN), chain_rows)

    def keep_final_state(self) -> None:
        """Keep the last checkpoint of a finished run as final.pt, for a longer run to go on from."""
        last = self.folder / "checkpoints" / fields.LAST
        final = last.with_name(fields.FINAL_STATE)
        if last.exists() and not final.exists():
            storage.copy(last, final)

    def drop_resume_files(self) -> None:
        """Delete the checkpoints that only a resumed run needs. Called once the result is durable."""
        for pattern in reversed(fields.RESUME_FILES):
            for file in (self.folder / "checkpoints").glob(pattern):
                storage.remove(file)

    def seal(self) -> dict[str, str]:
        """Return {name: CRC-32} of RESULT_FILES, for run.json."""
        paths = (checked_file(self.folder, name) for name in fields.RESULT_FILES)
        return {path.name: f"{storage.crc32_of(path):08x}" for path in paths if path.exists()}

    def write_predictions(self, logits: Any, labels: Any, ids: Any) -> None:
        """Write the test split's logits (N, K), labels (N,) and sample ids (N,)."""
        files.write_predictions(self.folder / "predictions.npz", logits, labels, ids)


def digest(row: Mapping[str, Any], before: int) -> int:
    """Return the digest of rows and one more `row`; times are left out. before: the digest of the others."""
    return zlib.crc32(json.dumps({key: row[key] for key in row if key not in fields.TIMING}).encode(), before)


def digest_of(rows: Iterable[Mapping[str, Any]]) -> int:
    """Return the digest of rows, in their order."""
    return reduce(lambda before, row: digest(row, before), rows, 0)


def find_runs(folder: Path) -> list[RunRecord]:
    """Return every run at or below `folder`, sorted by path. Raises UserError if `folder` does not exist."""
    if not folder.exists():
        raise UserError(f"{folder}: no such folder; runs are made with `cnnexp train`")
    folders = list[Path]()
    for place, below, names in os.walk(folder, onerror=_passed_over):
        if {"run.json", fields.METRICS} & {*names, *below}:
            folders.append(Path(place))
        for link in (Path(place, name) for name in below):
            if link.is_symlink() and any(next(link.glob(pattern), None) for pattern in ("run.json", "*/run.json")):
                fix = f"only folders are: move it here, or name it: {link.resolve()}"
                warn_once(str(link), f"cnnexp: {visible(link)}: is a link, which is not followed; {visible(fix)}")
    return [RunRecord.read(f) for f in sorted(folders)]


def _passed_over(error: OSError) -> None:
    warn_once(str(error), f"cnnexp: {visible(error.filename)}: is passed over ({error.strerror})")


def one_run(folder: Path) -> RunRecord:
    """Read the run at `folder`. Raises UserError if it is damaged, or if there is none, naming runs below it."""
    if (folder / "run.json").exists():
        run = RunRecord.read(folder)
        if run.problem:
            raise UserError(run.problem)
        for name, (kind, _) in fields.FIELDS.items():
            if not isinstance(run.info.get(name), kind | None):
                raise UserError(f"{folder / 'run.json'}: {name} is not as a run writes it")
        return run
    below = [str(r.folder) for r in find_runs(folder)][:5]
    hint = f"; runs below it: {', '.join(below)}" if below else ""
    raise UserError(f"{folder}: is not a run directory (it has no run.json){hint}")
