"""plan.json: the planned runs of a study, as a worker on another machine needs them.

{"cwd": where they were planned, "outputs": the folder of studies, as typed there,
 "runs": {NAME OF THE RUN'S FOLDER: {"plan": the fields of its Plan, its folder below "outputs",
                                     "before": when its last attempt had ended as it was planned, or null}}}
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from cnnexp import storage
from cnnexp.config.schema import RunConfig
from cnnexp.errors import UserError
from cnnexp.records.fields import FINAL
from cnnexp.records.run_record import RunRecord
from cnnexp.records.study import read_study
from cnnexp.storage.untrusted import checked_file
from cnnexp.sweep.study import by_folder
from cnnexp.training.plan import Plan

NAME = "plan.json"
PLANNED_AGAIN = "the command that planned these runs writes it again"
MALFORMED = (KeyError, TypeError, ValueError)
KINDS = {
    **{"config": dict, "overrides": list, "changes": list, "facts": dict, "fingerprint": str, "folder": str},
    **{"command": str, "choices": dict, "continues": str | None},
}
SETTINGS = {field.name for field in fields(RunConfig)} - {"search"}  # which only a trial has
FACTS = {"device", "precision", "threads", "data", "weights", "user_code"}  # of every run


def write_plans(plans: Sequence[Plan]) -> None:
    """Write plan.json into the folders of the runs' studies.

    Runs that an earlier command has planned stay, while they are not done and the study calls for them.
    """
    for folder, here in by_folder(plans).items():
        with storage.lock(folder / ".lock", wait=True):
            runs = still_wanted(folder)
            for plan in here:
                before = [link.record().info.get("finished") for link in plan.chain()]
                runs[plan.folder.name] = {"plan": as_json(plan, folder.parent), "before": before}
            content = {"cwd": str(Path.cwd()), "outputs": str(folder.parent), "runs": runs}
            storage.write_bytes(folder / NAME, storage.encode(content))


def still_wanted(folder: Path) -> dict[str, Any]:
    """Return the runs of an earlier plan.json that the study calls for, and that are not done."""
    if not (folder / NAME).exists():
        return {}
    try:
        earlier = read(folder)["runs"]
    except UserError:  # it is written again
        return {}
    called = {run["folder"] for run in (read_study(folder) or {"runs": []})["runs"]}
    return {
        name: entry
        for name, entry in earlier.items()
        if name in called
        and RunRecord.read(folder / name).info.get("status") not in FINAL
        and is_readable(entry, folder)
    }


def is_readable(entry: Any, folder: Path) -> bool:
    """Tell whether a run of an earlier plan.json can be read: another version of cnnexp may have planned it."""
    with suppress(*MALFORMED):
        from_json(entry["plan"], folder.parent, folder.name)
        return True
    return False


def read_plans(folder: Path) -> tuple[list[Plan], dict[Path, str | None]]:
    """Return the planned runs of a study's folder; and of each and those it needs, when its last attempt had ended.

    Where this machine sees the study at the same place as the planner did, this goes to the folder of the planning
    command, if that is here too, so that relative paths and the user's modules are found. Raises UserError if plan.json
    cannot be used.
    """
    content = read(folder)
    outputs = folder.resolve().parent
    cwd = Path(content["cwd"])
    if (cwd / content["outputs"]).resolve() == outputs:
        with suppress(OSError):  # with an absolute outputs=DIR, that folder may be on the planner's machine only
            os.chdir(cwd)
            outputs = Path(content["outputs"])
    plans, before = list[Plan](), dict[Path, str | None]()
    try:
        for entry in content["runs"].values():
            plans.append(from_json(entry["plan"], outputs, folder.resolve().name))
            before |= dict(zip([link.folder for link in plans[-1].chain()], entry["before"], strict=True))
        if not plans:
            raise ValueError("it has no run")
    except MALFORMED as error:
        raise UserError(f"{folder / NAME}: is not a plan ({error}); {PLANNED_AGAIN}") from error
    return plans, before


def read(folder: Path) -> dict[str, Any]:
    """Read plan.json. Raises UserError if there is none, or if it has another form."""
    file = checked_file(folder, NAME)
    if not file.exists():
        raise UserError(f"{folder}: has no {NAME}; `cnnexp train` writes it for a study or sweep, such as +study=NAME")
    content = storage.read_json(file)
    kinds = {"cwd": str, "outputs": str, "runs": dict}
    if not isinstance(content, dict) or any(not isinstance(content.get(key), kind) for key, kind in kinds.items()):
        raise UserError(f"{file}: is not a plan; {PLANNED_AGAIN}")
    return content


def as_json(plan: Plan, outputs: Path) -> dict[str, Any]:
    """Return the fields of a plan, of types that JSON has; its folder below `outputs`."""
    plain = {field.name: getattr(plan, field.name) for field in fields(plan)}
    upstream = as_json(plan.upstream, outputs) if plan.upstream else None
    return plain | {"folder": str(plan.folder.relative_to(outputs)), "upstream": upstream}


def from_json(plain: dict[str, Any], outputs: Path, study: str | None) -> Plan:
    """Return the Plan whose fields `as_json` has returned, in this folder of studies.

    study: the name of the study's folder. None: any study below `outputs`, as for the run that another one needs.
    Raises KeyError, TypeError or ValueError for other fields or settings, and for a folder that is not STUDY/RUN.
    """
    for name, kind in KINDS.items():
        if not isinstance(plain[name], kind):
            raise TypeError(f"{name}: given {plain[name]!r}")
    for name, needed in (("config", SETTINGS), ("facts", FACTS)):
        if missing := needed - plain[name].keys():
            raise ValueError(f"{name}: lacks {', '.join(sorted(missing))}")
    folder = Path(plain["folder"])
    if folder.is_absolute() or len(folder.parts) != 2 or ".." in folder.parts:
        raise ValueError(f"{folder}: a run's folder is STUDY/RUN")
    if study not in (None, folder.parts[0]):
        raise ValueError(f"{folder}: lies in another study than {study}")
    plan = Plan(**{**plain, "folder": outputs / folder, "upstream": None})
    if plain["upstream"]:
        plan.upstream = from_json(plain["upstream"], outputs, None)
        plan.config["model"]["weights"] = str(plan.upstream.folder)
    return plan
