"""Write docs/settings.md: every setting with its values, its default and its meaning, from the code and the configs.

Run: python scripts/settings.py
A meaning is the comment after a key in configs/, or what the builder's docstring says. Raises ValueError for none.
"""

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast, get_type_hints

from cnnexp.config.checks import target
from cnnexp.config.compose import compose, resolve
from cnnexp.config.schema import CLOSED, GIVEN, RunConfig, Search
from cnnexp.config.signature import describe, settings
from cnnexp.config.words import as_text, choices_of, folder
from cnnexp.data.augment import OPERATIONS
from cnnexp.models.blocks import BLOCKS

WITHOUT_TIMM = ("data.size=24", "data.normalize=dataset")  # which model=timm asks timm for, if they are not typed
PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
TOP = {  # heading: keys of train.yaml, or nodes of the schema
    "Training": (
        "seed",
        "epochs",
        "batch_size",
        "sampling",
        "mix",
        "accumulate",
        "param_groups",
        "unfreeze",
        "ema",
        "clip_norm",
        "cache_features",
    ),
    "Evaluation and selection": (
        "eval_batch_size",
        "validate_on",
        "monitor",
        "keep_epoch",
        "final_test",
        "early_stopping",
        "shift_pixels",
    ),
    "Saving and logging": ("outputs", "checkpoint", "log", "tracker"),
    "Sweeps and studies": ("slots", "backbone", "study"),
    "Search (`+search=tpe` or `+search=random`)": ("search",),
    "Device": ("device",),
    "Other machines": ("cluster",),
    "Probes": ("probes",),
}
INTRO = """\
# Settings

Every setting of `cnnexp train`, as `python scripts/settings.py` writes it from the code and the configs.

Type a setting as `key=value`, with dots below a group: `optimizer.lr=0.0005`.
In Python: `cnnexp.train(optimizer={"lr": 5e-4})`. Choose a group's file by its name: `optimizer=adamw`.
Every network takes `model.weights=RUN`, a run or checkpoint to start from;
`model.strict=false` loads what fits, and lists the rest.
`cnnexp train --cfg job` prints the settings of a command, composed. `name=NAME` names a run.
A default is that of the group's first choice; another choice, or the data set's file, may set another one.
Epochs and other durations are epochs (`15ep`, or `15`) or optimiser steps (`500st`).
"""
GROUPS = {
    "data": "Data (`data=NAME`)",
    "model": "Networks (`model=NAME`)",
    "augmentation": "Augmentation (`augmentation=NAME`, or `aug=NAME`)",
    "optimizer": "Optimisers (`optimizer=NAME`)",
    "loss": "Losses (`loss=NAME`)",
    "scheduler": "Schedules (`scheduler=NAME`)",
}
WHOLE = {  # files that set several groups
    "study": "Studies (`+study=NAME`)",
    "preset": "Presets (`+preset=NAME`, or `+preset=[NAME,NAME]`)",
    "pretrain": "Pretraining (`+pretrain=NAME`; transfers start it themselves)",
}
NODES = {**CLOSED, "search": Search}
CHOSEN_NODES = {
    "device": "auto",
    "cluster": "slurm",
    "probes": "none",
}  # of the schema, chosen by a file; the file with the meanings


def page() -> str:
    """Return the page as Markdown."""
    parts, listed = [INTRO], {key for keys in TOP.values() for key in keys} | set(GROUPS)
    if missing := set(get_type_hints(RunConfig)) - listed:
        raise ValueError(f"{', '.join(missing)}: name a heading of TOP for it")
    for heading, keys in TOP.items():
        parts += [f"## {heading}", table(top_rows(keys))]
        parts += [choices(key) for key in keys if key in CHOSEN_NODES]
    for group, heading in GROUPS.items():
        parts += [f"## {heading}", choices(group)]
        for names in by_builder(group).values():
            parts += builder(group, names)
        if group == "model":
            parts += [*functions("Blocks of a network (`model.blocks`)", BLOCKS, ("walk",))]
        if group == "augmentation":
            parts += [*functions("Operations (`augmentation.ops`)", OPERATIONS, ())]
    for group, heading in WHOLE.items():
        parts += [f"## {heading}", choices(group)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def top_rows(keys: Iterable[str]) -> Iterable[tuple[str, str, str, str]]:
    """Yield (key, values, default, meaning) of keys of train.yaml, and of what is below them."""
    hints, config = get_type_hints(RunConfig, include_extras=True), composed()
    for key in keys:
        if key not in NODES:
            yield key, describe(hints[key]), shown(config[key]), meaning(("train.yaml",), key)
            continue
        schema = NODES[key]
        file = f"{key}/{CHOSEN_NODES[key]}.yaml" if key in CHOSEN_NODES else "train.yaml"
        for name, kind in get_type_hints(schema, include_extras=True).items():
            chosen = composed(f"{key}={CHOSEN_NODES[key]}") if key in CHOSEN_NODES else {key: {}}
            default = composed(resolved=False)[key].get(name, chosen[key].get(name, getattr(schema, name, None)))
            files = [file, *(f"{key}/{choice}.yaml" for choice in choices_of().get(key, []))]
            words = meaning(files, name if key in CHOSEN_NODES else f"{key}.{name}", inspect.getdoc(schema))
            yield f"{key}.{name}", describe(kind), shown(default), words


@functools.lru_cache(maxsize=64)
def composed(*words: str, resolved: bool = True) -> dict[str, Any]:
    """Return a composed config; not resolved, it has what makes the runs of a study too."""
    from omegaconf import OmegaConf

    config = compose(list(words))
    return resolve(config) if resolved else cast(dict[str, Any], OmegaConf.to_container(config))


def by_builder(group: str) -> dict[str, list[str]]:
    """Return {builder: choices of a group that name it}, the default choice first."""
    found: dict[str, list[str]] = {}
    chosen = next(iter(re.findall(rf"^  - {group}: (\w+)", text("train.yaml"), re.MULTILINE)), "")
    for name in sorted(choices_of()[group], key=lambda name: (name != chosen, name)):
        found.setdefault(composed(f"{group}={name}", resolved=False)[group]["_target_"], []).append(name)
    own = {b: b.rpartition(".")[2] for b in found}  # sgd, then momentum, of the builder sgd
    return {
        builder: sorted(names, key=lambda name: name not in (chosen, own[builder])) for builder, names in found.items()
    }


def builder(group: str, names: list[str]) -> list[str]:
    """Return the section of a builder: who uses it, what it does, and its settings."""
    node = composed(f"{group}={names[0]}", *(WITHOUT_TIMM if group == "model" else ()))[group]
    function = target(group, node)
    first, _, rest = (inspect.getdoc(function) or "").partition("\n\n")
    files = [f"{group}/{name}.yaml" for name in [*names, *choices_of()[group]]]
    files += [str(file.relative_to(folder())) for file in sorted((folder() / group).glob("*/*.yaml"))]
    rows = [
        (f"{group}.{name}", describe(p.annotation), shown(node.get(name, p.default)),
         meaning(files, name, rest or first, group))
        for name, p in settings(function, GIVEN[group]).items()
    ]  # fmt: skip
    title = ", ".join(f"`{name}`" for name in names)
    return [f"### {title}", f"{sentence(first)} (`_target_: {node['_target_']}`)", table(rows)]


def functions(heading: str, known: Mapping[str, Callable[..., Any]], given: tuple[str, ...]) -> list[str]:
    """Return a table of functions that are named in a list: their settings, and what they do."""
    lines = [f"### {heading}", "| name | settings | does |\n| --- | --- | --- |"]
    for name, function in known.items():
        arguments = [
            f"{key}: {describe(p.annotation)}" + ("" if p.default is p.empty else f" ({shown(p.default)})")
            for key, p in settings(function, given).items()
        ]
        lines[-1] += f"\n| `{name}` | {cell('; '.join(arguments))} | {cell(sentence(inspect.getdoc(function) or ''))} |"
    return lines


def choices(group: str) -> str:
    """Return a table of a group's files, each with the first sentence of its header."""
    rows = []
    for name in choices_of()[group]:
        header = [line[1:].strip() for line in text(f"{group}/{name}.yaml").splitlines() if line.startswith("#")]
        words = " ".join(until_fields(header))
        rows.append(f"| `{name}` | {cell(sentence(words))} |")
    return "| choice | what it is |\n| --- | --- |\n" + "\n".join(rows)


def until_fields(header: list[str]) -> Iterable[str]:
    """Yield the lines of a header up to the first that is a field, such as `Run:`."""
    for line in header:
        if re.match(r"(Run|From|See|Look|Cost|It also \w+|Time|Takes|Assum\w+)\b.*:", line):
            return
        if not line.startswith("@package"):
            yield line


def meaning(files: Iterable[str], key: str, docstring: str | None = None, group: str = "") -> str:
    """Return what a key means: the comment of the first file that has one, or the sentence of a docstring about it.

    Raises ValueError if neither says anything.
    """
    files = list(files)
    for file in files:
        if found := comments(file, group).get(key):
            return found
    last = key.rpartition(".")[2]
    text = " ".join((docstring or "").split())
    if found_there := re.search(rf"(?:^|[.;] )(?:\w+, )*{last}(?:, \w+)*: (.*?)(?:\. (?=\w+(?:, \w+)*:)|\.$|$)", text):
        return found_there[1]
    raise ValueError(f"{key}: neither a comment in {', '.join(files)} nor the docstring of its builder says what it is")


@functools.lru_cache(maxsize=256)
def comments(file: str, group: str = "") -> dict[str, str]:
    """Return {dotted key: comment} of a YAML file; further comments on lines of their own belong to the key above."""
    found, path, last = dict[str, str](), list[tuple[int, str]](), ""
    for line in text(file).splitlines():
        if key := re.match(r"( *)(\w+):(?:\s|$)", line):
            path = [(indent, name) for indent, name in path if indent < len(key[1])] + [(len(key[1]), key[2])]
            last = ".".join(name for _, name in path).removeprefix(f"{group}.")
            if said := re.search(r"\s#\s*(.*)$", line):
                found[last] = said[1]
                for name in re.findall(r"[{,]\s*(\w+):\s*[^,{}]+(?=[,}])", line):
                    found.setdefault(f"{last}.{name}", said[1])
        elif last in found and (more := re.match(r" +#\s*(.*)$", line)):
            found[last] += f" {more[1]}"
        elif line.startswith("#"):
            last = ""
    return found


def text(file: str) -> str:
    """Return the text of a config file."""
    return (folder() / file).read_text(encoding="utf-8")


def sentence(words: str) -> str:
    """Return the first sentence of a text, on one line."""
    line = " ".join(words.split())
    return re.split(r"(?<=[^.\d]\.)\s(?=[A-Z])", line)[0] if line else line


def shown(value: Any) -> str:
    """Return a default as it is typed; "" for none."""
    if value is inspect.Parameter.empty:
        return ""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown(below)}" for key, below in value.items()) + "}"
    return f"[{', '.join(map(shown, value))}]" if isinstance(value, (list, tuple)) else as_text(value)


def table(rows: Iterable[tuple[str, str, str, str]]) -> str:
    """Return rows of (key, values, default, meaning) as a table."""
    lines = ["| key | values | default | meaning |", "| --- | --- | --- | --- |"]
    for key, values, default, words in rows:
        lines.append(f"| `{key}` | {cell(values)} | {f'`{cell(default)}`' if default else ''} | {cell(words)} |")
    return "\n".join(lines)


def cell(words: str) -> str:
    """Return a text for a cell of a Markdown table."""
    return " ".join(words.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
