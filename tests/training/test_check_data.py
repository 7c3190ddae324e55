"""What a study claims of a run is there when the run is done."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

Train = Callable[..., int]


@pytest.mark.parametrize(
    ("claim", "words", "message"),
    [
        ("b.recall[tre] > a.recall[tre]", [], "unknown class 'tre'"),
        ("b.shift_consistency > 50 %", [], "shift_consistency is not measured; set shift_pixels, as in shift_pixels=2"),
        ("b.shift_consistency > 50 %", ["shift_pixels=1"], ""),
        ("b.val_loss < a.val_loss", ["data.val_fraction=0"], "there is no validation split; set data.val_fraction"),
        ("b.val_accuracy within 1 point of a.val_accuracy", ["data.val_fraction=0"], "there is no validation split"),
        ("std(b.val_loss) < std(a.val_loss)", ["data.val_fraction=0"], "there is no validation split"),
        ("b > a at every epoch", ["data.val_fraction=0"], ""),
        ("b.f1[tree] > a.f1[fir]", [], ""),
    ],
)
def test_a_claim_about_what_runs_will_not_have_is_refused_before_they_train(
    claim: str, words: list[str], message: str, train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study").mkdir()
    study = {"name": "c", "arms": {"a": {}, "b": {"optimizer.lr": 0.01}}, "seeds": [0], "claims": [claim]}
    (tmp_path / "study" / "c.yaml").write_text("# @package _global_\n" + yaml.safe_dump({"study": study}))
    assert train("--config-dir", str(tmp_path), "--plan", "+study=c", *words) == (2 if message else 0)
    error = capsys.readouterr().err
    assert (f"study.claims: '{claim}': {message}" in error) == bool(message)
