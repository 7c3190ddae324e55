"""Checkpoints that have lost a field: what the run that goes on from them computes otherwise."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lives import SignalAt, differences, everything, last, live

from cnnexp import storage
from cnnexp.records.run_record import RunRecord
from cnnexp.training import checkpoint
from cnnexp.training.loop import TrainState
from cnnexp.training.plan import Plan

Place = tuple[Any, ...]
MISSING = object()
LONG = 1000.0  # seconds


def live_long(plan: Plan, step: int) -> str:
    """Let a run live until a step, as if it had taken very long: time that is lost later is then seen."""
    before = SignalAt.step

    def slow(self: SignalAt, state: TrainState) -> None:
        if state.step == step:
            state.seconds = {name: value + LONG for name, value in state.seconds.items()}
            state.epoch_seconds += LONG
        before(self, state)

    SignalAt.step = slow  # type: ignore[method-assign]
    return live(plan, "signal", step)


def places(node: Any, place: Place = ()) -> Iterator[Place]:
    """Yield where the values of nested dicts, and of lists of dicts, lie; other lists are values."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from places(value, (*place, key))
    elif isinstance(node, list) and node and isinstance(node[0], dict):
        for number, value in enumerate(node):
            yield from places(value, (*place, number))
    else:
        yield place


def at(node: Any, place: Place) -> Any:
    """Return the value at a place, MISSING if there is none."""
    for key in place:
        try:
            node = node[key]
        except (KeyError, IndexError):
            return MISSING
    return node


def forget(saved: dict[str, Any], fresh: dict[str, Any], place: Place) -> None:
    """Put in a place what would be there had it not been saved: a fresh run's value, or another one if that is equal.

    A fresh optimiser has no moments: theirs become 0. What else has no fresh value is left out.
    """
    node, key, new = at(saved, place[:-1]), place[-1], at(fresh, place)
    if new is MISSING and isinstance(node[key], torch.Tensor):
        new = torch.zeros_like(node[key])
    if new is MISSING:
        del node[key]
    elif next(differences(new, node[key]), None) is None:
        node[key] = other(node[key])
    else:
        node[key] = new


def other(value: Any) -> Any:
    """Return a value of the same kind that is not the same."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float, torch.Tensor)):
        return value + 1
    if isinstance(value, (list, tuple)):
        return type(value)([other(value[0]), *value[1:]])
    return "something else"


def go_on(plan: Plan, base: Path, uncut: Path, file: str, place: Place | None, leave_out: bool) -> list[str]:
    """Go on from a copy of the run in `base` whose checkpoint has lost a field; return what then differs from `uncut`.

    file: last.pt or the best weights'. place: None loses nothing. leave_out: the field is not in the file; else it is
    forgotten (see `forget`). A run that refuses to go on differs in that alone.
    """
    plan = replace(plan, folder=base.with_name("mutant"))
    storage.remove(plan.folder)
    shutil.copytree(base, plan.folder)
    storage.remove(plan.folder / "checkpoints" / "previous.pt")  # a run would go on from it, and come out the same
    if place is not None and file == "last.pt":
        load = TrainState.load_state_dict

        def load_less(self: TrainState, state: dict[str, Any]) -> None:
            lose(state, self.state_dict(), place, leave_out)
            load(self, state)

        TrainState.load_state_dict = load_less  # type: ignore[method-assign]
    elif place is not None:
        path = plan.folder / "checkpoints" / file
        content = checkpoint.read(path)
        lose(content, {}, place, leave_out)
        storage.publish(checkpoint.draft(path, content), path)
    try:
        live(plan)
    except Exception as error:
        return [f"refused: {type(error).__name__}: {error}"]
    return [*differences(everything(plan.folder), everything(uncut)), *lost_times(base, plan.folder)]


def lose(saved: dict[str, Any], fresh: dict[str, Any], place: Place, leave_out: bool) -> None:
    """Take a field out of a checkpoint, or let it be forgotten."""
    if leave_out:
        del at(saved, place[:-1])[place[-1]]
    else:
        forget(saved, fresh, place)


def lost_times(base: Path, folder: Path) -> Iterator[str]:
    """Yield those times of a run that are shorter at its end than at the checkpoint that it went on from."""
    before = last(base)
    after = last(folder)["seconds"]
    yield from (f"seconds.{name}" for name, value in before["seconds"].items() if not after.get(name, 0.0) >= value)
    epochs = [r for r in RunRecord.read(folder).rows("epoch", "train") if r["step"] >= before["step"]]
    if epochs and not epochs[0]["seconds"] >= before["epoch_seconds"]:
        yield "epoch_seconds"
