"""The arms of a study, overrides by name, as `study.arms` lists them. They become Hydra's group `arm`."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import Container, DictConfig, OmegaConf

from cnnexp.config.habits import KEYS as HABITS
from cnnexp.config.keys import counts, flatten
from cnnexp.config.schema import CLOSED, RunConfig, Study
from cnnexp.config.words import ALIASES, GROUPS, OWN, SAMPLERS, as_text, choices_of, folder, key_of
from cnnexp.errors import UserError, unknown

CHOSEN = (*GROUPS, "device", "probes")  # the groups that an arm can choose from
KEYS = [field.name for field in fields(RunConfig) if field.name not in ("seed", "study", "outputs", "slots")]
OF_STUDY = {field.name for field in fields(Study)}
EXAMPLES = {  # of the settings of a node, for who gives it another value
    "augmentation": "{ops: [{flip: {p: 0.5}}, {crop: {padding: 4}}]}",
    "optimizer": "{lr: 0.01}",
    "mix": "{mixup: 0.2}",
    "ema": "{decay: 0.99}",
    "param_groups": "{no_decay: true}",
    "early_stopping": "{patience: 5}",
    "checkpoint": "{every: 2ep}",
    "log": "{steps: 10st}",
    "backbone": "{weights: imagenet}",
}


@dataclass(frozen=True)
class Arm:
    """What an arm changes. choices: of groups, {"model": "resnet18"}; values: nested, {"model": {"bn": "frozen"}}."""

    choices: dict[str, str]
    values: dict[str, Any]

    def changes(self) -> list[str]:
        """Return the changes as overrides: ["model=resnet18", "model.bn=frozen"]."""
        values = [f"{key}={as_text(value)}" for key, value in flatten(self.values).items() if key]
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
    for value in map(_read, given):
        if not isinstance(value, str):
            word = as_text(value)
            fix = f"choose another name, such as arm_{word}, or quote the word on, off, yes or no"
            raise UserError(f"study.arms: a name is read as the value {word}, not as text; {fix}")
    return {name: _arm(_settings(name, named, ())) for name in named}


def _read(name: Any) -> Any:
    """Return what YAML and then Hydra read an arm's name as: 2 for "2", True for on."""
    return OverridesParser.create().parse_override(f"arm={name}").value() if isinstance(name, str) else name


def check_file(study: str, config: Mapping[str, Any], places: Iterable[Path] = ()) -> None:
    """Check the file of a study, where Hydra takes every value. Raises UserError for a wrong one, with its place.

    config: as composed with this study alone, not resolved. places: further folders of configs.
    """
    where = f"study/{study}.yaml"
    for file in (place / where for place in (*places, folder())):
        if file.is_file():
            if not re.search(r"^\s*[^#\s]", file.read_text(encoding="utf-8"), re.MULTILINE):
                raise UserError(f"{where}: is empty; it needs study: with its name, arms and seeds ({file})")
            break
    if odd := [key for key in config if key in OF_STUDY and key not in KEYS]:
        raise UserError(f"{where}: {odd[0]}: belongs below study:, indented, as every key of a study")
    node = config.get("study")
    if isinstance(node, Mapping) and isinstance(node.get("arm"), (Mapping, list)):
        raise UserError(f"{where}: study.arm: lists the arms; write arms:, with an s")
    for key in dict.fromkeys((*CHOSEN, *CLOSED)):
        value = config.get(key, {})
        if key in CHOSEN and isinstance(value, str) and not value.startswith("${"):
            if value not in (names := choices_of(places).get(key, [])):
                raise unknown(f"{where}: {key}", "choice", value, names)
            fix = f"defaults: [{{override /{key}: {value}}}]"
            raise UserError(f"{where}: {key}: given {value!r}; to choose it, write {fix} above study:")
        if key != "study":
            check_kind(f"{where}: {key}", key, value)


def check_kind(where: str, key: str, value: Any, word: bool = False) -> None:
    """Raise UserError for a node of the config that is given as something else than a mapping or a reference.

    key: of the node. word: a word is allowed too, if the node is of a group: it chooses from that.
    """
    if isinstance(value, Mapping) or (isinstance(value, str) and (value.startswith("${") or (word and key in CHOSEN))):
        return
    names = choices_of().get(key, []) if word and key in CHOSEN else []
    wanted = value if isinstance(value, list) else [] if value else ["none"]
    likely = [name for name in wanted if name in names] or [name for name in names if name != "none"]
    ways = [f"one choice, such as {key}: {likely[0]}, or "] if likely else []
    ways += ["settings by key", f", such as {key}: {EXAMPLES[key]}" if key in EXAMPLES else ""]
    shown = as_text(value) if value is None or isinstance(value, bool) else repr(value)
    raise UserError(f"{where}: given {shown}; allowed: {''.join(ways)}")


def register(arms: Mapping[str, Arm]) -> None:
    """Make arms the choices of Hydra's group `arm`; they replace those of another study."""
    store = ConfigStore.instance()
    store.repo.pop("arm", None)
    for sampler in SAMPLERS:
        store.store(group="search", name=sampler, node={"sampler": sampler}, provider="cnnexp")
    for group in GROUPS:
        store.store(group=group, name=OWN, node={}, provider="cnnexp")
    for name, arm in arms.items():
        own = {group: OWN for group in GROUPS if "_target_" in arm.values.get(group, {})}
        chosen = [{f"override /{group}": choice} for group, choice in (own | arm.choices).items()]
        node = {"defaults": [*chosen, "_self_"], **arm.values}
        store.store(group="arm", name=name, node=node, package="_global_", provider="study.arms")


def arm_changes(arms: Mapping[str, Arm], arm: str | None, typed: Iterable[str], swept: Iterable[str] = ()) -> list[str]:
    """Return what a run's arm changes, as overrides.

    arms: those of the study. arm: the chosen one, None without. typed: the run's overrides, without flags. swept: the
    keys that vary in a sweep; if given, what was typed for all runs is left out.
    Raises UserError for an arm that the study does not have.
    """
    if arm is not None:
        if arm not in arms:
            raise unknown("+arm", "arm", arm, arms)
        return arms[arm].changes()
    varying = {key for key in swept if counts(key, "arm")}  # more seeds make no other arms
    return [word for word in typed if counts(key_of(word), "arm") and (not varying or key_of(word) in varying)]


def _arm(settings: Iterable[tuple[str, Any]]) -> Arm:
    choices, values = dict[str, str](), OmegaConf.create({})
    for key, value in settings:
        if key in CHOSEN and isinstance(value, str):
            choices[key] = value
        else:
            OmegaConf.update(values, key, value, merge=True, force_add=True)
    return Arm(choices, {str(key): value for key, value in OmegaConf.to_container(values).items()})  # type: ignore[union-attr]


def _settings(name: str, named: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys and values of an arm, those of the arms that it combines first."""
    where, content = f"study.arms.{name}", named[name]
    if name in above:
        raise UserError(f"study.arms.{above[0]}: combines itself ({' -> '.join([*above, name])})")
    for part in content if isinstance(content, list) else [{} if content is None else content]:
        if isinstance(part, Mapping):
            for key, value in flatten(part).items() if part else ():
                first, *below = key.split(".")
                first = ALIASES.get(first, first)
                if first == "seed":
                    raise UserError(f"{where}.seed: all arms of a study have the same seeds; list them in study.seeds")
                if first not in KEYS:
                    if not below and (right := HABITS.get(first, "")).endswith("={}") and " " not in right:
                        raise UserError(f"{where}.{key}: unknown key {key!r}; write {right[:-3]}: {as_text(value)}")
                    raise unknown(f"{where}.{key}", "key", first, KEYS)
                if not below and first in (*CHOSEN, *CLOSED):
                    check_kind(f"{where}.{key}", first, value, word=True)
                yield ".".join([first, *below]), value
        elif isinstance(content, list) and str(part) in named:
            yield from _settings(str(part), named, (*above, name))
        elif isinstance(content, list):
            raise unknown(where, "arm", str(part), [other for other in named if other != name])
        else:
            raise UserError(f"{where}: given {content!r}; allowed: overrides by key, or a list of arms to combine")
