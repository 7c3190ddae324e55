"""The hash chain: two runs that part are told at which step, and by what."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cnnexp import cli, storage
from cnnexp.data.batches import Batches
from cnnexp.records.run_record import RunRecord
from cnnexp.training import hash_chain
from cnnexp.training import run as runner
from cnnexp.training.hash_chain import LINKS, digest, parting
from cnnexp.training.plan import Plan
from cnnexp.training.progress import Progress

Plans = Callable[..., Plan]


@pytest.fixture
def chained(plan: Plans, outputs: Path) -> Callable[..., RunRecord]:
    """Return a function that trains the tiny run for seven steps, with a hash chain, in a folder of its own."""

    def make(name: str, *more: str) -> RunRecord:
        where = f"outputs={outputs / name}"
        return runner.run(plan("epochs=7st", "log.hash_chain=true", where, *more), Progress())

    return make


@pytest.fixture(scope="module")
def unchanged() -> list[dict[str, Any]]:
    """Return a place for the rows of the run that nothing is changed in, so that it is made once."""
    return []


@pytest.mark.parametrize(
    ("change", "link"),
    [
        ("seed=1", "samples"),
        ("augmentation=flip", "images"),
        ("optimizer.lr=0.002", "learning_rate"),
        ("model.dropout.pool=0", "random"),
        ("loss.label_smoothing=0.1", "loss"),
        ("optimizer.betas=[0.9,0.99]", "optimizer"),
        ("optimizer.eps=0.1", "weights"),
        ("log.steps=1st", None),
    ],
)
def test_the_cause_is_named(
    chained: Callable[..., RunRecord], unchanged: list[dict[str, Any]], change: str, link: str | None
) -> None:
    if not unchanged:
        unchanged.extend(hash_chain.read(chained("a").folder))
    one, other = unchanged, hash_chain.read(chained("b", change).folder)
    assert [row["step"] for row in one] == list(range(1, 8))
    assert parting(one, other) == (f"step 1: {LINKS[link]}" if link else None)
    assert (one[-1]["chain"] == other[-1]["chain"]) == (link is None)


@pytest.mark.integration
def test_the_step_is_named(
    chained: Callable[..., RunRecord], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = chained("a")
    positions = Batches.positions

    def swapped(self: Batches, step: int) -> tuple[int, Tensor]:
        epoch, found = positions(self, step)
        return epoch, found.flip(0) if step == 5 else found

    monkeypatch.setattr(Batches, "positions", swapped)
    other = chained("b")
    assert cli.main(["diff", str(one.folder), str(other.folder)]) == 0
    assert capsys.readouterr().out.endswith("training steps\n  differ first at step 6: the order of samples\n")
    assert cli.main(["diff", str(one.folder), str(one.folder)]) == 0
    assert capsys.readouterr().out.endswith("training steps\n  all 7 are the same, bit for bit\n")
    assert 0 < one.info["seconds"]["hash_chain"] < one.info["seconds"]["total"]
    chain = one.folder / "hash_chain.jsonl"
    chain.write_bytes(b"".join(chain.read_bytes().splitlines(keepends=True)[:-1]))
    assert cli.main(["diff", str(one.folder), str(other.folder)]) == 2
    assert "hash_chain.jsonl: is not what the run left there" in capsys.readouterr().err


def test_it_is_off_by_default_and_changes_no_fingerprint(
    plan: Plans, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, chained = plan("epochs=2st"), plan("epochs=2st", "log.hash_chain=true")
    assert plain.fingerprint == chained.fingerprint
    (plain.folder / "checkpoints").mkdir(parents=True)
    storage.append_row(plain.folder / "hash_chain.jsonl", {"step": 1, "chain": "of an earlier attempt"})
    run = runner.run(plain, Progress())
    assert hash_chain.read(run.folder) == [], "nothing of a run that is begun anew is left"
    assert "hash_chain" not in run.info["seconds"]
    assert cli.main(["diff", str(run.folder), str(run.folder)]) == 0
    assert "not known: runs trained with log.hash_chain=true show" in capsys.readouterr().out


def test_every_bit_counts() -> None:
    zero = torch.zeros(2)
    assert digest(zero) == digest(torch.zeros(2)) and len(digest(zero)) == 16
    unlike = [-zero, zero.double(), zero.view(2, 1), [zero], {"a": zero}, torch.tensor([0.0, 1e-45]), 0.0, None]
    found = {digest(value) for value in [zero, *unlike]}
    assert len(found) >= len(unlike), "a list of one tensor hashes as the tensor, and nothing else does"
    assert digest(torch.arange(6).view(2, 3).T) == digest(torch.arange(6).view(2, 3).T.contiguous())


def test_steps_that_only_one_run_has_are_not_compared() -> None:
    rows = [{"step": step, **dict.fromkeys(LINKS, "same")} for step in range(1, 5)]
    assert parting(rows, rows[2:]) is None and parting([], rows) is None
    assert parting(rows, [{**rows[3], "loss": "other"}]) == f"step 4: {LINKS['loss']}"
