"""The average of the weights against torch's AveragedModel, bit for bit."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from cnnexp.training.moving_average import MovingAverage


def test_the_average_is_that_of_torchs_class() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2).double())
    rate = 0.0

    def average(averages: Sequence[Tensor], values: Sequence[Tensor], count: Tensor | int) -> None:
        for one, value in zip(averages, values, strict=True):
            one.lerp_(value, rate) if one.is_floating_point() else one.copy_(value)

    own, theirs = MovingAverage(model, 0.9), AveragedModel(model, multi_avg_fn=average, use_buffers=True)
    weight = own.module.get_parameter("0.weight")
    first = weight.detach().clone()
    for step in range(1, 30):
        model[1](model[0](torch.randn(5, 3))).sum().backward()
        with torch.no_grad():
            for learnt in model.parameters():
                learnt.add_(torch.randn_like(learnt))
        rate = 1 - min(0.9, (1 + step) / (10 + step))
        own.update(model, step)
        theirs.update_parameters(model)
    assert own.state_dict().keys() == theirs.state_dict().keys()
    for name, value in own.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name]), name
    assert int(own.n_averaged) == 29 and int(own.module.get_buffer("1.num_batches_tracked")) == 29
    assert not torch.equal(weight, first)
    assert not torch.equal(weight, model.get_parameter("0.weight"))
