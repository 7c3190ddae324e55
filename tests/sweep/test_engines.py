"""The engine that docs/engines.md shows is one, and engines end in time."""

import re
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cnnexp.records.run_record import find_runs
from cnnexp.sweep import launcher, local
from cnnexp.sweep.engine import Ended, Lost
from cnnexp.sweep.server import CONTEXT, METHOD, import_ahead, without_main
from cnnexp.sweep.slots import Slot
from cnnexp.sweep.worker import Worker
from cnnexp.training.plan import Plan

pytestmark = pytest.mark.integration

BEFORE = "it had not begun"
DOCS = Path(__file__).parents[2] / "docs" / "engines.md"


@pytest.fixture
def documented() -> tuple[dict[str, Any], str]:
    """Return the names of the engine's code, and the code of the call."""
    if not DOCS.exists():
        pytest.skip("needs the repository")
    engine, call = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(engine, names)
    return names, call


def test_the_documented_engine_makes_runs(
    plan: Callable[..., Plan], documented: tuple[dict[str, Any], str], capfd: pytest.CaptureFixture[str]
) -> None:
    names, _ = documented
    plans = [plan(f"seed={seed}", "epochs=1st", "study.arm=a") for seed in range(3)]
    engine = names["OneProcessEach"](2)
    assert launcher.make(plans, engine) == 0
    assert {one.record().status for one in plans} == {"done"}
    assert engine.workers == []
    assert "3 runs, 0 done before, on 2 slot(s), a process for each run" in capfd.readouterr().out
    assert launcher.make([*plans, plan("seed=3", "epochs=1st", "study.arm=a")], engine) == 0
    assert "4 runs, 3 done before" in capfd.readouterr().out


def test_the_documented_call_plans_and_makes_runs(
    documented: tuple[dict[str, Any], str], tiny: list[str], outputs: Path
) -> None:
    names, call = documented
    small = [word for word in [*tiny, "epochs=1st"] if not word.startswith("model.norm")]
    exec(call.replace('"device=cpu"', f"*{small}"), names)
    found = find_runs(outputs / "norm")
    assert len(found) == 4 and {run.status for run in found} == {"done"}


def test_a_worker_that_is_stopped_before_it_has_begun_was_not_killed(
    plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no handler for the signal yet that `stop` sends."""
    engine = local.LocalEngine([Slot("cpu", 1)])
    monkeypatch.setattr(engine, "dismiss", lambda worker: None)
    one = plan()
    for stopped, cause in ((False, Lost(one, "killed by SIGTERM", "run")), (True, Ended(one, "interrupted", BEFORE))):
        if stopped:
            engine.stop(now=False)
        worker: Any = SimpleNamespace(plan=one, exit_code=lambda: -signal.SIGTERM)
        assert list(engine.on_exit(worker)) == [cause]


def deaf(slot: Slot) -> Worker:
    """Start a process that answers no signal but SIGKILL: those of the server's processes are blocked at first."""
    ours, theirs = CONTEXT.Pipe()
    import_ahead()
    process = CONTEXT.Process(
        target=select.select, args=([], [], [theirs], 60), daemon=True
    )  # holds its end, reads nothing
    with without_main():
        process.start()
    theirs.close()
    return Worker(slot, process, ours)


@pytest.mark.skipif(METHOD != "forkserver", reason="a spawned process blocks no signals")
@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("shown", [False, True])
def test_all_processes_share_one_deadline(
    plan: Callable[..., Plan], documented: tuple[dict[str, Any], str], monkeypatch: pytest.MonkeyPatch,
    shown: bool, stopped: bool,
) -> None:  # fmt: skip
    engine = documented[0]["OneProcessEach"](3) if shown else local.LocalEngine([Slot("cpu", 1)] * 3)
    where = documented[0] if shown else vars(local)
    monkeypatch.setitem(where, "GRACE_SECONDS", 2.0)
    monkeypatch.setitem(where, "start", deaf)
    for seed in range(3):
        engine.start(plan(f"seed={seed}"))
    workers = list(engine.workers)
    began = time.monotonic()
    if stopped:
        engine.stop(False)
        assert engine.news(2.5) == []
    events = engine.news(1.0) if stopped else []
    engine.close()
    took = time.monotonic() - began
    assert [worker.process.exitcode for worker in workers] == [-9] * 3
    assert 2.0 <= took < 5.0  # one after another: 6 s
    assert {event.cause for event in events} <= {"killed by SIGKILL"}


@pytest.mark.parametrize(
    ("code", "cause"),
    [(3, "it ended its process with code 3"), (-9, "killed by SIGKILL"), (-37, "killed by signal 37")],
)
def test_how_a_process_ended(code: int, cause: str) -> None:
    """Signals between the first and the last of real time have no name."""
    assert local.exit_cause(code) == cause
