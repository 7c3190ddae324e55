"""What may be built of a config that comes from a run directory, which may come from anyone."""

import functools
import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cnnexp.config import compose as configs
from cnnexp.errors import UserError

# Where networks may be built by name.
LIBRARIES = ("torch.nn", "torchvision.models")


def check_targets(where: str, node: Any, allow: Iterable[str] = ()) -> None:
    """Check that a node that was read from a run directory builds only what is safe to build.

    where: the node's place, that begins with its group: "model", "data.normalize". That is, wherever a `_target_`
    stands: a builder that the configs of that group name (a network needs no data set, which may be downloaded), what
    `allow` names, or a class of networks of torch or torchvision by its full name, or of torch's optimisers or
    schedulers where the node is one. It is judged by its name before anything is imported, for importing a person's
    module runs it. A prefix is no fence either: torch.hub.load begins with torch. Raises UserError for anything else,
    naming all of it, and for an interpolation, which could make a `_target_` out of text.
    """
    check_nodes({where: node}, allow)


def check_nodes(nodes: Mapping[str, Any], allow: Iterable[str] = ()) -> None:
    """Check several nodes, by their places, as `check_targets` does one."""
    refused = [found for where, node in nodes.items() for found in _refused(where, node, set(allow))]
    if not refused:
        return
    names = ", ".join(f"{name!s:.200}" for _, name in refused)
    one = ("is not", "it is neither a builder", "a network, optimiser or scheduler", "it, allow it: --allow NAME")
    many = (
        "are not",
        "they are no builders",
        "networks, optimisers or schedulers",
        "them: --allow NAME ...",
    )
    are, builders, classes, leave = one if len(refused) == 1 else many
    raise UserError(
        f"{refused[0][0]}._target_: {names} {are} built from a run directory: {builders} of cnnexp nor {classes} "
        f"of torch by its full name; if you trust {leave}, cnnexp.load(..., allow=[NAME])"
    )


def _refused(where: str, node: Any, allow: set[str]) -> Iterator[tuple[str, Any]]:
    """Yield the place and the name of every `_target_` that may not be built."""
    if isinstance(node, Mapping):
        if "_target_" in node and not _may_be_built(where, node["_target_"], allow):
            yield where, node["_target_"]
        for key, value in node.items():
            if key != "_target_":
                yield from _refused(f"{where}.{key}", value, allow)
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _refused(f"{where}[{index}]", value, allow)
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
    """Tell whether a name in torch or torchvision is a class of networks, named where it is defined."""
    from torch import nn

    found = _class(name)
    return found is not None and issubclass(found, nn.Module) and found.__module__ == name.rpartition(".")[0]


def _is_optimizer(name: str) -> bool:
    """Tell whether a name in torch.optim is one of its own optimisers or schedulers."""
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    found = _class(name)
    own = found is not None and found.__module__.startswith("torch.optim.")
    return found is not None and own and issubclass(found, (Optimizer, LRScheduler))


def _class(name: str) -> type | None:
    module, _, attribute = name.rpartition(".")
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", name, re.ASCII):
        return None
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except Exception:  # a part of torch that is not for this machine may raise anything
        return None
    return found if isinstance(found, type) else None


@functools.lru_cache(maxsize=1)
def shipped() -> dict[str, frozenset[str]]:
    """Return the builders of cnnexp that the configs here name, by group: {"model": {"cnnexp.models.zoo.zoo", ...}}."""
    texts: dict[str, str] = {}
    for file in configs.folder().glob("*/*.yaml"):
        texts[file.parent.name] = texts.get(file.parent.name, "") + file.read_text(encoding="utf-8")
    return {
        group: frozenset(re.findall(r"^_target_: *(cnnexp\.[\w.]+)", text, re.MULTILINE))
        for group, text in texts.items()
    }
