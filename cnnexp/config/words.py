"""The words of a command before Hydra sees them: short names, several presets as one, quotes, what wins over what."""

import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from cnnexp.config.habits import check_override, seeds_of
from cnnexp.config.schema import GIVEN, Search
from cnnexp.errors import UserError, unknown
from cnnexp.text import in_shell

ALIASES = {"aug": "augmentation"}
GROUPS = tuple(GIVEN)  # whose `_target_` may be one's own
SAMPLERS = ("tpe", "random")  # the choices of +search, beside a user's own files
BOUNDS = ("low", "high", "log", "step")  # of a setting in a search's space
OWN = "_own_"  # the choice of a group that is empty: what an own `_target_` replaces the default one with
# Each wins over those before it, and every other override wins over all of them.
FIRST = ("+study", "+search", "+pretrain", "+arm", "+preset")
NO_TEXT = ("true", "false", "null", "nan", "inf")  # what Hydra reads these words as, in any case, is no text
QUOTES = ("'", '"', "[", "{")  # a value that begins so is written as Hydra reads it
HYDRA = ("hydra.searchpath", "hydra.mode")  # Hydra's own settings that have an effect here


def folder() -> Path:
    """Return the absolute path of the configs: the repository's folder if there is one, else the package's."""
    package = Path(__file__).resolve().parents[1]
    in_repository = package.parent / "configs"
    return in_repository if (in_repository / "train.yaml").exists() else package / "configs"


def choices_of(places: Iterable[Path] = ()) -> dict[str, list[str]]:
    """Return the choices of each config group, sorted. places: further folders of configs."""
    found: dict[str, list[str]] = {}
    for file in (file for place in (folder(), *places) for file in place.glob("*/*.yaml")):
        found.setdefault(file.parent.name, []).append(file.stem)
    return {group: sorted(set(names)) for group, names in found.items()}


def config_folders(words: Sequence[str]) -> list[Path]:
    """Return the folders that a command's words name with --config-dir, absolute."""
    found = [word.partition("=")[2] for word in words if word.startswith(("--config-dir=", "-cd="))]
    found += [following for word, following in itertools.pairwise(words) if word in ("--config-dir", "-cd")]
    return [Path(folder).resolve() for folder in found if folder]


def check_readable(places: Iterable[Path]) -> None:
    """Raise UserError if a folder of configs, or a group's folder in one, exists and cannot be read."""
    groups = [entry.name for entry in folder().iterdir() if entry.is_dir()]
    for place in (found for given in places for found in (given, *(given / group for group in groups))):
        if os.access(place, os.F_OK) and place.is_dir() and not os.access(place, os.R_OK | os.X_OK):
            raise UserError(
                f"--config-dir: {place} cannot be read; allow it: {in_shell(['chmod', 'u+rX', str(place)])}"
            )


def key_of(word: str) -> str:
    """Return the key of an override as it was typed: "+arm" of "+arm=dropout"."""
    return word.partition("=")[0]


def in_order(overrides: Sequence[str]) -> list[str]:
    """Return overrides with full names, presets as one list, and sorted by what wins: study < arm < preset < typed."""
    named = [seeds_of(full_name(word)) for word in overrides]
    presets = [word.partition("=")[2] for word in named if key_of(word) == "+preset"]
    if len(presets) > 1:
        joined = ",".join(preset.strip("[]") for preset in presets)
        named = [*(word for word in named if key_of(word) != "+preset"), f"+preset=[{joined}]"]
    return sorted(named, key=lambda word: FIRST.index(key_of(word)) if key_of(word) in FIRST else len(FIRST))


def check_overrides(overrides: Sequence[str], places: Iterable[Path]) -> None:
    """Raise UserError for a setting in another tool's words, or a file that Hydra would misread: it says what to do.

    places: other folders of configs.
    """
    places = list(places)
    choices = choices_of(places)
    for word in map(full_name, overrides):
        check_override(word, choices)
        key, _, values = word.partition("=")
        if key in (*GROUPS, "device") and values.startswith("["):  # Hydra would merge them: the last one's settings
            several = "; for several, type its operations: 'augmentation.ops=[{flip:{p:0.5}},{crop:{padding:4}}]'"
            raise UserError(f"{key}: given {values}; allowed: one choice{several * (key == 'augmentation')}")
        for value in values.strip("[]").split(",") if re.fullmatch(r"\+?\w+", key) else ():
            _check_file(word, value.strip(" '\""), places, choices)


def _check_file(word: str, choice: str, places: Iterable[Path], choices: Mapping[str, list[str]]) -> None:
    """Raise UserError if the file of a choice has a wrong suffix or encoding, or .yml is typed. word: the override."""
    group = key_of(word).lstrip("+")
    stem = re.sub(r"\.ya?ml$", "", choice)
    if (file := Path(choice)).suffix == ".yaml" and file.parent.name == group:
        named = in_shell(["--config-dir", str(file.parents[1]), f"{key_of(word)}={file.stem}"])
        raise UserError(f"{word}: {f'is typed by its name, {named}' if file.is_file() else 'no such file'}")
    if choice.endswith(".yml") and stem in choices.get(group, ()):
        raise UserError(f"{group}: given '{choice}'; leave the suffix off: {group}={stem}")
    for place in places if re.fullmatch(r"[\w.-]+", choice) and len(choice) < 200 else ():
        file = place / group / f"{stem}.yaml"
        other = file.with_name(f"{stem}.yml")
        if stem not in choices.get(group, ()) and other.is_file():
            raise UserError(f"{word}: files of configs end in .yaml; rename {other} to {file.name}")
        if file.is_file():
            _check_encoding(word, file)


def _check_encoding(word: str, file: Path) -> None:
    """Raise UserError for a file that is not UTF-8, or whose byte-order mark hides '# @package' in the first line."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{word}: {file} is not UTF-8; save it in this encoding") from error
    except OSError as error:
        raise UserError(f"{word}: {file} cannot be read: {error.strerror}") from error
    if re.match(r"\ufeff\s*#\s*@", text):
        raise UserError(
            f"{word}: {file} begins with a byte-order mark (BOM), which hides its first line; save it without one"
        )


def replacing(words: Sequence[str]) -> list[str]:
    """Return words with which an own `_target_` replaces its group, instead of being merged with the default choice.

    model._target_=my.Net model.width=8 -> model=_own_ ++model._target_=my.Net ++model.width=8, if no model= is typed.
    """
    keys = [key_of(word).lstrip("+") for word in words]
    own = [
        group for group in GROUPS if f"{group}._target_" in keys and not {group, f"+{group}"} & {*map(key_of, words)}
    ]
    below = tuple(f"{group}." for group in own)
    return [f"{group}={OWN}" for group in own] + [
        f"++{word.lstrip('+')}" if word.lstrip("+").startswith(below) else word for word in words
    ]


def as_typed(words: Iterable[str]) -> list[str]:
    """Return words as they were before `replacing`."""
    words = list(words)
    chosen = {f"{group}={OWN}" for group in GROUPS} & set(words)
    below = tuple(f"++{word.partition('=')[0]}." for word in chosen)
    return [word.removeprefix("++") if word.startswith(below) else word for word in words if word not in chosen]


def check_hydra(overrides: Sequence[str]) -> None:
    """Raise UserError for a setting of Hydra's that cnnexp does not use."""
    for word in overrides:
        key = key_of(word).lstrip("+~")
        if re.match(r"hydra([./@]|$)", key) and key not in HYDRA:
            raise no_use(key)


INSTEAD = {  # of settings of Hydra's: what to type, by the beginning of their keys
    "hydra/launcher": "slots=cpu:4 or slots=[cuda:0,cuda:1] makes several runs at a time; on further machines start "
    "`cnnexp work outputs/STUDY`, which makes runs of the same sweep",
    "hydra/sweeper": "type values to try, such as -m optimizer.lr=0.1,0.01 seed=0,1,2, or write a study with a grid",
    "hydra": "outputs=DIR and study.name=NAME say where results go, slots=cpu:2 where runs are made",
}


def no_use(key: str, where: str = "") -> UserError:
    """Return the error for a setting of Hydra's that cnnexp does not use: it starts runs and names folders itself."""
    fix = next(text for start, text in INSTEAD.items() if key.replace(".", "/").startswith(start))
    place = f" ({where})" if where else ""
    return UserError(f"{key}: cnnexp does not use this setting of Hydra's{place}; leave it out; {fix}")


def quoted(text: str) -> str:
    """Return text as Hydra reads it back: in single quotes, those within it and backslashes before them escaped."""
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text) + "'"


def as_text(value: Any) -> str:
    """Return a value as YAML writes it, a text without quotes: in a study's grid "[3,3]" is a list of Hydra's."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def as_word(value: Any) -> str:
    """Return a value as Hydra reads it back from an override, also within a list or among several values."""
    if isinstance(value, str):
        is_plain = re.fullmatch(r"[A-Za-z_][\w.-]*", value, re.ASCII) and value.lower() not in NO_TEXT
        return value if is_plain else quoted(value)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(as_word, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{as_word(below)}' for key, below in value.items())}}}"
    return as_text(value)


def full_name(word: str) -> str:
    """Return an override with a short name written out: aug=full -> augmentation=full, name=x -> study.arm='x'."""
    if word.startswith("name="):  # of a run; `name=5` is text too
        name = word.removeprefix("name=")
        return f"study.arm={name if ',' in name or name[:1] in ('', *QUOTES) else quoted(name)}"
    for short, name in ALIASES.items():
        word = re.sub(rf"^\+?{short}=", f"{name}=", word)
        word = re.sub(rf"^([+~]*){short}\.", rf"\1{name}.", word)
    return word


def is_of_search(word: str) -> bool:
    """Tell whether an override asks for a search, or says how to search."""
    return key_of(word).lstrip("+") == "search" or word.lstrip("+").startswith("search.")


def search_of(overrides: Sequence[str]) -> str | None:
    """Return what +search= names, None without it. Raises UserError for several, and for a search's key without it."""
    named = [word.partition("=")[2] for word in overrides if key_of(word) == "+search"]
    if len(named) > 1 or any("," in name or not name for name in named):
        raise UserError(f"+search: given {' and '.join(named) or 'nothing'}; allowed: one of {', '.join(SAMPLERS)}")
    if not named and (odd := [word for word in overrides if is_of_search(word)]):
        if key_of(odd[0]) == "search":
            raise UserError(f"{odd[0]}: type +{odd[0]}, with the plus")
        raise UserError(f"{odd[0]}: belongs to a search; add +search=tpe")
    known = [field.name for field in fields(Search)]
    for word in overrides:
        path = key_of(word).lstrip("+").split(".")
        if path[0] == "search" and len(path) > 1 and path[1] not in known:
            raise unknown(f"search.{path[1]}", "key", path[1], known)
        if path[:2] == ["search", "space"] and len(path) > 2:
            setting = ".".join(path[2:-1] if len(path) > 3 and path[-1] in BOUNDS else path[2:])
            example = f"search.space='{{{setting}: {{low: 0.001, high: 0.1}}}}'"
            raise UserError(f"{key_of(word)}: a space is one word, with all its keys; type {example}")
    return named[0] if named else None


def study_of(overrides: Sequence[str]) -> str | None:
    """Return the study that overrides name, None without one.

    Raises UserError for several studies, and for an arm without a study.
    """
    named = [word.partition("=")[2] for word in overrides if key_of(word) == "+study"]
    if len(named) > 1 or any("," in name for name in named):
        raise UserError(f"+study: given {' and '.join(named)}; allowed: one study in a command")
    if not named and (arms := [word for word in overrides if key_of(word) == "+arm"]):
        raise UserError(f"{arms[0]}: an arm belongs to a study; add +study=NAME")
    return named[0] if named else None
