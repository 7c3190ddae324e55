"""Nothing outside cnnexp/storage writes, syncs, renames, links, locks or deletes a file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.counts("rules")

PACKAGE = Path(__file__).resolve().parents[2] / "cnnexp"
MODULES = [file for file in sorted(PACKAGE.rglob("*.py")) if file.parent != PACKAGE / "storage"]
INSIDE = [PACKAGE / "storage" / f"{name}.py" for name in ("files", "rows", "checksums")]
CALLS = {
    "os": {
        *("open", "write", "pwrite", "fsync", "fdatasync", "sync", "truncate", "ftruncate", "link", "symlink", "chmod"),
        *("rename", "renames", "replace", "remove", "unlink", "rmdir", "removedirs", "mkdir", "makedirs", "mkfifo"),
    },
    "shutil": {"rmtree", "move", "copy", "copy2", "copyfile", "copytree", "unpack_archive", "make_archive"},
    "torch": {"save"},
    "np": {"save", "savez", "savez_compressed", "savetxt", "memmap"},
    "numpy": {"save", "savez", "savez_compressed", "savetxt", "memmap"},
}
ANY = {  # methods, of whatever object: those of paths, of arrays and of tables
    *("write_text", "write_bytes", "unlink", "rmdir", "touch", "symlink_to", "hardlink_to", "extractall", "flock"),
    *("lockf", "tofile", "to_pickle", "to_parquet", "mkdtemp", "NamedTemporaryFile", "TemporaryDirectory", "mkstemp"),
}
BANNED_MODULES = {"fcntl", "tempfile", "tarfile", "zipfile", "sqlite3", "shelve"}
ALLOWED = {
    "data/archive.py": ["import tarfile"],  # it reads members, and writes them through cnnexp.storage
    "process/signals.py": ["os.write"] * 2,  # nothing, to a terminal; to standard error, as handlers must
}
KERNEL = ("/proc/", "/dev/null")  # nothing written there is kept
GIVEN = {"np.savez": 0, "torch.save": 1}  # which argument may be a `buffer`, or the `file` of storage.draft
OURS = ("", "storage", "disk")  # the functions of these names in cnnexp.storage


def writes(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, what) for every call, or import, by which a module could change a file."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from ((node.lineno, f"import {name}") for name in names if name in BANNED_MODULES)
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        owner, _, last = name.rpartition(".")
        if (last in ANY and owner not in OURS) or last in CALLS.get(owner, ()):
            given = ast.unparse(node.args[GIVEN[name]]) if name in GIVEN else ""
            if "devnull" not in ast.unparse(node) and given not in ("buffer", "file"):
                yield node.lineno, name
        elif last == "open" and owner not in ("Image", "tarfile"):
            mode = [*node.args[1 if owner == "" else 0 :][:1], *(k.value for k in node.keywords if k.arg == "mode")]
            mode = [m for m in mode if isinstance(m, ast.Constant)]
            writing = (not mode and len(node.args) > 1) or any(set(str(m.value)) & set("wax+") for m in mode)
            if writing and not ast.unparse(node.args[0]).strip("'\"").startswith(KERNEL):
                yield node.lineno, ast.unparse(node)


@pytest.mark.parametrize("file", [*MODULES, *INSIDE], ids=lambda file: str(file.relative_to(PACKAGE)))
def test_files_are_changed_only_by_storage(file: Path) -> None:
    found = [what for _, what in writes(ast.parse(file.read_text()))]
    assert found == ALLOWED.get(str(file.relative_to(PACKAGE)), [])


@pytest.mark.parametrize(
    "line",
    [
        "open(path, 'w')", "open(path, mode='ab')", "path.open('r+')", "path.write_text('x')", "os.replace(a, b)",
        "shutil.rmtree(a)", "torch.save(x, path)", "np.save(path, x)", "import tempfile", "path.unlink()",
        "os.open(path, os.O_WRONLY)", "fcntl.flock(file, 2)", "open(path, how)", "os.fsync(3)", "array.tofile(path)",
    ],
)  # fmt: skip
def test_the_walk_sees_it(line: str) -> None:
    assert len(list(writes(ast.parse(line)))) == 1


@pytest.mark.parametrize("line", ["open(path)", "open(path, 'rb')", "Image.open(path)", "open('/proc/self/x', 'w')"])
def test_reading_is_free(line: str) -> None:
    assert list(writes(ast.parse(line))) == []
