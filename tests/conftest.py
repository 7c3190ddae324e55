"""What the tests share: their own cache of prepared images, one thread, and the smallest run that has everything."""

import copy
import json
import os
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import pytest
from tiny import TINY, with_tiny

from cnnexp import cli
from cnnexp.records.run_record import RunRecord, find_runs

if TYPE_CHECKING:
    from forks import Forks
    from omegaconf import DictConfig

    from cnnexp.training.plan import Plan


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--part K/N`, with which only a part of the tests runs."""
    parser.addoption("--part", default="1/1", metavar="K/N", help="run the K-th of N parts of the tests")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of other parts. Names tell the part of a test, so that a new test moves no other."""
    part, _, parts = config.getoption("part").partition("/")

    def chosen(item: pytest.Item) -> bool:
        return int(sha256(item.nodeid.encode()).hexdigest(), 16) % int(parts) == int(part) - 1

    config.hook.pytest_deselected(items=[item for item in items if not chosen(item)])
    items[:] = [item for item in items if chosen(item)]


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which this session keeps prepared images."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep prepared images out of the person's own cache, in this process and in those that a test starts."""
    monkeypatch.setenv("CNNEXP_CACHE", str(session_cache))
    before = Path.cwd()
    yield
    assert Path.cwd() == before, "the test left another working directory behind"


@pytest.fixture(scope="session", autouse=True)
def composed_once() -> Iterator[None]:
    """Let Hydra compose the same words once in this process: without this, the tests would mostly compose.

    Words that name other folders of configs, whose files may change, are composed each time.
    """
    from cnnexp.config import compose

    load, known = compose.load, dict[tuple[object, ...], "DictConfig"]()

    def load_once(configs: Any, words: list[str], *mode: Any) -> "DictConfig":
        if any(word.startswith("hydra.") for word in words):
            return load(configs, words, *mode)
        key = (compose.folder(), Path.cwd(), *mode, *words)
        if key not in known:
            if len(known) == 100:
                known.clear()  # each takes 0.2 MiB, and later tests have other words
            known[key] = load(configs, words, *mode)
        return copy.deepcopy(known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compose, "load", load_once)
        yield


@pytest.fixture(autouse=True)
def counted(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    """Note how many cases this test stands for, if its file or itself is marked with what they are."""
    if marker := request.node.get_closest_marker("counts"):
        what, each = [*marker.args, 1][:2]
        record_property(f"+{what}", each)


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Return where this test's runs go."""
    return tmp_path / "outputs"


@pytest.fixture(scope="session")
def tiny_images(session_cache: Path) -> None:
    """Prepare the images of the tiny run once, so that what a test reads does not depend on which test came first."""
    from image_folders import build

    with pytest.MonkeyPatch.context() as patch, redirect_stderr(StringIO()):
        patch.setenv("CNNEXP_CACHE", str(session_cache))
        build("postcards", num_train=50, num_test=20, size=8, val_fraction=0.2)


@pytest.fixture
def tiny(outputs: Path, tiny_images: None) -> list[str]:
    """Return the overrides of the smallest run that has batch norm, dropout and augmentation; 3 epochs of 5 steps."""
    return [*TINY, f"outputs={outputs}"]


@pytest.fixture
def train(tiny: list[str]) -> Callable[..., int]:
    """Return a function that does `cnnexp train <tiny> <more>` in this process and returns the exit code."""

    def run(*more: str) -> int:
        return cli.main(["train", *with_tiny(tiny, more)])

    return run


@pytest.fixture
def runs(outputs: Path) -> Callable[[], dict[str, RunRecord]]:
    """Return a function that reads this test's runs: {"baseline-s0": record}, without the fingerprints."""
    return lambda: {run.name.rpartition("-")[0]: run for run in find_runs(outputs)}


@pytest.fixture
def only(outputs: Path) -> Callable[[], RunRecord]:
    """Return a function that reads the one run of this test."""

    def read() -> RunRecord:
        (run,) = find_runs(outputs)
        return run

    return read


def untimed(run: RunRecord) -> list[str]:
    """Return the metric rows of a run as text, without the columns that hold times."""
    from cnnexp.records.fields import TIMING

    rows = [*run.rows("epoch"), *run.rows("step")]
    return [json.dumps({key: value for key, value in row.items() if key not in TIMING}) for row in rows]


@pytest.fixture
def plan(tiny: list[str]) -> Callable[..., "Plan"]:
    """Return a function that composes, checks and plans the tiny run with more overrides."""

    def make(*more: str) -> "Plan":
        from cnnexp.config import checks
        from cnnexp.config import compose as config
        from cnnexp.training.plan import plan

        plain = config.resolve(config.compose(with_tiny(tiny, more)))
        checks.check(plain)
        return plan(plain, list(more), list(more), "cnnexp train " + " ".join(more))

    return make


@pytest.fixture
def kind_plan(plan: Callable[..., "Plan"], tmp_path: Path) -> Callable[..., "Plan"]:
    """Return a function that plans the tiny run of a kind (lives.KINDS) with more overrides; its steps leave hashes."""

    def make(kind: str, *more: str) -> "Plan":
        from lives import KINDS

        (tmp_path / "own" / "model").mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / "model" / "residual.yaml").write_text("_target_: own_network.OwnResidual\nwidth: 8\n")
        own = f"hydra.searchpath=[{(tmp_path / 'own').as_uri()}]"
        return plan(own, *KINDS[kind], "log.hash_chain=true", *more)

    return make


@pytest.fixture(scope="session")
def forks(session_cache: Path) -> Iterator["Forks"]:
    """Return what calls functions in processes of their own."""
    from forks import Forks

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNEXP_CACHE", str(session_cache))
        calls = Forks()
    yield calls
    calls.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Return a browser, started once for the tests of a file."""
    import browsers

    context, program = browsers.start()
    with context as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a page and keeps what it requests and reports."""
    import browsers

    contexts = []

    def open_page(file: Path | str, size: str = "desk", **options: Any) -> Any:
        width, height = browsers.SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(browsers.PATIENCE)
        page.requested, page.errors = [], []
        page.on("request", lambda request: page.requested.append(request.url))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda said: page.errors.append(said.text) if said.type == "error" else None)
        page.goto(file if isinstance(file, str) else file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
