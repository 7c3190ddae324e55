"""Settings given in Python, as the words of a command: epochs=3, model={"norm": "batch"}, seed=[0, 1, 2]."""

import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, Union, get_origin

from cnnexp.config.words import ALIASES, FIRST, GROUPS, as_word, quoted
from cnnexp.errors import UserError

PLUS = tuple(name.lstrip("+") for name in FIRST)  # study="ablation" is typed +study=ablation
PARTS = (*GROUPS, *ALIASES)  # groups whose `_target_` may be one's own
LISTS = ("slots", "preset")  # a list given for these is one value


def words_of(overrides: Sequence[Any], settings: Mapping[str, Any], sweep: bool = False) -> list[str]:
    """Return the words of `cnnexp train`.

    overrides: words as typed, or mappings of dotted keys. settings: values by key; a mapping sets what is below its
    key. sweep: a list is a value for each run; else it is one value. Raises UserError for what is no setting.
    """
    words = list[str]()
    for given in overrides:
        if isinstance(given, Mapping):
            words += _settings(given, sweep)
        elif not isinstance(given, str):
            raise UserError(f"given {given!r}; allowed: overrides such as 'epochs=3', or keywords: epochs=3")
        elif found := re.search(r"\s\+?[\w.]+=", given):
            raise UserError(f"given {given!r}; give each setting as a text of its own, such as {found[0].strip()!r}...")
        else:
            words.append(given)
    return words + _settings(settings, sweep)


def _settings(settings: Mapping[str, Any], sweep: bool) -> list[str]:
    words = list[str]()
    for key, value in settings.items():
        if key == "config_dir":
            folders = [value] if isinstance(value, (str, os.PathLike)) else value
            words += [f"--config-dir={os.fspath(folder)}" for folder in folders]
        elif key in PLUS and not isinstance(value, Mapping):
            words.append(_word(f"+{key}", value, sweep))
        else:
            words += [_word(name, below, sweep) for name, below in _below(key, value)]
    return words


def _below(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys below a key with their values."""
    if isinstance(value, Mapping) and value and not _is_one_value(key):
        for name, below in value.items():
            yield from _below(f"{key}.{name}", below)
    else:
        yield key, value


def _is_one_value(key: str) -> bool:
    """Tell whether a mapping replaces the value of a key: its schema also allows something else, such as a text."""
    node, _, name = key.lstrip("+").rpartition(".")
    return name in _replaced(ALIASES.get(node, node))


@functools.cache
def _replaced(node: str) -> set[str]:
    """Return the keys of a node, of the top if "", that hold a mapping or something else."""
    from cnnexp.config import checks, schema, signature
    from cnnexp.training.allowed import shipped

    closed = {**schema.CLOSED, "search": schema.Search, "": schema.RunConfig}
    builders = [checks.target(node, {"_target_": name}) for name in shipped().get(node, ())]
    schemas: list[Any] = [closed[node]] if node in closed else builders
    kinds = {name: given.annotation for of in schemas for name, given in signature.settings(of).items()}
    either = {name for name, kind in kinds.items() if get_origin(kind) in (Union, UnionType)}
    return {name for name in either if signature.matches({}, kinds[name])} - set(closed)


def _word(key: str, value: Any, sweep: bool) -> str:
    value = _plain(key, value)
    if sweep and isinstance(value, list) and key.lstrip("+") not in LISTS:
        if not value:
            raise UserError(f"{key}: given []; allowed: at least one value")
        return f"{key}={','.join(map(as_word, value))}"
    return f"{key}={_text(value) if isinstance(value, str) else as_word(value)}"


def _plain(key: str, value: Any) -> Any:
    """Return a value of None, bool, int, float, str, lists and dicts; arrays, ranges and paths are converted."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(key, below) for name, below in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [_plain(key, item) for item in value]
    if callable(convert := getattr(value, "tolist", None)):  # numpy's and torch's arrays and numbers
        return _plain(key, convert())
    if key.partition(".")[0] in PARTS:
        named = value if hasattr(value, "__qualname__") else type(value)
        target = f"{named.__module__}.{named.__qualname__}"
        raise UserError(f"{key}: given an object; name what builds it, as text: {key}={{'_target_': '{target}'}}")
    raise UserError(f"{key}: given {value!r}; allowed: numbers, texts, true, false, None, and lists and dicts of these")


def _text(text: str) -> str:
    """Return a text as it is typed: unquoted where Hydra reads it back as the same text."""
    from cnnexp.config.compose import parse

    try:
        read = parse([f"key={text}"])[0].value()
    except Exception:  # Hydra's parser raises several kinds
        read = None
    return text if isinstance(read, str) and read == text else quoted(text)
