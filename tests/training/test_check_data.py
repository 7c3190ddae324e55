"""What a config asks of its data: claims of what a run will have, and batches that most images fill."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cnnexp import errors
from cnnexp.training.check_data import balanced_twice_remark, left_out_remark

Train = Callable[..., int]


@pytest.mark.integration
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


@pytest.mark.parametrize(
    ("images", "batch_size", "left", "better"),
    [
        (100, 64, 36, "batch_size=50 leaves out 0"),
        (43, 32, 11, "batch_size=21 leaves out 1"),
        (3, 2, 1, "batch_size=1 "),
    ],
)
def test_many_images_that_fill_no_batch_are_remarked_with_a_batch_size_that_leaves_few(
    images: int, batch_size: int, left: int, better: str
) -> None:
    said = left_out_remark(images, batch_size)
    assert (
        said.startswith(f"each epoch leaves out {left} of {images} training images, others each time")
        and better in said
    )


@pytest.mark.parametrize(("images", "batch_size"), [(70, 64), (64, 64), (200, 16), (40, 36), (5, 1)])
def test_few_images_that_fill_no_batch_are_not(images: int, batch_size: int) -> None:
    assert left_out_remark(images, batch_size) == ""


@pytest.mark.parametrize(
    ("sampling", "weights", "labels", "said"),
    [
        ("balanced", "balanced", [0, 0, 0, 2], True),
        ("balanced", "balanced", [0, 0, 2, 2], False),
        ("balanced", None, [0, 0, 0, 1], False),
        ("balanced", [1.0, 2.0], [0, 0, 0, 1], False),
        ("shuffle", "balanced", [0, 0, 0, 1], False),
    ],
)
def test_classes_that_are_balanced_twice_are_remarked(
    sampling: str, weights: Any, labels: list[int], said: bool
) -> None:
    remark = balanced_twice_remark({"sampling": sampling, "loss": {"class_weights": weights}}, np.array(labels))
    assert ("small classes count more than large ones; use one of them" in remark) == said == bool(remark)


@pytest.mark.integration
def test_the_remark_is_one_line_when_a_run_or_a_sweep_is_planned(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["seed=0"], ["-m", "seed=0,1"]):
        errors._warned.clear()
        assert train("--plan", "batch_size=24", *words) == 0
        assert capsys.readouterr().err.count("cnnexp: each epoch leaves out 16 of 40 training images") == 1
    errors._warned.clear()
    assert train("--plan", "batch_size=24", "sampling=balanced") == 0 and train("--plan") == 0
    assert "leaves out" not in capsys.readouterr().err
