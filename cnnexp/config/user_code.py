"""The user's code, which configs name by `_target_`: its files, whose hashes are part of a run's fingerprint."""

import ast
import hashlib
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cnnexp.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]
NOTED = "cnnexp_hash"  # of an import, in its spec
OURS = ("cnnexp", "torch", "torchvision", "hydra")


def user_code(nodes: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Hash the source of the modules that `_target_`s name, and of the modules in their folder that these import.

    Their folder is the one that contains the target's package, or its single file. Of an installed package only the
    target's module is hashed: the record has the package's version. Files that the node names are hashed too.
    Returns {"my_package.nets": "3f1c...", "my_package/blocks.py": "09ab...", "stains.png": "77d0..."}.
    """
    hashes = dict[str, str]()
    for target, texts in (found for node in nodes for found in builders(node)):
        module = target.rpartition(".")[0]
        source = getattr(sys.modules.get(module), "__file__", None)
        if module.split(".")[0] in OURS or not source:
            continue
        hashes |= {text: _hash(Path(text)) for text in texts if _is_file(text)}
        file = Path(source).resolve()
        hashes[module] = _hash(file)
        if not _is_installed(file):
            root = _root(file, module)
            hashes |= {str(other.relative_to(root)): _hash(other) for other in imported(file, root) - {file}}
    return hashes


def builders(node: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each builder in a node, and the texts among its settings."""
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if isinstance(target, str):
            texts = [value for value in _leaves(node) if isinstance(value, str)]
            yield target, texts
            yield from ((text, []) for text in texts if target.startswith("hydra.utils.get_"))
        for value in node.values():
            yield from builders(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from builders(value)


def _leaves(node: Any) -> Iterator[Any]:
    """Yield the values in a node, without those that another builder in it gets."""
    values = node.values() if isinstance(node, Mapping) else node
    for value in values:
        if not isinstance(value, (Mapping, list, tuple)):
            yield value
        elif not isinstance(value, Mapping) or "_target_" not in value:
            yield from _leaves(value)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # a text that no file can be called
        return False


def changed_code(recorded: Any, node: dict[str, Any]) -> list[str]:
    """Return the modules and files of a node's user code whose hash is not the recorded one.

    recorded: `user_code` of run.json, of all nodes; without it, as in a damaged record, nothing is compared.
    """
    if not isinstance(recorded, dict):
        return []
    return [name for name, found in user_code([node]).items() if recorded.get(name) != found]


def check_as_imported(hashes: Mapping[str, str]) -> None:
    """Raise UserError if a file of `user_code` has changed since this process imported it, as a notebook's may."""
    for name in changed_since_import(hashes):
        fix = f"importlib.reload({_module(name)}) or start anew"
        raise UserError(f"{name}: has changed since it was imported here; {fix}")


def changed_since_import(hashes: Mapping[str, str]) -> list[str]:
    """Return the files of `user_code` that have changed since this process imported them.

    The first call for an import notes its hash; importing again, or reloading, starts anew.
    """
    specs = {name: getattr(sys.modules.get(_module(name)), "__spec__", None) for name in hashes}
    return [name for name, spec in specs.items() if spec and vars(spec).setdefault(NOTED, hashes[name]) != hashes[name]]


def _module(name: str) -> str:
    return name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def user_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames of the user's code that an error passed; [] if this package raised it, or torch for it."""
    written = [
        (frame, file.is_relative_to(PACKAGE))
        for frame in traceback.extract_tb(error.__traceback__)
        if (file := Path(frame.filename).resolve()).is_file()
        and (file.is_relative_to(PACKAGE) or not _is_installed(file))
    ]
    if not written or written[-1][1]:
        return []
    return [frame for frame, ours in written if not ours]


def imported(file: Path, root: Path) -> set[Path]:
    """Return a module's file and those below `root` that it imports, directly or through others."""
    found, left = set[Path](), [file]
    while left:
        file = left.pop()
        if file in found:
            continue
        found.add(file)
        left += [other for name in _names(file, root) for other in _files(name, root)]
    return found


def _root(file: Path, module: str) -> Path:
    """Return the folder from which a module's file is imported by its full name."""
    depth = len(module.split(".")) - (file.name != "__init__.py")
    return file.parents[depth]


def _installed() -> set[Path]:
    return {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib", "platstdlib")}


def _is_installed(file: Path) -> bool:
    folders = {"site-packages", "dist-packages"} & set(file.parts)
    return bool(folders) or any(file.is_relative_to(place) for place in _installed())


def _names(file: Path, root: Path) -> Iterator[str]:
    """Yield the full names in a file's import statements; some may be attributes instead of modules."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    package = file.parent.relative_to(root).parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}".strip(".") for alias in node.names)


def _files(name: str, root: Path) -> Iterator[Path]:
    """Yield the files below `root` that importing a module runs: its own and those of its packages."""
    parts = [part for part in name.split(".") if part]
    for count in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:count])
        yield from (file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file())


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
