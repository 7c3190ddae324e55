"""The learning-rate range test: where the loss falls fastest, on known curves and on the tiny network."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import TINY

from cnnexp import cli
from cnnexp.training import lr_find
from cnnexp.training.lr_find import suggest

RATES = np.geomspace(1e-6, 10, 150)


def curve(at: float, noise: float = 0.0, seeds: int = 3) -> Any:
    """Return losses that fall from 2.3 to 0.3 around a rate, and rise from 100 times that on."""
    x = np.log10(RATES / at)
    losses = 2.3 - 2 / (1 + np.exp(-4 * x)) + np.maximum(0, x - 2) ** 2
    return losses + np.random.default_rng(0).normal(0, noise, (seeds, len(RATES)))


@pytest.mark.parametrize("at", [1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_suggestion_is_where_the_loss_falls_fastest(at: float, noise: float) -> None:
    found = suggest(RATES, curve(at, noise))
    assert found.suggested == pytest.approx(at, rel=0.6)
    assert found.suggested < found.lowest


def test_a_loss_that_does_not_fall_gives_no_suggestion() -> None:
    assert suggest(RATES, np.full((1, 150), 2.3)).suggested is None
    assert suggest(RATES, 2.3 + np.linspace(0, 1, 150)[None]).suggested is None


def test_only_rates_that_every_seed_has_passed_count() -> None:
    losses = curve(1e-3)
    losses[1, 100:] = np.nan
    found = suggest(RATES, losses)
    assert np.isfinite(found.smooth[:100]).all() and np.isnan(found.smooth[100:]).all()
    for end in (3, 0):
        losses[1, end:] = np.nan
        found = suggest(RATES, losses)
        assert found.suggested is None and np.isnan(found.smooth).all()


@pytest.mark.integration
def test_steps_have_the_rates_and_no_test_image_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import dataclasses

    rates, real, build = list[list[float]](), lr_find.train_step, lr_find.build_data

    def step(state: Any, *rest: Any) -> None:
        real(state, *rest)
        rates.append([group["lr"] for group in state.optimizer.param_groups])

    def without_test(config: Any) -> Any:
        data = build(config)
        return dataclasses.replace(data, test=None)

    monkeypatch.setattr(lr_find, "train_step", step)
    monkeypatch.setattr(lr_find, "build_data", without_test)
    words = [*TINY, "param_groups.rates={fc1:10}", "--steps=40", "--seeds=2", "--low=1e-5", "--high=0.1"]
    code = cli.main(["lr-find", *words, f"--out={tmp_path}"])
    expected = np.geomspace(1e-5, 0.1, 40)
    assert {round(max(of) / min(of)) for of in rates} == {10}
    assert [min(of) for of in rates[:40]] == pytest.approx(list(expected))
    assert len(list(csv.DictReader((tmp_path / "lr_find.csv").read_text().splitlines()))) == 40
    assert {file.suffix for file in tmp_path.iterdir()} == {".png", ".svg", ".pdf", ".csv"}
    printed = capfd.readouterr().out
    assert ("suggested: cnnexp train" if code == 0 else "no suggestion: the loss falls nowhere") in printed


@pytest.mark.integration
def test_a_scheduler_of_torch_changes_no_rate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rates, real = list[float](), lr_find.train_step

    def step(state: Any, *rest: Any) -> None:
        real(state, *rest)
        rates.append(state.optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(lr_find, "train_step", step)
    own = ["scheduler._target_=torch.optim.lr_scheduler.LinearLR", "+scheduler.start_factor=0.1", "~scheduler.warmup"]
    cli.main(["lr-find", *TINY, *own, "--steps=40", "--seeds=1", "--low=1e-5", "--high=0.1", f"--out={tmp_path}"])
    assert rates == pytest.approx(list(np.geomspace(1e-5, 0.1, 40))[: len(rates)]) and len(rates) > 5


@pytest.mark.integration
def test_a_whole_number_is_a_learning_rate(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cli.main(["lr-find", *TINY, "optimizer.lr=1", "--steps=40", "--seeds=1", f"--out={tmp_path}"])
    assert "is missing" not in capfd.readouterr().err and (tmp_path / "lr_find.csv").exists()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--low=1", "--high=0.1"], "--low, --high: given 1 and 0.1; allowed: 0 < low < high <= 100"),
        (["--low=-1"], "--low, --high: given -1 and 10"),
        (["--low=nan"], "--low, --high: given nan"),
        (["model=nope"], "model: unknown choice 'nope'"),
        (["optimizer.lr=0"], "optimizer.lr: given 0"),
        (["batch_size=5000"], "batch_size: given 5000; allowed: at most"),
    ],
)
def test_wrong_words_are_one_line(words: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lr-find", *words]) == 2
    error = capfd.readouterr().err
    lines = [line for line in error.splitlines() if not line.startswith("postcards: prepar")]
    assert len(lines) == 1 and message in lines[0]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--steps=3", "--steps: given 3; allowed: a whole number from 40 to 100,000; for example: cnnexp lr-find "),
        ("--steps=many", "--steps: given many; allowed: a whole number from 40 to 100,000"),
        ("--seeds=0", "--seeds: given 0; allowed: a whole number from 1 to 100"),
    ],
)
def test_wrong_numbers_are_one_line(word: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["lr-find", word])
    error = capfd.readouterr().err
    assert message in error and error.count("\n") == 1
