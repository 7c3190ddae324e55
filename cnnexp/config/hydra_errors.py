"""Hydra's and OmegaConf's errors in one line: where, what was given, what is allowed, how to fix it."""

import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import GrammarParseError, OmegaConfBaseException

from cnnexp.config.checks import target
from cnnexp.config.compose import compose, parse, resolve, search_path
from cnnexp.config.habits import KEYS, REAL, instead
from cnnexp.config.keys import flatten
from cnnexp.config.signature import parameters_of
from cnnexp.config.words import (
    FIRST,
    OWN,
    choices_of,
    config_folders,
    folder,
    full_name,
    key_of,
    no_use,
    quoted,
    study_of,
)
from cnnexp.errors import UserError, did_you_mean, unknown
from cnnexp.text import in_shell

READERS = ("hydra", "omegaconf", "yaml", "antlr4")  # the libraries that read configs and overrides


def of_a_reader(error: Exception) -> bool:
    """Tell whether READERS raised an error, which means that the request is wrong; an error of other code is a bug.

    Some requests make them fail: a file that is not UTF-8, a number of 5,000 digits, a list in 3,000 others.
    """
    if type(error).__module__.split(".")[0] in READERS:
        return True
    packages = [str(f.f_globals.get("__name__")).split(".")[0] for f, _ in traceback.walk_tb(error.__traceback__)]
    return next((name for name in reversed(packages) if name not in sys.stdlib_module_names), "") in READERS


def translate(error: Exception, typed: list[str]) -> UserError:
    """Translate an error of composition into a UserError. typed: the command's words, for a better guess."""
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        if group.startswith("hydra/"):
            return no_use(group, f"{choice}, in a config file")
        if error.options is not None and group:
            wrong = unknown(group, "choice", choice, [option for option in error.options if option != OWN])
            file = next(Path().glob(f"*/{group}/{choice}.yaml"), None) if re.fullmatch(r"[\w-]+", choice) else None
            add = in_shell(["--config-dir", str(file.parents[1])]) if file else ""
            return (
                UserError(f"{wrong}; to use {file}, add {add}")
                if file
                else UserError(f"{wrong}{_chosen_in(group, choice, typed)}")
            )
        return UserError(f"{error.missing_cfg_file}: no such config file")
    if isinstance(error, OverrideParseException):
        key, equals, value = str(error.override).partition("=")
        if not re.search(r"[=~+]", str(error.override)):
            following = next((after for word, after in pairwise(typed) if word == key), "")
            value = following if following[:1].isalnum() and "=" not in following else "VALUE"
            return UserError(f"{key}: cannot be read as key=value; type {key}={value}")
        if re.search(r"\s", key):
            return UserError(f"{error.override}: cannot be read as key=value; a key has no spaces")
        fix = f"; if it is a text, type {as_text(key, value)}" if equals and value else ""
        if value.endswith(","):
            fix = f"; write the values of a sweep without spaces: a,b{fix}"
        elif value.startswith("[") and value.endswith("]"):
            fix = f"""; in a list, write a text with spaces or signs in double quotes: '{key}=["a > b"]'"""
        return UserError(f"{error.override}: cannot be read as key=value ({text.splitlines()[0]}){fix}")
    if isinstance(cause := error.__cause__, GrammarParseError):
        given = f"given {cause.value!r}; " if hasattr(cause, "value") else ""
        where = cause.full_key or _culprit(error, typed)
        return UserError(f"{where}: {given}a reference to another key is written ${{KEY}}, such as ${{optimizer.lr}}")
    if "Config group override must be a string" in text:
        of_groups = [word for word in typed if key_of(word).lstrip("+") in choices_of()]
        if word := next((word for word in of_groups if not isinstance(parse([word])[0].value(), str)), ""):
            key, _, value = word.lstrip("+").partition("=")
            return UserError(f"{key}: given {value}; allowed: one of {', '.join(choices_of()[key])}")
    if found := re.fullmatch(r"Error merging override ([^=]+)=(.*)", text):
        allowed = "a list" if "object_type=list" in str(cause) else "settings by key"
        why = f"allowed: {allowed}" if "Cannot merge" in str(cause) else str(cause).partition("\n")[0]
        return UserError(f"{found[1]}: given {found[2]}; {why}")
    if "Cannot merge" in text and (clash := _wrong_kind(text, typed)):
        return clash
    if found := re.search(r"Multiple values for ([\w/]+)\.", text):
        word = next((w for w in typed if w.startswith(f"+{found[1]}=")), f"+{found[1]}=...")
        return UserError(f"{found[1]}: is chosen already; type {word[1:]}, without the plus")
    if found := re.search(r"Ambiguous value for argument '([^'=]+)=(.*?)'\n", text):
        fix = f"to sweep over values, add -m; if it is a text, type {as_text(found[1], found[2])}"
        return UserError(f"{found[1]}: given '{found[2]}'; {fix}")
    if found := re.search(r"Could not (?:override|append to config|delete)[^']*'([^']+)'", text):
        return _wrong_key(found.group(1), text, typed)
    if group := next((word[1:] for word in typed if word[:1] == "~" and word[1:] in choices_of()), ""):
        return UserError(f"~{group}: cannot be left out; type {group}=CHOICE, one of {', '.join(choices_of()[group])}")
    return UserError(f"{_named(error, typed)}{_needs_quotes(error)}")


def _of_yaml(error: yaml.MarkedYAMLError, mark: Any) -> str:
    """Return "FILE: line 7, column 4: cannot be read as YAML (reason)" with a hint where the indentation is wrong."""
    problem = error.problem or "wrong syntax"
    hint = ""
    if "'\\t'" in problem:
        hint = "; indent with spaces, not with tabs"
    elif problem.startswith("expected <block end>") or problem.startswith("mapping values are not allowed"):
        hint = "; check the indentation: keys of one mapping begin in the same column"
    return f"{mark.name}: line {mark.line + 1}, column {mark.column + 1}: cannot be read as YAML ({problem}){hint}"


def _needs_quotes(error: Exception) -> str:
    """Return a hint if YAML cannot read a line that has a text with brackets, such as a claim, in a list; else ""."""
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    with suppress(OSError, UnicodeError, IndexError):
        if mark and re.search(r"\w\[", Path(mark.name).read_text(encoding="utf-8").splitlines()[mark.line]):
            return """; inside [ ], write a text that has brackets in quotes: ["a.recall[x] > b.recall[x]"]"""
    return ""


def _chosen_in(group: str, choice: str, typed: list[str]) -> str:
    """Return " (in study/mine.yaml)" or " (in +arm=two)", where a choice was not typed, but is made there; else ""."""
    if f"{group}={choice}" in map(full_name, typed):
        return ""
    with suppress(Exception):  # several studies, or a file that cannot be read: other errors
        study = study_of(typed)
        if study and [{f"override /{group}": choice}] == _overridden(_content("study", study, typed), group):
            return f" (in study/{study}.yaml)"
        for name, entry in ConfigStore.instance().repo["arm"].items() if study else ():
            if [{f"override /{group}": choice}] == _overridden(OmegaConf.to_container(entry.node), group):
                return f" (in +arm={name.removesuffix('.yaml')})"
    return ""


def _overridden(content: Any, group: str) -> list[dict[str, str]]:
    """Return the entries of the defaults list of a file's content that choose from a group."""
    return [entry for entry in content.get("defaults", ()) if isinstance(entry, dict) and f"override /{group}" in entry]


def _content(group: str, name: str, typed: list[str]) -> Any:
    """Return the content of a file of configs, or of an arm, which is registered as one."""
    if group == "arm":
        return OmegaConf.to_container(ConfigStore.instance().load(f"arm/{name}.yaml").node)
    places = (*config_folders(typed), folder())
    file = next(file for place in places if (file := place / group / f"{name}.yaml").exists())
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def _wrong_kind(text: str, typed: list[str]) -> UserError | None:
    """Return the error for a list in the place of a mapping, in an arm or a file of configs; None if it is not found.

    Hydra says in which, but not at which key.
    """
    found = re.search(r"In '(\w+)/([^']+)'", text)
    with suppress(Exception):  # a file that cannot be read, or composed without this one: another error
        group, name = (found[1], found[2]) if found else ("", "")
        content = _content(group, name, typed)
        entries = content.pop("defaults", []) if isinstance(content, dict) else []
        pairs = [pair for entry in entries if isinstance(entry, dict) for pair in entry.items()]
        words = [f"{key.rpartition('/')[2]}={choice}" for key, choice in pairs]
        base = OmegaConf.to_container(compose([*words, *search_path(typed)]))
        key, value = next(_clashes(content, base))
        where = f"study.arms.{name}.{key}" if group == "arm" else f"{group}/{name}.yaml: {key}".removesuffix(": ")
        return UserError(f"{where}: given {value!r}; allowed: settings by key")
    return None


def _clashes(given: Any, base: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys, with their values, where a list is given and the config has a mapping."""
    if isinstance(given, list) and isinstance(base, dict):
        yield key, given
    if isinstance(given, dict) and isinstance(base, dict):
        for name, below in given.items():
            yield from _clashes(below, base.get(name), f"{key}.{name}".lstrip("."))


def as_text(key: str, value: str) -> str:
    """Return an override whose value is a text, as it is typed in a shell."""
    return in_shell([f"{key}={quoted(value)}"])


def _named(error: Exception, typed: list[str]) -> str:
    """Return an error's own words, after the word of the request that causes it unless they name a key."""
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark) and Path(mark.name).is_file():
        return _of_yaml(error, mark)
    if isinstance(error, RecursionError):
        words = "refers to itself, or is nested too deeply"
    else:
        lines = [line.strip() for line in str(error).splitlines()]
        words = " ".join(
            line for line in lines if line and not re.match(r"(full_key|object_type|reference_type)\b", line)
        )
    keys = [word.lstrip("+~").partition("=")[0] for word in typed if "=" in word and word[0] != "-"]
    if any(key and key in words for key in keys):
        return words
    return f"{_culprit(error, typed)}: {words or type(error).__name__}"


def _culprit(error: Exception, typed: list[str]) -> str:
    """Return the first typed word that causes the same kind of error by itself; all of them if none does."""
    where = search_path(typed)
    overrides = [word for word in typed[1:] if "=" in word and word[0] != "-"]
    for word in overrides:
        try:
            resolve(compose([word, *where]))
        except type(error):
            return word
        except Exception:
            continue
    return " ".join(overrides) or "the request"


def _wrong_key(key: str, text: str, typed: list[str]) -> UserError:
    if found := re.fullmatch(r"\w+@(study|preset|pretrain)\.\w+", key):
        return UserError(f"{found[1]}: the first line of its file must be '# @package _global_'")
    group = key.split("@")[0] or key
    if f"+{group}" in FIRST and f"+{group}=" in text:
        return UserError(f"{group}: is not chosen yet; type +{group}=... (with the plus)")
    if "No match in the defaults list" in text:
        return UserError(f"{group}: no such group or key{did_you_mean(group, _known_keys(typed))}")
    if "already at" in text or "An item is already" in text:
        return UserError(f"{key}: exists already; type it without the plus")
    if _is_argument(key, typed):
        return UserError(f"{key}: is not in the config yet; type +{key}=... (with the plus)")
    others = _keys_of_choices(group) if "." in key and f"+{(group := key.partition('.')[0])}" not in FIRST else {}
    if key in others:
        return UserError(f"{key}: no such key with this {key.split('.')[0]}; it needs {' or '.join(others[key])}")
    known = [k for k in _known_keys(typed) if k != key and not key.startswith(f"{k}.")]
    same = [k for k in known if k.endswith(f".{key}")]
    guess = f" (did you mean '{same[0]}'?)" if len(same) == 1 else _close(key, known)
    if not guess and (guess := _close(key, others)):
        near = guess.split("'")[1]
        needed = " or ".join(others.get(near) or next(of for k, of in others.items() if k.startswith(f"{near}.")))
        return UserError(f"{key}: no such key{guess.removesuffix('?)')} of {needed}?)")
    ends = [key.split(".", count)[-1] for count in range(1, key.count(".") + 1)]
    if not guess and key.partition(".")[0] not in REAL and (habit := next((end for end in ends if end in KEYS), None)):
        return instead(key, KEYS[habit], next((word.partition("=")[2] for word in typed if key_of(word) == key), ""))
    guess = guess or next((f" (did you mean '{end}'?)" for end in ends if end in known), "")  # of model.optimizer.lr
    return UserError(f"{key}: no such key{guess or _siblings(key, known)}")


def _close(key: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'model.norm'?)" for a key whose name is close to one of its group, or to a part of it."""
    group, dot, name = key.partition(".")
    if not dot or group not in {k.split(".")[0] for k in known}:  # the group is misspelt
        return did_you_mean(key, known)
    names = [k.removeprefix(f"{group}.") for k in known if k.startswith(f"{group}.")]
    found = did_you_mean(name, [*names, *(n.split(".")[0] for n in names)])
    return found.replace("'", f"'{group}.", 1)


def _known_keys(typed: list[str]) -> list[str]:
    """Return the keys of the config with the groups that were typed, or the default ones if these do not compose."""
    groups = [*(word for word in typed if re.fullmatch(r"\w+=\w+", word)), *search_path(typed)]
    try:
        config = resolve(compose(groups))
    except (HydraException, OmegaConfBaseException, UserError):
        config = resolve(compose([]))
    return [*flatten(config), *config]


def _is_argument(key: str, typed: list[str]) -> bool:
    """Say whether what the key's group builds has an argument of this name, which its file leaves at the default."""
    group, _, name = key.partition(".")
    with suppress(Exception):  # of the user's code too; then the key is reported as unknown
        words = [word for word in typed if re.fullmatch(r"\w+=\w+", word)]
        node = resolve(compose([*words, *search_path(typed)]))[group]
        return name in parameters_of(target(group, node))
    return False


def _keys_of_choices(group: str) -> dict[str, list[str]]:
    """Return the keys of all choices of a group, each with the choices: {"scheduler.gamma": ["scheduler=step"]}.

    The files are read as YAML, in milliseconds; composing the config with each choice takes seconds.
    """
    found: dict[str, list[str]] = {}
    for choice in choices_of().get(group, []):
        for key in dict.fromkeys(_keys_of_file(folder() / group / f"{choice}.yaml")):
            if key.startswith(f"{group}."):
                found.setdefault(key, []).append(f"{group}={choice}")
    return found


def _keys_of_file(file: Path) -> Iterator[str]:
    """Yield the keys that a file of configs sets in the composed config, and those of the files that it starts from."""
    text = file.read_text(encoding="utf-8")
    node = yaml.safe_load(text)
    for name in node.pop("defaults", ()):
        if isinstance(name, str) and name != "_self_":
            yield from _keys_of_file(file.parent / f"{name}.yaml")
    package = re.match(r"# @package (\S+)", text)
    group = package[1] if package else file.parent.name
    yield from (key if group == "_global_" else f"{group}.{key}" for key in flatten(node))


def _siblings(key: str, known: list[str]) -> str:
    parent = key.rpartition(".")[0]
    siblings = sorted({k.removeprefix(f"{parent}.").split(".")[0] for k in known if k.startswith(f"{parent}.")})
    top = sorted({k.split(".")[0] for k in known})
    return f"; {parent} has {', '.join(siblings)}" if parent and siblings else f"; choose one of {', '.join(top)}"
