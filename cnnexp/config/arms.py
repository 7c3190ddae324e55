"""The arms of a study, overrides by name, as `study.arms` lists them. They become Hydra's group `arm`."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import Container, DictConfig, OmegaConf

from cnnexp.config.keys import flatten
from cnnexp.config.schema import RunConfig
from cnnexp.config.words import ALIASES
from cnnexp.errors import UserError, unknown

GROUPS = ("data", "model", "augmentation", "optimizer", "scheduler", "device", "probes")
KEYS = [field.name for field in fields(RunConfig) if field.name not in ("seed", "study", "outputs", "slots")]


@dataclass(frozen=True)
class Arm:
    """What an arm changes. choices: of groups, {"model": "resnet18"}; values: nested, {"model": {"bn": "frozen"}}."""

    choices: dict[str, str]
    values: dict[str, Any]

    def changes(self) -> list[str]:
        """Return the changes as overrides: ["model=resnet18", "model.bn=frozen"]."""
        values = [f"{key}={as_word(value)}" for key, value in flatten(self.values).items() if key]
        return [f"{group}={choice}" for group, choice in self.choices.items()] + values


def read_arms(study: Any) -> dict[str, Arm]:
    """Read the arms of a `study` node: {name: overrides}, or {name: [arms and overrides, combined in this order]}.

    Overrides are nested or dotted keys; a word for a group chooses from that group. Raises UserError naming the arm.
    """
    given = study.get("arms") if isinstance(study, Mapping | DictConfig) else None
    if given is None:
        return {}
    given = OmegaConf.to_container(given) if isinstance(given, Container) else given
    if not isinstance(given, Mapping):
        raise UserError(f"study.arms: given {given!r}; allowed: a mapping of names to overrides")
    named = {str(name): content for name, content in given.items()}
    if odd := [name for name in named if not re.fullmatch(r"\w[\w.-]*", name)]:
        raise UserError(f"study.arms: given the name {odd[0]!r}; allowed: letters, digits, _, - and .")
    return {name: _read(name, named, ()) for name in named}


def register(arms: Mapping[str, Arm]) -> None:
    """Make arms the choices of Hydra's group `arm`, in the place of those of the study before."""
    store = ConfigStore.instance()
    store.repo.pop("arm", None)
    for name, arm in arms.items():
        chosen = [{f"override /{group}": choice} for group, choice in arm.choices.items()]
        node = {"defaults": [*chosen, "_self_"], **arm.values}
        store.store(group="arm", name=name, node=node, package="_global_", provider="study.arms")


def as_word(value: Any) -> str:
    """Return a value as it is typed in an override."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _read(name: str, named: Mapping[str, Any], above: tuple[str, ...]) -> Arm:
    where, content = f"study.arms.{name}", named[name]
    if name in above:
        raise UserError(f"study.arms.{above[0]}: combines itself ({' -> '.join([*above, name])})")
    found = Arm({}, {})
    for part in content if isinstance(content, list) else [{} if content is None else content]:
        if isinstance(part, Mapping):
            arm = _overrides(where, part)
        elif isinstance(content, list) and str(part) in named:
            arm = _read(str(part), named, (*above, name))
        elif isinstance(content, list):
            raise unknown(where, "arm", str(part), [other for other in named if other != name])
        else:
            raise UserError(f"{where}: given {content!r}; allowed: overrides by key, or a list of arms to combine")
        found = Arm(found.choices | arm.choices, _merged(found.values, arm.values))
    return found


def _overrides(where: str, given: Mapping[Any, Any]) -> Arm:
    choices, values = dict[str, str](), dict[str, Any]()
    for key, value in given.items():
        first, *below = str(key).split(".")
        first = ALIASES.get(first, first)
        if first not in KEYS:
            raise unknown(f"{where}.{key}", "key", first, KEYS)
        if isinstance(value, str) and not below and first in GROUPS:
            choices[first] = value
        else:
            values = _merged(values, _nested([first, *below], value))
    return Arm(choices, values)


def _nested(path: Iterable[str], value: Any) -> dict[str, Any]:
    """Return {"a": {"b": value}} for the path a, b; dotted keys inside the value are nested too."""
    if isinstance(value, Mapping):
        inner = dict[str, Any]()
        for key, content in value.items():
            inner = _merged(inner, _nested(str(key).split("."), content))
        value = inner
    for key in reversed(list(path)):
        value = {key: value}
    found: dict[str, Any] = value
    return found


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return two nested mappings as one; where both have a value, the second's."""
    both = {
        key: _merged(first[key], value) if isinstance(value, dict) and isinstance(first.get(key), dict) else value
        for key, value in second.items()
    }
    return {**first, **both}
