"""READ FIRST. `cnnexp train`: compose -> check -> plan -> run (build, fit, evaluate, record), or a sweep of such runs.

Hydra composes the config. A sweep goes on in `cnnexp/sweep/launcher.py`, one run in `cnnexp/training/run.py`.
Works as a script too: python cnnexp/train.py model=custom aug=full
"""

import atexit
import copy
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":  # as a script, this folder must not hide other modules by its file names
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from cnnexp.config.flags import Request, help_text, read
from cnnexp.config.words import as_typed
from cnnexp.errors import EXIT_DONE, EXIT_PREEMPTED, EXIT_SOME_FAILED, BudgetTooShort, Diverged, ProcessLost, UserError
from cnnexp.records import provenance
from cnnexp.storage import StorageError
from cnnexp.text import percent, visible
from cnnexp.training import launched, processes

if TYPE_CHECKING:
    from cnnexp.config.composer import ComposedRun
    from cnnexp.records.run_record import RunRecord
    from cnnexp.training.plan import Plan
    from cnnexp.training.progress import Progress


def main(argv: list[str]) -> int:
    """Compose and run what `argv` (flags and overrides) asks for; returns the exit code."""
    if "-h" in argv or "--help" in argv:
        print(help_text(argv), end="")
        return EXIT_DONE
    request, words = requested(argv)
    place = launched.place_of()
    if place and (request.prints or request.sweep):
        raise UserError(f"{place.program}: shares one run among {place.count} processes; type this command without it")
    if request.prints:
        from cnnexp.config.compose import ask_hydra

        return ask_hydra([*request.prints, *words])
    if request.search:
        return search(words, request)
    if request.sweep:
        from cnnexp.config.composer import compose_run
        from cnnexp.sweep.launcher import launch, show_plan

        if request.one:
            show_plan(planned(compose_run(words)).chain(), 1)
            return EXIT_DONE
        return launch(words, request)
    if place and place.rank:
        from cnnexp.training.follow import follow

        return follow(place)
    return processes.lead(place, lambda: run_one(words)) if place else run_one(words)


def search(words: list[str], request: Request) -> int:
    """Make the trials of a search, and retrain its winner where that is asked for; returns the exit code."""
    from cnnexp.sweep.search import CONTINUES, launch

    made = launch(words, request)
    if not made.retrain:
        return made.code
    try:
        return max(made.code, main([*made.retrain]))
    except BudgetTooShort as error:
        if not made.has_made:
            raise
        print(f"{error}; {CONTINUES}")
        return max(made.code, EXIT_PREEMPTED)


def requested(argv: list[str]) -> tuple[Request, list[str]]:
    """Read the words of a command; return what it asks for, and its overrides as Hydra reads them.

    Raises UserError for a wrong flag or word.
    """
    provenance.TYPED[:] = argv
    request = read(argv)

    from cnnexp.config import compose as configs

    configs.check_search_path(argv)
    return request, configs.prepare([*configs.search_path(argv), *request.overrides])


def run_one(words: list[str]) -> int:
    """Compose one run, and make it; returns the exit code."""
    from cnnexp.config.composer import compose_run

    return single(compose_run(words))


def single(composed: "ComposedRun") -> int:
    """Plan and make the run of a composed config, after the runs that it needs; returns the exit code."""
    from cnnexp.trackers.follow import follow_study

    with without_collection():
        made = planned(composed)
        import cnnexp.training.run  # noqa: F401
    follow_study(made.config["tracker"], made.folder.parent)
    for needed in made.chain():
        if (code := make(needed)) != EXIT_DONE:
            return code
    return EXIT_DONE


@contextmanager
def without_collection() -> Iterator[None]:
    """Import and plan without Python's garbage collector, which would search all objects of torch several times.

    Measured: 0.3 s. Later collections do not search them either.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # libraries look for their objects at the end
        gc.enable()


def planned(composed: "ComposedRun") -> "Plan":
    """Check and plan the run of a composed config. Raises UserError for the first thing that is wrong."""
    from cnnexp.config import checks
    from cnnexp.config.arms import arm_changes, read_arms
    from cnnexp.config.set_by_data import print_set_by_data
    from cnnexp.records.names import check_study_name

    config = copy.deepcopy(composed.config)
    config["device"]["processes"] = launched.check_count(config["device"]["processes"])
    checks.check(config)
    if config["cluster"]["engine"] != "local":
        raise UserError(f"cluster: given '{config['cluster']['engine']}' for a single run; add -m: a sweep of one")
    if config["slots"] != "auto":
        print("cnnexp: slots: are for sweeps (-m); a single run computes on device.kind", file=sys.stderr)

    from cnnexp.trackers.follow import check_setting
    from cnnexp.training import dry_run
    from cnnexp.training.plan import plan, print_folders

    check_study_name(config["study"]["name"])
    check_setting(config["tracker"])
    launched.check_gpus(config)
    dry_run.before_data(config)
    overrides = as_typed(word for word in composed.words if not word.startswith("hydra."))
    choices = dict(composed.hydra.runtime.choices)
    changes = arm_changes(read_arms(composed.study), choices.get("arm"), overrides)
    if "arm" not in choices:
        changes = composed.without_defaults(changes)
    made = plan(config, overrides, changes, provenance.command(), choices)
    if made.continues:
        print(f"goes on from {visible(made.folder.parent / made.continues)}")
    print_set_by_data([(config, composed.hydra)])
    print_folders([made])
    return made


def make(plan: "Plan") -> int:
    """Make one run in this process, with progress bars; returns the exit code."""
    from cnnexp.records import convergence
    from cnnexp.training.progress import for_terminal

    before = plan.record().info.get("status")
    check_folder(plan)
    try:
        record = run(plan, for_terminal())
    except Diverged as error:
        return failed(plan, f"diverged: {error}; see {plan.folder / 'train.log'}")
    except (StorageError, MemoryError, ProcessLost) as error:
        return failed(plan, str(error) or "out of memory")
    if record.status == "diverged":
        print(visible(f"{plan.label}: {diverged_before(record)}"))
        return EXIT_SOME_FAILED
    result = record.info["result"]
    again = " (it was done already)" if before == "done" else ""
    tested = f"test accuracy {percent(result['test_accuracy'])}" if record.is_tested else "not tested"
    print(
        f"{tested}, validation {percent(result['val_accuracy'])}, "
        f"best epoch {result['best_epoch']} of {result['epochs']}{again}"
    )
    if problem := convergence.sentence(record):
        print(visible(f"{plan.label}: {problem}"))
    print(visible(plan.folder))
    if plan.lacks_probes():
        print("it was done without probes; to get them, make it again under another study.name=...")
    return EXIT_DONE


def check_folder(plan: "Plan") -> None:
    """Raise StorageError if there is something to write for a run, and it cannot be written."""
    from cnnexp.records.fields import FINAL
    from cnnexp.storage.space import check_writable

    if plan.record().info.get("status") not in FINAL:
        check_writable(plan.folder.parent)


def run(plan: "Plan", progress: "Progress") -> "RunRecord":
    """Make one run in this process; one that is done, or diverged before, is not touched.

    Raises what `training.run.run` raises; StorageError where the machine refuses a file; and MemoryError, which says
    what to make smaller, for every form of running out of memory.
    """
    from cnnexp.training.run import machine_error
    from cnnexp.training.run import run as run_plan

    try:
        return run_plan(plan, progress)
    except (Diverged, StorageError):
        raise
    except OSError as error:
        if (found := machine_error(error)) is error:
            raise
        raise found from error
    except (MemoryError, RuntimeError) as error:  # torch's out-of-memory errors are RuntimeErrors, as are bugs
        if (record := plan.record()).status != "oom":
            raise
        raise MemoryError(record.info["error"]["message"]) from error


def diverged_before(record: "RunRecord") -> str:
    """Say that a run diverged when it was made, and how to repeat it."""
    return f"diverged before: {record.info['error']['message']}; to repeat it, delete {record.folder}"


def failed(plan: "Plan", message: str) -> int:
    """Say why a run failed; returns the exit code."""
    print(visible(f"cnnexp: {plan.label}: {message}"), file=sys.stderr)
    return EXIT_SOME_FAILED


if __name__ == "__main__":
    from cnnexp.cli import entry

    entry(["train", *sys.argv[1:]])
