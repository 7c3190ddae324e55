"""What a config from a run directory may build, download and write. The directory may come from anyone."""

import functools
import importlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cnnexp.config import checks
from cnnexp.config import compose as configs
from cnnexp.errors import UserError

LIBRARIES = ("torch.nn", "torchvision.models")  # whose networks may be built by name


def check_targets(where: str, node: Any, allow: Iterable[str] = ()) -> None:
    """Check that a node that was read from a run directory builds only what is safe to build.

    where: the node's key, which begins with its group: "model", "data.normalize". Each `_target_` must be one of:
    - a builder that the shipped configs of that group name; a network cannot ask for a data set, which is downloaded;
    - a name in `allow`;
    - a class of networks of torch or torchvision, by its full name;
    - in the groups optimizer and scheduler, a class of torch's optimisers or schedulers.
    The name is judged before anything is imported, because importing a stranger's module runs it. A prefix would not
    be enough: torch.hub.load begins with torch. Raises UserError that names everything else, and for interpolations,
    which could make a `_target_` out of text.
    """
    check_nodes({where: node}, allow)


def check_nodes(nodes: Mapping[str, Any], allow: Iterable[str] = ()) -> None:
    """Check several nodes, {key: node}, as `check_targets` does one."""
    refused = [found for where, node in nodes.items() for found in refused_targets(where, node, set(allow))]
    if not refused:
        return
    names = list(dict.fromkeys(f"{name!s:.200}" for _, name in refused))
    one = ("is not", "it is neither a builder", "a network, optimiser or scheduler", "it")
    many = ("are not", "they are no builders", "networks, optimisers or schedulers", "them")
    are, builders, classes, them = one if len(names) == 1 else many
    typed = " ".join(f"--allow {shlex.quote(name)}" for name in names)
    raise UserError(
        f"{refused[0][0]}._target_: {', '.join(names)} {are} built from a run directory: {builders} of cnnexp nor "
        f"{classes} of torch by its full name; if you trust {them}, add {typed} (in Python: allow={names})"
    )


def refused_targets(where: str, node: Any, allow: set[str]) -> Iterator[tuple[str, Any]]:
    """Yield the key and the name of every `_target_` that may not be built."""
    if isinstance(node, Mapping):
        if "_target_" in node and not _may_be_built(where, node["_target_"], allow):
            yield where, node["_target_"]
        for key, value in node.items():
            if key != "_target_":
                yield from refused_targets(f"{where}.{key}", value, allow)
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from refused_targets(f"{where}[{index}]", value, allow)
    elif isinstance(node, str) and "${" in node:
        raise UserError(f"{where}: given {node!r}; a recorded config has values, not interpolations")


def _may_be_built(where: str, name: Any, allow: set[str]) -> bool:
    if not isinstance(name, str):
        return False
    group = re.split(r"[.\[]", where)[0]
    if name in shipped().get(group, ()) or name in allow:
        return True
    if group in ("optimizer", "scheduler"):
        return name.startswith("torch.optim.") and _is_optimizer(name)
    return name.startswith(tuple(f"{library}." for library in LIBRARIES)) and _is_network(name)


def _is_network(name: str) -> bool:
    """Tell whether a name is a class of networks, in the module that defines it."""
    from torch import nn

    found = _class(name)
    return found is not None and issubclass(found, nn.Module) and found.__module__ == name.rpartition(".")[0]


def _is_optimizer(name: str) -> bool:
    """Tell whether a name is a class of torch's optimisers or schedulers."""
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    found = _class(name)
    torchs = found is not None and found.__module__.startswith("torch.optim.")
    return found is not None and torchs and issubclass(found, (Optimizer, LRScheduler))


def _class(name: str) -> type | None:
    module, _, attribute = name.rpartition(".")
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", name, re.ASCII):
        return None
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except Exception:  # parts of torch for other machines may raise anything
        return None
    return found if isinstance(found, type) else None


@functools.lru_cache(maxsize=1)
def shipped() -> dict[str, frozenset[str]]:
    """Return the builders that the shipped configs name, by group: {"model": {"cnnexp.models.zoo.zoo", ...}}."""
    texts: dict[str, str] = {}
    for file in configs.folder().glob("*/*.yaml"):
        texts[file.parent.name] = texts.get(file.parent.name, "") + file.read_text(encoding="utf-8")
    return {
        group: frozenset(re.findall(r"^ *_target_: *(cnnexp\.[\w.]+)", text, re.MULTILINE))
        for group, text in texts.items()
    }


def confined_data(data: Mapping[str, Any], typed: Iterable[str] = (), allow: Iterable[str] = ()) -> dict[str, Any]:
    """Return a recorded `data` node that downloads nothing, and keeps prepared images in the usual cache only.

    typed: keys that the user has typed ("data.root", "data.cache"), which stay. allow: builders that the user trusts,
    with their settings. Raises UserError if its images are not at data.root: they would be downloaded there.
    """
    root = data.get("root")
    if data.get("_target_") in tuple(allow):
        return dict(data)
    if "data.root" not in typed and isinstance(root, str):
        place = getattr(checks.target("data", data), "place", None)
        folder = Path(root) / (place(data) if place else "")
        if not folder.exists():
            raise UserError(f"data.root: the run's data was at {folder}, which is not there; give data.root=DIR")
    return {**data, "cache": None} if "cache" in data and "data.cache" not in typed else dict(data)
