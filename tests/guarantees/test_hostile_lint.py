"""Only named files may run other code or unpack archives; all of cnnexp/ and scripts/ is searched."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.counts("files and fixtures")

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*(ROOT / "cnnexp").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")])
# What is banned, and the only files that may contain it.
ALLOWED: dict[str, tuple[str, ...]] = {
    "pickle": (),
    "eval, exec, compile": (),
    "a shell": (),
    "yaml.load": (),
    "extractall": (),
    "torch.load": ("cnnexp/storage/torch_files.py",),
    "torch.load without weights_only=True": (),
    "extractall without filter='data'": (),
    "allow_pickle": (),
    "instantiate": ("cnnexp/training/build.py",),
    "a process": (
        *("cnnexp/records/provenance.py", "scripts/reliability.py"),
        "cnnexp/process/limits.py",  # this Python, with a constant program
        "cnnexp/training/processes.py",  # this Python, with the processes that share a run
        "cnnexp/trackers/follow.py",  # this Python, with `cnnexp track`
        "cnnexp/sweep/slurm.py",  # the commands of SLURM, without a shell
        "scripts/bench/process.py",
        *(
            "scripts/cluster_cost.py",
            "scripts/demonstration.py",
            "scripts/gpu/commands.py",
            "scripts/gpu/rows.py",
            "scripts/results.py",
        ),  # cnnexp's own commands
    ),
    "an import by name": (
        *("cnnexp/__init__.py", "scripts/bench/inside/stages.py"),  # names in the file itself
        "cnnexp/cli.py",
        "cnnexp/commands/completion.py",  # a command of the table
        "cnnexp/config/checks.py",
        "cnnexp/training/allowed.py",
    ),
    "a page without escaping": ("scripts/bench/page.py",),  # Markdown with our own numbers
}
PICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
PROCESSES = {"subprocess", "pty", "popen2", "commands"}
SHELLS = {"system", "popen", "getoutput", "getstatusoutput", "spawnl", "spawnv", "execv", "execl", "execvp"}
OPEN = {"UnpicklingError", "read_pickle", "_load_from_bytes", "unsafe_load", "full_load", "UnsafeLoader", "Markup"}


def banned(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the keys of ALLOWED that a module contains, with their lines."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            yield from ((what, node.lineno) for what in _of_import(name))
        if isinstance(node, ast.Call):
            yield from ((what, node.lineno) for what in _of_call(node))
        if isinstance(node, ast.Attribute) and node.attr in OPEN:
            yield "pickle" if "ickl" in node.attr else "yaml.load", node.lineno


def _of_import(name: str) -> Iterator[str]:
    top, last = name.split(".")[0], name.rpartition(".")[2]
    if top in PICKLES:
        yield "pickle"
    if top in PROCESSES:
        yield "a process"
    if top == "hydra" and last in ("instantiate", "call", "get_method", "get_object", "get_class"):
        yield "instantiate"
    if (top == "torch" and last in ("load", "hub")) or (top == "numpy" and last == "load"):
        yield "torch.load"
    if top == "os" and last in SHELLS:
        yield "a shell"
    if top == "builtins" and last in ("eval", "exec", "compile", "__import__"):
        yield "eval, exec, compile"
    if top == "importlib" and last == "import_module":
        yield "an import by name"
    if top == "yaml" and last in ("load", "Loader", "UnsafeLoader", "FullLoader", *OPEN):
        yield "yaml.load"
    if last == "Markup":
        yield "a page without escaping"


def _of_call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    last = name.rpartition(".")[2]
    keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
    if name in ("eval", "exec", "compile", "builtins.eval", "builtins.exec"):
        yield "eval, exec, compile"
    if (name.startswith("os.") and last in SHELLS) or keywords.get("shell", "False") != "False":
        yield "a shell"
    if name in ("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"):
        yield "yaml.load"
    if last in ("extractall", "extract", "unpack_archive") and name != "re.extract":
        yield "extractall"
        if keywords.get("filter") != "'data'":
            yield "extractall without filter='data'"
    if name in ("torch.load", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter"):
        yield "torch.load"
        if keywords.get("weights_only") != "True":
            yield "torch.load without weights_only=True"
    if keywords.get("allow_pickle", "False") != "False" or (name == "np.load" and "allow_pickle" not in keywords):
        yield "allow_pickle"
    if name in ("instantiate", "hydra.utils.instantiate", "hydra.utils.call", "utils.instantiate"):
        yield "instantiate"
    if name in ("importlib.import_module", "import_module", "__import__", "pkgutil.resolve_name"):
        yield "an import by name"
    if last == "Environment" and keywords.get("autoescape", "True" if name == "envs.Environment" else "") != "True":
        yield "a page without escaping"
    if name == "Markup":
        yield "a page without escaping"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_is_banned_is_only_in_allowed_files(file):
    where = str(file.relative_to(ROOT))
    found = banned(ast.parse(file.read_text(encoding="utf-8")))
    assert [(what, line) for what, line in found if where not in ALLOWED[what]] == []


@pytest.mark.integration
def test_every_allowed_file_needs_its_permission():
    found = {(what, str(f.relative_to(ROOT))) for f in FILES for what, _ in banned(ast.parse(f.read_text()))}
    assert {(what, file) for what, files in ALLOWED.items() for file in files} <= found


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import pickle", "pickle"),
        ("from pickle import loads", "pickle"),
        ("def f():\n    import cloudpickle as c", "pickle"),
        ("import marshal", "pickle"),
        ("pandas.read_pickle(x)", "pickle"),
        ("torch.storage._load_from_bytes(x)", "yaml.load"),
        ("eval('1')", "eval, exec, compile"),
        ("exec(code)", "eval, exec, compile"),
        ("from builtins import eval as e", "eval, exec, compile"),
        ("os.system('x')", "a shell"),
        ("from os import popen", "a shell"),
        ("subprocess.run('x', shell=True)", "a shell"),
        ("run('x', shell=given)", "a shell"),
        ("yaml.load(x, Loader=yaml.Loader)", "yaml.load"),
        ("from yaml import UnsafeLoader", "yaml.load"),
        ("yaml.unsafe_load(x)", "yaml.load"),
        ("tar.extractall(x)", "extractall without filter='data'"),
        ("tar.extractall(x, filter='fully_trusted')", "extractall without filter='data'"),
        ("tar.extractall(x, filter='data')", "extractall"),
        ("torch.load(x)", "torch.load without weights_only=True"),
        ("torch.load(x, weights_only=False)", "torch.load without weights_only=True"),
        ("torch.load(x, weights_only=given)", "torch.load without weights_only=True"),
        ("torch.load(x, weights_only=True)", "torch.load"),
        ("from torch import load", "torch.load"),
        ("torch.hub.load(x)", "torch.load"),
        ("np.load(x)", "allow_pickle"),
        ("np.load(x, allow_pickle=True)", "allow_pickle"),
        ("np.save(x, allow_pickle=given)", "allow_pickle"),
        ("from hydra.utils import instantiate", "instantiate"),
        ("hydra.utils.instantiate(x)", "instantiate"),
        ("from hydra.utils import get_method", "instantiate"),
        ("import subprocess", "a process"),
        ("importlib.import_module(x)", "an import by name"),
        ("__import__(x)", "an import by name"),
        ("Environment(loader=x)", "a page without escaping"),
        ("Environment(autoescape=False)", "a page without escaping"),
        ("from markupsafe import Markup", "a page without escaping"),
    ],
)
def test_what_is_banned_is_seen(source, what):
    assert what in {found for found, _ in banned(ast.parse(source))}


@pytest.mark.parametrize(
    "source", ["model.eval()", "re.compile('x')", "np.load(x, allow_pickle=False)", "graph.load(x)", "import importlib"]
)
def test_what_is_harmless_is_not(source):
    assert list(banned(ast.parse(source))) == []


SCRIPTS = """{% autoescape false %}
{% for script in scripts %}
<script>{{ script }}</script>
{% endfor %}
{% endautoescape %}
"""  # of base.html.j2: files of the package, which `render` reads itself


def test_no_template_switches_escaping_off_but_for_the_scripts_of_the_package():
    for file in (ROOT / "cnnexp").rglob("*.j2"):
        words = file.read_text(encoding="utf-8")
        if file.name == "base.html.j2":
            assert words.count(SCRIPTS) == 1
            words = words.replace(SCRIPTS, "")
        assert "|safe" not in words.replace(" ", "") and "autoescape" not in words, file
