"""Config in, checked config out: composition, checks, and the fingerprint. Imports no torch.

Everything that can be known to be wrong without data is told here, in one line that names the key.
"""

import hashlib
import importlib
import inspect
import itertools
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnexp.claims.study import check as check_study
from cnnexp.config import signature
from cnnexp.config.schema import CLOSED, RunConfig
from cnnexp.errors import UserError, unknown

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

# What the caller gives by name to the builder of each open node; everything else comes from the config.
GIVEN: dict[str, tuple[str, ...]] = {
    "data": (),
    "model": ("image", "classes"),
    "augmentation": (),
    "optimizer": ("params",),
    "scheduler": ("optimizer", "total_steps", "steps_per_epoch"),
}
# Keys that cannot change a number: left out of the fingerprint.
SILENT = (
    "seed",
    "study",
    "outputs",
    "slots",
    "log",
    "checkpoint",
    "backbone",
    "cache_features",
    "probes",
    "data.root",
    "data.path",
    "data.name",
    "data.cache",
)


def folder() -> Path:
    """Return the absolute path of the configs: the repository's folder if there is one, else the package's."""
    package = Path(__file__).resolve().parents[1]
    beside = package.parent / "configs"
    return beside if (beside / "train.yaml").exists() else package / "configs"


def compose(overrides: list[str], with_hydra: bool = False) -> DictConfig:
    """Compose train.yaml with overrides as typed on the command line. Raises Hydra's and OmegaConf's own errors."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folder()), version_base="1.3"):
        return hydra_compose("train", overrides, return_hydra_config=with_hydra)


def chosen_file(composed: DictConfig, group: str) -> Path | None:
    """Return the file of a group's choice. composed: with its `hydra` node."""
    runtime = composed.hydra.runtime
    places = [Path(source.path) for source in runtime.config_sources if source.schema == "file"]
    files = [place / group / f"{runtime.choices[group]}.yaml" for place in places]
    return next((file for file in files if file.exists()), None)


def search_path(words: list[str]) -> list[str]:
    """Return the override that makes `compose` look for configs where a command's words say, or none.

    words: those of a command; `--config-dir DIR`, `--config-dir=DIR` and `-cd DIR` are looked for.
    """
    folders = [folder.as_uri() for folder in config_folders(words)]
    return [f"hydra.searchpath=[{','.join(folders)}]"] if folders else []


def config_folders(words: list[str]) -> list[Path]:
    """Return the folders that a command's words name with --config-dir, absolute."""
    found = [word.partition("--config-dir=")[2] for word in words]
    found += [following for word, following in itertools.pairwise(words) if word in ("--config-dir", "-cd")]
    return [Path(folder).resolve() for folder in found if folder]


def check_search_path(words: list[str]) -> None:
    """Raise UserError if Hydra would take a folder for a group of configs: `outputs/` beside them, with outputs=DIR."""
    plain = {field.name for field in fields(RunConfig)} - set(GIVEN) - {"device", "probes", "study"}
    typed = {word.partition("=")[0] for word in words} & plain
    for place in config_folders(words):
        if taken := sorted(name for name in typed if (place / name).is_dir()):
            raise UserError(
                f"{taken[0]}: the folder {place / taken[0]} is taken for a group of configs; "
                "keep configs in a folder of their own for --config-dir"
            )


def parse(overrides: list[str]) -> list["Override"]:
    """Read overrides as typed on the command line. Raises Hydra's own error for one that cannot be read."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_overrides(overrides)


def by_precedence(overrides: list[str]) -> list[str]:
    """Put +study, +pretrain, +arm, +protocol and +scale, in this order, before all else, so that what is typed wins."""
    first = ["+study", "+pretrain", "+arm", "+protocol", "+scale"]
    return sorted(
        overrides, key=lambda word: first.index(key) if (key := word.partition("=")[0]) in first else len(first)
    )


def resolve(config: DictConfig) -> dict[str, Any]:
    """Return the config as plain dicts and lists, interpolations resolved. Raises UserError naming a broken one."""
    try:
        plain = OmegaConf.to_container(without_hydra(config), resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'config'}: {str(error.msg or error).splitlines()[0]}") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def without_hydra(config: DictConfig) -> DictConfig:
    """Return the config without the `hydra` node: itself if it has none, else a copy."""
    if "hydra" not in config:
        return config
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def target(where: str, node: Mapping[str, Any]) -> Callable[..., Any]:
    """Return what a node's `_target_` names. Raises UserError if it is missing or cannot be imported."""
    name = node.get("_target_")
    if not isinstance(name, str) or "." not in name or not all(map(str.isidentifier, name.split("."))):
        raise UserError(f"{where}._target_: given {name!r}; allowed: the dotted name of a function or class")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    module_name, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise UserError(
                f"{where}._target_: no module '{error.name}' for '{name}'; run where it lies, or set PYTHONPATH"
            ) from error
        raise
    if not callable(getattr(module, attribute, None)):
        public = [n for n in vars(module) if callable(getattr(module, n)) and not n.startswith("_")]
        raise unknown(f"{where}._target_", f"name in {module_name}", attribute, public)
    found: Callable[..., Any] = getattr(module, attribute)
    try:
        inspect.signature(found)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}._target_: '{name}' does not say what it takes; name a Python function") from error
    return found


def check(config: Mapping[str, Any]) -> None:
    """Check a resolved config before any data is touched. Raises UserError for the first thing that is wrong."""
    _check_texts("", config)
    if isinstance(config.get("slots"), (int, float)):
        raise UserError(f"slots: given {config['slots']!r}; allowed: auto, cpu:2, cuda:0, cuda:0*8, or a list of these")
    signature.check("", config, RunConfig)
    for name, schema in CLOSED.items():
        signature.check(name, config[name], schema)
    check_study(config["study"])
    check_device(config["device"]["kind"])
    for name, given in GIVEN.items():
        signature.check(name, config[name], target(name, config[name]), given)
    for name in GIVEN:
        check_node(name, config[name], config)


def check_node(name: str, node: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Check a node against its builder's signature, and by the builder's own `check`, if it has one.

    config: the other nodes. Raises UserError for the first thing that is wrong.
    """
    builder = target(name, node)
    signature.check(name, node, builder, GIVEN[name])
    further = getattr(builder, "check", None)
    if callable(further):
        further(name, node, config)


def _check_texts(where: str, node: Any) -> None:
    """Raise UserError for a text that no file can hold: with half a character that is no byte of a file's name."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            _check_texts(f"{where}.{key}".lstrip("."), key)
            _check_texts(f"{where}.{key}".lstrip("."), value)
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            _check_texts(f"{where}[{index}]", value)
    elif isinstance(node, str):
        try:
            node.encode("utf-8", errors="surrogateescape")
        except UnicodeEncodeError as error:
            raise UserError(f"{where}: given {node!a}; allowed: text without half characters") from error


def check_device(kind: str) -> None:
    """Check the name of a device; whether it is there is asked later, of torch."""
    if kind not in ("auto", "cpu", "cuda", "mps") and not (kind.startswith("cuda:") and kind[5:].isdigit()):
        raise unknown("device.kind", "device", kind, ("auto", "cpu", "cuda", "cuda:<number>", "mps"))


def canonical(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a config can change a number, without what equals its builder's neutral default.

    So a parameter that is added to a builder later, with the old behaviour as its default, changes no old fingerprint.
    """
    kept = _unlike_neutral({k: v for k, v in config.items() if k not in SILENT and k != "device"}, RunConfig)
    for name, given in GIVEN.items():
        heard = {k: v for k, v in config[name].items() if f"{name}.{k}" not in SILENT}
        kept[name] = _unlike_neutral(heard, target(name, config[name]), given)
    kept["epochs"] = str(config["epochs"]) + ("" if str(config["epochs"]).endswith(("ep", "st")) else "ep")
    return kept


def _unlike_neutral(
    node: Mapping[str, Any], builder: Callable[..., Any], given: tuple[str, ...] = ()
) -> dict[str, Any]:
    neutral = {name: parameter.default for name, parameter in signature.settings(builder, given).items()}
    return {key: value for key, value in node.items() if not (key in neutral and neutral[key] == value)}


def fingerprint(config: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Hash what can change a number, the seed apart, to 10 hexadecimal digits.

    facts: what the config leaves to the machine, resolved: precision, device kind, threads, channels_last, the data's
    fingerprint, and that of upstream weights.
    """
    content = canonical(config)
    if facts.get("weights") is not None:
        content["model"] = {**content["model"], "weights": None}
    text = json.dumps({"config": content, "facts": dict(facts)}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]
