"""READ FIRST. `cnnexp train`: compose -> check -> plan -> run (build, fit, evaluate, record), or a sweep of such runs.

Hydra composes the config. A sweep goes on in `cnnexp/sweep/launcher.py`, one run in `cnnexp/training/run.py`.
Works as a script too: python cnnexp/train.py model=custom aug=full
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":  # as a script, this folder must not hide other modules by its file names
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from cnnexp.config.flags import help_text, read
from cnnexp.config.user_code import user_frames
from cnnexp.errors import EXIT_DONE, EXIT_SOME_FAILED, Diverged
from cnnexp.records import provenance
from cnnexp.storage import MACHINE, StorageError
from cnnexp.text import percent, visible

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from cnnexp.training.plan import Plan


def main(argv: list[str]) -> int:
    """Compose and run what `argv` (flags and overrides) asks for; returns the exit code."""
    if "-h" in argv or "--help" in argv:
        print(help_text(argv), end="")
        return EXIT_DONE
    provenance.TYPED[:] = argv
    request = read(argv)

    from cnnexp.config import compose as configs

    configs.check_search_path(argv)
    words = configs.prepare([*configs.search_path(argv), *request.overrides])
    if request.prints:
        return configs.ask_hydra([*request.prints, *words])

    from cnnexp.process.limits import check_address_space

    check_address_space()
    if request.sweep:
        from cnnexp.sweep.launcher import launch

        return launch(words, request)
    return run_one(words)


def run_one(words: list[str]) -> int:
    """Compose one run, and make it; returns the exit code."""
    from cnnexp.config import compose as configs

    with configs.loader() as hydra:
        composed = configs.load(hydra, words)
    return single(composed)


def single(composed: "DictConfig") -> int:
    """Check, plan and make the run of a composed config, after the runs that it needs; returns the exit code."""
    from cnnexp.config import checks
    from cnnexp.config import compose as configs
    from cnnexp.config.arms import arm_changes, read_arms

    config, hydra_node = configs.resolve(composed), composed.hydra
    checks.check(config)
    if config["slots"] != "auto":
        print("cnnexp: slots: are for sweeps (-m); a single run computes on device.kind", file=sys.stderr)

    from cnnexp.training import trial
    from cnnexp.training.plan import plan

    trial.before_data(config)
    overrides, choices = list(hydra_node.overrides.task), dict(hydra_node.runtime.choices)
    changes = arm_changes(read_arms(composed.study), choices.get("arm"), overrides)
    planned = plan(config, overrides, changes, provenance.command(), choices)
    configs.print_set_by_data([(config, hydra_node)])
    for needed in planned.chain():
        if (code := make(needed)) != EXIT_DONE:
            return code
    return EXIT_DONE


def make(plan: "Plan") -> int:
    """Make one run in this process, with progress bars; returns the exit code."""
    from cnnexp.records.fields import FINAL
    from cnnexp.storage.space import check_writable
    from cnnexp.training.progress import for_terminal
    from cnnexp.training.run import run

    before = plan.record().info.get("status")
    if before not in FINAL:
        check_writable(plan.folder.parent)
    try:
        record = run(plan, for_terminal())
    except Diverged as error:
        return failed(plan, f"diverged: {error}; see {plan.folder / 'train.log'}")
    except StorageError as error:
        return failed(plan, str(error))
    except OSError as error:
        if error.errno not in MACHINE or user_frames(error):
            raise
        return failed(plan, str(StorageError(error.filename or "a file", error, "used")))
    except (MemoryError, RuntimeError):  # torch's out-of-memory errors are RuntimeErrors, as are bugs
        if (record := plan.record()).status != "oom":
            raise
        return failed(plan, record.info["error"]["message"])
    if record.status == "diverged":
        message = f"diverged before: {record.info['error']['message']}; to repeat it, delete {plan.folder}"
        print(visible(f"{plan.label}: {message}"))
        return EXIT_SOME_FAILED
    result = record.info["result"]
    again = " (it was done already)" if before == "done" else ""
    print(
        f"test accuracy {percent(result['test_accuracy'])}, validation {percent(result['val_accuracy'])}, "
        f"best epoch {result['best_epoch']} of {result['epochs']}{again}\n{visible(plan.folder)}"
    )
    if plan.lacks_probes():
        print("it was done without probes; to get them, make it again under another study.name=...")
    return EXIT_DONE


def failed(plan: "Plan", message: str) -> int:
    """Say why a run failed; returns the exit code."""
    print(visible(f"cnnexp: {plan.label}: {message}"), file=sys.stderr)
    return EXIT_SOME_FAILED


if __name__ == "__main__":
    from cnnexp.cli import entry

    entry(["train", *sys.argv[1:]])
