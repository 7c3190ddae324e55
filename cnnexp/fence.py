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

    That is, wherever a `_target_` stands: a builder that the configs here name, what `allow` names, or a class of
    networks (torch.nn.Module) of torch or torchvision, by its full name. It is judged by its name before anything is
    imported, for importing a person's module runs it. A prefix is no fence either: torch.hub.load begins with torch.
    Raises UserError for anything else, and for an interpolation, which could make a `_target_` out of text.
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
    if isinstance(name, str) and (name in shipped() or name in allow):
        return
    if not (isinstance(name, str) and name.startswith(tuple(f"{library}." for library in LIBRARIES)) and _made(name)):
        raise UserError(
            f"{where}._target_: {name} is not built from a run directory: it is neither a builder of cnnexp nor a "
            "network of torch by its full name; if you trust it, allow it: --allow NAME, cnnexp.load(..., allow=[NAME])"
        )


def _made(name: str) -> bool:
    """Tell whether a name in torch or torchvision is a class of networks, named where it is defined."""
    from torch import nn

    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return False
    return isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == module


@functools.lru_cache(maxsize=1)
def shipped() -> frozenset[str]:
    """Return the builders of cnnexp that the configs here name."""
    files = configs.folder().glob("*/*.yaml")
    texts = [file.read_text(encoding="utf-8") for file in files]
    return frozenset(name for text in texts for name in re.findall(r"^_target_: *(cnnexp\.[\w.]+)", text, re.MULTILINE))
