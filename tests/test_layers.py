"""Imports point down only, as docs/architecture.md says; and few rooms know Hydra or torch."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "cnnexp"
LAYERS = [  # from the top; a package may import what is below its own line, and nothing else
    {"__main__"},
    {"cli", "api"},
    {"train"},
    {"commands"},
    {"sweep", "export", "explain"},
    {"training", "trackers"},
    {"models", "explore", "report"},
    {"search"},
    {"data", "optim", "reference", "records"},
    {"config", "pages"},
    {"claims", "storage", "process"},
    {"errors", "metrics", "rng", "text", "version"},
]
KNOW_HYDRA = {"training.build", "config.arms", "config.compose", "config.composer", "config.hydra_errors", "sweep"}
KNOW_OMEGACONF = KNOW_HYDRA | {"config.hydra_node", "config.set_by_data", "training.plan", "records.files"}
MODULES = {".".join(file.relative_to(PACKAGE).with_suffix("").parts): file for file in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str) -> Iterator[str]:
    """Yield the dotted names that a module imports when it runs, in functions too; types and scripts apart."""
    nodes: list[ast.AST] = [ast.parse(MODULES[module].read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and any(word in ast.unparse(node.test) for word in ("TYPE_CHECKING", "__main__")):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        nodes.extend(ast.iter_child_nodes(node))


def room(name: str) -> str:
    """Return the room of a module, as "data" of "cnnexp.data.batches.Batch"."""
    return name.removeprefix("cnnexp.").split(".")[0]


@pytest.mark.parametrize("module", [module for module in MODULES if module != "__init__"])
def test_imports_point_down(module: str) -> None:
    levels = {name: level for level, names in enumerate(LAYERS) for name in names}
    own = room(module)
    assert own in levels, f"{own} is a new room: give it a place in LAYERS and in docs/architecture.md"
    for name in imports(module):
        if name.startswith("cnnexp.") and room(name) in levels and room(name) != own:
            assert levels[room(name)] > levels[own], f"{module} imports {name}, which is above it"


def test_data_and_models_are_independent() -> None:
    for own, other in (("data", "models"), ("models", "data")):
        names = [name for module in MODULES if room(module) == own for name in imports(module)]
        assert not [name for name in names if room(name) == other]


def test_a_report_reads_then_analyses_then_draws_then_renders() -> None:
    order = ("read", "analysis", "figures", "render")
    for level, folder in enumerate(order):
        names = [name for module in MODULES if module.startswith(f"report.{folder}.") for name in imports(module)]
        assert names and not [
            n for n in names for upper in order[level + 1 :] if n.startswith(f"cnnexp.report.{upper}.")
        ]


@pytest.mark.integration
@pytest.mark.parametrize(("library", "allowed"), [("hydra", KNOW_HYDRA), ("omegaconf", KNOW_OMEGACONF)])
def test_few_know_hydra(library: str, allowed: set[str]) -> None:
    found = {module for module in MODULES for name in imports(module) if name.split(".")[0] == library}
    assert all(module in allowed or room(module) in allowed for module in found), found


@pytest.mark.integration
def test_the_report_reaches_no_torch() -> None:
    reached, new = set(), {module for module in MODULES if room(module) == "report"}
    while new:
        reached |= new
        names = {name for module in new for name in imports(module)}
        assert not [name for name in names if name.split(".")[0] in ("torch", "torchvision")]
        parts = {name.removeprefix("cnnexp.").rpartition(".") for name in names if name.startswith("cnnexp.")}
        named = {part for whole in parts for part in (f"{whole[0]}.{whole[2]}", whole[0], whole[2])}
        new = {module for part in named for module in (part, f"{part}.__init__") if module in MODULES} - reached
    assert {"records.run_record", "storage.disk", "errors"} <= reached


@pytest.mark.integration
def test_the_package_stays_shallow():
    """At most 10 import levels, 8 modules outside of folders, and no cycle, as `scripts/structure.py` counts them."""
    printed = subprocess.run(
        [sys.executable, "scripts/structure.py"], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    ).stdout
    assert int(re.search(r"(\d+) import levels", printed)[1]) <= 10
    assert int(re.search(r"(\d+) loose modules", printed)[1]) <= 8
    assert "cycles: none" in printed
