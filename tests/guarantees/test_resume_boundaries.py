"""A run that ends at any step, by a signal or a kill, goes on as if it had not: a process for every life of a run."""

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from forks import Died, Forks
from lives import EPOCH, KINDS, difference, everything, last, live

from cnnexp.training.hash_chain import LINKS
from cnnexp.training.plan import Plan

pytestmark = [pytest.mark.counts("cuts"), pytest.mark.integration]

Plans = Callable[..., Plan]
STEPS = 3 * EPOCH


@pytest.fixture(scope="module")
def uncut() -> dict[str, dict[str, Any]]:
    """Return a place for what the runs that were not cut gave, so that each is made once."""
    return {}


@pytest.fixture
def expected(
    forks: Forks, kind_plan: Plans, tmp_path: Path, uncut: dict[str, dict[str, Any]]
) -> Callable[[str], dict[str, Any]]:
    """Return a function that gives what a run of a kind computes if it is not cut."""

    def find(kind: str) -> dict[str, Any]:
        if kind not in uncut:
            plan = kind_plan(kind, f"outputs={tmp_path / 'uncut'}")
            assert forks(live, plan) == "done"
            uncut[kind] = everything(plan.folder)
        return uncut[kind]

    return find


def history(forks: Forks, plan: Plan, ends: list[tuple[str, int]]) -> dict[str, Any]:
    """Let a run live until each of the ends, then to its own; return what it computed."""
    for end, step in ends:
        if end == "signal":
            assert forks(live, plan, end, step) == "interrupted"
        else:
            with pytest.raises(Died, match="ended with -9"):
                forks(live, plan, end, step)
        assert last(plan.folder)["step"] == step
    assert forks(live, plan) == "done"
    assert plan.record().info["resumed"] == len(ends)
    return everything(plan.folder)


def drawn_ends(kind: str, number: int) -> list[tuple[str, int]]:
    """Draw three to five ends in a row, the same in every session."""
    draw = random.Random(f"{kind}, {number}")
    steps = sorted(draw.sample(range(1, STEPS + 1), draw.randint(3, 5)))
    return [(draw.choice(["signal", "kill"]), step) for step in steps]


@pytest.mark.parametrize("kind", ["torch's step", "early stopping"])
def test_several_ends_in_a_row(
    forks: Forks, kind_plan: Plans, expected: Callable[[str], dict[str, Any]], kind: str
) -> None:
    found = history(forks, kind_plan(kind), drawn_ends(kind, 0))
    assert difference(found, expected(kind)) is None
    rows = found["hash chain"]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1)) and len(rows) >= STEPS
    assert all(one[link] != other[link] for one, other in pairwise(rows) for link in LINKS if link in MOVING)
    if kind == "early stopping":
        assert found["result"]["stopped"] == "early" and found["result"]["best_epoch"] < found["result"]["epochs"]


MOVING = ("samples", "images", "random", "loss", "weights")  # what every step must change, or its hash says nothing


@pytest.mark.slow
@pytest.mark.counts("interruptions", STEPS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_boundary(forks: Forks, kind_plan: Plans, expected: Callable[[str], dict[str, Any]], kind: str) -> None:
    first = list(KINDS).index(kind)
    ends = [(("signal", "kill")[(first + step) % 2], step) for step in range(1, STEPS + 1)]
    assert difference(history(forks, kind_plan(kind), ends), expected(kind)) is None
