"""`cnnexp work`: make the planned runs of a study here, beside other workers that see the same folder."""

from pathlib import Path
from typing import TYPE_CHECKING

from cnnexp.commands import arguments
from cnnexp.commands.arguments import PLACES, PLACES_TYPED
from cnnexp.config.flags import seconds
from cnnexp.errors import EXIT_DONE, UserError
from cnnexp.text import at_home

if TYPE_CHECKING:
    from cnnexp.sweep.slots import Slot
    from cnnexp.training.plan import Plan

EXAMPLES = """\
examples:
  cnnexp train +study=ablation cluster=by_hand device.kind=cuda device.precision=bf16    plan the runs
  cnnexp work outputs/ablation                         on each machine that sees the folder
  cnnexp work outputs/ablation slots=cuda:0*4          four runs at a time on one device
  cnnexp work --probe                                  what to type when planning for this machine

A worker waits for runs that others are making. It continues runs whose worker has ended before they were done.
A run that has failed since it was planned is not repeated; type the planning command again for that.
Exit codes as of `cnnexp train`.
"""


def main(argv: list[str]) -> int:
    """Make planned runs; returns the exit code. Raises UserError if none can be made on this machine."""
    parser = arguments.parser("work", "Make the planned runs of a study, beside other workers.", EXAMPLES)
    parser.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="the folder of a study: outputs/STUDY")
    parser.add_argument("words", nargs="*", default=[], metavar="KEY=VALUE", help=f"slots=..., {PLACES_TYPED}")
    parser.add_argument("--budget", metavar="TIME", help="start no run that would not end in time (30m, 1.5h, 90s)")
    parser.add_argument("--fail-fast", action="store_true", help="start nothing more after the first failure")
    parser.add_argument("--probe", action="store_true", help="print this machine's device, as typed when planning")
    arguments.add_allow(parser)
    given = parser.parse_intermixed_args(argv)
    if given.probe:
        print(probed())
        return EXIT_DONE
    if given.folder is None:
        raise UserError("DIR: name the folder of a study, such as outputs/ablation")
    budget = None if given.budget is None else seconds(given.budget)
    places = dict(read_word(word) for word in given.words)

    from cnnexp.process.limits import check_open_files
    from cnnexp.storage.presence import at_work
    from cnnexp.sweep.launcher import finish
    from cnnexp.sweep.local import LocalEngine
    from cnnexp.sweep.plan_file import read, read_plans
    from cnnexp.sweep.planning import with_upstream
    from cnnexp.trackers.follow import follow_study

    read(given.folder)  # before anything is written there
    folder = given.folder.resolve()  # reading the plan may change the working directory
    with at_work(folder):
        planned, before = read_plans(given.folder)
        plans = with_upstream(planned)
        for plan in plans:
            check_plan(plan, given.allow, places)
        slots = slots_for(plans, places.get("slots", "auto"))
        check_open_files(len(slots))
        engine = LocalEngine(slots)
        if planned[0].config["cluster"]["engine"] != "slurm":  # there the command that submits this follows all workers
            follow_study(planned[0].config["tracker"], folder)
        return finish(plans, engine, budget, given.fail_fast, before)


def probed() -> str:
    """Return the words that plan for this machine: "device.kind=cuda device.precision=bf16"."""
    from cnnexp.training.device import probe

    here = probe("auto")
    kind = here.kind.partition(":")[0]
    threads = f" device.threads={here.threads}" if kind == "cpu" else ""
    return f"device.kind={kind} device.precision={here.precision}{threads}"


def read_word(word: str) -> tuple[str, str]:
    """Return the key and value of a word; a path is absolute, because the working directory may change.

    Raises UserError for another key than slots and PLACES.
    """
    key, _, value = word.partition("=")
    if key not in ("slots", *PLACES) or not value:
        raise UserError(f"{word}: allowed: slots=, {PLACES_TYPED}; all else is planned")
    return key, value if key == "slots" else str(Path(at_home(value)).absolute())


def check_plan(plan: "Plan", allow: list[str], places: dict[str, str]) -> None:
    """Check a plan as what it is, a file that may come from anyone; its data may lie elsewhere here.

    places: {"data.root": DIR}, as typed. Raises UserError for what it may not build, and for data that is missing here.
    """
    from cnnexp.commands.rerun import check_nodes
    from cnnexp.config import checks
    from cnnexp.training.allowed import confined_data

    check_nodes(plan.config, allow)
    plan.config["data"] |= {key.removeprefix("data."): value for key, value in places.items() if key in PLACES}
    plan.config["data"] = confined_data(plan.config["data"], places, allow)
    checks.check(plan.config)


def slots_for(plans: list["Plan"], given: str) -> list["Slot"]:
    """Return the slots of this machine for planned runs. given: `slots=`.

    Raises UserError if the machine has not the device that they were planned for.
    """
    from cnnexp.process.limits import cores
    from cnnexp.sweep.slots import Slot, resolve
    from cnnexp.training import device

    kinds = sorted({str(plan.facts["device"]) for plan in plans})
    if len(kinds) > 1:
        raise UserError(f"the runs were planned for {' and '.join(kinds)}; plan those of each in a study of its own")
    threads = max(plan.config["device"]["threads"] for plan in plans) if kinds == ["cpu"] else 1
    processes = max(plan.config["device"].get("processes", 1) for plan in plans)
    if given == "auto" and kinds == ["cpu"]:
        slots = [Slot("cpu", threads, processes)] * max(cores() // threads, 1)
    else:
        listed = given.strip("[]").replace(" ", "").split(",") if given.startswith("[") else given
        found = resolve(listed, kinds[0], processes)
        slots = [Slot(s.device, threads if kinds == ["cpu"] else s.threads, processes) for s in found]
    for plan in plans:
        plan.check_device(device.resolve({**plan.config["device"], "kind": slots[0].device}))
    return slots
