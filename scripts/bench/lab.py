"""Where and how much is measured: folders, repeats, the environment of measured processes, facts about the machine."""

import datetime
import functools
import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import process

REPOSITORY = Path(__file__).resolve().parents[2]
BENCH = Path(__file__).resolve().parent
CNNEXP = (sys.executable, "-m", "cnnexp")
# Unset, because they favour one side: cnnexp chooses its number of threads itself, a plain loop obeys OMP_NUM_THREADS.
UNSET = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONWARNINGS")
say = functools.partial(print, file=sys.stderr, flush=True)  # progress


@dataclass(frozen=True)
class Lab:
    """How to measure.

    work: scratch folder; data: folder of the real images; quick: tiny sizes and one repeat, to test the benchmark;
    repeats, epochs: in place of the row's own; gpu: let processes see the GPU.
    """

    work: Path = REPOSITORY / "outputs" / "benchmark"
    data: Path | None = None
    quick: bool = False
    repeats: int | None = None
    epochs: int | None = None
    gpu: bool = False

    def run(self, command: Sequence[str | Path], sample: bool = False, code: int = 0) -> process.Finished:
        """Run a command in the scratch folder, with the environment."""
        return process.run(command, self.environment(), self.folder("."), sample, code)

    def environment(self) -> dict[str, str]:
        """Return the environment of a measured process."""
        kept = {k: v for k, v in os.environ.items() if k not in UNSET and not k.startswith(("CNNEXP_", "HYDRA_"))}
        kept["CNNEXP_CACHE"] = str(self.folder("cache"))
        hidden = {} if self.gpu else {"CUDA_VISIBLE_DEVICES": ""}
        return kept | hidden | ({"OMP_NUM_THREADS": "1"} if self.quick else {})

    def folder(self, name: str) -> Path:
        """Return a folder in the scratch folder; create it if necessary."""
        folder = self.work / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def readable(self, command: Sequence[str | Path]) -> str:
        """Return a command without the paths of this machine: WORK is the scratch folder, DATA that of the images."""
        text = shlex.join(str(word) for word in command)
        names = {shlex.join(CNNEXP): "cnnexp", sys.executable: "python", f"{self.work}": "WORK", f"{self.data}": "DATA"}
        for place, name in {**names, sys.prefix: "VENV", f"{REPOSITORY}/": ""}.items():
            text = text.replace(place, name)
        return text


def machine(gpu: str | None) -> dict[str, Any]:
    """Return when, where and with which versions a row is measured."""
    import cnnexp
    from cnnexp.process.limits import cores
    from cnnexp.records.provenance import code
    from cnnexp.training.cpu import name as cpu_name

    packages = {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "numpy", "pillow")}
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {
            "processor": cpu_name(),
            "cores": cores(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "gpu": gpu,
            "load_before": round(os.getloadavg()[0], 2),
        },
        "versions": {"python": platform.python_version(), **packages, "cnnexp": cnnexp.__version__},
        "commit": code()["commit"],
    }
