"""This process's place among those that torchrun or srun has started for one run, read from the environment."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnexp.errors import UserError


@dataclass(frozen=True)
class Place:
    """This process's place among those that torchrun or srun has started. address: of process 0, HOST:PORT."""

    program: str
    rank: int
    count: int
    local_rank: int
    local_count: int
    address: str


def place_of(environ: Mapping[str, str] = os.environ) -> Place | None:
    """Return the place that torchrun or srun gives this process; None if it is alone. Raises UserError.

    Spaces around a number are ignored, and an empty variable is one that is not set.
    """
    environ = {name: text.strip() for name, text in environ.items() if text.strip()}

    def number(name: str, default: int) -> int:
        text = environ.get(name, str(default))
        if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
            raise UserError(f"{name}: given {text!r} in the environment; allowed: a whole number, or unset it")
        return int(text)

    if {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= environ.keys() and number("WORLD_SIZE", 1) > 1:
        address = f"{environ['MASTER_ADDR']}:{environ['MASTER_PORT']}"
        local = number("LOCAL_RANK", 0), number("LOCAL_WORLD_SIZE", 1)
        return Place("torchrun", number("RANK", 0), number("WORLD_SIZE", 1), *local, address)
    if number("SLURM_STEP_NUM_TASKS", 1) > 1 and "SLURM_PROCID" in environ:  # not those of a batch script
        job, step = number("SLURM_JOB_ID", 0), number("SLURM_STEP_ID", 0)
        address = f"{first_host(environ.get('SLURM_STEP_NODELIST', 'localhost'))}:{20000 + (job * 31 + step) % 20000}"
        local = number("SLURM_LOCALID", 0), tasks_per_node(environ)
        return Place("srun", number("SLURM_PROCID", 0), number("SLURM_STEP_NUM_TASKS", 1), *local, address)
    return None


def tasks_per_node(environ: Mapping[str, str]) -> int:
    """Return the number of processes of a step of srun on its first node: 2 of "2(x3),1". Raises UserError."""
    text = environ.get("SLURM_STEP_TASKS_PER_NODE", environ["SLURM_STEP_NUM_TASKS"])
    found = re.match(r"(\d{1,9})(?:\(x\d+\))?(?:,|$)", text, re.ASCII)
    if found is None:
        fix = "allowed: numbers as srun writes them, such as 2(x3), or unset it"
        raise UserError(f"SLURM_STEP_TASKS_PER_NODE: given {text!r} in the environment; {fix}")
    return int(found[1])


def first_host(nodes: str) -> str:
    """Return the first host of a list as SLURM writes it: "node[03-07,9],other" gives "node03"."""
    found = re.match(r"([^\[,]*)(?:\[([^\]\-,]*)[^\]]*\])?([^,]*)", nodes)
    assert found is not None
    return "".join(part or "" for part in found.groups())


def check_count(given: int) -> int:
    """Return the number of processes of a single run: those given, or those that torchrun or srun has started."""
    place = place_of()
    if place is None or given == place.count:
        return given
    if given > 1:
        raise UserError(f"device.processes: given {given}; {place.program} has started {place.count}: leave it out")
    return place.count


def check_gpus(config: dict[str, Any]) -> None:
    """Raise UserError if this machine has fewer GPUs than the run has processes here."""
    import torch

    from cnnexp.training.device import probe

    count = config["device"]["processes"]
    if place_of() is not None or count == 1 or not probe(config["device"]["kind"]).kind.startswith("cuda"):
        return
    if (there := torch.cuda.device_count()) < count:
        raise UserError(f"device.processes: given {count}; this machine has {there} CUDA device(s), one for each")
