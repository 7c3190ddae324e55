"""When checkpoints are saved, and what a damaged one is answered with."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import DIVERGE

from cnnexp.records.run_record import RunRecord
from cnnexp.storage import StorageError
from cnnexp.training import checkpoint
from cnnexp.training.checkpoint import Checkpoints

Train = Callable[..., int]
Only = Callable[[], RunRecord]


class Clock:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Put a clock in the place of the checkpoints'."""
    clock = Clock()
    monkeypatch.setattr(checkpoint, "perf_counter", clock)
    return clock


def test_automatic_checkpoints_cost_little_and_come_each_minute_if_they_do(clock: Clock, tmp_path: Path) -> None:
    own = Checkpoints(tmp_path, None, steps_per_epoch=10, run="run", size=0)
    assert own.due(10), "the end of an epoch, and nothing is known to be dear"
    assert not own.due(11)
    own.cost = 0.33  # 1 % of 33 seconds
    clock.now += 32.9
    assert not own.due(20)
    clock.now += 0.2
    assert own.due(20) and not own.due(21)
    clock.now += 26.8
    assert own.due(30) and not own.due(31)
    clock.now += 0.2
    assert own.due(31), "a minute is over"
    own.cost = 1.0
    assert not own.due(31) and not own.due(40), "it would be 1.7 % of the time"
    clock.now += 40.0
    assert own.due(41)
    own.cost = 30.0
    clock.now += 499.8
    assert not own.due(50) and not own.due(51)
    clock.now += 0.2
    assert own.due(51), "ten minutes are over, at whatever cost"


def test_the_first_automatic_checkpoint_waits_for_what_its_size_lets_expect(clock: Clock, tmp_path: Path) -> None:
    own = Checkpoints(tmp_path, None, steps_per_epoch=10, run="run", size=10**9)  # 1 s, which is 1 % of 100 s
    clock.now += 99.0
    assert not own.due(10) and not own.due(11)
    clock.now += 1.1
    assert own.due(10) and own.due(11)


def test_checkpoints_at_an_interval(clock: Clock, tmp_path: Path) -> None:
    own = Checkpoints(tmp_path, 4, steps_per_epoch=10, run="run", size=0)
    clock.now += 1000
    assert [step for step in range(1, 21) if own.due(step)] == [4, 8, 12, 16, 20]


@pytest.mark.integration
def test_a_damaged_checkpoint_is_named(train: Train, only: Only, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(*DIVERGE) == 3
    last = only().folder / "checkpoints" / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    last.with_name("previous.pt").unlink(missing_ok=True)
    only().update(status="interrupted")
    capsys.readouterr()
    assert train(*DIVERGE) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"cnnexp: all checkpoints of this run are damaged: {last}: cannot be read")
    assert told.count("\n") == 1


@pytest.mark.parametrize("capacity", range(0, 6_000_000, 700_000))
def test_a_disk_that_fills_at_any_byte_of_a_checkpoint_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capacity: int
) -> None:
    """It takes a part of a write before it refuses; torch then raises an error of its own, about a position."""
    really, left = os.write, [capacity]

    def write(descriptor: int, content: memoryview) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = really(descriptor, content[: left[0]])
        left[0] -= written
        return written

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(StorageError, match=r"last.pt.*No space left on device"):
        checkpoint.draft(tmp_path / "last.pt", {"model": {name: torch.ones(500_000) for name in "abc"}})
    assert list(tmp_path.iterdir()) == []
