"""First weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cuts import prepared

from cnnexp.training.plan import Plan

pytestmark = pytest.mark.integration


def test_first_weights_depend_on_the_seed_alone(plan: Callable[..., Plan]) -> None:
    def weights(*more: str) -> dict[str, Any]:
        return prepared(plan(*more))[0].model.state_dict()

    first, other = weights(), weights("seed=1")
    again = weights("optimizer=sgd", "augmentation=full", "model.dropout.fc=0.5", "batch_size=4")
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])
