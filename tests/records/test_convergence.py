"""Which curves have converged. The curves are made up."""

import math

import numpy as np
import pytest
from fake_records import write_run
from scipy import special

import cnnexp
from cnnexp.records import convergence
from cnnexp.records.convergence import AT_CHANCE, IMPROVING, ONE_EPOCH, at_chance, at_least, of_curve, still_improving


def improves(accuracies, losses=None):
    """Apply the rule to a curve; its loss falls as its accuracy rises."""
    return still_improving(list(accuracies), list(2.3 * (1 - np.asarray(accuracies)) if losses is None else losses))


def saturating(epochs: int, time: float) -> np.ndarray:
    """Return a curve from 10 to 70 % that is within 1 / e of its end after `time` epochs."""
    return 0.1 + 0.6 * (1 - np.exp(-np.arange(1, epochs + 1) / time))


@pytest.mark.parametrize("epochs", [2, 3, 4, 5, 10, 15, 50, 200])
def test_a_curve_that_rises_to_its_end_still_improves(epochs):
    noise = 0.003 * np.random.default_rng(epochs).standard_normal(epochs)
    assert improves(saturating(epochs, epochs) + noise)


@pytest.mark.parametrize("epochs", [15, 50, 200])
def test_a_curve_on_its_plateau_does_not_improve(epochs):
    noise = 0.003 * np.random.default_rng(epochs).standard_normal(epochs)
    assert not improves(saturating(epochs, epochs / 15) + noise)


@pytest.mark.parametrize("epochs", [2, 3, 4, 5, 8, 15, 40, 100])
def test_a_flat_curve_whose_best_epoch_is_the_last_by_luck_does_not_improve(epochs):
    """The accuracy scatters by 2.4 points, the loss by 3 %; only curves that end with their best count."""
    generator, found = np.random.default_rng(epochs), []
    while len(found) < 300:
        curve = 0.6 + 0.024 * generator.standard_normal(epochs)
        if curve.argmax() == epochs - 1:
            found.append(improves(curve, 1 + 0.03 * generator.standard_normal(epochs)))
    assert np.mean(found) < (0.15 if epochs <= 5 else 0.1)


def test_the_end_of_a_cosine_schedule_is_no_improvement():
    """The noise falls with the learning rate, so the curve rises at first, and is flat at its end."""
    rate = 0.5 * (1 + np.cos(np.linspace(0, np.pi, 200)))
    noise = 0.03 * rate * np.random.default_rng(0).standard_normal(200)
    assert not improves(saturating(200, 15) - 0.06 * rate + noise)


def test_a_small_rise_does_not_count():
    assert not improves(np.linspace(0.6, 0.615, 8))
    assert improves(np.linspace(0.6, 0.62, 8))


def test_of_few_epochs_the_last_must_be_the_best_in_accuracy_and_clearly_in_loss():
    assert improves([0.4, 0.515, 0.515], [1.4, 1.06, 0.84])
    assert not improves([0.4, 0.515, 0.51], [1.4, 1.06, 0.84]) and not improves([0.3, 0.4], [1.0, 0.96])
    assert not improves([0.3, 0.4], []), "a loss that is not finite is in no curve"


def test_a_curve_that_cannot_rise_or_has_not_risen_does_not_improve():
    assert not improves([1.0, 1.0, 1.0], [0.2, 0.1, 0.05]) and not improves([0.8, 0.9, 1.0], [0.5, 0.3, 0.1])
    assert not improves(np.linspace(0.3, 1.0, 8)) and improves(np.linspace(0.3, 0.99, 8))
    assert not improves([0.5, 0.5, 0.5], [1.4, 1.06, 0.84]) and improves([0.5, 0.49, 0.52], [1.4, 1.06, 0.84])
    assert of_curve([1.0], [0.1]) == "" and of_curve([0.99], [0.1]) == ONE_EPOCH


def test_what_is_said_of_a_curve():
    assert of_curve([0.3], [2.0]) == ONE_EPOCH and of_curve([], []) == ""
    assert of_curve([0.3, 0.5, 0.7], [2.0, 1.0, 0.5]) == IMPROVING and of_curve([0.3, 0.3], [1.0, 1.0]) == ""


@pytest.mark.parametrize("count", [1, 2, 50, 1000, 100_000])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.97])
def test_the_probability_of_so_many_is_that_of_scipy(count: int, share: float) -> None:
    spread = math.sqrt(count * share * (1 - share))
    near = (count * share + deviations * spread for deviations in (-30, -3, -0.5, 0, 0.5, 3, 30))
    for right in {0, 1, count - 1, count, *(min(max(int(n), 0), count) for n in near)}:
        expected = special.bdtrc(right - 1, count, share) if right else 1.0
        assert at_least(right, count, share) == pytest.approx(expected, abs=1e-9), right


def test_chance_is_the_most_frequent_class():
    even, uneven = np.arange(1000) % 10, np.repeat([0, 1], [900, 100])
    assert at_chance(100, even, 10) and at_chance(118, even, 10) and not at_chance(130, even, 10)
    assert at_chance(905, uneven, 2) and not at_chance(940, uneven, 2)
    assert at_chance(20, even, 10) and at_chance(0, even, 10)
    assert not at_chance(1000, np.zeros(1000, int), 10), "images of one class tell nothing"
    assert not at_chance(3, np.array([0, 1, 2]), 3), "all are right"


def test_what_is_said_of_a_run(tmp_path):
    assert convergence.sentence(write_run(tmp_path, "lost", accuracy=0.1)) == AT_CHANCE
    assert convergence.sentence(write_run(tmp_path, "short", accuracy=0.6, epochs=1)) == ONE_EPOCH
    assert convergence.sentence(write_run(tmp_path, "rising", accuracy=0.6, epochs=2, gap=0.0)) == IMPROVING
    assert convergence.sentence(write_run(tmp_path, "long", accuracy=0.6, epochs=60)) == ""
    stopped = write_run(tmp_path, "early", accuracy=0.6, epochs=2, gap=0.0)
    stopped.update(result={**stopped.info["result"], "stopped": "early"})
    assert convergence.sentence(stopped) == ""
    assert convergence.sentence(write_run(tmp_path, "no-logits", with_predictions=False)) == ""


def test_a_run_in_python_says_it_too(tmp_path):
    assert f"note {AT_CHANCE}" in repr(cnnexp.Run(write_run(tmp_path, "lost", accuracy=0.1).folder))
    assert "note" not in repr(cnnexp.Run(write_run(tmp_path, "long", accuracy=0.6, epochs=60).folder))
