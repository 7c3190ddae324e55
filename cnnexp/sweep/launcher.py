"""Hydra's launcher of every multirun: compose and check all runs first, then make those that are not done yet."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from cnnexp import storage
from cnnexp.claims import study as claims
from cnnexp.config import compose as configs
from cnnexp.config.arms import read_arms
from cnnexp.config.changes import arm_changes
from cnnexp.config.keys import flatten
from cnnexp.errors import EXIT_DONE, EXIT_SOME_FAILED, UserError
from cnnexp.records import run_record as record
from cnnexp.records import study as study_file
from cnnexp.records.fields import FINAL
from cnnexp.records.identical import sentences
from cnnexp.records.provenance import command
from cnnexp.storage.space import check_writable
from cnnexp.sweep.board import Times, plan_table
from cnnexp.sweep.compose import Composer
from cnnexp.sweep.server import import_ahead
from cnnexp.text import duration, plural
from cnnexp.training import plan as planning
from cnnexp.training.plan import Plan

FAILURES = ("failed", "oom", "diverged")


class LocalLauncher(Launcher):
    """Runs the plans of a sweep on this machine's slots."""

    def __init__(self, plan: bool, budget: int | None, fail_fast: bool):
        self.plan_only, self.budget, self.fail_fast = plan, budget, fail_fast

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take Hydra's context; called by the sweeper."""
        self.context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Make every run that is not done; exits with 3 if some failed, 75 or 130 if a signal came."""
        from cnnexp.sweep.slots import resolve

        compose = Composer(self.context, self.config)
        composed = [compose(overrides) for overrides in job_overrides]
        typed = command()
        configs_by_arm = [plain for plain, _ in composed]
        for plain, overrides in zip(configs_by_arm, job_overrides, strict=True):
            check(plain, overrides)
        if not self.plan_only:
            import_ahead()
        slots = resolve(shared(configs_by_arm, "slots"), shared(configs_by_arm, "device.kind"))
        for plain in configs_by_arm:
            plain["device"]["kind"] = slots[0].device
        swept, arms = varying(job_overrides), read_arms(self.config.study)
        plans = [
            planning.plan(
                plain,
                list(overrides),
                arm_changes(arms, hydra_node.runtime.choices.get("arm"), overrides, swept),
                typed,
                dict(hydra_node.runtime.choices),
                slots[0].threads,
            )
            for overrides, (plain, hydra_node) in zip(job_overrides, composed, strict=True)
        ]
        different(plans)
        check_arms(plans, self.context.config_loader.get_group_options("arm"))
        configs.print_set_by_data(composed)
        plans = breadth_first(plans)
        everything = with_upstream(plans)
        times = Times(plan.folder.parent for plan in everything)
        if self.plan_only:
            show_plan(everything, times, len(slots))
            return returns(plans, job_overrides)
        for place in dict.fromkeys(plan.folder.parent for plan in everything):
            check_writable(place)
        write_studies(plans, typed)
        code = self.make(everything, slots, times)
        for folder in dict.fromkeys(str(plan.folder.parent) for plan in plans):
            print(f"compare them: {shlex.join(['cnnexp', 'report', folder, *first_as_baseline(plans)])}", flush=True)
        if code != EXIT_DONE:
            raise SystemExit(code)
        return returns(plans, job_overrides)

    def make(self, plans: list[Plan], slots: Any, times: Times) -> int:
        """Make what is left of `plans`; returns the exit code."""
        from cnnexp.sweep.sweep import Sweep

        left = [plan for plan in plans if plan.record().info.get("status") not in FINAL]
        print(
            f"{plural(len(plans), 'run')}, {len(plans) - len(left)} done before, on {describe(slots)}",
            flush=True,
        )
        if unseen := sum(plan.lacks_probes() for plan in plans):
            print(
                f"{unseen} done without probes; to have them, make them again under another study.name=...", flush=True
            )
        code = Sweep(plans, left, slots, times, self.budget, self.fail_fast).run() if left else EXIT_DONE
        records = [(plan.arm, plan.record()) for plan in plans]
        for sentence in sentences(records):
            print(f"suspicious: {sentence}", flush=True)
        diverged = any(run.status == "diverged" for _, run in records)
        return EXIT_SOME_FAILED if code == EXIT_DONE and diverged else code


def first_as_baseline(plans: Sequence[Plan]) -> list[str]:
    """Return the words that compare a sweep's other arms with its first one, if nothing else says with which."""
    arms = list(dict.fromkeys(plan.arm for plan in plans))
    unsaid = len(arms) > 1 and all(plan.config["study"]["baseline"] is None for plan in plans)
    return ["--baseline", arms[0]] if unsaid else []


def check(plain: dict[str, Any], overrides: Sequence[str]) -> None:
    """Check a run's config; an error names the run's overrides if it is an arm's."""
    try:
        configs.check(plain)
    except UserError as error:
        arm = [o for o in overrides if o.startswith("+arm=")]
        raise UserError(f"{error} (in {arm[0]})" if arm else str(error)) from error


def shared(configs_by_arm: Sequence[dict[str, Any]], key: str) -> Any:
    """Return a setting that all runs of a sweep have in common. Raises UserError, naming it, if they have not."""
    values = [flatten(plain).get(key, plain.get(key)) for plain in configs_by_arm]
    for value in values:
        if value != values[0]:
            raise UserError(f"{key}: given {values[0]} and {value} in one sweep; start a sweep for each")
    return values[0]


def varying(job_overrides: Sequence[Sequence[str]]) -> set[str]:
    """Return the keys whose overrides are not the same in every run."""
    shared = set.intersection(*(set(overrides) for overrides in job_overrides))
    return {o.partition("=")[0] for overrides in job_overrides for o in overrides if o not in shared}


def different(plans: list[Plan]) -> None:
    """Raise UserError if two arms are equal after composition, or two runs are the same run."""
    seen: dict[tuple[str, int], Plan] = {}
    for plan in plans:
        other = seen.setdefault((plan.fingerprint, plan.seed), plan)
        if other is plan:
            continue
        if other.arm != plan.arm:
            raise UserError(
                f"arms '{other.arm}' and '{plan.arm}' are equal after composition: both would train the same network "
                "in the same way; leave one out with +arm=..., or drop the override that makes them equal"
            )
        raise UserError(f"{plan.label}: asked for twice, by {' '.join(other.overrides)} and {' '.join(plan.overrides)}")


def check_arms(plans: list[Plan], named: Sequence[str]) -> None:
    """Raise UserError if a study reports or claims something of an arm that there is not.

    named: the arms that have a file. The others are known by now: those of this sweep, and of the study's earlier runs.
    """
    for folder in dict.fromkeys(plan.folder.parent for plan in plans):
        here = [plan for plan in plans if plan.folder.parent == folder]
        earlier = (study_file.read_study(folder) or {}).get("arms") or []
        claims.check_arms(here[0].config["study"], [*(plan.arm for plan in here), *earlier], named)


def breadth_first(plans: list[Plan]) -> list[Plan]:
    """Order every arm at the first seed before any at the second."""
    seeds = list(dict.fromkeys(plan.seed for plan in plans))
    return sorted(plans, key=lambda plan: seeds.index(plan.seed))


def with_upstream(plans: list[Plan]) -> list[Plan]:
    """Return the runs that others need, each once, before all others."""
    first = {str(needed.folder): needed for plan in plans for needed in plan.chain()[:-1]}
    return [*first.values(), *plans]


def write_studies(plans: list[Plan], command: str) -> None:
    """Write study.json: a named arm's runs with another config are superseded; its other seeds and other arms stay.

    Arms that nobody named, those of `-m model.norm=none,batch`, supersede nothing: they are told apart by config.
    """
    for folder in dict.fromkeys(plan.folder.parent for plan in plans):
        with storage.lock(folder / ".lock", wait=True):
            write_study(folder, [plan for plan in plans if plan.folder.parent == folder], command)


def write_study(folder: Path, plans: list[Plan], command: str) -> None:
    """Write one study's study.json."""
    present: dict[str, set[str]] = {}
    for plan in plans:
        if "arm" in plan.choices:
            present.setdefault(plan.arm, set()).add(plan.fingerprint)
    old = study_file.read_study(folder) or {"runs": [], "arms": []}
    kept = [run for run in old["runs"] if run["fingerprint"] in present.get(run["arm"], {run["fingerprint"]})]
    if dropped := len(old["runs"]) - len(kept):
        print(f"{folder}: {dropped} earlier runs of these arms have another config, data or own code;")
        print("  reports show them as superseded")
        print("  (study.name=... keeps a new study apart)", flush=True)
    listed = {run["folder"] for run in kept}
    new = [
        {"folder": plan.folder.name, "arm": plan.arm, "seed": plan.seed, "fingerprint": plan.fingerprint}
        for plan in plans
        if plan.folder.name not in listed
    ]
    study = plans[0].config["study"]
    content = {
        "name": study["name"],
        "question": study["question"],
        "baseline": study["baseline"],
        "reported": study["reported"],
        "source": study["source"],
        "claims": study["claims"],
        "command": command,
        "arms": list(dict.fromkeys([*old.get("arms", []), *(plan.arm for plan in plans)])),
        "runs": kept + new,
    }
    if {**old, "written": None} != {**content, "written": None}:
        study_file.write_study(folder, {**content, "written": record.now()})


def show_plan(plans: list[Plan], times: Times, slots: int) -> None:
    """Print every run, which are done, and an estimate of the time that is left."""
    from cnnexp.records.provenance import digest

    statuses = {}
    for plan in plans:
        info = plan.record()
        statuses[str(plan.folder)] = status = info.status if info.info else "to do"
        if status == "done" and info.info.get("code", {}).get("digest") != digest():
            statuses[str(plan.folder)] = "done (stale: the code has changed since)"
    print(plan_table(plans, statuses, times))
    left = [plan for plan in plans if not statuses[str(plan.folder)].startswith(("done", "diverged"))]
    total = times.total(left, slots)
    time = f"about {duration(total)}" if total is not None else "an unknown time, until a first run is done"
    done = f"{plural(len(plans), 'run')}, {len(plans) - len(left)} done"
    print(f"{done}, {len(left)} to do: {time} on {slots} slot(s)")


def returns(plans: list[Plan], job_overrides: Sequence[Sequence[str]]) -> list[JobReturn]:
    """Return to Hydra's sweeper the validation accuracy of every run, for a search; never that of the test split."""
    by_overrides = {json.dumps(plan.overrides): plan for plan in plans}
    results = []
    for overrides in job_overrides:
        info = by_overrides[json.dumps(list(overrides))].record().info
        result = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
        result.return_value = (info.get("result") or {}).get("val_accuracy")
        results.append(result)
    return results


def describe(slots: Any) -> str:
    """Return "2 slots (cpu, 1 thread each)"."""
    kinds = ", ".join(dict.fromkeys(slot.device for slot in slots))
    return f"{len(slots)} slot(s) ({kinds}; {slots[0].threads} thread(s) each)"
