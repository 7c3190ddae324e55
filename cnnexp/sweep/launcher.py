"""A sweep: compose, check and plan all runs first, then make those that are not done yet."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cnnexp.config import checks
from cnnexp.config.arms import read_arms
from cnnexp.config.flags import Request
from cnnexp.config.set_by_data import print_set_by_data
from cnnexp.errors import EXIT_DONE, EXIT_SOME_FAILED
from cnnexp.process.limits import check_open_files
from cnnexp.records.identical import sentences
from cnnexp.records.provenance import command, digest
from cnnexp.search.trials import searches_of
from cnnexp.storage.presence import at_work
from cnnexp.storage.space import check_writable
from cnnexp.sweep.board import plan_table
from cnnexp.sweep.engine import Engine
from cnnexp.sweep.local import LocalEngine
from cnnexp.sweep.plan_file import write_plans
from cnnexp.sweep.planning import (
    at_a_time,
    check,
    check_request,
    cluster_of,
    compose_all,
    elsewhere,
    machine,
    plan_all,
    with_upstream,
)
from cnnexp.sweep.scheduler import Scheduler
from cnnexp.sweep.server import import_ahead
from cnnexp.sweep.slots import Slot
from cnnexp.sweep.study import arms_of_grid, by_folder, write_studies
from cnnexp.sweep.times import Times
from cnnexp.text import duration, in_shell, plural
from cnnexp.trackers.follow import check_setting, follow_study
from cnnexp.training import dry_run
from cnnexp.training.plan import Plan, print_folders, unfinished


def launch(words: list[str], request: Request) -> int:
    """Make every run of a sweep that is not done, or print them; returns the exit code.

    words: the prepared overrides. Raises UserError for the first thing that is wrong, before anything is made.
    """
    study, runs, composed = compose_all(words, request.max_seeds)
    jobs = [(config, overrides) for (config, _), overrides in zip(composed, runs, strict=True)]
    check(checks.check, jobs)
    check(lambda config: check_setting(config["tracker"]), jobs)
    cluster = cluster_of(composed)
    check_request(request, cluster, composed)
    here = cluster["engine"] == "local"
    if here and not request.plan:
        check_open_files()
        import_ahead()
    check(dry_run.before_data, jobs)
    slots, target = machine(composed) if here else ([], elsewhere(composed, cluster))
    if not request.plan:
        check_open_files(len(slots))
    plans = plan_all(composed, runs, read_arms(study), target, arms_of_grid(study))
    print_set_by_data(composed)
    print_folders(plans)
    return (show if request.plan else start)(plans, slots, cluster, request)


def show(plans: list[Plan], slots: list[Slot], cluster: dict[str, Any], request: Request) -> int:
    """Print what planned runs would be, and make none; returns the exit code."""
    if request.max_seeds:
        from cnnexp.sweep.until import show_rounds  # its report takes a second to import

        show_rounds(plans, with_upstream, len(slots))
    else:
        show_plan(with_upstream(plans), at_a_time(slots, cluster))
    if cluster["engine"] == "slurm":
        print(f"\nwhat sbatch would get:\n{batch_script(plans, cluster, request)}", end="")
    return EXIT_DONE


def start(plans: list[Plan], slots: list[Slot], cluster: dict[str, Any], request: Request) -> int:
    """Make planned runs where their cluster says, or leave them to workers; returns the exit code."""
    if cluster["engine"] == "by_hand":
        return hand_over(plans)
    for folder in by_folder(plans):
        follow_study(plans[0].config["tracker"], folder)
    if cluster["engine"] == "slurm":
        return submit(plans, cluster, request)
    if request.max_seeds:
        return decide(plans, slots, request)
    return make(plans, LocalEngine(slots) if slots else on_ray(plans, cluster), request.budget, request.fail_fast)


@contextmanager
def present(plans: list[Plan]) -> Iterator[None]:
    """Show other processes, while the block runs, that this one works in the folders of planned runs."""
    with ExitStack() as folders:
        for folder in by_folder(plans):
            folders.enter_context(at_work(folder))
        yield


def decide(plans: list[Plan], slots: list[Slot], request: Request) -> int:
    """Make the runs of --until-decided; returns the exit code."""
    from cnnexp.sweep.until import Sweep, until_decided

    seeds = list(dict.fromkeys(plan.seed for plan in plans))

    def finish_round(here: list[Plan], budget: int | None) -> int:
        return finish(with_upstream(here), LocalEngine(slots), budget, request.fail_fast, last=False)

    sweep = Sweep(lambda here: write(here, seeds), finish_round)
    with present(plans):
        return until_decided(plans, sweep, request.budget, request.fail_fast)


def make(plans: list[Plan], engine: Engine, budget: int | None = None, fail_fast: bool = False) -> int:
    """Make planned runs, and the runs that they need first, where they are not done; returns the exit code.

    budget: in seconds. Writes study.json and plan.json. Raises UserError if the budget lets no run start.
    """
    with present(plans):
        write(plans)
        return finish(with_upstream(plans), engine, budget, fail_fast)


def batch_script(plans: list[Plan], cluster: dict[str, Any], request: Request) -> str:
    """Return the script for SLURM whose workers make planned runs."""
    from cnnexp.sweep.slurm import script

    return script(plans, at_most(plans, cluster), ["--fail-fast"] * request.fail_fast)


def at_most(plans: list[Plan], cluster: dict[str, Any]) -> dict[str, Any]:
    """Return the `cluster` node with no more workers than runs are left: others would hold their GPUs for nothing."""
    workers = min(cluster["workers"], max(len(unfinished(with_upstream(plans))), 1))
    return {**cluster, "workers": workers}


def submit(plans: list[Plan], cluster: dict[str, Any], request: Request) -> int:
    """Submit workers that make planned runs to SLURM, and follow them; returns the exit code.

    Writes study.json and plan.json.
    """
    from cnnexp.sweep.slurm import SlurmEngine

    text, workers = batch_script(plans, cluster, request), at_most(plans, cluster)["workers"]
    engine = SlurmEngine(text, workers, with_upstream(plans))
    with present(plans):
        write(plans)
        if not unfinished(plans):
            return finish(with_upstream(plans), engine)
        engine.submit(plans[0].folder.parent)
        if request.no_wait and (tracker := plans[0].config["tracker"]) != "none":
            again = in_shell(["cnnexp", "track", str(plans[0].folder.parent), "--to", tracker, "--follow"])
            print(f"{tracker} gets no runs that start more than a minute from now; when they run, type: {again}")
        if request.no_wait:
            return EXIT_DONE
        return finish(with_upstream(plans), engine, fail_fast=request.fail_fast)


def on_ray(plans: list[Plan], cluster: dict[str, Any]) -> Engine:
    """Return the engine that makes planned runs on a Ray cluster."""
    from cnnexp.sweep.ray import isolated_engine

    return isolated_engine(cluster, plans, len(unfinished(with_upstream(plans))))


def hand_over(plans: list[Plan]) -> int:
    """Leave planned runs to `cnnexp work`; returns the exit code. Writes study.json and plan.json."""
    write(plans)
    print(f"{plural(len(plans), 'run')} planned, {len(plans) - len(unfinished(plans))} done before")
    for folder in by_folder(plans):
        print(f"make them, on each machine that sees this folder: cnnexp work {shlex.quote(str(folder.resolve()))}")
    return EXIT_DONE


def write(plans: list[Plan], every_seed: Sequence[int] = ()) -> None:
    """Write study.json and plan.json of planned runs. Raises UserError if their folders cannot be written.

    every_seed: as `write_studies`.
    """
    for folder in by_folder(with_upstream(plans)):
        check_writable(folder)
    write_studies(plans, command(), every_seed)
    write_plans(plans)


def finish(
    plans: list[Plan], engine: Engine, budget: int | None = None, fail_fast: bool = False,
    before: Mapping[Path, str | None] | None = None, last: bool = True,
) -> int:  # fmt: skip
    """Make planned runs that are not done, and if they are the last, say what to do next; returns the exit code.

    Other arguments: `Scheduler`.
    """
    folders = by_folder(plans)
    times = Times([*folders, *searches_of(folders)])
    scheduler = Scheduler(plans, engine, times, budget, fail_fast, before)
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
    ended = [plan for plan in asked if plan.is_final()]
    for folder in by_folder(ended) if last else ():
        shown = folder if before is None else folder.resolve()  # a worker may have gone elsewhere
        words = ["cnnexp", "report", str(shown), *first_as_baseline(asked)]
        print(f"compare them: {in_shell(words)}", flush=True)
    diverged = any(run.status == "diverged" for _, run in records)
    return EXIT_SOME_FAILED if code == EXIT_DONE and diverged else code


def first_as_baseline(plans: Sequence[Plan]) -> list[str]:
    """Return the words that make a sweep's first arm the baseline of its report, if no baseline is given."""
    arms = list(dict.fromkeys(plan.arm for plan in plans))
    missing = len(arms) > 1 and all(plan.config["study"]["baseline"] is None for plan in plans)
    return ["--baseline", arms[0]] if missing else []


def show_plan(plans: list[Plan], slots: int) -> None:
    """Print every run, which are done, and an estimate of the time that is left."""
    folders = by_folder(plans)
    statuses, times = {}, Times([*folders, *searches_of(folders)])
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
