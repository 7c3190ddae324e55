"""An engine in a process of its own works as before; one that hangs or ends there does not take the sweep along."""

import os
import signal
import threading
import time
from multiprocessing import Pipe
from pathlib import Path

import pytest
from isolated_engines import Dies, Hangs, Tells, broken, done, good, refused
from plain_plans import FakeEngine, plain_plan

from cnnexp.errors import Interrupted, UserError
from cnnexp.sweep import isolated
from cnnexp.sweep.board import Board
from cnnexp.sweep.isolated import Isolated, serve
from cnnexp.sweep.scheduler import Scheduler
from cnnexp.sweep.times import Times
from cnnexp.training.plan import Plan

pytestmark = pytest.mark.integration


@pytest.fixture
def plans(tmp_path: Path) -> list[Plan]:
    return [plain_plan(tmp_path, "a", seed) for seed in range(5)]


def test_runs_are_made_there(plans: list[Plan], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = Isolated(good, "the fake", tmp_path / "log")
    assert Scheduler(plans, engine, Times([])).run() == 0
    assert {plan.record().status for plan in plans} == {"done"}
    assert engine.process is not None and engine.process.exitcode == 0
    assert capsys.readouterr().out.startswith("2 pretended slot(s)\n[1/5] done")


def test_progress_is_shown(plans: list[Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, float]] = []
    monkeypatch.setattr(Board, "progress", lambda self, plan, fraction: shown.append((plan.label, fraction)))
    assert Scheduler(plans, Isolated(Tells, "the fake", tmp_path / "log"), Times([])).run() == 0
    assert shown == [(plan.label, 0.5) for plan in plans]


def test_no_process_is_started_for_runs_that_are_done(plans: list[Plan], tmp_path: Path) -> None:
    engine = Isolated(broken, "the fake", tmp_path / "log")
    engine.close()
    assert engine.process is None and engine.describe() == "the fake"


def test_its_refusal_is_one_of_the_command(plans: list[Plan], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^there is no such cluster$"):
        Scheduler(plans, Isolated(refused, "the fake", tmp_path / "log"), Times([])).run()


@pytest.mark.parametrize("make", [Hangs, Dies, broken])
def test_silence_ends_the_sweep_with_75(
    plans: list[Plan], tmp_path: Path, make: type, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolated, "SILENT_SECONDS", 3.0)
    engine = Isolated(make, "the fake", tmp_path / "log")
    with pytest.raises(Interrupted) as raised:
        Scheduler(plans, engine, Times([])).run()
    assert raised.value.exit_code == 75
    assert engine.process is not None and not engine.process.is_alive()
    count = 0 if make is broken else 1
    assert (
        f"the fake does not answer, and {count} run(s) are not done; see {tmp_path / 'log'}\n"
        in capsys.readouterr().out
    )
    assert ("RuntimeError: a bug" in (tmp_path / "log").read_text()) == (make is broken)


def test_a_signal_is_answered_even_if_it_hangs(
    plans: list[Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnexp.sweep.scheduler.GRACE_SECONDS", -2.0)
    monkeypatch.setattr(isolated, "CLOSE_SECONDS", 0.5)
    engine = Isolated(Hangs, "the fake", tmp_path / "log")
    start = engine.start

    def start_and_signal(plan: Plan) -> None:
        start(plan)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        engine.kill_at = time.monotonic() + 3.0  # as if asked 22 s ago

    monkeypatch.setattr(engine, "start", start_and_signal)
    assert Scheduler(plans, engine, Times([])).run() == 75
    assert engine.process is not None and not engine.process.is_alive()


def test_signals_to_its_process_are_left_to_the_sweep(plans: list[Plan], tmp_path: Path) -> None:
    engine = Isolated(good, "the fake", tmp_path / "log")
    while not engine.free():
        engine.news(1.0)
    assert engine.process is not None and engine.process.pid is not None
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(engine.process.pid, number)
    assert Scheduler(plans, engine, Times([])).run() == 0


def test_it_stops_and_closes_when_the_sweep_has_exited() -> None:
    ours, theirs = Pipe()
    ours.close()
    engine = FakeEngine(1, done)
    serve(theirs, engine)
    assert engine.stopped == [False] and engine.closed
