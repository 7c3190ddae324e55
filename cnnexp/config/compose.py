"""From the words of a command to a resolved config, by Hydra. Imports no torch."""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.initialize import get_gh_backup, restore_gh_from_backup
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnexp.config.arms import CHOSEN, check_file, read_arms, register
from cnnexp.config.checks import LOADING
from cnnexp.config.hydra_node import check_names, check_node
from cnnexp.config.schema import SWEEP, RunConfig
from cnnexp.config.set_by_data import follow_model
from cnnexp.config.words import (
    ALIASES,
    GROUPS,
    OWN,
    check_hydra,
    check_overrides,
    config_folders,
    in_order,
    key_of,
    quoted,
    replacing,
    study_of,
)
from cnnexp.config.words import folder as folder
from cnnexp.errors import EXIT_DONE, UserError
from cnnexp.text import at_home

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

PLAIN = re.compile(r"[A-Za-z_][A-Za-z_0-9]*|[0-9]+")  # values that Hydra reads as they are


def compose(overrides: list[str], with_hydra: bool = False) -> DictConfig:
    """Compose train.yaml with overrides as typed on the command line.

    Raises UserError for a study whose arms are wrong, and Hydra's and OmegaConf's own errors.
    """
    words = prepare(overrides)
    with loader() as configs:
        config = load(configs, words)
    return config if with_hydra else without_hydra(config)


def prepare(overrides: list[str]) -> list[str]:
    """Return overrides as Hydra reads them, sorted by what wins, and make the arms of their study known to Hydra."""
    check_overrides(overrides, folders_of(overrides))
    words = [readable(word) for word in replacing(in_order(overrides))]
    check_hydra(words)
    register_arms(words)
    return words


@contextmanager
def loader() -> Iterator[ConfigLoader]:
    """Start Hydra without a job, and yield what loads its configs. A program's own Hydra is there again afterwards."""
    before = get_gh_backup()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folder()), version_base="1.3"):
            yield GlobalHydra.instance().config_loader()
    finally:
        restore_gh_from_backup(before)


def load(configs: ConfigLoader, words: list[str], mode: RunMode = RunMode.RUN) -> DictConfig:
    """Compose train.yaml and its `hydra` node. words: prepared. mode: MULTIRUN leaves out what a sweep varies."""
    config = configs.load_configuration("train", words, mode)
    check_node(config.hydra, words)
    check_names(config.hydra)
    return config


def outputs_and_study(words: list[str]) -> tuple[Path, str]:
    """Return `outputs` and `study.name` of a sweep. words: prepared."""
    with loader() as configs:
        config = load(configs, words, RunMode.MULTIRUN)
    return Path(at_home(str(config.outputs))), str(config.study.name)


def register_arms(words: list[str], places: list[str] | None = None) -> None:
    """Make the arms of the study that a command's words name, if any, known to Hydra.

    places: overrides that say where to look for configs, where the words have none. Raises UserError for a wrong study.
    """
    study = study_of(words)
    if study is None:
        register({})
        return
    places = places or [word for word in words if word.startswith("hydra.searchpath=")]
    with loader() as configs:
        config = load(configs, [f"+study={study}", *places])
    node = config.get("study")
    if isinstance(node, DictConfig) and "study" in node:
        raise UserError(f"study/{study}.yaml: its first line must be '# @package _global_'")
    unresolved = OmegaConf.to_container(without_hydra(config))
    assert isinstance(unresolved, dict)
    check_file(study, {str(key): value for key, value in unresolved.items()}, folders_of(places))
    register(read_arms(node))


def register_for_completion(words: list[str]) -> None:
    """Make what a shell completes known to Hydra: the arms of the study that words name, and the short names."""
    with suppress(Exception):  # a half-typed study has no arms yet
        register_arms([word for word in words if key_of(word) == "+study"], search_path(words))
    for short, name in ALIASES.items():
        for file in (folder() / name).glob("*.yaml"):
            ConfigStore.instance().store(group=short, name=file.stem, node={})
    for group in GROUPS:
        ConfigStore.instance().repo.get(group, {}).pop(f"{OWN}.yaml", None)


def ask_hydra(words: list[str]) -> int:
    """Let Hydra print what flags ask for, such as --cfg=job, or complete words in a shell; returns the exit code."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let exceptions through: cli.py shows them in one line
    typed, sys.argv = sys.argv, [sys.argv[0], *words]
    try:
        hydra.main(config_path=str(folder()), config_name="train", version_base="1.3")(lambda config: None)()
    finally:
        sys.argv = typed
    return EXIT_DONE


def search_path(words: list[str]) -> list[str]:
    """Return the override that makes `compose` look for configs where a command's words say, [] if they do not.

    words: those of a command; `--config-dir DIR`, `--config-dir=DIR` and `-cd DIR` are found.
    """
    folders = [quoted(f"file://{folder}") for folder in config_folders(words)]
    return [f"hydra.searchpath=[{','.join(folders)}]"] if folders else []


def folders_of(words: Iterable[str]) -> list[Path]:
    """Return the folders of configs that `search_path` has put into words."""
    return [Path(found) for word in words for found in re.findall(r"file://([^'\],]+)", word)]


def check_search_path(words: list[str]) -> None:
    """Raise UserError if a folder of configs is missing, or has one that Hydra would mistake for a group of configs.

    The second is so for `outputs/` with outputs=DIR typed.
    """
    plain = {field.name for field in fields(RunConfig)} - {*CHOSEN, "study"}
    typed = {word.partition("=")[0] for word in words} & plain
    for place in config_folders(words):
        if not place.is_dir():
            raise UserError(f"--config-dir: {place} is not a folder")
        if taken := sorted(name for name in typed if (place / name).is_dir()):
            raise UserError(
                f"{taken[0]}: the folder {place / taken[0]} would be a group of configs; "
                "keep configs in a separate folder for --config-dir"
            )


def parse(overrides: list[str]) -> list["Override"]:
    """Read overrides as typed on the command line. Raises Hydra's own error for one that cannot be read."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_overrides([readable(word) for word in overrides])


@lru_cache(1000)
def readable(word: str) -> str:
    """Return an override with quotes around a text that Hydra cannot read without: data.root=photos (1), outputs=~/x.

    A list, a mapping, a sweep over values, and what is in quotes already, are returned unchanged.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, _, value = word.partition("=")
    if word[:1] == "-" or not value or "," in value or value[0] in "[{'\"" or PLAIN.fullmatch(value):
        return word
    for candidate in (word, f"{key}={quoted(value)}"):
        try:
            OverridesParser.create().parse_override(candidate)
        except HydraException:
            continue
        return candidate
    return word


def resolve(config: DictConfig) -> dict[str, Any]:
    """Return a run's config as plain dicts and lists, interpolations resolved, without what makes the runs of a study.

    A text that starts with `~/` is a path in the user's home folder, unless it is a name. Raises UserError naming a
    broken interpolation.
    """
    try:
        plain = OmegaConf.to_container(without_hydra(config), resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'config'}: {str(error.msg or error).splitlines()[0]}") from error
    assert isinstance(plain, dict)
    plain.pop("search", None)
    if isinstance(study := plain.get("study"), dict):
        plain["study"] = {key: value for key, value in study.items() if key not in SWEEP}
    if isinstance(model := plain.get("model"), dict):
        plain["model"] = {key: value for key, value in model.items() if key not in LOADING or value is not None}
    found = {str(key): value if key == "study" else _homes(value) for key, value in plain.items()}
    follow_model(found)
    return found


def _homes(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: content if key == "name" else _homes(content) for key, content in value.items()}
    if isinstance(value, list):
        return [_homes(content) for content in value]
    return at_home(value) if isinstance(value, str) else value


def without_hydra(config: DictConfig) -> DictConfig:
    """Return the config without the `hydra` node: itself if it has none, else a copy."""
    if "hydra" not in config:
        return config
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
