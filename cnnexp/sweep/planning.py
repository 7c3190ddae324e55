"""The runs of a sweep before the first starts: their machine, their plans, and what is wrong with them."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnexp.config import compose as configs
from cnnexp.config.arms import Arm, arm_changes
from cnnexp.config.composer import Composer
from cnnexp.config.flags import Request
from cnnexp.config.keys import flatten
from cnnexp.config.schema import Cluster
from cnnexp.config.words import as_typed, key_of
from cnnexp.data import tree
from cnnexp.errors import UserError
from cnnexp.records.names import check_study_name, study_folder
from cnnexp.records.provenance import TYPED, command
from cnnexp.sweep.expand import axes, expand
from cnnexp.sweep.slots import Slot, resolve
from cnnexp.sweep.study import check_arms
from cnnexp.training.plan import Plan
from cnnexp.training.plan import plan as plan_run

if TYPE_CHECKING:
    from cnnexp.training.device import Target

Composed = tuple[dict[str, Any], Any]  # a run's resolved config, and its `hydra` node


def compose_all(words: list[str], max_seeds: int = 0) -> tuple[Any, list[list[str]], list[Composed]]:
    """Return the `study` node of a sweep, the overrides of its runs, and the runs composed.

    max_seeds: of --until-decided, which chooses the seeds; 0 without.
    """
    places = [word for word in words if word.startswith("hydra.")]
    swept = [word for word in words if word not in places]
    with configs.loader() as hydra:
        whole = configs.load(hydra, words, RunMode.MULTIRUN)
        study = OmegaConf.to_container(whole).get("study")  # type: ignore[union-attr]
        if max_seeds:
            from cnnexp.sweep.until import seed_word  # its report takes a second to import

            axes(study)  # or it says what is wrong
            swept.append(seed_word(swept, whole, max_seeds))
        runs = expand(swept, study, hydra)
        compose = Composer(hydra, places)
        try:
            return study, runs, [compose(overrides) for overrides in runs]
        except HydraException as error:
            raise of_some_arms(error, compose, runs) from error


def of_some_arms(error: HydraException, compose: Composer, runs: list[list[str]]) -> Exception:
    """Return the error for a key that only some arms of a study have, or the given one if it is another."""
    no_key, points = r"Could not override '([^']+)'", dict[str, list[str]]()  # a point of the sweep for each arm
    key = re.search(no_key, str(error))
    for overrides in runs if key else ():
        arm = next((word.partition("=")[2] for word in overrides if key_of(word) == "+arm"), "")
        point = [word for word in overrides if key_of(word) != "seed"]
        if not arm or points.setdefault(arm, point) != point:
            return error
    having, lacking = list[str](), list[str]()
    for arm, point in points.items():
        try:
            compose(point)
            having.append(arm)
        except (HydraException, OmegaConfBaseException, UserError) as other:
            found = re.search(no_key, str(other))
            (lacking if found and key and found[1] == key[1] else having).append(arm)
    if not key or not having:
        return error
    return UserError(f"{key[1]}: no such key in arms {', '.join(lacking)}; leave them out: +arm={','.join(having)}")


def machine(composed: Sequence[Composed]) -> tuple[list[Slot], "Target"]:
    """Return the slots of this machine, and what it is. Raises UserError for a device that is missing or limited."""
    from cnnexp.training.cpu import check_openmp
    from cnnexp.training.device import probe

    processes = shared(composed, "device.processes")
    slots = resolve(shared(composed, "slots"), shared(composed, "device.kind"), processes)
    threads = {config["device"]["threads"] for config, _ in composed}
    if len(threads) == 1 and threads != {"auto"}:
        slots = [replace(slot, threads=next(iter(threads))) for slot in slots]
    check_openmp(slots[0].threads)
    return slots, probe(slots[0].device, slots[0].threads)


def cluster_of(composed: Sequence[Composed]) -> dict[str, Any]:
    """Return the `cluster` node of a sweep, with all keys. Raises UserError if its runs have different ones."""
    keys = [key.removeprefix("cluster.") for key in flatten(composed[0][0]) if key.startswith("cluster.")]
    return vars(Cluster(**{key: shared(composed, f"cluster.{key}") for key in keys}))


def check_request(request: Request, cluster: dict[str, Any], composed: Sequence[Composed]) -> None:
    """Raise UserError for flags, and for a cluster, that a sweep or a search cannot have."""
    engine, searches = cluster["engine"], request.search is not None
    for name in {config["study"]["name"] for config, _ in composed}:
        check_study_name(name)
    if request.max_seeds and searches:
        raise UserError(
            "--until-decided: adds seeds to the arms of a study; a search has trials; leave one of them out"
        )
    if request.max_seeds and engine != "local":
        raise UserError(
            f"--until-decided: works with cluster=local only, because it looks after each seed; given cluster={engine}"
        )
    if request.no_wait and searches:
        raise UserError("--no-wait: needs cluster=slurm, which makes no search; leave it out")
    if request.no_wait and engine != "slurm":
        raise UserError(f"--no-wait: needs cluster=slurm; given cluster={engine}; leave it out")
    if searches and engine not in ("local", "ray"):
        fix = "use cluster=local or cluster=ray (start Ray inside a job of SLURM)"
        raise UserError(f"cluster: given {engine} with +search, whose trials are proposed while others run; {fix}")
    if engine == "slurm" and request.budget is not None:
        fix = "leave it out: cluster.time=2h limits a job, and scancel ends all"
        raise UserError(f"--budget: given with cluster=slurm, whose workers are queued again until all is done; {fix}")
    for flag, given in (("--budget", request.budget is not None), ("--fail-fast", request.fail_fast)):
        if engine == "by_hand" and given:
            raise UserError(f"{flag}: given with cluster=by_hand, which only plans; type it for `cnnexp work`")
    if engine == "slurm":
        from cnnexp.sweep.slurm import resources

        resources(cluster)  # or it says what is wrong
    studies = {str(study_folder(Path(config["outputs"]), config["study"]["name"])) for config, _ in composed}
    if engine == "slurm" and len(studies) > 1:
        raise UserError(
            f"study.name: given several with cluster=slurm ({', '.join(sorted(studies)[:2])}); start a sweep for each"
        )


def elsewhere(composed: Sequence[Composed], cluster: dict[str, Any]) -> "Target":
    """Return the machine that the config states. Raises UserError for what it leaves open."""
    from cnnexp.training.device import stated

    if shared(composed, "slots") != "auto":
        raise UserError("slots: are those of this machine; type them for `cnnexp work DIR slots=...` where it runs")
    device = {key: shared(composed, f"device.{key}") for key in ("kind", "precision", "threads")}
    if cluster["engine"] in ("slurm", "ray"):
        device["kind"] = ("cuda" if cluster["gpus"] else "cpu") if device["kind"] == "auto" else device["kind"]
        device["threads"] = cluster["cpus"] if device["threads"] == "auto" else device["threads"]
        if device["kind"].startswith("cuda") and not cluster["gpus"]:
            raise UserError(f"cluster.gpus: given 0 with device.kind={device['kind']}; a run would see no GPU")
    if cluster["engine"] == "ray":
        from cnnexp.sweep.ray import needs_of

        needs_of(cluster)
    if cluster["engine"] == "slurm":
        from cnnexp.sweep.slurm import precision_there

        if device["precision"] == "auto" and device["kind"].startswith("cuda"):
            device["precision"] = precision_there(cluster)
    return stated(device, f"cluster={cluster['engine']}")


def at_a_time(slots: Sequence[Slot], cluster: dict[str, Any]) -> int:
    """Return how many runs are made at a time, as far as that is known. slots: of this machine, none elsewhere."""
    return len(slots) or (1 if cluster["workers"] == "auto" else int(cluster["workers"]))


@contextmanager
def warned_once() -> Iterator[None]:
    """Let this block warn of the same thing in its data once: arms that split a tree otherwise read it again."""
    said, logger = set[str](), logging.getLogger(tree.__name__)

    def is_new(record: logging.LogRecord) -> bool:
        known = record.getMessage() in said
        said.add(record.getMessage())
        return not known

    logger.addFilter(is_new)
    try:
        yield
    finally:
        logger.removeFilter(is_new)


def plan_all(
    composed: list[Composed],
    runs: list[list[str]],
    arms: dict[str, Arm],
    target: "Target",
    gridded: Sequence[str] = (),
) -> list[Plan]:
    """Plan the runs, all arms at the first seed before any at the second. Raises UserError for equal runs.

    arms: of the study. gridded: the points of its grid.
    """
    runs = [as_typed(overrides) for overrides in runs]
    swept, plans = varying(runs), []
    with warned_once():
        for (config, node), overrides in zip(composed, runs, strict=True):
            config["device"]["kind"] = target.kind
            choices = dict(node.runtime.choices)
            changes = arm_changes(arms, choices.get("arm"), overrides, swept)
            plans.append(plan_run(config, overrides, changes, command(), choices, target))
    check_different(plans)
    check_arms(plans, list(arms), gridded)
    seeds = list(dict.fromkeys(plan.seed for plan in plans))
    return sorted(plans, key=lambda plan: seeds.index(plan.seed))


def with_upstream(plans: list[Plan]) -> list[Plan]:
    """Return the runs that others need, each once, before all others."""
    first = {str(needed.folder): needed for plan in plans for needed in plan.chain()[:-1]}
    return [*first.values(), *plans]


def check(each: Callable[[dict[str, Any]], None], jobs: Sequence[tuple[dict[str, Any], Sequence[str]]]) -> None:
    """Check the runs' configs, given with their overrides. Raises UserError, which names the arm or file at fault."""
    for config, overrides in jobs:
        try:
            each(config)
        except UserError as error:
            raise UserError(f"{error}{at_fault(each, str(error), overrides)}") from error


def at_fault(each: Callable[[dict[str, Any]], None], message: str, overrides: Sequence[str]) -> str:
    """Return " (in study/mine.yaml)" or " (in +arm=two)", whichever causes an error; "" for another word.

    each: raises it. message: its text. overrides: of the run. The config is composed again without the others.
    """
    study = next((word for word in overrides if key_of(word) == "+study"), "")
    arm = next((word for word in overrides if key_of(word) == "+arm"), "")
    if not study or message.startswith("study."):
        return ""

    def is_same(words: Sequence[str]) -> bool:
        try:
            each(configs.resolve(configs.compose([*configs.search_path(TYPED), *words])))
        except Exception as error:  # of the user's code too
            return str(error).partition(";")[0] == message.partition(";")[0]
        return False

    if is_same([study]):
        return f" (in study/{study.partition('=')[2]}.yaml)"
    return f" (in {arm})" if arm and not is_same([word for word in overrides if word != arm]) else ""


def shared(composed: Sequence[Composed], key: str) -> Any:
    """Return a setting that all runs of a sweep must have in common. Raises UserError, naming it, if they have not."""
    values = [reduce(getitem, key.split("."), config) for config, _ in composed]
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
