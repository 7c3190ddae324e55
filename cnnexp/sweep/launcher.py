"""A sweep: compose, check and plan all runs first, then make those that are not done yet."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.types import RunMode
from omegaconf import OmegaConf

from cnnexp.config import checks
from cnnexp.config import compose as configs
from cnnexp.config.arms import Arm, arm_changes, read_arms
from cnnexp.config.flags import Request
from cnnexp.config.keys import flatten
from cnnexp.config.words import key_of
from cnnexp.errors import EXIT_DONE, EXIT_SOME_FAILED, UserError
from cnnexp.process.limits import check_open_files
from cnnexp.records.identical import sentences
from cnnexp.records.provenance import command, digest
from cnnexp.storage.space import check_writable
from cnnexp.sweep.board import plan_table
from cnnexp.sweep.compose import Composer
from cnnexp.sweep.engine import Engine
from cnnexp.sweep.expand import expand
from cnnexp.sweep.local import LocalEngine
from cnnexp.sweep.plan_file import write_plans
from cnnexp.sweep.scheduler import Scheduler
from cnnexp.sweep.server import import_ahead
from cnnexp.sweep.slots import Slot, resolve
from cnnexp.sweep.study import by_folder, check_arms, write_studies
from cnnexp.sweep.times import Times
from cnnexp.text import duration, plural
from cnnexp.training import plan as planning
from cnnexp.training import trial
from cnnexp.training.plan import Plan

Composed = tuple[dict[str, Any], Any]  # a run's resolved config, and its `hydra` node


def launch(words: list[str], request: Request) -> int:
    """Make every run of a sweep that is not done, or print them; returns the exit code.

    words: the prepared overrides. Raises UserError for the first thing that is wrong, before anything is made.
    """
    places = [word for word in words if word.startswith("hydra.")]
    with configs.loader() as hydra:
        whole = configs.load(hydra, words, RunMode.MULTIRUN)
        study = OmegaConf.to_container(whole).get("study")  # type: ignore[union-attr]
        runs = expand([word for word in words if word not in places], study, hydra)
        compose = Composer(hydra, places)
        composed = [compose(overrides) for overrides in runs]
    jobs = [(config, overrides) for (config, _), overrides in zip(composed, runs, strict=True)]
    check(checks.check, jobs)
    if not request.plan:
        check_open_files()
        import_ahead()
    check(trial.before_data, jobs)
    slots = resolve(shared(composed, "slots"), shared(composed, "device.kind"))
    if not request.plan:
        check_open_files(len(slots))
    plans = plan_all(composed, runs, read_arms(study), slots[0])
    configs.print_set_by_data(composed)
    if request.plan:
        show_plan(with_upstream(plans), len(slots))
        return EXIT_DONE
    return make(plans, LocalEngine(slots), request.budget, request.fail_fast)


def plan_all(composed: list[Composed], runs: list[list[str]], arms: dict[str, Arm], slot: Slot) -> list[Plan]:
    """Plan the runs, all arms at the first seed before any at the second. Raises UserError for equal runs."""
    swept, plans = varying(runs), []
    for (config, node), overrides in zip(composed, runs, strict=True):
        config["device"]["kind"] = slot.device
        choices = dict(node.runtime.choices)
        changes = arm_changes(arms, choices.get("arm"), overrides, swept)
        plans.append(planning.plan(config, overrides, changes, command(), choices, slot.threads))
    check_different(plans)
    check_arms(plans, list(arms))
    seeds = list(dict.fromkeys(plan.seed for plan in plans))
    return sorted(plans, key=lambda plan: seeds.index(plan.seed))


def make(plans: list[Plan], engine: Engine, budget: int | None = None, fail_fast: bool = False) -> int:
    """Make planned runs, and the runs that they need first, where they are not done; returns the exit code.

    budget: in seconds. Writes study.json and plan.json. Raises UserError if the budget lets no run start.
    """
    everything = with_upstream(plans)
    for folder in by_folder(everything):
        check_writable(folder)
    write_studies(plans, command())
    write_plans(plans)
    return finish(everything, engine, budget, fail_fast)


def finish(
    plans: list[Plan], engine: Engine, budget: int | None = None, fail_fast: bool = False,
    before: Mapping[Path, str | None] | None = None,
) -> int:  # fmt: skip
    """Make planned runs that are not done, and say what to do next; returns the exit code. Arguments: `Scheduler`."""
    folders = by_folder(plans)
    scheduler = Scheduler(plans, engine, Times(folders), budget, fail_fast, before)
    left = len(scheduler.queue)
    print(f"{plural(len(plans), 'run')}, {len(plans) - left} done before, on {engine.describe()}", flush=True)
    if unprobed := sum(plan.lacks_probes() for plan in plans):
        print(f"{unprobed} done without probes; to get them, use another study.name=...", flush=True)
    code = scheduler.run() if left else EXIT_DONE
    records = [(plan.arm, plan.record()) for plan in plans]
    for sentence in sentences(records):
        print(f"suspicious: {sentence}", flush=True)
    needed = {link.folder for plan in plans for link in plan.chain()[:-1]}
    asked = [plan for plan in plans if plan.folder not in needed]
    for folder in by_folder(asked):
        words = ["cnnexp", "report", str(folder), *first_as_baseline(asked)]
        print(f"compare them: {shlex.join(words)}", flush=True)
    diverged = any(run.status == "diverged" for _, run in records)
    return EXIT_SOME_FAILED if code == EXIT_DONE and diverged else code


def check(each: Callable[[dict[str, Any]], None], jobs: Sequence[tuple[dict[str, Any], Sequence[str]]]) -> None:
    """Check the runs' configs, given with their overrides. Raises UserError, which names the run's arm."""
    for config, overrides in jobs:
        try:
            each(config)
        except UserError as error:
            arm = [f" (in {word})" for word in overrides if key_of(word) == "+arm"]
            raise UserError(f"{error}{''.join(arm)}") from error


def shared(composed: Sequence[Composed], key: str) -> Any:
    """Return a setting that all runs of a sweep must have in common. Raises UserError, naming it, if they have not."""
    values = [flatten(config)[key] for config, _ in composed]
    for value in values:
        if value != values[0]:
            raise UserError(f"{key}: given {values[0]} and {value} in one sweep; start a sweep for each")
    return values[0]


def varying(runs: Sequence[Sequence[str]]) -> set[str]:
    """Return the keys whose overrides are not the same in every run."""
    same = set.intersection(*(set(overrides) for overrides in runs))
    return {key_of(word) for overrides in runs for word in overrides if word not in same}


def check_different(plans: list[Plan]) -> None:
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


def with_upstream(plans: list[Plan]) -> list[Plan]:
    """Return the runs that others need, each once, before all others."""
    first = {str(needed.folder): needed for plan in plans for needed in plan.chain()[:-1]}
    return [*first.values(), *plans]


def first_as_baseline(plans: Sequence[Plan]) -> list[str]:
    """Return the words that make a sweep's first arm the baseline of its report, if no baseline is given."""
    arms = list(dict.fromkeys(plan.arm for plan in plans))
    missing = len(arms) > 1 and all(plan.config["study"]["baseline"] is None for plan in plans)
    return ["--baseline", arms[0]] if missing else []


def show_plan(plans: list[Plan], slots: int) -> None:
    """Print every run, which are done, and an estimate of the time that is left."""
    statuses, times = {}, Times(by_folder(plans))
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
