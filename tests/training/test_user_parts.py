"""A person's own data set, augmentation and optimiser, by `_target_`, from a folder of configs."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from cnnexp import cli
from cnnexp.config.user_code import user_frames
from cnnexp.data.arrays import image_data
from cnnexp.errors import UserError
from cnnexp.optim.lean import lean
from cnnexp.records import run_record as record
from cnnexp.records.run_record import RunRecord

pytestmark = pytest.mark.integration

FILES = {
    "data/stripes.yaml": "_target_: own_parts.stripes\ncount: 40\nsize: 12\n",
    "augmentation/noise.yaml": "_target_: own_parts.Noise\nstrength: 0.05\n",
    "optimizer/nadam.yaml": "_target_: torch.optim.NAdam\nlr: 0.01\n",
}
BLOCKS = "model.blocks=[{conv: {out: 4, kernel: 3}},{global_pool: {}}]"


@pytest.fixture
def configs(tmp_path: Path) -> list[str]:
    for name, text in FILES.items():
        (tmp_path / "conf" / name).parent.mkdir(parents=True)
        (tmp_path / "conf" / name).write_text(text)
    place = ["--config-dir", str(tmp_path / "conf"), f"outputs={tmp_path / 'out'}", "device.threads=1", "batch_size=8"]
    return [*place, "data=stripes", "augmentation=noise", "optimizer=nadam", BLOCKS]


def test_own_data_augmentation_and_optimizer_train(configs: list[str], tmp_path: Path) -> None:
    assert cli.main(["train", *configs, "epochs=12", "model.norm=batch"]) == 0
    (run,) = record.find_runs(tmp_path / "out")
    assert run.info["data"]["classes"] == ["level", "upright"]
    assert (run.info["data"]["train"], run.info["data"]["val"], run.info["data"]["test"]) == (72, 8, 40)
    assert run.info["result"]["test_accuracy"] > 0.9, "a stripe's direction is easily learnt"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("data.cuont=3", "data.cuont: no such key (did you mean 'data.count'?)"),
        ("+augmentation.strenght=1", "augmentation.strenght: unknown key 'strenght'"),
        ("augmentation.strength=much", "augmentation.strength: given 'much'; allowed: a number"),
        ("data.count=many", "data.count: given 'many'; allowed: a whole number"),
    ],
)
def test_own_signatures_are_schemas(
    configs: list[str], wrong: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", *configs, wrong]) == 2
    assert message in capsys.readouterr().err


def rates(run: record.RunRecord) -> list[float]:
    """Return the learning rate of every step."""
    return [row["learning_rate"] for row in run.rows("step")]


def test_a_schedule_that_asks_for_steps_counts_steps(configs: list[str], tmp_path: Path) -> None:
    (tmp_path / "conf/scheduler").mkdir()
    (tmp_path / "conf/scheduler/warm.yaml").write_text("_target_: own_parts.warm_cosine\nwarmup: 4\n")
    words = [*configs, "scheduler=warm", "log.steps=1st", "epochs=3", "optimizer.lr=0.1"]
    assert cli.main(["train", *words]) == 0
    (run,) = record.find_runs(tmp_path / "out")
    assert rates(run)[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1]), "it warms up in steps"
    assert len(rates(run)) == 27 and 0 < rates(run)[-1] < 0.001, "and comes down at the end"
    assert rates(run)[4:] == sorted(rates(run)[4:], reverse=True)


def test_an_augmentation_that_draws_from_global_generators_is_repeatable(configs: list[str], tmp_path: Path) -> None:
    (tmp_path / "conf/augmentation/forgetful.yaml").write_text("_target_: own_parts.Forgetful\n")
    words = [*configs, "augmentation=forgetful", "epochs=1"]
    losses = []
    for number in range(2):
        np.random.seed(number)
        torch.manual_seed(number)
        assert cli.main(["train", *words, f"outputs={tmp_path / str(number)}"]) == 0
        (run,) = record.find_runs(tmp_path / str(number))
        losses.append([row["loss"] for row in run.rows()])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("gives", ["tuple", "half", "float64", "smaller"])
def test_what_an_augmentation_gives_is_checked(
    configs: list[str], tmp_path: Path, gives: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf/augmentation/forgetful.yaml").write_text(f"_target_: own_parts.Forgetful\ngives: {gives}\n")
    assert cli.main(["train", *configs, "augmentation=forgetful"]) == 2
    error = capsys.readouterr().err
    assert "cnnexp: augmentation._target_: gave " in error and "allowed: (8, 3, 12, 12) torch.float32" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["augmentation=typed", "+augmentation.strength=much"], "allowed: a number, as its default is (0.1)"),
        (["model=lazy"], "model._target_: weight has no size yet"),
        (["augmentation=typed", "augmentation.strength=1"], "not in the config yet; type +augmentation.strength="),
        (["optimizer=lbfgs"], "optimizer._target_: LBFGS needs a closure"),
        (["optimizer=nothing"], "optimizer._target_: gave a NoneType; it must give an Optimizer"),
    ],
)
def test_own_parts_that_cannot_serve_are_told(
    configs: list[str], tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {
        "augmentation/typed.yaml": "_target_: own_parts.Untyped\n",
        "optimizer/nothing.yaml": "_target_: own_parts.no_optimizer\n",
        "model/lazy.yaml": "_target_: torch.nn.LazyConv2d\nout_channels: 2\nkernel_size: 3\n",
        "optimizer/lbfgs.yaml": "_target_: torch.optim.LBFGS\n",
    }
    for name, text in more.items():
        (tmp_path / "conf" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "conf" / name).write_text(text)
    rest = [word for word in configs if not (word == BLOCKS and words == ["model=lazy"])]
    assert cli.main(["train", *rest, *words]) == 2
    assert message in capsys.readouterr().err


def test_an_optimizers_hooks_and_own_step_are_kept() -> None:
    def counted(how: str) -> int:
        model, calls = torch.nn.Linear(2, 2), []
        own = torch.optim.SGD(model.parameters(), lr=0.1)
        if how == "hook":
            own.register_step_post_hook(lambda *given: calls.append(1))
        elif how == "step":
            own.step = lambda closure=None: calls.append(1)  # type: ignore[method-assign,assignment]
        elif how == "global":
            handle = register_optimizer_step_pre_hook(lambda *given: calls.append(1))
        lean(own)
        own.step()
        if how == "global":
            handle.remove()
        return len(calls)

    assert [counted(how) for how in ("hook", "step", "global", "none")] == [1, 1, 1, 0]


def test_arrays_are_checked() -> None:
    images, labels = np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 1, 0, 1])
    data = image_data("own", ["a", "b"], (images, labels), (images + 255, labels), val=(images, labels))
    assert [len(split) for split in data.splits().values()] == [4, 4, 4]
    other = image_data("own", ["a", "b"], (images, labels), (images + 254, labels), val=(images, labels))
    assert data.fingerprint != other.fingerprint
    for wrong in ((images.astype(float), labels), (images[0], labels), (images[:, :4], labels)):
        with pytest.raises(UserError, match=r"own\.test: given images"):
            image_data("own", ["a", "b"], (images, labels), wrong)
    for bad in (labels[:3], labels + 1):
        with pytest.raises(UserError, match=r"own\.test: given \d labels"):
            image_data("own", ["a", "b"], (images, labels), (images, bad))
    with pytest.raises(UserError, match=r"own\.train: given 4 labels; allowed: .*, every class"):
        image_data("own", ["a", "b"], (images, labels * 0), (images, labels))
    absent = image_data("own", ["a", "b"], (images, labels), (images, labels * 0), val=(images, labels))
    assert set(absent.test.labels) == {0}  # as in a tree, a class may be absent from test


BROKEN = """from torch import nn


class Net(nn.Module):
    def __init__(self, classes, width=4):
        super().__init__()
        self.out = nn.Linear(7, classes)

    def forward(self, images):
        return self.out(images.mean((2, 3)))
"""


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (BROKEN, "mine_broken.py:10, in forward: return self.out(images.mean((2, 3)))"),
        (
            BROKEN.replace("super().__init__()", "pass"),
            "mine_broken.py:7, in __init__: self.out = nn.Linear(7, classes)",
        ),
        ("import torhc\n", "mine_broken.py:1, in <module>: import torhc"),
    ],
)
def test_an_error_in_user_code_is_told_with_its_place(
    configs: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_broken", raising=False)
    (tmp_path / "mine_broken.py").write_text(code)
    (tmp_path / "conf/model").mkdir()
    (tmp_path / "conf/model/mine.yaml").write_text("_target_: mine_broken.Net\n")
    words = [word for word in configs if word != BLOCKS]
    assert cli.main(["train", *words, "model=mine"]) == 3
    error = capsys.readouterr().err
    assert error.startswith("in your code:\n") and told in error and "Traceback" not in error
    assert ("the network was tried with 2 images of 3x12x12 (C x H x W)" in error) == ("in forward" in told)


def test_an_error_of_this_package_is_none_of_own_code() -> None:
    with pytest.raises(TypeError) as raised:
        RunRecord.read(None)  # type: ignore[arg-type]
    assert user_frames(raised.value) == []


def test_user_code_that_has_changed_is_named(
    configs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_whole", raising=False)
    whole = BROKEN.replace("nn.Linear(7", "nn.Linear(432").replace("images.mean((2, 3))", "images.flatten(1)")
    (tmp_path / "mine_whole.py").write_text(whole)
    (tmp_path / "conf/model").mkdir()
    (tmp_path / "conf/model/mine.yaml").write_text("_target_: mine_whole.Net\n")
    words = [*(word for word in configs if word != BLOCKS), "model=mine", "epochs=9", "study.arm=mine"]
    assert cli.main(["train", *words]) == 0
    (first,) = record.find_runs(tmp_path / "out")
    assert set(first.info["user_code"]) == {"mine_whole", "own_parts"}
    allow = ["--allow", "mine_whole.Net", "--allow", "own_parts.stripes"]
    assert cli.main(["evaluate", str(first.folder), *allow]) == 0
    assert "as recorded" in capsys.readouterr().out
    (tmp_path / "mine_whole.py").write_text(whole.replace("return ", "return -"))
    monkeypatch.delitem(sys.modules, "mine_whole")
    assert cli.main(["evaluate", str(first.folder), *allow]) == 3
    out, err = capsys.readouterr()
    assert f"mine_whole has changed since {first.folder} was trained" in err
    assert "not as recorded: " in out and out.endswith("; mine_whole has changed\n")
    assert cli.main(["train", *words]) == 0
    second = next(run for run in record.find_runs(tmp_path / "out") if run.folder != first.folder)
    capsys.readouterr()
    assert cli.main(["diff", str(first.folder), str(second.folder)]) == 0
    assert "  user_code.mine_whole  " in capsys.readouterr().out
