"""An agent on another machine: what it answers, when it refuses to work there, and what it does when nobody asks."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cnnexp import storage
from cnnexp.records.provenance import digest
from cnnexp.storage import presence
from cnnexp.sweep import agent as agents
from cnnexp.sweep.agent import Agent
from cnnexp.sweep.engine import Ended, Event, Lost, Progress
from cnnexp.sweep.slots import Slot
from cnnexp.training.plan import Plan

LONG = ("epochs=4000ep", "checkpoint.every=5ep")
Make = Callable[..., Agent]


@pytest.fixture
def make(outputs: Path) -> Iterator[Make]:
    """Return a function that makes an agent for a study's folder."""
    made: list[Agent] = []

    def new(folder: Path, planner: str = "planner-1-0-t.lock", code: str = "") -> Agent:
        slot = Slot("cpu", 1)
        made.append(Agent(slot, [folder], planner, code or digest(), Path.cwd(), ["/own/code"], {"CNNEXP_X": "1"}))
        return made[-1]

    yield new
    for agent in made:
        agent.close()
    del os.environ["CNNEXP_X"]


def end(agent: Agent, attempt: int, plan: Plan) -> Event:
    """Ask until the run has ended."""
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        for event in agent.news(attempt, plan):
            if not isinstance(event, Progress):
                return event
    raise AssertionError("no end")


def test_the_first_question_starts_a_run_and_the_last_answer_is_repeated(make: Make, plan: Callable[..., Plan]) -> None:
    first, second = plan("epochs=1st"), plan("epochs=1st", "seed=1")
    agent = make(first.folder.parent)
    for attempt, one in enumerate((first, second), 1):
        assert end(agent, attempt, one) == Ended(one, "done", "")
        assert agent.news(attempt, one) == [Ended(one, "done", "")], "an answer may get lost on its way"
        assert (one.folder / "train.log").read_text().count("done: test") == 1
    assert os.environ["CNNEXP_X"] == "1"


@pytest.mark.integration
def test_it_stops_a_run_or_kills_it(make: Make, plan: Callable[..., Plan]) -> None:
    for now, expected in ((False, Ended), (True, Lost)):
        one = plan(*LONG, f"seed={int(now)}")
        agent = make(one.folder.parent)
        while not any(isinstance(event, Progress) for event in agent.news(1, one)):
            pass
        threading.Timer(0.5, agent.stop, (now,)).start()
        assert isinstance(end(agent, 1, one), expected)
        assert one.record().status == "interrupted"


@pytest.mark.slow
def test_it_stops_a_run_of_which_nobody_asks(
    make: Make, plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(agents, "SILENT_SECONDS", 3.0)
    monkeypatch.setattr(agents.os, "_exit", codes.append)
    one = plan(*LONG)
    agent = make(one.folder.parent)
    watch = threading.Thread(target=agent.live)
    watch.start()
    while not agent.news(1, one):  # the process of the run may take longer than that to start
        pass
    assert codes == [] and storage.is_locked(one.folder / ".lock")
    watch.join(60)
    assert codes == [1] and not storage.is_locked(one.folder / ".lock")
    assert one.record().status == "interrupted"


class TestRefusals:
    def test_none(self, make: Make, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with ExitStack() as stack:
            with monkeypatch.context() as patch:
                patch.setattr(presence, "own_name", lambda: "planner-1-0-t.lock")
                stack.enter_context(presence.at_work(outputs / "s"))
            agent = make(outputs / "s")
            assert [agent.ready(), agent.ready()] == ["", ""]
            assert storage.is_locked(outputs / "s" / presence.FOLDER / presence.own_name())
            agent.close()
            assert not (outputs / "s" / presence.FOLDER / presence.own_name()).exists()

    def test_another_version(self, make: Make, outputs: Path) -> None:
        assert "has another version of cnnexp" in make(outputs / "s", code="another").ready()

    def test_a_folder_that_is_not_shared(self, make: Make, outputs: Path) -> None:
        (outputs / "s" / presence.FOLDER).mkdir(parents=True)
        assert make(outputs / "s").ready().startswith(f"{outputs / 's'}: is another folder on ")

    @pytest.mark.integration
    def test_locks_that_do_not_reach(self, make: Make, outputs: Path) -> None:
        planner = outputs / "s" / presence.FOLDER / "planner-1-0-t.lock"
        planner.parent.mkdir(parents=True)
        planner.touch()
        stop = threading.Event()
        threading.Thread(target=presence._touch, args=(planner, stop), daemon=True).start()
        try:
            assert "locks of files do not reach planner-1" in make(outputs / "s").ready()
        finally:
            stop.set()
