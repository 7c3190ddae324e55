"""What may be built of a config that comes from a run directory, which may come from anyone."""

import functools
import importlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from cnnexp import config as configs
from cnnexp.errors import UserError

# Where networks may be built by name.
LIBRARIES = ("torch.nn", "torchvision.models")


def check_targets(where: str, node: Any, allow: Iterable[str] = ()) -> None:
    """Check that a node that was read from a run directory builds only what is safe to build.

    where: the node's place, that begins with its group: "model", "data.normalize". That is, wherever a `_target_`
    stands: a builder that the configs of that group name (a network needs no data set, which may be downloaded), what
    `allow` names, or a class of networks (torch.nn.Module) of torch or torchvision, by its full name. It is judged by
    its name before anything is imported, for importing a person's module runs it. A prefix is no fence either:
    torch.hub.load begins with torch. Raises UserError for anything else, and for an interpolation, which could make a
    `_target_` out of text.
    """
    if isinstance(node, Mapping):
        if "_target_" in node:
            _check_target(where, node, allow)
        for key, value in node.items():
            check_targets(f"{where}.{key}", value, allow)
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            check_targets(f"{where}[{index}]", value, allow)
    elif isinstance(node, str) and "${" in node:
        raise UserError(f"{where}: given {node!r}; a recorded config has values, not interpolations")


def _check_target(where: str, node: Mapping[str, Any], allow: Iterable[str]) -> None:
    name = node["_target_"]
    group = re.split(r"[.\[]", where)[0]
    if isinstance(name, str) and (name in shipped().get(group, ()) or name in allow):
        return
    if not (isinstance(name, str) and name.startswith(tuple(f"{library}." for library in LIBRARIES)) and _made(name)):
        raise UserError(
            f"{where}._target_: {name!s:.200} is not built from a run directory: it is neither a builder of cnnexp nor "
            "a network of torch by its full name; if you trust it, allow it: --allow NAME, "
            "cnnexp.load(..., allow=[NAME])"
        )


def _made(name: str) -> bool:
    """Tell whether a name in torch or torchvision is a class of networks, named where it is defined."""
    from torch import nn

    module, _, attribute = name.rpartition(".")
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", name, re.ASCII):
        return False
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except Exception:  # a part of torch that is not for this machine may raise anything
        return False
    return isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == module


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
