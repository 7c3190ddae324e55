"""Print how the package is built: lines per package, import levels, cycles, loose modules, the longest functions.

Usage: python scripts/structure.py [FOLDER]        FOLDER: another checkout, to compare
"""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

Graph = dict[str, set[str]]


def box(module: str) -> str:
    """Return the top-level folder or module that a dotted name lies in: "data" of "data.batches"."""
    return module.removeprefix("cnnexp.").split(".")[0]


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield what a module imports from this package, in functions too, but not for type checkers or as a script."""
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and any(word in ast.unparse(node.test) for word in ("TYPE_CHECKING", "__main__")):
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "cnnexp":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("cnnexp."))
        nodes.extend(ast.iter_child_nodes(node))


def levels(graph: Graph) -> tuple[dict[str, int], list[str]]:
    """Return each box's level (1: imports no other box) and the arrows that close a cycle."""
    cycles: list[str] = []

    @cache
    def level(name: str) -> int:
        return 1 + max((level(other) for other in graph.get(name, ())), default=0)

    def visit(name: str, above: tuple[str, ...]) -> None:
        for other in sorted(graph.get(name, set())):
            if other in (*above, name):
                cycles.append(f"{name} -> {other}")
                graph[name].discard(other)
            elif other not in seen:
                visit(other, (*above, name))
        seen.add(name)

    seen: set[str] = set()
    for name in sorted(graph):
        visit(name, ())
    return {name: level(name) for name in graph}, cycles


def functions(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (lines, name) of each function."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno:
            yield node.end_lineno - node.lineno + 1, node.name


def main() -> None:
    """Print the tables."""
    package = (Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]) / "cnnexp"
    lines: dict[str, int] = {}
    graph: Graph = {}
    longest: list[tuple[int, str]] = []
    arrows = 0
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package).with_suffix("").parts[0]
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(text)
        lines[name] = lines.get(name, 0) + len(text.splitlines())
        found = {box(module) for module in imports(tree)} - {name, "__version__"}
        arrows += len(found)
        graph.setdefault(name, set()).update(found)
        longest += [(count, f"{file.relative_to(package)}:{function}") for count, function in functions(tree)]
    graph.pop("__init__", None)
    level, cycles = levels({name: {other for other in others if other in graph} for name, others in graph.items()})
    loose = [name for name in lines if (package / f"{name}.py").exists() and not name.startswith("__")]
    print(f"{sum(lines.values())} lines, {len(graph)} boxes, {max(level.values())} import levels, {arrows} arrows")
    print(f"{len(loose)} loose modules: {', '.join(loose)}")
    print(f"cycles: {', '.join(cycles) or 'none'}\n\nlevel  lines  imports")
    for name in sorted(level, key=lambda name: (-level[name], name)):
        print(f"{level[name]:5}  {lines[name]:5}  {name}: {', '.join(sorted(graph[name]))}")
    print("\nlines  function")
    print("\n".join(f"{count:5}  {name}" for count, name in sorted(longest, reverse=True)[:8]))


if __name__ == "__main__":
    main()
