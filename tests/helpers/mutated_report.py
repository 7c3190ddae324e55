"""The report with one line of its source changed: what the oracle must find."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

import cnnexp

ROOT = Path(cnnexp.__file__).parent
MADE_AGAIN = ("cnnexp.report", "cnnexp.metrics")  # modules, with what is in them, that are imported again
ARITHMETIC = [ROOT / "metrics.py", *sorted((ROOT / "report").glob("analysis/*.py")), ROOT / "report/read/runs.py"]


def find(snippet: str) -> Path:
    """Return the one file of ARITHMETIC that has a snippet of source, once."""
    found = [file for file in ARITHMETIC for _ in range(file.read_text().count(snippet))]
    assert len(found) == 1, f"{snippet!r} is in {len(found)} places of the arithmetic, not in one"
    return found[0]


@contextmanager
def mutated(file: Path, source: str) -> Iterator[Any]:
    """Yield cnnexp.report imported again, with other source for one of its modules; then put the modules back."""
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    name = ".".join(parts)
    kept = {n: module for n, module in sys.modules.items() if n.startswith(MADE_AGAIN)}
    for again in kept:
        del sys.modules[again]
    sys.meta_path.insert(0, finder := _Finder(name, file, source))
    try:
        yield importlib.import_module("cnnexp.report")
    finally:
        sys.meta_path.remove(finder)
        for again in [n for n in sys.modules if n.startswith(MADE_AGAIN)]:
            del sys.modules[again]
        sys.modules.update(kept)
        for again in MADE_AGAIN:
            setattr(cnnexp, again.rpartition(".")[2], sys.modules[again])


class _Loader(SourceFileLoader):
    source = ""

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.source, self.path, "exec")


class _Finder(MetaPathFinder):
    def __init__(self, name: str, file: Path, source: str):
        self.name, self.loader = name, _Loader(name, str(file))
        self.loader.source = source

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self.loader) if name == self.name else None
