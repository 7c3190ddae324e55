"""No field of a checkpoint is there for nothing: whichever is lost, the run that goes on is not the one that was cut.

So the comparison of `test_resume_boundaries.py` can fail, for every cause that a forgotten field may have.
"""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from forks import Forks
from lives import last, live
from mutants import Place, go_on, live_long, places

from cnnexp.training import checkpoint
from cnnexp.training.plan import Plan

pytestmark = [pytest.mark.counts("mutations"), pytest.mark.integration]

Plans = Callable[..., Plan]
BASES = {"early stopping": 13, "torch's step": 7, "torch's plateau": 13, "loss scaled": 7, "onecycle": 7}  # kind: step
# What torch's own states hold and nothing that is computed here depends on: switches of how an optimiser computes,
# counters that nothing reads, settings that only another setting would make matter, and, beside a schedule of ours, the
# learning rate, which it sets before every step. All that is ours is missing from this list.
# Without these last.pt is not taken, but the one before, or only the hash chain differs: test_damage.py.
PASSED_OVER = ("chain", "chain_rows", "rows_digest", "probes_digest", "run")
NEEDLESS = {
    "early stopping": [
        *("optimizer.capturable", "optimizer.decoupled_weight_decay", "optimizer.foreach"),
        "optimizer.lr",
    ],
    "torch's step": [
        *("optimizer.differentiable", "optimizer.initial_lr", "schedule._get_lr_called_within_step"),
        *("schedule._is_initial", "schedule._last_lr", "schedule._step_count"),
    ],
    "torch's plateau": [
        *("optimizer.foreach", "optimizer.initial_accumulator_value", "schedule._last_lr"),
        *("schedule.default_min_lr", "schedule.last_epoch", "schedule.mode_worse", "schedule.threshold"),
    ],
    "loss scaled": [
        *("optimizer.dampening", "optimizer.differentiable", "optimizer.lr", "optimizer.nesterov", "optimizer.params"),
        "scaler.backoff_factor",
    ],
    "onecycle": ["optimizer.differentiable", "optimizer.foreach", "optimizer.lr"],
}


class Base:
    """A run that was cut at a step, and the same one that was not."""

    def __init__(self, forks: Forks, plan: Plans, folder: Path, kind: str, step: int):
        self.forks = forks
        self.plan, uncut = plan(kind), plan(kind, f"outputs={folder / 'uncut'}")
        assert forks(live, uncut) == "done"
        assert forks(live_long, self.plan, step) == "interrupted"
        self.cut, self.uncut = self.plan.folder, uncut.folder
        self.state = last(self.cut)
        assert self.lose(None) == [], "what loses nothing computes the same"

    def lose(self, place: Place | None, file: str = "last.pt", leave_out: bool = False) -> list[str]:
        """Return what differs if a field of a checkpoint is lost."""
        found: list[str] = self.forks(go_on, self.plan, self.cut, self.uncut, file, place, leave_out)
        return found

    def unnoticed(self, lost: list[Place]) -> set[str]:
        """Return the names of those of the fields that nothing computed depends on."""
        return {named(place) for place in lost if not any(depends(where, place) for where in self.lose(place))}


def named(place: Place) -> str:
    """Return a place as text, without what is between its first and its last word: "optimizer.exp_avg"."""
    words = ".".join(map(str, place)).split(".")
    return ".".join(dict.fromkeys((words[0], words[-1])))


def depends(where: str, lost: Place) -> bool:
    """Tell whether a difference shows more than that the field, which later checkpoints hold too, is another."""
    place = ".".join(map(str, lost))
    where = where.replace("[", ".").replace("]", "")
    return where not in (f"state.{place}", f"best.{place}") and not where.startswith("hash chain")


def test_a_lost_field_is_noticed(forks: Forks, kind_plan: Plans, tmp_path: Path) -> None:
    base = Base(forks, kind_plan, tmp_path, "early stopping", BASES["early stopping"])
    lost = [place for place in places(base.state) if place[0] not in ("seconds", "schedule", *PASSED_OVER)]
    assert base.unnoticed(random.Random(1).sample(lost, 6)) <= set(NEEDLESS["early stopping"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", BASES)
def test_every_lost_field_is_noticed(
    forks: Forks, kind_plan: Plans, tmp_path: Path, kind: str, record_property: Callable[[str, object], None]
) -> None:
    base = Base(forks, kind_plan, tmp_path, kind, BASES[kind])
    lost = list(places(base.state))
    if kind != "early stopping":  # what is not in that one's checkpoint: one of each name
        lost = list({named(place): place for place in lost if place[0] in ("optimizer", "schedule", "scaler")}.values())
    unnoticed = base.unnoticed(lost)
    print(f"{kind}: {len(lost)} fields, unnoticed: {sorted(unnoticed)}")
    record_property(f"fields of {kind}", len(lost))
    assert sorted(unnoticed) == sorted([*NEEDLESS[kind], *(PASSED_OVER if kind == "early stopping" else ())])


@pytest.mark.slow
def test_a_file_without_a_field_is_refused_or_noticed(forks: Forks, kind_plan: Plans, tmp_path: Path) -> None:
    base = Base(forks, kind_plan, tmp_path, "early stopping", BASES["early stopping"])
    for key in (key for key, value in base.state.items() if value != {} and key not in PASSED_OVER):
        assert base.lose((key,), leave_out=True), f"{key} is not in the file"
    best = f"best-{base.state['best']['epoch']}.pt"
    for place in places(checkpoint.read(base.cut / "checkpoints" / best)):
        assert base.lose(place, best), f"{place} of the best weights"


@pytest.mark.slow
def test_that_a_run_has_stopped_is_noticed(forks: Forks, kind_plan: Plans, tmp_path: Path) -> None:
    base = Base(forks, kind_plan, tmp_path, "early stopping", 20)
    assert base.state["stopped"] == "early"
    assert base.unnoticed([("stopped",), ("best", "epoch"), ("best", "val_accuracy"), ("best", "val_loss")]) == set()
