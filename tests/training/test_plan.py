"""Plans that the data does not permit, and plans whose data or code has changed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cnnexp.errors import UserError
from cnnexp.records.run_record import RunRecord
from cnnexp.training.build import build_data
from cnnexp.training.plan import Plan

pytestmark = pytest.mark.integration

Train = Callable[..., int]


@pytest.mark.parametrize("more", [["scheduler=plateau"], ["early_stopping.patience=2"]], ids=" ".join)
def test_what_watches_the_validation_split_needs_one(
    train: Train, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("data.val_fraction=0", *more) == 2
    assert "set data.val_fraction above 0" in capsys.readouterr().err


def test_watching_test_images_beside_validation_images_is_refused(plan: Callable[..., Plan]) -> None:
    with pytest.raises(UserError, match=r"validate_on: given test; .* set data.val_fraction=0"):
        plan("validate_on=test")


def test_two_names_never_share_a_run(train: Callable[..., int], runs: Callable[[], dict[str, RunRecord]]) -> None:
    for name in ("a b", "a(b", "a-b", "a b"):
        assert train(f"name={name}", "epochs=1st") == 0
    assert sorted(run.info["arm"] for run in runs().values()) == ["a b", "a(b", "a-b"]
    assert all(run.info["resumed"] == 0 for run in runs().values())


@pytest.mark.parametrize("name", ["~", "~/x", "~root"])
def test_a_name_is_not_a_path(name: str, plan: Callable[..., Plan]) -> None:
    chosen = plan(f"name={name}", f"study.question={name}", f"outputs={name}")
    assert chosen.arm == chosen.config["study"]["question"] == name
    assert (chosen.config["outputs"] == name) == (name == "~root")


def test_a_process_that_has_imported_earlier_code_makes_no_run_of_later_code(
    plan: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "edited_between_plans.py"
    module.write_text(first := "def same(images, generator):\n    return images\n")
    (tmp_path / "mine" / "augmentation").mkdir(parents=True)
    (tmp_path / "mine" / "augmentation" / "same.yaml").write_text("_target_: edited_between_plans.same\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    own = (f"hydra.searchpath=[{(tmp_path / 'mine').as_uri()}]", "augmentation=same")
    earlier = plan(*own)
    data = build_data(earlier.config)
    earlier.check_unchanged(data)
    module.write_text(first + "# later\n")
    later = plan(*own)
    for planned in (earlier, later):
        with pytest.raises(UserError, match="edited_between_plans: has changed since this run was planned; the same"):
            planned.check_unchanged(data)
    module.write_text(first)
    earlier.check_unchanged(data)
