"""Run cnnexp's commands on the device, and read what they recorded."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = ["data.num_train=200", "data.num_test=100", "epochs=2", "batch_size=16"]
GRACE_SECONDS = 30.0  # between SIGTERM and SIGKILL: a sweep of cnnexp saves and ends its workers within them


class Failed(Exception):
    """Why a check failed: what was expected and what was found."""


class NoTime(Exception):
    """The deadline came while a command ran; the command and all that it started were ended."""


@contextmanager
def started(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], pipes: Mapping[str, Any]
) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a session of its own; at the end of the block, end what is left of that session."""
    with subprocess.Popen(
        command, cwd=folder, env=environment, text=True, errors="replace", start_new_session=True, **pipes
    ) as process:
        try:
            yield process
        finally:
            end(process)


def end(process: subprocess.Popen[str], grace: float = GRACE_SECONDS) -> None:
    """End the leader of a session and all processes of its group: by SIGTERM, after `grace` seconds by SIGKILL.

    The leader is signalled first and alone: the workers of a sweep have sessions of their own, and it ends them.
    """
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 1.0)):
        until = time.monotonic() + seconds
        if living(process.pid):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        while living(process.pid) and time.monotonic() < until:
            time.sleep(0.05)


def living(group: int) -> list[int]:
    """Return the processes of a group that have not ended. Needs /proc."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            state, _, of_group, *_ = file.read_text(errors="replace").rpartition(")")[2].split()
            found += [int(file.parent.name)] if state != "Z" and int(of_group) == group else []
    return found


def finish(process: subprocess.Popen[str], deadline: float) -> tuple[str, str]:
    """Wait for a process; return its stdout and stderr. Raises NoTime at the deadline, of time.monotonic()."""
    try:
        output, errors = process.communicate(timeout=max(deadline - time.monotonic(), 1))
    except subprocess.TimeoutExpired as error:
        raise NoTime from error
    return output or "", errors or ""


@dataclass
class Bench:
    """Where and how the checks run. device: cuda:0 or cpu. work: an empty folder. quick: fewer cases, tiny sizes."""

    device: str
    work: Path
    quick: bool
    data: Path | None
    deadline: float

    @property
    def cuda(self) -> bool:
        """Tell whether this checks a GPU."""
        return self.device.startswith("cuda")

    def environment(self) -> dict[str, str]:
        """Return the environment of a command."""
        path = os.pathsep.join([str(REPOSITORY), str(self.work), os.environ.get("PYTHONPATH", "")])
        return os.environ | {"PYTHONPATH": path, "CNNEXP_CACHE": str(self.work / "cache")}

    @contextmanager
    def start(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Start `cnnexp WORDS` in the working folder; at the end of the block, end what is left of it."""
        command, pipes = [sys.executable, "-m", "cnnexp", *words], {"stdout": subprocess.PIPE}
        with started(command, self.work, self.environment(), {**pipes, "stderr": subprocess.STDOUT}) as process:
            yield process

    def cnnexp(self, *words: str, code: int = 0) -> str:
        """Run `cnnexp WORDS`; return its output. Raises Failed if the exit code is another one, and NoTime."""
        with self.start(*words) as process:
            output, _ = finish(process, self.deadline)
        if process.returncode != code:
            last = "\n".join(output.strip().splitlines()[-6:])
            raise Failed(f"cnnexp {' '.join(words)}: exit code {process.returncode}, expected {code}: {last}")
        return output

    def train(self, study: str, *words: str, code: int = 0) -> list[Path]:
        """Train runs of embedded images on the device; return their folders."""
        kind = "cuda" if self.cuda else "cpu"
        self.cnnexp("train", *SMALL, *words, f"device={kind}", f"study.name={study}", code=code)
        return self.runs(study)

    def sweep(self, study: str, *words: str) -> list[Path]:
        """Train a sweep, four runs at a time on one device; every run must be done with finite losses."""
        folders = self.train(study, "-m", f"slots={self.device}*4" if self.cuda else "slots=cpu:1", *words)
        for folder in folders:
            if not all(math.isfinite(row["loss"]) for row in rows_of(folder)):
                raise Failed(f"{folder.name}: a loss is not finite")
        return folders

    def runs(self, study: str) -> list[Path]:
        """Return the folders of the finished runs of a study. Raises Failed if one is not done."""
        folders = sorted(path.parent for path in (self.work / "outputs" / study).glob("*/run.json"))
        if not folders or (bad := [f.name for f in folders if info_of(f)["status"] != "done"]):
            raise Failed(f"not done: {', '.join(bad) if folders else study}")
        return folders


def info_of(folder: Path) -> dict[str, Any]:
    """Return run.json."""
    info: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return info


def config_of(folder: Path) -> dict[str, Any]:
    """Return the config of a run."""
    config: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text())
    return config


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl without times."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if "second" not in k and k != "checksum"} for row in rows]


def logits_of(folder: Path) -> np.ndarray:
    """Return the test logits of a run: (N, K)."""
    from cnnexp.records.files import read_predictions

    return np.asarray(read_predictions(folder / "predictions.npz")["logits"])


def same_bits(one: Path, other: Path) -> None:
    """Raise Failed unless two runs have the same rows and the same test logits."""
    if rows_of(one) != rows_of(other):
        raise Failed(f"the rows of {one.name} and {other.name} differ")
    if not np.array_equal(logits_of(one), logits_of(other)):
        difference = np.abs(logits_of(one) - logits_of(other)).max()
        raise Failed(f"the test logits of {one.name} and {other.name} differ by {difference:.3g}")
