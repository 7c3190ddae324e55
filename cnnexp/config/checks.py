"""The checks of a resolved config before any data is touched. Imports no torch.

Whatever can be found wrong without data is reported here, in one line that names the key.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from cnnexp.claims.study import check as check_study
from cnnexp.config import signature
from cnnexp.config.schema import CLOSED, GIVEN, RunConfig
from cnnexp.config.signature import Count, Index, Range, Rate, Span, parameters_of
from cnnexp.config.user_code import builders
from cnnexp.errors import UserError, unknown

LOADING = ("weights", "strict")  # settings of every network, which the caller follows if its builder does not have them


def target(where: str, node: Mapping[str, Any]) -> Callable[..., Any]:
    """Return what a node's `_target_` names. Raises UserError if it is missing or cannot be imported."""
    name = node.get("_target_")
    if not isinstance(name, str) or "." not in name or not all(map(str.isidentifier, name.split("."))):
        raise UserError(f"{where}._target_: given {name!r}; allowed: the dotted name of a function or class")
    if name.startswith("__main__."):
        fix = f"move it to a file, such as mine.py, and name it mine.{name.rpartition('.')[2]}"
        raise UserError(f"{where}._target_: '{name}' is in a notebook or script, which no record can name; {fix}")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    module_name, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise UserError(
                f"{where}._target_: no module '{error.name}' for '{name}'; run in its folder, or set PYTHONPATH"
            ) from error
        raise
    if not callable(getattr(module, attribute, None)):
        public = [n for n in vars(module) if callable(getattr(module, n)) and not n.startswith("_")]
        raise unknown(f"{where}._target_", f"name in {module_name}", attribute, public)
    found: Callable[..., Any] = getattr(module, attribute)
    try:
        parameters_of(found)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}._target_: '{name}' does not say what it takes; name a Python function") from error
    return found


def import_builders(nodes: Iterable[Any]) -> None:
    """Import the modules of all builders in nodes, nested ones too, so that `user_code` finds them.

    Errors show when a part is built.
    """
    for name, _ in (found for node in nodes for found in builders(node)):
        with suppress(Exception):
            target("", {"_target_": name})


def check(config: Mapping[str, Any]) -> None:
    """Check a resolved config before any data is touched. Raises UserError for the first thing that is wrong."""
    _check_texts("", config)
    if isinstance(config.get("slots"), (int, float)):
        raise UserError(f"slots: given {config['slots']!r}; allowed: auto, cpu:2, cuda:0, cuda:0*8, or a list of these")
    signature.check("", config, RunConfig)
    for name, schema in CLOSED.items():
        signature.check(name, config[name], schema)
    for pattern, duration in (config["unfreeze"] or {}).items():
        signature.check_value(f"unfreeze.{pattern}", duration, Span)
    check_study(config["study"])
    check_device(config["device"]["kind"])
    check_compile(config)
    check_processes(config)
    for name in GIVEN:
        _check_signature(name, config[name])
    for name in GIVEN:
        _check_by_builder(name, config[name], config)


def is_augmentation(builder: Callable[..., Any]) -> bool:
    """Tell whether a function augments images itself, as (images, generator, ...) -> images; others build what does."""
    return inspect.isfunction(builder) and "generator" in list(parameters_of(builder))[1:]


def is_loss(builder: Callable[..., Any]) -> bool:
    """Tell whether a function is a loss itself, as (logits, labels, ...) -> mean; others build what is."""
    names = list(parameters_of(builder))
    return inspect.isfunction(builder) and len(names) > 1 and names[1] in ("labels", "label", "target", "targets")


def given_to(name: str, node: Mapping[str, Any], builder: Callable[..., Any]) -> tuple[str, ...]:
    """Return the arguments that the caller gives a builder by name; the node has the others."""
    parameters = parameters_of(builder)
    if name == "augmentation" and is_augmentation(builder):
        return next(iter(parameters)), "generator"
    if name == "loss" and is_loss(builder):
        return tuple(parameters)[:2]
    if name == "data" and any(c.__module__.startswith("torch.utils.data") for c in getattr(builder, "__mro__", ())):
        key = next((key for key in ("train", "split") if key in parameters), None)
        if key is not None and key in node:
            fix = "name them all: data.splits=[train,val,test]" if key == "split" else "true for training, else false"
            raise UserError(f"data.{key}: given {node[key]!r}; leave it out, cnnexp builds every split; {fix}")
        return (key,) if key else ()
    return GIVEN[name]


def loading(node: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of a `model` node that its builder has, and those of LOADING that it does not have."""
    has = parameters_of(target("model", node))
    rest = {key: value for key, value in node.items() if key in LOADING and key not in has}
    return {key: value for key, value in node.items() if key not in rest}, rest


def dividing(node: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of a `data` node that its builder has, and those of `divide` that it does not have."""
    has = parameters_of(target("data", node))
    open_ended = any(p.kind is p.VAR_KEYWORD for p in has.values())
    rest = {key: node[key] for key in parameters_of(divide) if key in node and key not in has}
    return (dict(node), {}) if open_ended else ({key: node[key] for key in node if key not in rest}, rest)


def divide(
    val_fraction: Rate = 0.1,
    test_fraction: Rate = 0.2,
    split_seed: Index = 0,
    train_limit: Count | None = None,
    val_limit: Count | None = None,
    test_limit: Count | None = None,
    normalize: Literal["dataset"] | dict[str, Any] = "dataset",
    splits: list[str] | None = None,
    folds: Annotated[int, Range(low=2, high=100)] | None = None,
    fold: Index | None = None,
) -> None:
    """State the settings of every torch Dataset, which cnnexp follows: data/torch_dataset.py."""


def _check_signature(name: str, node: Mapping[str, Any]) -> None:
    builder = target(name, node)
    if name == "model":
        node, rest = loading(node)
        signature.check(name, rest, _loading)
    if name == "data":
        node, rest = dividing(node)
        signature.check(name, rest, divide)
    given = given_to(name, node, builder)
    try:
        signature.check(name, node, builder, given)
    except UserError as error:
        if ": is missing" not in str(error) or builder.__module__.startswith("cnnexp."):
            raise
        key = str(error).partition(":")[0]
        hint = (
            f"cnnexp passes {' and '.join(given) or 'nothing'}; give the rest: +{key}=VALUE, in its file, or a default"
        )
        if name == "augmentation" and inspect.isfunction(builder) and not is_augmentation(builder):
            hint = "a function that augments images itself takes (images, generator)"
        raise UserError(f"{error}; {hint}") from error


def _loading(weights: str | dict[str, str] = "none", strict: bool = True) -> None:
    """Stand for the builder of LOADING."""


def check_node(name: str, node: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Check a node against its builder's signature, and by the builder's own `check`, if it has one.

    config: the other nodes. Raises UserError for the first thing that is wrong.
    """
    _check_signature(name, node)
    _check_by_builder(name, node, config)


def _check_by_builder(name: str, node: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    further = getattr(target(name, node), "check", None)
    if callable(further):
        further(name, node, config)


def _check_texts(where: str, node: Any) -> None:
    """Raise UserError for text that no file can contain: half a character that is not a byte of a file's name."""
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
    """Check the name of a device. Torch says later whether the machine has it."""
    if kind not in ("auto", "cpu", "cuda", "mps") and not (kind.startswith("cuda:") and kind[5:].isdigit()):
        raise unknown("device.kind", "device", kind, ("auto", "cpu", "cuda", "cuda:<number>", "mps"))


def check_compile(config: Mapping[str, Any]) -> None:
    """Check that CUDA graphs are not used with parts of a batch. Raises UserError.

    A graph's memory, and with it the gradient of the first part, is used again by the second.
    """
    mode = config["device"].get("compile", False)
    if isinstance(mode, str) and config["accumulate"] > 1:
        raise UserError(
            f"device.compile: given {mode} with accumulate={config['accumulate']}; its CUDA graphs cannot add up the "
            "gradients of several parts; allowed: device.compile=true, or accumulate=1"
        )


def check_processes(config: Mapping[str, Any]) -> None:
    """Check what several processes of a run ask of the other settings. Raises UserError."""
    device, cluster = config["device"], config["cluster"]
    count, kind = device.get("processes", 1), device["kind"]
    given = f"device.processes: given {count}"
    if count == 1:
        return
    if kind == "mps":
        raise UserError(f"{given} with device.kind=mps, which has one GPU; allowed: cpu, cuda")
    if device.get("compile", False):
        raise UserError(f"{given} with device.compile={device['compile']}; compiled steps are for one process")
    if config["batch_size"] // config["accumulate"] < count:
        size = f"batch_size={config['batch_size']} and accumulate={config['accumulate']}"
        raise UserError(f"{given} with {size}; allowed: an image for each process in each part, or more")
    if cluster["engine"] in ("slurm", "ray"):
        key = "cpus" if kind == "cpu" or not cluster["gpus"] else "gpus"
        if cluster[key] < count:
            raise UserError(f"{given} with cluster.{key}={cluster[key]}; each process needs one: cluster.{key}={count}")
