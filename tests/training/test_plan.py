"""Plans that the data does not permit."""

from collections.abc import Callable

import pytest

from cnnexp.errors import UserError
from cnnexp.training.plan import Plan

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
