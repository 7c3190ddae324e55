"""The decisions of a sweep, on an engine that only pretends: order, losses, other commands, signals, thousands."""

import errno
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plain_plans import End, FakeEngine, finish, plain_plan

from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.records.run_record import RunRecord
from cnnexp.storage import files
from cnnexp.sweep import scheduler as scheduling
from cnnexp.sweep.engine import Ended
from cnnexp.sweep.scheduler import MAX_LOSSES, Scheduler
from cnnexp.sweep.times import Times
from cnnexp.training.plan import Plan

pytestmark = pytest.mark.counts("sweeps")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at other commands' runs all the time."""
    monkeypatch.setattr(scheduling, "HELD_SECONDS", 0.0)


def done(plan: Plan, attempt: int) -> End:
    return 1.0, "done"


def known(plans: list[Plan], seconds: Callable[[Plan], float]) -> Times:
    """Return the times of runs of these plans, which are known from elsewhere."""
    times = Times([])
    for plan in plans:
        times.learn(plan.fingerprint, times.work_of(plan), seconds(plan))
    return times


# Which run starts next.


def test_runs_start_in_the_order_given(tmp_path: Path) -> None:
    plans = [plain_plan(tmp_path, arm, seed) for seed in range(3) for arm in ("a", "b", "c")]
    engine = FakeEngine(2, done)
    assert Scheduler(plans, engine, Times([])).run() == 0
    assert engine.begun == [plan.label for plan in plans] and engine.closed


def test_a_run_that_would_be_waited_for_at_the_end_starts_before_its_turn(tmp_path: Path) -> None:
    plans = [plain_plan(tmp_path, arm, seed) for seed in range(3) for arm in ("a", "b", "long")]
    seconds = {"a": 1.0, "b": 1.0, "long": 10.0}
    engine = FakeEngine(3, lambda plan, attempt: (seconds[plan.arm], "done"))
    assert Scheduler(plans, engine, known(plans[:3], lambda plan: seconds[plan.arm])).run() == 0
    assert engine.begun[:3] == ["a, seed 0", "b, seed 0", "long, seed 0"], "in order: there is time for all"
    assert engine.begun[3:5] == ["long, seed 1", "long, seed 2"], "then what takes longer than all else together"
    assert engine.time == 12.0, "36 s of work on three slots"


@pytest.mark.parametrize("end", ["failed", "lost run", "lost node"])
def test_what_needs_a_run_waits_for_it_and_is_skipped_without_it(tmp_path: Path, end: str) -> None:
    first = plain_plan(tmp_path, "first")
    then, last = plain_plan(tmp_path, "then", 0, first), plain_plan(tmp_path, "other")
    last.upstream = then
    engine = FakeEngine(3, lambda plan, attempt: (1.0, end if plan is first else "done"))
    assert Scheduler([last, then, first], engine, Times([])).run() == 3
    assert set(engine.begun) == {first.label}
    assert [plan.record().status for plan in (first, then, last)] == ["failed", "skipped", "skipped"]


# Losses.


def test_a_run_goes_on_elsewhere_when_its_node_is_lost_but_not_forever(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unlucky, cursed = plain_plan(tmp_path, "unlucky"), plain_plan(tmp_path, "cursed")

    def ends(plan: Plan, attempt: int) -> End:
        return 1.0, "lost node" if plan is cursed or attempt <= MAX_LOSSES else "done"

    engine = FakeEngine(1, ends)
    assert Scheduler([unlucky, cursed], engine, Times([])).run() == 3
    assert engine.started == {unlucky.label: MAX_LOSSES + 1, cursed.label: MAX_LOSSES + 1}
    assert (unlucky.record().status, cursed.record().status) == ("done", "failed")
    assert cursed.record().info["error"]["message"] == "lost node"
    assert capsys.readouterr().out.count("continues: ") == 2 * MAX_LOSSES


def test_a_run_whose_process_is_lost_has_failed(tmp_path: Path) -> None:
    plans = [plain_plan(tmp_path, "dies"), plain_plan(tmp_path, "lives")]
    engine = FakeEngine(1, lambda plan, attempt: (1.0, "lost run" if plan.arm == "dies" else "done"))
    assert Scheduler(plans, engine, Times([])).run() == 3
    assert engine.started == {"dies, seed 0": 1, "lives, seed 0": 1}
    assert plans[0].record().info["error"] == {"type": "WorkerExited", "message": "lost run"}


# Runs of other commands.


def hold(plan: Plan, then: Callable[[], object], seconds: float = 0.3) -> threading.Thread:
    """Hold a run for a moment, as another command does; at its end do `then`."""
    held = threading.Event()

    def body() -> None:
        with plan.record().held():
            held.set()
            time.sleep(seconds)
            then()

    thread = threading.Thread(target=body)
    thread.start()
    held.wait()
    return thread


@pytest.mark.parametrize("status", ["done", "failed", "diverged", "interrupted"])
def test_a_run_that_another_command_makes_is_waited_for(
    tmp_path: Path, status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = [plain_plan(tmp_path, "a"), plain_plan(tmp_path, "b")]
    plans.append(plain_plan(tmp_path, "then", 0, plans[0]))
    engine = FakeEngine(1, done)
    other = hold(plans[0], lambda: finish(plans[0], status))
    code = Scheduler(plans, engine, Times([])).run()
    other.join()
    made_there, good = status != "interrupted", status in ("done", "interrupted")
    assert engine.begun == ["b, seed 0"] + ([] if made_there else ["a, seed 0"]) + ["then, seed 0"] * good
    assert code == (0 if good else 3)
    assert plans[0].record().status == ("done" if good else status)
    assert plans[2].record().status == ("done" if good else "skipped")
    out = capsys.readouterr().out
    assert f"waits for a, seed 0: {plans[0].folder}: is in use by pid {os.getpid()} on " in out
    assert ("by another command" in out) == made_there


def test_a_run_that_failed_before_is_made_again_and_one_that_failed_meanwhile_is_not(tmp_path: Path) -> None:
    before, meanwhile = plain_plan(tmp_path, "before"), plain_plan(tmp_path, "meanwhile")
    finish(before, "failed")
    engine = FakeEngine(1, done)
    sweep = Scheduler([before, meanwhile], engine, Times([]))
    finish(meanwhile, "failed")
    assert sweep.run() == 3
    assert engine.begun == [before.label] and meanwhile.record().status == "failed"


def test_a_run_that_a_worker_finds_held_is_waited_for(tmp_path: Path) -> None:
    plan = plain_plan(tmp_path, "a")
    engine = FakeEngine(1, lambda plan, attempt: (1.0, "held" if attempt == 1 else "done"))
    assert Scheduler([plan], engine, Times([])).run() == 0
    assert engine.started == {plan.label: 2}


@pytest.mark.integration
def test_the_budget_ends_the_waiting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held, free = plain_plan(tmp_path, "held"), plain_plan(tmp_path, "free")
    with held.record().held():
        assert Scheduler([held, free], FakeEngine(1, done), Times([]), budget=1).run() == 75
    out = capsys.readouterr().out
    assert "not made here: 1 run of another command; when that has ended, run this again" in out
    assert (held.record().info, free.record().status) == ({}, "done")


@pytest.mark.integration
def test_the_budget_ends_the_waiting_for_a_run_that_others_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = plain_plan(tmp_path, "held")
    plans = [held, plain_plan(tmp_path, "then", 0, held)]
    other = hold(held, lambda: None, seconds=6.0)
    begin = time.monotonic()
    assert Scheduler(plans, FakeEngine(1, done), Times([]), budget=1).run() == 75
    assert time.monotonic() - begin < 4.0
    other.join()
    out = capsys.readouterr().out
    assert "not made here: 1 run of another command" in out and "not started: 1 run; the same" in out


@pytest.mark.integration
def test_after_waiting_a_budget_is_not_called_too_short(tmp_path: Path) -> None:
    plan = plain_plan(tmp_path, "a")
    times = known([plan], lambda plan: 1.5)
    other = hold(plan, lambda: None, seconds=0.7)
    assert Scheduler([plan], FakeEngine(1, done), times, budget=2).run() == 75
    other.join()


@pytest.mark.integration
def test_the_budget_ends_the_waiting_for_a_slot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Scheduler([plain_plan(tmp_path, "a")], FakeEngine(0, done), Times([]), budget=1).run() == 75
    assert "not started: 1 run; the same command continues" in capsys.readouterr().out


@pytest.mark.parametrize("shown", [None, "running"])
@pytest.mark.parametrize("later", [True, False])
def test_a_record_that_a_network_mount_shows_late(
    tmp_path: Path, shown: str | None, later: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scheduling, "LATE_SECONDS", 60.0 if later else 0.5)
    plan, engine = plain_plan(tmp_path, "a"), FakeEngine(1, done)
    if shown:
        finish(plan, shown)
    visible = threading.Timer(1.0, finish, (plan, "done"))
    if later:
        visible.start()
    monkeypatch.setattr(engine, "news", lambda timeout: [Ended(plan, "done", "")])
    assert Scheduler([plan], engine, Times([])).run() == (0 if later else 3)
    out = capsys.readouterr().out
    assert ("done    a, seed 0: validation 50.00%" if later else "failed  a, seed 0: ") in out


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE, None])
def test_a_record_that_cannot_be_read_stops_no_other_run(
    number: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = [plain_plan(tmp_path, "a"), plain_plan(tmp_path, "b")]
    real = storage.read_json

    def read(file: Path) -> object:
        if file.parent == plans[0].folder and file.exists():
            raise UserError(f"{file}: cannot be read ({os.strerror(number)})" if number else f"{file}: was damaged")
        return real(file)

    monkeypatch.setattr(storage, "read_json", read)
    assert Scheduler(plans, FakeEngine(1, done), Times([])).run() == 3
    why = f"cannot be read ({os.strerror(number)})" if number else "was damaged"
    assert f"failed  a, seed 0: {plans[0].folder / 'run.json'}: {why}" in capsys.readouterr().out
    assert plans[1].record().status == "done"


def test_a_lock_that_cannot_be_looked_at_stops_no_other_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = [plain_plan(tmp_path, "a"), plain_plan(tmp_path, "b")]
    real, lock = os.open, plans[0].folder / ".lock"

    def fail(path: Any, *more: Any, **named: Any) -> int:
        if path in (str(lock), lock):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(lock))
        return real(path, *more, **named)

    monkeypatch.setattr(os, "open", fail)
    assert Scheduler(plans, FakeEngine(1, done), Times([])).run() == 3
    assert f"failed  a, seed 0: {lock}: cannot be read (Input/output error)" in capsys.readouterr().out
    assert plans[1].record().status == "done"


@pytest.mark.parametrize("held_before", [False, True])
def test_a_run_that_this_user_cannot_read_is_not_waited_for(
    held_before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    closed, free = plain_plan(tmp_path, "closed"), plain_plan(tmp_path, "free")
    answers = iter(["pid 1"] if held_before else [])

    def holder(path: Path) -> str | None:
        return next(answers, storage.UNREADABLE) if path.parent == closed.folder else None

    monkeypatch.setattr("cnnexp.storage.holder", holder)
    engine = FakeEngine(1, done)
    assert Scheduler([closed, free], engine, Times([]), budget=5).run() == 3
    assert engine.begun == [free.label]
    assert f"failed  {closed.label}: {closed.folder}: cannot be read (permission denied)" in capsys.readouterr().out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_ends_the_waiting(tmp_path: Path, number: signal.Signals, code: int) -> None:
    held, engine = plain_plan(tmp_path, "held"), FakeEngine(1, done)
    with held.record().held():
        threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
        assert Scheduler([held], engine, Times([])).run() == code
    assert engine.begun == [] and engine.stopped == [False]


def test_fail_fast_ends_the_waiting(tmp_path: Path) -> None:
    held, bad = plain_plan(tmp_path, "held"), plain_plan(tmp_path, "bad")
    with held.record().held():
        sweep = Scheduler([held, bad], FakeEngine(1, lambda *_: (1.0, "failed")), Times([]), fail_fast=True)
        assert sweep.run() == 3


# Signals.


def test_a_sweep_ends_after_a_signal_even_if_its_engine_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "GRACE_SECONDS", -3.0)
    engine = FakeEngine(1, done)
    monkeypatch.setattr(engine, "news", lambda timeout: sweep.ask(signal.SIGTERM, None) or [])
    plans = [plain_plan(tmp_path, "a"), plain_plan(tmp_path, "b")]
    sweep = Scheduler(plans, engine, Times([]))
    assert sweep.run() == 75
    assert engine.begun == ["a, seed 0"] and engine.closed and engine.stopped == [False]


def test_a_budget_that_lets_nothing_start_is_a_wrong_request(tmp_path: Path) -> None:
    plans = [plain_plan(tmp_path, "a")]
    with pytest.raises(UserError, match=r"^--budget: too short for the run left; .* 17 min$"):
        Scheduler(plans, FakeEngine(1, done), known(plans, lambda plan: 1000.0), budget=60).run()


# A large sweep on many workers, in virtual time.


@pytest.fixture
def light_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Record runs without syncing the disk, which is not what is measured."""
    monkeypatch.setattr(files.disk, "sync", lambda *_: None)
    monkeypatch.setattr(files.disk, "sync_folder", lambda *_: None)


@pytest.mark.usefixtures("light_records")
@pytest.mark.parametrize(
    ("workers", "arms", "seeds"), [(40, 40, 10), pytest.param(1000, 1000, 10, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("times_known", "spread"), [(False, 0.35), (True, 0.7)])
def test_many_workers_make_every_run_once_in_little_more_than_the_shortest_time(
    tmp_path: Path, workers: int, arms: int, seeds: int, times_known: bool, spread: float,
    record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    draw = random.Random(0)
    upstream = plain_plan(tmp_path, "upstream")
    plans = [
        plain_plan(tmp_path, f"arm{arm:04}", seed, upstream if arm % 10 == 0 else None)
        for seed in range(seeds)
        for arm in range(arms)
    ]
    mean = {
        plan.arm: draw.lognormvariate(3.0, spread) for plan in [upstream, *plans]
    }  # seconds: most 10 to 40, some 200
    seconds = {plan.label: mean[plan.arm] * draw.uniform(0.95, 1.05) for plan in [upstream, *plans]}
    fates = {plan.label: draw.choices(["done", "failed", "lost run", "lost node"], [95, 2, 1, 2])[0] for plan in plans}

    parts = {plan.label: draw.random() for plan in plans}  # of a run, before it fails or is lost

    def ends(plan: Plan, attempt: int) -> End:
        fate = fates.get(plan.label, "done")
        part = parts[plan.label] if fate != "done" else 1.0
        if fate != "lost node":
            return seconds[plan.label] * part, fate
        return (seconds[plan.label] * part, fate) if attempt == 1 else (seconds[plan.label] * (1 - part), "done")

    engine = FakeEngine(workers, ends)
    within = time_within(engine)
    times = known(plans[:arms], lambda plan: mean[plan.arm]) if times_known else Times([])
    began = time.process_time()
    assert Scheduler([upstream, *plans], engine, times).run() == 3
    own = (time.process_time() - began - sum(within)) / len(plans)
    capsys.readouterr()

    bound = max(engine.busy_seconds / workers, max(seconds.values()))
    print(f"makespan {engine.time / bound:.3f} of the bound; {own * 1e3:.2f} ms of the scheduler per run")
    record_property("makespan / bound", round(engine.time / bound, 4))
    record_property("scheduler's own ms per run", round(own * 1e3, 3))
    assert engine.time <= 1.05 * bound
    assert engine.started == {label: 1 + (fates.get(label) == "lost node") for label in seconds}
    expected = {"done": "done", "lost node": "done", "failed": "failed", "lost run": "failed"}
    assert {plan.label: plan.record().status for plan in plans} == {n: expected[fate] for n, fate in fates.items()}
    assert own < 0.01
    assert storage.holder(plans[0].folder / ".lock") is None


def time_within(engine: FakeEngine) -> list[float]:
    """Measure the processor time that an engine takes, each call of it."""
    taken: list[float] = []
    for name in ("free", "start", "news"):
        method = getattr(engine, name)

        def timed(*arguments: object, method: Callable[..., object] = method) -> object:
            began = time.process_time()
            try:
                return method(*arguments)
            finally:
                taken.append(time.process_time() - began)

        setattr(engine, name, timed)
    return taken


def test_the_time_of_a_sweep_does_not_grow_with_its_square(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the runs that are looked at, for sweeps of 200 and of 2,000 runs: per run they stay the same."""
    looked = 0
    expected, read = Times.expected, RunRecord.read

    def counted(self: Times, plan: Plan) -> float | None:
        nonlocal looked
        looked += 1
        return expected(self, plan)

    def counted_read(folder: Path) -> RunRecord:
        nonlocal looked
        looked += 1
        return read(folder)

    monkeypatch.setattr(Times, "expected", counted)
    monkeypatch.setattr(RunRecord, "read", counted_read)
    monkeypatch.setattr("plain_plans.finish", lambda *_: None)
    monkeypatch.setattr(Scheduler, "note", lambda self, plan, *_: (self.queue.ended(plan), self.ended.append(plan)))
    monkeypatch.setattr(scheduling, "print_summary", lambda *_: None)
    per_run = []
    for count in (200, 2000):
        plans = [plain_plan(tmp_path / str(count), "a", seed) for seed in range(count)]
        looked = 0
        assert Scheduler(plans, FakeEngine(10, done), known(plans[:1], lambda _: 1.0)).run() == 0
        per_run.append(looked / count)
    assert per_run[1] < 1.2 * per_run[0] < 40
