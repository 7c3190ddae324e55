"""The flags of `cnnexp train`, read and checked."""

import itertools
import math
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cnnexp.config.habits import check_flag
from cnnexp.config.words import (
    SAMPLERS,
    check_overrides,
    check_readable,
    choices_of,
    config_folders,
    folder,
    search_of,
    study_of,
)
from cnnexp.errors import UserError, unknown

HELP = """\
usage: cnnexp train [FLAGS] [GROUP=CHOICE | KEY=VALUE | +GROUP=CHOICE] ...

Train one network, or a sweep of them, as composed from the YAML files in configs/.

examples:
  cnnexp train                                         a small network on the embedded images
  cnnexp train data=imagenette data.size=64 epochs=15ep model.norm=batch
  cnnexp train -m model.norm=none,batch seed=0,1,2     a sweep: every combination
  cnnexp train +study=ablation                         a study: named arms, seeds, a baseline
  cnnexp train +search=tpe search.space='{{optimizer.lr: {{low: 1e-4, high: 1e-1, log: true}}}}'    a search

flags:
  -m, --multirun     sweep over comma-separated values
  --plan             print the runs, what their arms change and how long they may take; train nothing
  --budget TIME      start no run that would not end in time (30m, 1.5h, 90s); exit code 75 if runs are left
  --fail-fast        start nothing more after the first failure
  --no-wait          with cluster=slurm: submit the runs, and return
  --until-decided    add a seed, look, and repeat, until the study's verdicts are decided (docs/statistics.md)
  --max-seeds N      with --until-decided: use N seeds at most (default 20)
  --cfg job          print the composed config and stop
  --config-dir DIR   look for configs in DIR too

groups and their choices (* is the default); every key: cnnexp train --cfg job
{groups}

The same command again continues where it stopped. Results: outputs/<study>/<arm>-s<seed>-<fingerprint>/
Compare them: cnnexp report outputs/<study>
"""
PRINTS = ("-c", "--cfg", "-i", "--info", "--hydra-help", "--version")  # Hydra prints, and nothing is trained
TO_PRINT = ("--resolve", "-p", "--package")  # what belongs to --cfg
SWITCHES = (
    *("--plan", "--fail-fast", "--no-wait", "--until-decided", "-m", "--multirun"),
    *("--resolve", "--hydra-help", "--version"),
)
OF_SWEEPS = ("--plan", "--budget", "--fail-fast", "--no-wait", "--until-decided", "--max-seeds", "-m", "--multirun")
FLAGS = (*OF_SWEEPS, "-cd", "--config-dir", *PRINTS, *TO_PRINT)
FEWEST_SEEDS, MOST_SEEDS = 3, 1000  # of --max-seeds: fewer decide nothing
CHOICES = {
    **dict.fromkeys(("-c", "--cfg"), ("job", "hydra", "all")),
    **dict.fromkeys(("-i", "--info"), ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")),
}


@dataclass
class Request:
    """What a command asks for. prints: flags for Hydra, which prints and stops. budget: in seconds.

    max_seeds: of --until-decided; 0 without. search: what +search= names, None without. one: a single run but for
    --plan.
    """

    overrides: list[str]
    prints: list[str]
    sweep: bool
    plan: bool
    fail_fast: bool
    no_wait: bool
    budget: int | None
    max_seeds: int = 0
    search: str | None = None
    one: bool = False


def read(argv: list[str]) -> Request:
    """Read the words of `cnnexp train`. A study, a search, and the flags of OF_SWEEPS, ask for a sweep.

    Raises UserError for a wrong flag or word.
    """
    given, overrides = dict[str, str](), list[str]()
    for word, following in itertools.pairwise([*argv, ""]):
        check_word(word, following)
    words = iter(argv)
    for word in words:
        if word.startswith("-"):
            flag = word if word in SWITCHES else with_value(word, words)
            given[flag.partition("=")[0]] = flag
        else:
            overrides.append(word)
    check_readable(config_folders(argv))
    check_overrides(overrides, config_folders(argv))
    prints = [flag for name, flag in given.items() if name in (*PRINTS, *TO_PRINT)]
    flags = set(OF_SWEEPS) & set(given)
    if prints and (flags or not set(given) & set(PRINTS)):
        name = prints[0].partition("=")[0]
        if name in TO_PRINT:
            raise UserError(f"{name}: belongs to --cfg")
        raise UserError(f"{name}: prints one run's config; leave out --multirun and the flags of a sweep")
    search = search_of(overrides)
    sweep = "hydra.mode=RUN" not in overrides and bool(study_of(overrides) or "hydra.mode=MULTIRUN" in overrides)
    sweep = sweep or bool(flags - {"--plan"}) or search is not None
    one = not sweep and "--plan" in flags
    budget = seconds(given["--budget"].partition("=")[2]) if "--budget" in given else None
    switches = ("--plan" in given, "--fail-fast" in given, "--no-wait" in given)
    return Request(overrides, prints, sweep or one, *switches, budget, max_seeds(given), search, one)


def help_text(argv: list[str]) -> str:
    """Return the help, with the groups that --config-dir adds."""
    choices, lines = choices_of(config_folders(argv)), list[str]()
    defaults = dict(re.findall(r"^  - (\w+): (\w+)", (folder() / "train.yaml").read_text(), re.MULTILINE))
    choices["search"] = sorted({*choices.get("search", []), *SAMPLERS})
    for group in sorted(choices, key=[*defaults, *choices].index):
        names = [f"{name}*" if name == defaults.get(group) else name for name in choices[group]]
        head = f"  {group if group in defaults else '+' + group:<17}"
        lines.append(textwrap.fill(", ".join(names), 119, initial_indent=head, subsequent_indent=" " * 19))
    return HELP.format(groups="\n".join(lines))


def check_word(word: str, following: str) -> None:
    """Raise UserError for an unknown flag, a value where a flag takes none, or an override without a key.

    following: the next word.
    """
    flag = word.partition("=")[0]
    if word.startswith("-") and flag not in FLAGS:
        check_flag(word, following)
        raise unknown("cnnexp train", "flag", word, [known for known in FLAGS if known.startswith("--")])
    if flag in SWITCHES and "=" in word:
        raise UserError(f"{word}: {flag} takes no value")
    if "=" in (word, following):
        raise UserError(f"{word} {following}: cannot be read as key=value; type it without spaces")
    if word.lstrip("+~").startswith("="):
        raise UserError(f"{word}: cannot be read as key=value (the key is missing)")


def with_value(word: str, following: Iterator[str]) -> str:
    """Return a flag with its value as one word: --cfg=job. Raises UserError for a wrong value, or none."""
    flag, equals, value = word.partition("=")
    if flag in ("--budget", "--max-seeds"):
        return f"{flag}={value or next(following, '')}"
    if not equals:
        value = "all" if flag in ("-i", "--info") else next(following, "")
    allowed = CHOICES.get(flag)
    if not value or value.startswith("-") or (allowed and value not in allowed):
        raise UserError(f"{flag}: given '{value}'; allowed: {', '.join(allowed or ['a folder or a name'])}")
    return f"{flag}={value}"


def seconds(text: str, where: str = "--budget") -> int:
    """Read a time: 90, 90s, 30m, 1.5h or 1h30m. Raises UserError for anything else. where: the flag or key."""
    number = r"(\d{1,9}(?:\.\d{1,9})?)"
    found = re.fullmatch(f"(?:{number}h)?(?:{number}m)?(?:{number}s?)?", text, re.ASCII)
    hours, minutes, rest = (float(part or 0) for part in found.groups()) if found else (0.0, 0.0, 0.0)
    total = math.ceil(3600 * hours + 60 * minutes + rest)
    if not total:
        raise UserError(f"{where}: given '{text}'; allowed: a time such as 90s, 30m, 1.5h or 1h30m")
    return total


def max_seeds(given: Mapping[str, str]) -> int:
    """Return the most seeds of --until-decided, 0 without that flag. given: flags with their values."""
    if "--max-seeds" not in given:
        return 20 if "--until-decided" in given else 0
    if "--until-decided" not in given:
        raise UserError("--max-seeds: belongs to --until-decided; other sweeps take their seeds from seed=0,1,2")
    text = given["--max-seeds"].partition("=")[2]
    if not re.fullmatch(r"\d{1,4}", text, re.ASCII) or not FEWEST_SEEDS <= int(text) <= MOST_SEEDS:
        allowed = f"a whole number from {FEWEST_SEEDS} (fewer seeds decide nothing) to {MOST_SEEDS}"
        raise UserError(f"--max-seeds: given '{text}'; allowed: {allowed}")
    return int(text)
