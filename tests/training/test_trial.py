"""What does not fit together is one line before anything is trained: networks, batches, optimisers, schedules."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cnnexp import cli

Train = Callable[..., int]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.name=alexnet", "data.size=32"], "model: alexnet does not take images of 3x32x32: "),
        (["model.name=vit_b_32", "data.size=64"], "Expected 224 but got 64!; try data.size=224"),
        (["model.name=resnet500"], "model.name: torchvision has no classifier 'resnet500' (did you mean 'resnet50'?)"),
        (["model.name=resnet18", "model.freeze=[layr1]"], "model.freeze: 'layr1' matches no weight"),
        (["model.name=mobilenet_v2", "batch_size=1"], "batch_size: given 1; allowed with batch norm over a 1 x 1 map"),
    ],
)
@pytest.mark.parametrize("flags", [[], ["--plan"], ["-m", "seed=0,1"]])
def test_a_network_is_tried_before_any_data_is_read(
    words: list[str], message: str, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = [f"outputs={tmp_path / 'out'}", f"data.cache={tmp_path / 'cache'}"]
    assert cli.main(["train", *flags, *place, "model=torchvision", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_batch_of_one_is_refused_where_batch_norm_sees_one_number(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["batch_size=1", "epochs=1st", "model.norm={conv: batch, fc: none}"]
    assert train(*words, "model.blocks=[{conv: {out: 4, kernel: 3, stride: 8}}]") == 2
    assert "batch_size: given 1; allowed with batch norm over a 1 x 1 map: 2 or more" in capsys.readouterr().err
    assert train(*words) == 0


PARTS = {
    "optimizer/negative": "_target_: torch.optim.SGD\nlr: -1\n",
    "optimizer/nesterov": "_target_: torch.optim.SGD\nlr: 0.1\nnesterov: true\n",
    "optimizer/muon": "_target_: torch.optim.Muon\nlr: 0.01\n",
    "optimizer/climbs": "_target_: torch.optim.SGD\nlr: 0.1\nmaximize: true\n",
    "optimizer/sparse": "_target_: torch.optim.SparseAdam\n",
    "scheduler/number": "_target_: torch.optim.lr_scheduler.LambdaLR\nlr_lambda: 0.5\n",
    "scheduler/max": "_target_: torch.optim.lr_scheduler.ReduceLROnPlateau\nmode: max\n",
    "scheduler/watch": "_target_: torch.optim.lr_scheduler.ReduceLROnPlateau\n",
    "scheduler/below": "_target_: torch.optim.lr_scheduler.ExponentialLR\ngamma: -0.5\n",
    "model/softmax": "_target_: trial_parts.Softmax\n",
    "model/narrow": "_target_: trial_parts.Narrow\n",
}
CODE = """
from torch import nn

class Softmax(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.Flatten(), nn.Linear(192, classes), nn.Softmax(1))

class Narrow(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.Flatten(), nn.Linear(100, classes))
"""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optimizer=negative"], "optimizer: torch.optim.SGD: Invalid learning rate: -1"),
        (["optimizer=nesterov"], "optimizer: torch.optim.SGD: Nesterov momentum requires a momentum"),
        (["optimizer=muon"], "optimizer: torch.optim.Muon: Muon only supports 2D parameters"),
        (["optimizer=climbs"], "optimizer.maximize: given true, but the loss is to become small"),
        (["optimizer=sparse"], "optimizer: torch.optim.SparseAdam: "),
        (["scheduler=number"], "scheduler: torch.optim.lr_scheduler.LambdaLR: 'float' object is not callable"),
        (["scheduler=max"], "scheduler.mode: given max; allowed: min, because it watches a loss"),
        (["scheduler=watch", "data.val_fraction=0"], "watches the validation loss; set data.val_fraction above 0"),
        (["scheduler=below"], "scheduler: the learning rate of epoch 2 is -0.0005; it must not be below 0"),
        (["model=softmax"], "model: gave probabilities, which add up to 1; the loss takes logits"),
        (["model=narrow"], "model: trial_parts.Narrow does not take images of 3x8x8: addmm: mat1 and mat2"),
    ],
)
def test_parts_from_elsewhere_are_tried_before_training(
    words: list[str],
    message: str,
    train: Train,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "trial_parts.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in PARTS.items():
        (tmp_path / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / f"{name}.yaml").write_text(text)
    assert train("--config-dir", str(tmp_path / "conf"), *words) == 2
    error = capsys.readouterr().err
    assert message in error.splitlines()[-1] and "Traceback" not in error
    own = words[0].startswith("model=")
    assert (tmp_path / "outputs").exists() == own, "the user's own code is tried when its run starts"
