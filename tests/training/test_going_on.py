"""More epochs go on from the final state of a shorter run: the numbers are those of an undisturbed run, bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lives import difference, everything

from cnnexp import errors, storage
from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.training import checkpoint
from cnnexp.training import run as runner
from cnnexp.training.going_on import keeps_final_state
from cnnexp.training.plan import Plan
from cnnexp.training.progress import Progress

pytestmark = pytest.mark.integration

Plans = Callable[..., Plan]
KINDS = {
    "constant": ["log.steps=4st", "log.hash_chain=true", "probes=all"],
    "step": [
        "scheduler=step",
        "scheduler.every=7st",
        "scheduler.gamma=0.5",
        "optimizer=adamw",
        "loss.label_smoothing=0.1",
    ],
    "plateau": ["augmentation=full", "scheduler=plateau", "scheduler.patience=0", "optimizer.lr=0.01"],
    "stopped early": ["early_stopping.patience=1", "optimizer.lr=1e-9", "keep_epoch=last"],
    "bf16": ["device.precision=bf16", "optimizer=momentum", "scheduler.warmup=3st"],
    "torch's step": [
        *("~scheduler.warmup", "scheduler._target_=torch.optim.lr_scheduler.StepLR", "+scheduler.step_size=2"),
        "data.val_fraction=0",
    ],
}


class Count(Progress):
    """Counts the steps that are made."""

    def __init__(self) -> None:
        self.steps = 0

    def step(self, state: Any) -> None:
        self.steps += 1


@pytest.fixture(autouse=True)
def setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say in each test what was said in another; keep last.pt too, so that complete states can be compared."""
    monkeypatch.setattr(errors, "_warned", set())
    monkeypatch.setattr(RunRecord, "drop_resume_files", lambda self: None)


def make(plan: Plan) -> tuple[RunRecord, int]:
    """Make a run; return it, and how many steps that took."""
    count = Count()
    return runner.run(plan, count), count.steps


def kept(plan: Plan) -> Path:
    return plan.folder / "checkpoints" / "final.pt"


@pytest.mark.parametrize("kind", KINDS)
def test_more_epochs_give_what_an_undisturbed_run_gives(kind: str, plan: Plans, outputs: Path) -> None:
    more = KINDS[kind]
    first, first_steps = make(plan(*more, "epochs=3"))
    longer = plan(*more, "epochs=5")
    assert longer.continues == first.folder.name
    went_on, steps = make(longer)
    uncut, all_steps = make(plan(*more, "epochs=5", f"outputs={outputs.parent / 'uncut'}"))
    assert difference(everything(went_on.folder), everything(uncut.folder)) is None
    assert steps == all_steps - first_steps and (steps > 0 or kind == "stopped early")
    assert went_on.identity == uncut.identity and went_on.info["resumed"] == 0
    assert went_on.info["upstream"] == {"run": first.identity, "folder": first.folder.name, "epochs": 3}
    assert "upstream" not in uncut.info


def test_a_run_without_its_final_state_hides_no_other(plan: Plans, capsys: pytest.CaptureFixture[str]) -> None:
    other, _ = make(plan("epochs=1"))
    without, _ = make(plan("epochs=2", "checkpoint.final=false", "name=a"))  # longer, but it kept nothing
    same, _ = make(plan("epochs=2", "name=z"))
    assert not kept(without).exists() and kept(same).exists()
    assert plan("epochs=3", "name=z").continues == same.folder.name  # `a` is before it by name
    kept(same).unlink()
    assert plan("epochs=3", "name=z").continues == other.folder.name
    assert "starts anew" not in capsys.readouterr().err


def test_the_longest_run_is_gone_on_from_and_nothing_else(plan: Plans) -> None:
    make(plan("epochs=1"))
    second, steps = make(plan("epochs=2"))
    assert steps == 5
    assert plan("epochs=4").continues == second.folder.name
    assert plan("epochs=20st").continues == second.folder.name, "20 steps are 4 epochs"
    for other in ("seed=1", "optimizer.lr=0.1", "study.name=other"):
        assert plan("epochs=4", other).continues is None
    assert plan("epochs=2").continues is None and plan("epochs=1").continues is None


@pytest.mark.parametrize(
    ("first", "then", "reason"),
    [
        (
            ["scheduler=cosine"],
            [],
            "the schedule cosine depends on the number of epochs (constant, step and plateau",
        ),
        (["scheduler=onecycle"], [], "the schedule onecycle depends on the number of epochs"),
        (["epochs=7st"], [], "it ended in the middle of an epoch"),
        ([], ["log.steps=1st"], "log is set differently, so its rows are others"),
        ([], ["probes=all"], "probes is set differently, so its rows are others"),
        (
            ["checkpoint.final=false"],
            [],
            "its checkpoints/final.pt was not kept (checkpoint.final=false, or deleted",
        ),
    ],
)
def test_what_cannot_go_on_says_why(
    first: list[str], then: list[str], reason: str, plan: Plans, capsys: pytest.CaptureFixture[str]
) -> None:
    shorter = plan("epochs=2", *first)
    make(shorter)
    assert kept(shorter).exists() == (keeps_final_state(shorter.config))
    capsys.readouterr()
    again = [word for word in first if not word.startswith("epochs")]
    longer = plan("epochs=3", *again, *then)
    assert longer.continues is None
    told = capsys.readouterr().err
    assert told.startswith(f"cnnexp: starts anew, although {shorter.folder} has made 2 epochs: {reason}")
    assert told.count("\n") == 1
    assert make(longer)[1] == 15 and "upstream" not in longer.record().info
    plan("epochs=3", *again, *then)
    assert not capsys.readouterr().err, "it is done"


@pytest.mark.parametrize("what", ["final.pt", "best.pt", "metrics.jsonl", "the folder"])
def test_a_damaged_run_is_not_gone_on_from(what: str, plan: Plans, capsys: pytest.CaptureFixture[str]) -> None:
    shorter = plan("epochs=2")
    make(shorter)
    longer = plan("epochs=3")
    assert longer.continues == shorter.folder.name
    if what == "the folder":
        shorter.folder.rename(shorter.folder.with_name("gone"))
    else:
        file = kept(shorter).with_name(what) if what.endswith(".pt") else shorter.folder / what
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    assert make(longer)[1] == 15
    assert "starts anew: cannot go on from" in capsys.readouterr().err
    assert "upstream" not in longer.record().info and longer.record().status == "done"


def test_a_checkpoint_cannot_choose_where_files_go(plan: Plans, capsys: pytest.CaptureFixture[str]) -> None:
    shorter, longer = plan("epochs=2"), plan("epochs=3")
    make(shorter)
    longer.continues = shorter.folder.name
    for name in ("final.pt", "best.pt"):
        file = kept(shorter).with_name(name)
        content = checkpoint.read(file)
        (content["best"] if name == "final.pt" else content)["epoch"] = "../../x"
        storage.publish(checkpoint.draft(file, content), file)
    assert make(longer)[1] == 15
    assert "best.pt: its epoch is '../../x'" in capsys.readouterr().err


def test_a_kill_while_the_state_is_copied_starts_that_again(
    plan: Plans, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(plan("epochs=2"))
    longer, publish = plan("epochs=3"), runner.going_on.storage.publish
    monkeypatch.setattr(runner.going_on.storage, "publish", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make(longer)
    monkeypatch.setattr(runner.going_on.storage, "publish", publish)
    went_on, steps = make(longer)
    uncut, _ = make(plan("epochs=3", f"outputs={outputs.parent / 'uncut'}"))
    assert went_on.info["upstream"]["epochs"] == 2
    assert steps == 5 and difference(everything(went_on.folder), everything(uncut.folder)) is None


def test_a_kill_before_the_state_is_there_and_no_state_any_more(plan: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    shorter, longer = plan("epochs=2"), plan("epochs=3")
    make(shorter)
    longer.continues, publish = shorter.folder.name, runner.going_on.storage.publish
    monkeypatch.setattr(runner.going_on.storage, "publish", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make(longer)
    monkeypatch.setattr(runner.going_on.storage, "publish", publish)
    kept(shorter).unlink()
    anew, steps = make(plan("epochs=3"))
    assert steps == 15 and "upstream" not in anew.info


def test_an_interrupted_longer_run_resumes_from_its_own_checkpoint(plan: Plans) -> None:
    from cuts import CutAt, Killed

    make(plan("epochs=2"))
    longer = plan("epochs=4", "checkpoint.every=1st")
    with pytest.raises(Killed):
        runner.run(longer, CutAt(13, None))
    again, steps = make(plan("epochs=4", "checkpoint.every=1st"))
    assert steps == 20 - 12 and again.info["resumed"] == 1 and again.info["upstream"]["epochs"] == 2


def test_the_runs_of_a_sweep_go_on_too(train: Callable[..., int], outputs: Path) -> None:
    sweep = ["-m", "seed=0,1", "optimizer.lr=0.1,0.3", "slots=cpu:1"]
    assert train(*sweep, "epochs=1") == 0
    assert train(*sweep, "epochs=2") == 0
    found = [run.info for run in find_runs(outputs) if run.info["schedule"]["epochs"] == 2]
    assert [info["upstream"]["epochs"] for info in found] == [1] * 4
