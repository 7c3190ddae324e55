"""READ FIRST. `cnnexp train`: compose -> check -> plan -> run (build, fit, evaluate, record), or a sweep of such runs.

Hydra composes the config and, for a multirun, hands the list of runs to the launcher in `cnnexp/sweep/`. One run is
`cnnexp/training/run.py`. Works as a script too: python cnnexp/train.py model=custom +aug=full
"""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":  # as a script, this folder must not hide other modules by its file names
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from cnnexp.errors import EXIT_DONE, EXIT_SOME_FAILED, Diverged, UserError, unknown
from cnnexp.records import provenance as environment
from cnnexp.storage import StorageError
from cnnexp.text import percent, visible

if TYPE_CHECKING:
    from omegaconf import DictConfig

HELP = """\
usage: cnnexp train [FLAGS] [GROUP=CHOICE | KEY=VALUE | +GROUP=CHOICE] ...

Train one network, or a sweep of them, as composed from the YAML files in configs/.

examples:
  cnnexp train                                         a small network on the embedded images
  cnnexp train model=custom +aug=full optimizer.lr=0.0005
  cnnexp train data=imagenette data.size=64 epochs=15ep model.norm=batch
  cnnexp train -m model.norm=none,batch seed=0,1,2     a sweep: every combination
  cnnexp train +study=ablation                         a study: named arms, seeds, a baseline
  cnnexp train +study=ablation +arm=baseline,dropout seed=0 --plan
  cnnexp train +study=ablation +scale=small study.name=small     to see that it runs: 4 epochs of 2,000 images
  cnnexp train model=custom probes=all                 gradients, dead units, ... for the report; same weights

flags:
  -m, --multirun     sweep over comma-separated values
  --plan             print the runs, what their arms change and how long they may take; train
                     nothing (the data is prepared, for its content names the runs)
  --budget TIME      start no run that would not end in time (30m, 2h, 90s); exit code 75 if runs are left
  --fail-fast        start nothing more after the first failure
  --cfg job          print the composed config and stop
  --config-dir DIR   look for configs in DIR too

The same command again goes on where it stopped. Results: outputs/<study>/<arm>-s<seed>-<fingerprint>/
Compare them: cnnexp report outputs/<study>
"""
OWN_FLAGS = ("--plan", "--budget", "--fail-fast")
HYDRA_FLAGS = (
    *("-m", "--multirun", "-c", "--cfg", "--resolve", "-p", "--package", "-cd", "--config-dir", "-cn", "--config-name"),
    *("-cp", "--config-path", "-r", "--run", "-i", "--info", "--hydra-help", "--version"),
)
FLAGS = (*OWN_FLAGS, *HYDRA_FLAGS)
SWITCHES = ("--plan", "--fail-fast", "-m", "--multirun", "--resolve", "-r", "--run", "--hydra-help", "--version")
CHOICES = {
    **dict.fromkeys(("-c", "--cfg"), ("job", "hydra", "all")),
    **dict.fromkeys(("-i", "--info"), ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")),
}


def main(argv: list[str]) -> int:
    """Compose and run what `argv` (flags and overrides) asks for; returns the exit code."""
    if "-h" in argv or "--help" in argv:
        print(HELP, end="")
        return EXIT_DONE
    argv = in_order(lift_flags(argv))
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let exceptions through, to be told in one line
    return launch(argv)


def launch(argv: list[str]) -> int:
    """Hand `argv` to Hydra, which calls `single`, or the launcher of a sweep."""
    import hydra
    from hydra.core.hydra_config import HydraConfig

    from cnnexp.config import compose as config
    from cnnexp.sweep.plugin import register

    register()
    composed: list[Any] = []  # a single run's own config and Hydra's: it runs when Hydra is out of the way

    def task(own: "DictConfig") -> None:
        composed.extend([own, HydraConfig.get()])

    typed, sys.argv = sys.argv, [sys.argv[0], *argv]
    try:
        hydra.main(config_path=str(config.folder()), config_name="train", version_base="1.3")(task)()
    finally:
        sys.argv = typed
    return single(*composed) if composed else EXIT_DONE


def single(composed: "DictConfig", hydra_node: "DictConfig") -> int:
    """Check, plan and make one run (its upstream first); returns the exit code."""
    from cnnexp.config import compose as config

    plain = config.resolve(composed)
    config.check(plain)
    overrides = list(hydra_node.overrides.task)
    if plain["slots"] != "auto":
        print("cnnexp: slots: are for sweeps (-m); a single run computes on device.kind", file=sys.stderr)

    from cnnexp.config.changes import arm_changes
    from cnnexp.training.plan import plan

    changes = arm_changes(hydra_node, overrides)
    planned = plan(plain, overrides, changes, environment.command(), dict(hydra_node.runtime.choices))
    for needed in planned.chain():
        if (code := make(needed)) != EXIT_DONE:
            return code
    return EXIT_DONE


def make(plan: Any) -> int:
    """Make one run in this process, with bars; returns the exit code."""
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
        print(visible(f"cnnexp: {plan.label}: diverged: {error}; see {plan.folder / 'train.log'}"), file=sys.stderr)
        return EXIT_SOME_FAILED
    except StorageError as error:
        print(f"cnnexp: {plan.label}: {error}", file=sys.stderr)
        return EXIT_SOME_FAILED
    except (MemoryError, RuntimeError):  # torch's out-of-memory errors are RuntimeErrors, as are bugs
        if (record := plan.record()).status != "oom":
            raise
        print(visible(f"cnnexp: {plan.label}: {record.info['error']['message']}"), file=sys.stderr)
        return EXIT_SOME_FAILED
    if record.status == "diverged":
        told = f"{plan.label}: diverged before: {record.info['error']['message']}; to repeat it, delete {plan.folder}"
        print(visible(told))
        return EXIT_SOME_FAILED
    result = record.info["result"]
    again = " (it was done already)" if before == "done" else ""
    print(
        f"test accuracy {percent(result['test_accuracy'])}, validation {percent(result['val_accuracy'])}, "
        f"best epoch {result['best_epoch']} of {result['epochs']}{again}\n{visible(plan.folder)}"
    )
    if plan.lacks_probes():
        print("it was done without probes; to have them, make it again under another study.name=...")
    return EXIT_DONE


def lift_flags(argv: list[str]) -> list[str]:
    """Turn --plan, --budget TIME and --fail-fast into the launcher's settings, and make the request a multirun."""
    environment.TYPED[:] = argv
    if any(word.startswith(("--config-dir", "-cd")) for word in argv):
        from cnnexp.config import compose as config

        config.check_search_path(argv)
    lifted: list[str] = []
    kept: list[str] = []
    words = iter(argv)
    for word in words:
        if word.startswith("-") and word.split("=")[0] not in FLAGS:
            if word.startswith("--resume"):
                raise UserError("--resume: is not needed; the same command goes on where it stopped")
            raise unknown("cnnexp train", "flag", word, [flag for flag in FLAGS if flag.startswith("--")])
        if word.lstrip("+~").startswith("="):
            raise UserError(f"{word}: cannot be read as key=value (the key is missing)")
        if word.split("=")[0] in SWITCHES and "=" in word:
            raise UserError(f"{word}: {word.split('=')[0]} takes no value")
        if word == "--plan":
            lifted.append("hydra.launcher.plan=true")
        elif word == "--fail-fast":
            lifted.append("hydra.launcher.fail_fast=true")
        elif word.split("=")[0] == "--budget":
            value = word.partition("=")[2] or next(words, "")
            lifted.append(f"hydra.launcher.budget={seconds(value)}")
        elif word.startswith("-") and word not in SWITCHES:
            kept.append(with_value(word, words))
        else:
            kept.append(word)
    prints = {"--cfg", "-c", "--info", "-i"} & {word.partition("=")[0] for word in kept}
    if prints and (lifted or {"-m", "--multirun"} & set(kept)):
        raise UserError(f"{prints.pop()}: prints one run's config; leave out --multirun and the flags of a sweep")
    if lifted and not {"-m", "--multirun"} & set(kept):
        kept.insert(0, "--multirun")
    return kept + lifted


def with_value(word: str, following: Iterator[str]) -> str:
    """Return a flag of Hydra's with its value as one word: --cfg=job. Raises UserError for a wrong value, or none."""
    flag, equals, value = word.partition("=")
    if not equals:
        value = "all" if flag in ("-i", "--info") else next(following, "")
    allowed = CHOICES.get(flag)
    if not value or value.startswith("-") or (allowed and value not in allowed):
        raise UserError(f"{flag}: given '{value}'; allowed: {', '.join(allowed or ['a folder or a name'])}")
    return f"{flag}={value}"


def seconds(text: str) -> int:
    """Read a time: 90, 90s, 30m or 2h. Raises UserError for anything else."""
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], text[-1]) if text and text[-1] in units else (text, "s")
    if not re.fullmatch("[0-9]{1,9}", number) or int(number) == 0:
        raise UserError(f"--budget: given '{text}'; allowed: a time such as 90s, 30m or 2h")
    return int(number) * units[unit]


def in_order(argv: list[str]) -> list[str]:
    """Put flags first, then +study, +pretrain and +arm, then the rest: study < arm < command line."""
    from cnnexp.config import compose as config

    overrides = [word for word in argv if not word.startswith("-") and ("=" in word or word.startswith("~"))]
    flags = [word for word in argv if word not in overrides]
    return [*flags, *config.by_precedence(overrides)]


if __name__ == "__main__":
    from cnnexp.cli import entry

    entry(["train", *sys.argv[1:]])
