"""A run before it starts: its checked config, its fingerprint, its folder, and the run that it needs first."""

import copy
import math
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnexp.config import checks
from cnnexp.config.fingerprint import fingerprint_of
from cnnexp.config.schema import GIVEN
from cnnexp.config.signature import steps
from cnnexp.config.user_code import changed_since_import, user_code
from cnnexp.config.words import quoted
from cnnexp.data.images import ImageData
from cnnexp.errors import UserError
from cnnexp.records.fields import FINAL
from cnnexp.records.names import run_folder
from cnnexp.records.provenance import folder_flags
from cnnexp.records.run_record import RunRecord
from cnnexp.text import in_shell, visible
from cnnexp.training import dry_run
from cnnexp.training.build import build_data
from cnnexp.training.check_data import check_data
from cnnexp.training.probes import PROBES
from cnnexp.training.start_weights import find_weights, upstream_config

if TYPE_CHECKING:
    from cnnexp.training.device import Device, Target


@dataclass
class Plan:
    """One run to make.

    config: resolved and checked. overrides: compose it again. changes: what its arm changes, as overrides.
    facts: what the config leaves to the machine, part of the fingerprint. command: what was typed.
    upstream: the run whose weights it starts from. choices: the chosen file of each config group.
    continues: the name of the folder of a shorter run of the study whose final state it goes on from.
    """

    config: dict[str, Any]
    overrides: list[str]
    changes: list[str]
    facts: dict[str, Any]
    fingerprint: str
    folder: Path
    command: str
    upstream: "Plan | None" = None
    choices: dict[str, str] = field(default_factory=dict)
    continues: str | None = None

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
    def fold(self) -> dict[str, Any] | None:
        """Return {fold, of, group} of a run of cross-validation: group is the fingerprint of all its folds."""
        data = self.config.get("data", {})
        if not data.get("folds"):
            return None
        group = fingerprint_of({**self.config, "data": {**data, "fold": None}}, self.facts)
        return {"fold": data["fold"], "of": data["folds"], "group": group}

    @property
    def label(self) -> str:
        """Return "baseline, seed 0"."""
        fold = self.config.get("data", {}).get("fold")
        return f"{self.arm}, seed {self.seed}" + ("" if fold is None else f", fold {fold}")

    @property
    def repeat(self) -> str:
        """Return a command that makes this run alone, with the arm and the threads that a sweep has chosen."""
        given = {override.partition("=")[0] for override in self.overrides}
        chosen = [] if given & {"+arm", "study.arm"} else [f"study.arm={quoted(self.arm)}"]
        chosen += [] if "device.threads" in given else [f"device.threads={self.config['device']['threads']}"]
        return in_shell(["cnnexp", "train", *folder_flags(shlex.split(self.command)), *self.overrides, *chosen])

    @property
    def identity(self) -> str:
        """Return <fingerprint>-s<seed>, as RunRecord.identity."""
        return f"{self.fingerprint}-s{self.seed}"

    def chain(self) -> list["Plan"]:
        """Return the runs to make, in order: those that this run needs, and this run."""
        return [*(self.upstream.chain() if self.upstream else []), self]

    def check_device(self, device: "Device") -> None:
        """Raise UserError if the device that makes the run differs from what it was planned for."""
        here = device_facts(device)
        planned = {name: self.facts.get(name, value) for name, value in here.items()}
        if here != planned:
            words = [", ".join(f"{name} {value}" for name, value in facts.items()) for facts in (planned, here)]
            raise UserError(f"device: the run was planned for {words[0]}; here it would use {words[1]}")

    def check_unchanged(self, data: ImageData) -> None:
        """Raise UserError if the data, the weights or the user's code have changed since the run was planned.

        data: as it is now. Call this when everything is built, because the user's modules are imported by then. A
        process that has imported them for an earlier run has their code of then.
        """
        now = _user_code(self.config)
        changed = [name for name in now if now[name] != self.facts["user_code"].get(name)]
        changed += changed_since_import(now)
        changed += ["the data"] if data.fingerprint != self.facts["data"] else []
        changed += [_split(key) for key, drawn in data.drawn.items() if self.facts.get(key) != drawn]
        if self.upstream is None and find_weights(self.config) != self.facts["weights"]:
            changed.append(f"model.weights: {self.config['model']['weights']}")
        if changed:
            raise UserError(f"{changed[0]}: has changed since this run was planned; the same command plans it again")

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
            **({"fold": fold} if (fold := self.fold) else {}),
        )

    def record(self) -> RunRecord:
        """Read the run directory."""
        return RunRecord.read(self.folder)

    def is_final(self) -> bool:
        """Tell whether the run has ended for good: the same command does not make it again."""
        return self.record().info.get("status") in FINAL

    def lacks_probes(self) -> bool:
        """Tell whether the config asks for probes, but the run is done without any."""
        asked = any(self.config["probes"][name] for name in PROBES)
        return asked and self.record().info.get("status") == "done" and not self.record().probe_rows()


def unfinished(plans: Iterable[Plan]) -> list[Plan]:
    """Return the runs that have no final end."""
    return [plan for plan in plans if not plan.is_final()]


def print_folders(plans: Iterable[Plan]) -> None:
    """Print the folders of studies whose names have characters that no folder here has, such as a space."""
    for study, folder in dict.fromkeys((plan.study, plan.folder.parent) for plan in plans):
        if folder.name != study:
            print(visible(f"study.name: the folder of '{study}' is {folder}"), flush=True)


def plan(
    config: dict[str, Any],
    overrides: list[str],
    changes: list[str],
    command: str,
    choices: dict[str, str] | None = None,
    target: "Target | None" = None,
) -> Plan:
    """Turn a checked config into a Plan: prepare its data, resolve its device, choose its folder.

    config: resolved and checked. target: the machine that will make the run, this one if None.
    Raises UserError if the device, the data or the weights are not available.
    """
    from cnnexp.training.cpu import check_openmp
    from cnnexp.training.device import probe, resolve
    from cnnexp.training.going_on import shorter_run

    config, choices = copy.deepcopy(config), choices or {}
    here = target is None
    target = target or probe(config["device"]["kind"])
    if config["device"]["threads"] == "auto":
        config["device"]["threads"] = target.threads or "auto"
    device, study = resolve(config["device"], target), config["study"]
    if here:
        check_openmp(device.threads)
    named = study["arm"] or choices.get("arm")
    study["arm"] = named or ",".join(changes) or "default"
    upstream, weights = _weights(config, command, target)
    data = build_data(config)
    check_data(config, data)
    steps_per_epoch = len(data.train) // config["batch_size"]
    total_steps = steps(config["epochs"], steps_per_epoch)
    dry_run.with_data(config, data, steps_per_epoch, total_steps)
    if not choices.get("preset"):  # which may make a run shorter, to try it
        dry_run.note_patience(config, math.ceil(total_steps / max(1, steps_per_epoch)))
    if (
        upstream is None
        and weights
        and Path(config["model"]["weights"]).is_dir()
        and dry_run.origin(config, "model") != "own"
    ):
        dry_run.weights(config, data)
    facts = _facts(config, device, data, weights)
    fingerprint = fingerprint_of(config, facts)
    identity = (Path(config["outputs"]), study["name"], study["arm"], config["seed"], fingerprint)
    folder = run_folder(*identity)
    if not named and (same := sorted(folder.parent.glob(f"*-s{config['seed']}-{fingerprint}"))):
        folder = same[0]  # the same run, typed differently
        study["arm"] = RunRecord.read(folder).info.get("arm", study["arm"])
    elif RunRecord.read(folder).info.get("arm", study["arm"]) != study["arm"]:
        folder = run_folder(*identity, distinct=True)
    _check_split(RunRecord.read(folder), data)
    shorter = shorter_run(config, facts, folder, total_steps, steps_per_epoch)
    return Plan(config, overrides, changes, facts, fingerprint, folder, command, upstream, choices, shorter)


def _check_split(record: RunRecord, data: ImageData) -> None:
    """Raise UserError if a run was made with other validation images, because files were renamed since."""
    then = record.info.get("data") or {}
    for key, drawn in data.drawn.items():
        if then.get(key, drawn) != drawn:
            fix = "name the files as before, or choose another study.name"
            raise UserError(f"{record.folder}: {_split(key)}, has changed since this run was made; {fix}")


def _split(key: str) -> str:
    return f"the {key}{' split' * (key != 'split')} of the data, drawn by the names of its files"


def device_facts(device: "Device") -> dict[str, Any]:
    """Return what a machine decides of a run, and can change a number."""
    threads = device.threads if device.kind == "cpu" else None
    return {"device": device.kind, "precision": device.precision, "threads": threads}


def _facts(config: dict[str, Any], device: "Device", data: ImageData, weights: str | None) -> dict[str, Any]:
    """Return what the config leaves to the machine and can change a number. weights: their fingerprint."""
    from cnnexp.training.features import wanted

    facts = {
        **device_facts(device),
        "channels_last": device.channels_last,
        "data": data.fingerprint,
        **data.drawn,
        "weights": weights,
        "deterministic": device.deterministic if device.kind == "cuda" else None,
        "user_code": _user_code(config),
    }
    if wanted(config):
        facts["features"] = "computed once"
    if device.compile:
        facts["compile"] = device.compile
    if device.processes > 1 and not device.sync_bn:
        facts["batch_norm_in"] = device.processes
    return facts


def _user_code(config: dict[str, Any]) -> dict[str, str]:
    nodes = [config[name] for name in GIVEN]
    checks.import_builders(nodes)
    return user_code(nodes)


def _weights(config: dict[str, Any], command: str, target: "Target | None") -> tuple[Plan | None, str | None]:
    """Plan the run that makes the weights, or hash their file. Returns (that run, a fingerprint of the weights)."""
    if needed := upstream_config(config, command):
        upstream = plan(*needed, needed[1], command, target=target)
        config["model"]["weights"] = str(upstream.folder)
        return upstream, upstream.identity
    return None, find_weights(config)
