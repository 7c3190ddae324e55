"""What a sweep records: the runs that a study calls for now, in study.json, and the ends of runs left without one."""

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cnnexp import storage
from cnnexp.claims import study as claims
from cnnexp.config.words import as_text, full_name
from cnnexp.errors import UserError, unknown
from cnnexp.records import study as study_file
from cnnexp.records.fields import FINAL
from cnnexp.records.names import arm_folder, arm_labels, same_numbers
from cnnexp.records.run_record import find_runs, now
from cnnexp.training.plan import Plan

COPIED = ("name", "question", "baseline", "reported", "source", "claims")  # from the config


def check_arms(plans: Iterable[Plan], named: Sequence[str], gridded: Sequence[str] = ()) -> None:
    """Raise UserError if a study reports or claims something of an unknown arm, or compares with one.

    named: the arms of the study. Those of this sweep and of runs in the study's folder are known too. gridded: the
    points of its grid, also those that are not made now, which may be the baseline. That of a single arm may follow
    later.
    """
    for folder, here in by_folder(plans).items():
        before = study_file.read_study(folder) or {}
        now_made = dict.fromkeys(plan.arm for plan in here)
        known = list(dict.fromkeys([*now_made, *named, *(before.get("arms") or [])]))
        claims.check_arms(here[0].config["study"], known)
        prints = {plan.fingerprint for plan in here} | {run.get("fingerprint") for run in before.get("runs") or []}
        for baseline in dict.fromkeys(plan.config["study"]["baseline"] for plan in here):
            if baseline and baseline not in prints and (named or gridded or len(now_made) > 1):
                single = find_runs(folder) if folder.exists() and baseline not in known else []
                if baseline not in {run.info.get("fingerprint") for run in single}:
                    arms = [*known, *gridded, *(str(run.info.get("arm")) for run in single)]
                    _check_baseline(baseline, list(dict.fromkeys(arms)))


def _check_baseline(baseline: str, known: Sequence[str]) -> None:
    """Raise UserError if no arm can be called this in a report: by its name, label or folder, however numbers are."""
    names = {*known, *arm_labels(known, [[] for _ in known]), *map(arm_folder, known)}
    if same_numbers(baseline) not in map(same_numbers, names):
        raise unknown("study.baseline", "arm", baseline, known)


def arms_of_grid(study: Mapping[str, Any]) -> list[str]:
    """Return the names of all points of a study's grid, also of those that a typed value leaves out."""
    grid = study.get("grid") or {}
    axes = [[full_name(f"{key}={as_text(value)}") for value in values] for key, values in grid.items()]
    return [",".join(point) for point in itertools.product(*axes)] if grid else []


def write_studies(plans: Iterable[Plan], command: str, every_seed: Sequence[int] = ()) -> None:
    """Write study.json: a named arm's runs with another config are superseded; its other seeds and other arms stay.

    every_seed: plan these seeds, with a look at each number of them, unless the study was looked at before; (): plan
    the seeds of the study and of these runs, with a look when they are done.
    Arms without a name, those of `-m model.norm=none,batch`, supersede nothing: their config identifies them. Of an arm
    with several configs, the runs that were asked for last are the last ones.
    """
    for folder, here in by_folder(plans).items():
        with storage.lock(folder / ".lock", wait=True):
            _write(folder, here, command, every_seed)


def record_end(plan: Plan, status: str, kind: str, message: str) -> tuple[str, str]:
    """Record the end of a run for its process, unless another process holds the run or its end is recorded.

    kind: the type of the error. Returns the status and message of the record.
    """
    try:
        with plan.record().held():
            record = plan.record()  # as its process left it
            if record.info.get("status") in FINAL:
                return record.status, ""
            plan.begin(record)
            record.log(f"{status}: {message}")
            record.update(status=status, finished=now(), error={"type": kind, "message": message})
    except storage.Locked as error:
        return "held", str(error)
    except (OSError, UserError) as error:  # without a record it counts as interrupted; the other runs continue
        return status, f"{message}; {error}"
    return status, message


def by_folder(plans: Iterable[Plan]) -> dict[Path, list[Plan]]:
    """Return plans by the folder of their study."""
    found: dict[Path, list[Plan]] = {}
    for plan in plans:
        found.setdefault(plan.folder.parent, []).append(plan)
    return found


def _config_of(plan: Plan) -> str:
    """Return the fingerprint of a run, or the one that all its folds share."""
    return str(plan.fold["group"]) if plan.fold else plan.fingerprint


def _write(folder: Path, plans: list[Plan], command: str, every_seed: Sequence[int]) -> None:
    present: dict[str, set[str]] = {}
    for plan in plans:
        if "arm" in plan.choices:
            present.setdefault(plan.arm, set()).add(_config_of(plan))
    old = study_file.read_study(folder) or {"runs": [], "arms": []}
    shared = [(run, run.get("group") or run["fingerprint"]) for run in old["runs"]]
    kept = [run for run, config in shared if config in present.get(run["arm"], {config})]
    if dropped := len(old["runs"]) - len(kept):
        print(f"{folder}: {dropped} earlier runs of these arms have another config, data or user code;")
        print("  reports show them as superseded")
        print("  (study.name=... keeps a new study separate)", flush=True)
    listed = {run["folder"] for run in kept}
    new = [
        {"folder": plan.folder.name, "arm": plan.arm, "seed": plan.seed, "fingerprint": plan.fingerprint}
        | ({"group": fold["group"]} if (fold := plan.fold) else {})
        for plan in plans
        if plan.folder.name not in listed
    ]
    of_study = plans[0].config["study"]
    asked = study_file.Plan(tuple(every_seed or of_study.get("seeds") or ()), bool(every_seed))
    runs = in_order_asked(kept + new, {plan.folder.name for plan in plans})
    planned = study_file.plan_seeds(old, runs, asked)
    looked_at: dict[str, Any] = {key: old[key] for key in ("looks", "decided", "tested") if key in old}
    content = {key: of_study[key] for key in COPIED} | {
        "command": command,
        "arms": list(dict.fromkeys([*old["arms"], *(plan.arm for plan in plans)])),
        "runs": runs,
        "plan": asdict(planned) | {"seeds": list(planned.seeds)},
        **looked_at,
    }
    if {**old, "written": None} != {**content, "written": None}:
        study_file.write_study(folder, {**content, "written": now()})


def in_order_asked(runs: Sequence[Mapping[str, Any]], asked: Collection[str]) -> list[Mapping[str, Any]]:
    """Return runs of study.json with those of `asked` last where their arm has several configs.

    asked: names of folders.
    """
    configs: dict[str, set[str]] = {}
    for run in runs:
        configs.setdefault(run["arm"], set()).add(str(run.get("group") or run["fingerprint"]))
    return sorted(runs, key=lambda run: len(configs[run["arm"]]) > 1 and run["folder"] in asked)
