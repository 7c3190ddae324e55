"""A run before it starts: its checked config, its name, where it will live and what it needs first."""

import copy
import functools
import hashlib
import math
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnexp.config import compose as configs
from cnnexp.config.user_code import user_code
from cnnexp.data.images import ImageData
from cnnexp.errors import UserError
from cnnexp.records.provenance import folder_flags
from cnnexp.records.run_record import RunRecord, run_folder
from cnnexp.training.build import build_data
from cnnexp.training.probes import OF_A_PASS, PROBES


@dataclass
class Plan:
    """One run to be made. overrides: what composes it again; changes: what its arm changes, in words."""

    config: dict[str, Any]
    overrides: list[str]
    changes: list[str]
    facts: dict[str, Any]
    fingerprint: str
    folder: Path
    command: str
    upstream: "Plan | None" = None
    choices: dict[str, str] = field(default_factory=dict)

    @property
    def study(self) -> str:
        """Return the study's name."""
        return str(self.config["study"]["name"])

    @property
    def arm(self) -> str:
        """Return the arm's name."""
        return str(self.config["study"]["arm"])

    @property
    def seed(self) -> int:
        """Return the seed."""
        return int(self.config["seed"])

    @property
    def label(self) -> str:
        """Return "baseline, seed 0"."""
        return f"{self.arm}, seed {self.seed}"

    @property
    def repeat(self) -> str:
        """Return a command that makes this run alone: what a sweep's slots and axes have settled is spelt out."""
        given = {override.partition("=")[0] for override in self.overrides}
        settled = [] if given & {"+arm", "study.arm"} else [f"study.arm={quoted(self.arm)}"]
        settled += [] if "device.threads" in given else [f"device.threads={self.config['device']['threads']}"]
        return shlex.join(["cnnexp", "train", *folder_flags(shlex.split(self.command)), *self.overrides, *settled])

    @property
    def identity(self) -> str:
        """Return what tells the run from every other: <fingerprint>-s<seed>, as RunRecord.identity."""
        return f"{self.fingerprint}-s{self.seed}"

    def chain(self) -> list["Plan"]:
        """Return this run after those that it needs, in the order to make them."""
        return [*(self.upstream.chain() if self.upstream else []), self]

    def check_unchanged(self, data: ImageData) -> None:
        """Raise UserError if the data or a person's own code is not what the run was planned, and named, with.

        data: as it is now. To be called when everything is built: a person's modules are imported by then.
        """
        own = _user_code(self.config)
        changed = [name for name in own if own[name] != self.facts["user_code"].get(name)]
        changed += ["the data"] if data.fingerprint != self.facts["data"] else []
        if self.upstream is None and _weights(self.config, self.command)[1] != self.facts["weights"]:
            changed.append(f"model.weights: {self.config['model']['weights']}")
        if changed:
            raise UserError(f"{changed[0]}: has changed since this run was planned; the same command plans it anew")

    def begin(self, record: RunRecord) -> None:
        """Write what the run is to its record, before anything can go wrong."""
        record.begin(
            self.config,
            study=self.study,
            arm=self.arm,
            seed=self.seed,
            fingerprint=self.fingerprint,
            changes=self.changes,
            command=self.command,
            repeat=self.repeat,
            **({"user_code": self.facts["user_code"]} if self.facts["user_code"] else {}),
        )

    def record(self) -> RunRecord:
        """Read the run directory as it is now."""
        return RunRecord.read(self.folder)

    def lacks_probes(self) -> bool:
        """Tell whether probes are asked for, but the run was done before without any."""
        asked = any(self.config["probes"][name] for name in PROBES)
        return asked and self.record().info.get("status") == "done" and not self.record().probe_rows()


def quoted(text: str) -> str:
    """Return text as Hydra reads it back: in single quotes, those within it and backslashes before them escaped."""
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text) + "'"


def plan(
    config: dict[str, Any],
    overrides: list[str],
    changes: list[str],
    command: str,
    choices: dict[str, str] | None = None,
    threads: int | None = None,
) -> Plan:
    """Turn a checked config into a Plan: prepare its data, resolve its device, name it.

    config: resolved and checked. threads: what `device.threads=auto` means here (all cores if None).
    Raises UserError if the device, the data or the weights are not to be had.
    """
    from cnnexp.training.features import wanted

    config = copy.deepcopy(config)
    device = _device_facts(config["device"], threads)
    config["device"]["threads"] = device["threads"]
    named = bool(config["study"]["arm"] or (choices or {}).get("arm"))
    config["study"]["arm"] = config["study"]["arm"] or (choices or {}).get("arm") or ",".join(changes) or "run"
    upstream, weights = _weights(config, command)
    data = build_data(config)
    check_data(config, data)
    facts = {
        "device": device["kind"],
        "precision": device["precision"],
        "threads": device["threads"] if device["kind"] == "cpu" else None,
        "channels_last": config["device"]["channels_last"],
        "data": data.fingerprint,
        "weights": weights,
        "deterministic": config["device"]["deterministic"] if device["kind"] == "cuda" else None,
        "user_code": _user_code(config),
    }
    if wanted(config):
        facts["features"] = "computed once"
    if config["device"].get("compile"):
        facts["compile"] = config["device"]["compile"]
    fingerprint = configs.fingerprint(config, facts)
    study = config["study"]
    folder = run_folder(Path(config["outputs"]), study["name"], study["arm"], config["seed"], fingerprint)
    if not named and (same := sorted(folder.parent.glob(f"*-s{config['seed']}-{fingerprint}"))):
        folder = same[0]  # the same run, typed in another way
        study["arm"] = RunRecord.read(folder).info.get("arm", study["arm"])
    return Plan(config, overrides, changes, facts, fingerprint, folder, command, upstream, choices or {})


def check_data(config: dict[str, Any], data: ImageData) -> None:
    """Raise UserError for settings that the data cannot serve: too large a batch, a watch on no validation split."""
    if config["batch_size"] > len(data.train):
        raise UserError(
            f"batch_size: given {config['batch_size']}; allowed: at most {len(data.train)}, the training images; "
            f"try batch_size={2 ** max(0, int(math.log2(len(data.train) / 4)))}"
        )
    if len(data.val):
        return
    if watched := [name for name in OF_A_PASS if config["probes"][name]]:
        raise UserError(f"probes.{watched[0]}: there is no validation split to look at; set data.val_fraction above 0")
    if config["early_stopping"]["patience"] is not None:
        raise UserError("early_stopping.patience: there is no validation split to watch; set data.val_fraction above 0")
    if config["scheduler"]["_target_"].endswith((".plateau", ".ReduceLROnPlateau")):
        raise UserError("scheduler: plateau watches the validation loss; set data.val_fraction above 0")


def _user_code(config: dict[str, Any]) -> dict[str, str]:
    return user_code(config[name] for name in configs.GIVEN)


def _device_facts(node: dict[str, Any], threads: int | None) -> dict[str, Any]:
    from cnnexp.training.device import cores, resolve

    automatic = cores() if threads is None else threads
    return resolve({**node, "threads": automatic if node["threads"] == "auto" else node["threads"]}).record()


def _weights(config: dict[str, Any], command: str) -> tuple[Plan | None, str | None]:
    """Resolve `model.weights`: plan the run that makes them, or hash the file. Returns (upstream, fingerprint)."""
    weights = config["model"].get("weights")
    if isinstance(weights, dict):
        upstream = _upstream(str(weights["config"]), config, command)
        config["model"]["weights"] = str(upstream.folder)
        return upstream, f"{upstream.fingerprint}-s{upstream.seed}"
    if weights in (None, "none", "imagenet"):
        return None, None
    path = Path(weights)
    file = path / "checkpoints" / "best.pt" if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"model.weights: given '{weights}'; allowed: imagenet, none, a checkpoint or a finished run")
    return None, _hash_file(file, file.stat().st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _hash_file(file: Path, modified: int) -> str:
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]


def _upstream(name: str, config: dict[str, Any], command: str) -> Plan:
    """Plan the run that `weights: {config: NAME}` names, on the same device and with the same folders."""
    overrides = [f"+pretrain={name}"]
    upstream = configs.resolve(configs.compose([*overrides, *configs.search_path(shlex.split(command))]))
    upstream["outputs"] = config["outputs"]
    upstream["device"] = copy.deepcopy(config["device"])
    for place in ("root", "cache"):
        if place in upstream["data"] and place in config["data"]:
            upstream["data"][place] = config["data"][place]
    configs.check(upstream)
    return plan(upstream, overrides, overrides, command, threads=config["device"]["threads"])
