"""The losses that can be chosen, against torch and by hand."""

import math

import pytest
import torch
from torch.nn import functional

from cnnexp.errors import UserError
from cnnexp.optim import losses

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 0.3], [-3.0, 1.0, 1.5], [0.0, 5.0, 0.0]])
LABELS = torch.tensor([0, 2, 1, 1])
COUNTS = [2, 4, 6]


def test_balanced_weights_make_the_classes_equal() -> None:
    """Each class's images together weigh N / K: 12 / 3."""
    found = losses.weights("balanced", COUNTS)
    assert found is not None
    assert [n * float(w) for n, w in zip(COUNTS, found, strict=True)] == pytest.approx([4, 4, 4])


def test_a_class_without_training_images_leaves_the_loss_finite() -> None:
    counts = [2, 0, 6]
    for loss in (losses.cross_entropy(counts, 0.1, "balanced"), losses.focal(counts, 2.0, "balanced")):
        assert loss(LOGITS, LABELS).isfinite()


def test_cross_entropy_is_torchs() -> None:
    weight = torch.tensor([1.0, 2.0, 0.5])
    own = losses.cross_entropy(COUNTS, 0.1, [1.0, 2.0, 0.5])(LOGITS, LABELS)
    assert own == functional.cross_entropy(LOGITS, LABELS, weight=weight, label_smoothing=0.1)
    assert losses.cross_entropy(COUNTS)(LOGITS, LABELS) == functional.cross_entropy(LOGITS, LABELS)


def test_focal_by_hand() -> None:
    p = LOGITS.softmax(1)[torch.arange(4), LABELS]
    by_hand = [-((1 - float(x)) ** 2) * math.log(float(x)) for x in p]
    assert float(losses.focal(COUNTS, 2.0)(LOGITS, LABELS)) == pytest.approx(sum(by_hand) / 4, rel=1e-5)
    weights = [1.0, 0.5, 3.0, 3.0]  # of the classes 0, 2, 1, 1
    weighted = sum(w * x for w, x in zip(weights, by_hand, strict=True)) / sum(weights)
    own = losses.focal(COUNTS, 2.0, [1.0, 3.0, 0.5])(LOGITS, LABELS)
    assert float(own) == pytest.approx(weighted, rel=1e-5)


def test_focal_without_focus_is_cross_entropy() -> None:
    weight = torch.tensor([1.0, 2.0, 0.5])
    own = losses.focal(COUNTS, 0.0, weight.tolist())(LOGITS, LABELS)
    assert float(own) == pytest.approx(float(functional.cross_entropy(LOGITS, LABELS, weight=weight)), rel=1e-6)


def test_a_weight_for_every_class() -> None:
    with pytest.raises(UserError, match=r"loss.class_weights: given 2 numbers; allowed: 3, one per class"):
        losses.weights([1.0, 2.0], COUNTS)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.5, 2.0])
def test_focal_has_a_finite_slope_where_the_network_is_certain(gamma: float) -> None:
    logits = torch.tensor([[40.0, -20.0], [0.3, 0.1]], requires_grad=True)
    losses.focal([1, 1], gamma)(logits, torch.tensor([0, 1])).backward()
    assert logits.grad is not None and logits.grad.isfinite().all() and logits.grad[1].abs().min() > 0.05
