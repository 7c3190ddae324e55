"""What does not fit together is one line before anything is trained: networks, batches, optimisers, schedules."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cnnexp import cli, errors
from cnnexp.training import dry_run, dry_run_schedule

pytestmark = pytest.mark.integration

Train = Callable[..., int]


NETWORKS = [
    (["model.name=alexnet", "data.size=32"], "model: alexnet does not take images of 3x32x32: "),
    (["model.name=vit_b_32", "data.size=64"], "Expected 224 but got 64!; try data.size=224"),
    (["model.name=resnet500"], "model.name: torchvision has no classifier 'resnet500' (did you mean 'resnet50'?)"),
    (["model.name=resnet18", "model.freeze=[layr1]"], "model.freeze: 'layr1' matches no weight"),
    (["model.name=mobilenet_v2", "batch_size=1"], "batch_size: given 1; allowed with batch norm over a 1 x 1 map"),
]
FLAGS: list[list[str]] = [[], ["--plan"], ["-m", "seed=0,1"]]


@pytest.mark.parametrize(
    ("words", "message", "flags"),
    [(*network, FLAGS[0]) for network in NETWORKS] + [(*NETWORKS[i], flags) for i, flags in enumerate(FLAGS) if flags],
)
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
    "augmentation/not_finite": "_target_: trial_parts.divide\n",
    "augmentation/bytes": "_target_: trial_parts.bytes\n",
    "augmentation/normalize": "_target_: torchvision.transforms.v2.Normalize\n"
    "mean: [0.485, 0.456, 0.406]\nstd: [0.1, 0.1, 0.1]\n",
    "augmentation/noise": "_target_: trial_parts.noise\n",
    "data/eight": "_target_: torchvision.datasets.FakeData\nsize: 60\nnum_classes: 8\nimage_size: [3, 8, 8]\n"
    "transform: {_target_: torchvision.transforms.v2.ToImage}\n",
    "optimizer/still": "_target_: torch.optim.SGD\nlr: 0.0\n",
    "model/softmax": "_target_: trial_parts.Softmax\n",
    "model/narrow": "_target_: trial_parts.Narrow\n",
}
CODE = """
import torch
from torch import nn

def divide(images, generator):
    return images / (images - images)

def bytes(images, generator):
    return images * 255

def noise(images, generator):
    return images + 0.1 * torch.randn(images.shape, generator=generator)

class Softmax(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.Flatten(), nn.Linear(192, classes), nn.Softmax(1))

class Narrow(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.Flatten(), nn.Linear(100, classes))
"""


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "trial_parts.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in PARTS.items():
        (tmp_path / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / f"{name}.yaml").write_text(text)
    return tmp_path / "conf"


def test_noise_that_passes_the_range_is_said_and_trains(
    parts: Path, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    errors._warned.clear()
    assert train("--config-dir", str(parts), "augmentation=noise", "epochs=1") == 0
    error = capsys.readouterr().err
    assert "trial_parts.noise gave numbers from -0." in error and "end with .clamp(0, 1)" in error


@pytest.mark.parametrize(("images", "note"), [(19, "19 validation images"), (20, None)])
def test_few_validation_images_are_noted(
    images: int, note: str | None, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    errors._warned.clear()
    words = ["data=postcards", "data.size=8", f"data.val_limit={images}", "epochs=1st"]
    assert train(*words, "keep_epoch=last") == 0
    assert "chance" not in capsys.readouterr().err
    assert train(*words) == 0
    error = capsys.readouterr().err
    assert (f"chance chooses the best epoch: {note}; raise data.val_limit" in error) if note else "chance" not in error


@pytest.mark.parametrize(("drawn", "fix"), [({}, "lower data.folds"), ({"split": "of all"}, "raise data.val_fraction")])
def test_few_validation_images_of_a_fold_name_the_setting_that_helps(drawn: dict[str, str], fix: str) -> None:
    """Of images without a test split, the fold is the test split, and a fraction of the rest is for validation."""
    data: Any = SimpleNamespace(drawn=drawn)
    assert fix in dry_run.more_of({"data": {"val_limit": None, "folds": 3}}, data)


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
        (["optimizer=still"], "optimizer: the learning rate is 0 in all steps: nothing would be trained"),
        (
            ["loss._target_=torch.nn.MSELoss", "data=eight"],
            "loss: torch.nn.MSELoss: The size of tensor a (8) must match",
        ),
        (["loss._target_=torch.nn.NLLLoss"], "loss: torch.nn.NLLLoss has no lower limit: it gives -1000 and -2000"),
        (["model=softmax"], "model: gave probabilities, which add up to 1; the loss takes logits"),
        (["model=narrow"], "model: trial_parts.Narrow does not take images of 3x8x8: "),
        (["augmentation=not_finite"], "augmentation: trial_parts.divide gave numbers that are not finite"),
        (
            ["augmentation=bytes"],
            "augmentation: trial_parts.bytes gave numbers from 0 to 255; allowed: 0 to 1; leave out",
        ),
        (["augmentation=normalize"], "augmentation: torchvision.transforms.v2.Normalize gave numbers from -4."),
    ],
)
def test_parts_from_elsewhere_are_tried_before_training(
    words: list[str],
    message: str,
    parts: Path,
    train: Train,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train("--config-dir", str(parts), *words) == 2
    error = capsys.readouterr().err
    assert message in error.splitlines()[-1] and "Traceback" not in error
    own = "trial_parts." in PARTS.get(words[0].replace("=", "/"), "")
    assert (tmp_path / "outputs").exists() == own, "the user's own code is tried when its run starts"


TORCH = "_target_: torch.optim.lr_scheduler."
SCHEDULES = {
    "milestones": f"{TORCH}MultiStepLR\nmilestones: [30, 60]\n",
    "per_step": f"{TORCH}CyclicLR\nbase_lr: 0.001\nmax_lr: 0.01\n",
    "one": f"{TORCH}OneCycleLR\nmax_lr: 0.02\n",
    "short": f"{TORCH}CosineAnnealingLR\nT_max: 1\n",
    "falls": f"{TORCH}ExponentialLR\ngamma: 0.9\n",
}
STEPWISE = "; a scheduler class of torch is stepped once an epoch"


@pytest.mark.parametrize(
    ("words", "notes"),
    [
        (["scheduler=milestones"], [f"changes nothing in 4 epochs, the learning rate stays 0.001{STEPWISE}"]),
        (
            ["scheduler=per_step"],
            [
                f"changes nothing in 4 epochs, the learning rate stays 0.00101{STEPWISE}",
                "sets the learning rate itself, up to 0.00101; optimizer.lr has no effect",
            ],
        ),
        (["scheduler=one"], ["sets the learning rate itself, up to 0.0162; optimizer.lr has no effect"]),
        (["scheduler=short"], ["the learning rate is 0 in 10 of 20 steps, which train nothing"]),
        (["scheduler=step", "scheduler.every=4ep"], ["changes nothing in 4 epochs, the learning rate stays 0.001"]),
        (["scheduler=plateau"], ["changes nothing in 4 epochs, the learning rate stays 0.001"]),
        (["scheduler=cosine", "scheduler.warmup=5ep"], ["reaches 0.0008, never 0.001"]),
        (["scheduler=falls"], []),
        (["scheduler=step", "scheduler.every=3ep"], []),
        (["scheduler=plateau", "scheduler.patience=1"], []),
        (["scheduler=constant"], []),
        (["scheduler=constant", "scheduler.warmup=4ep"], []),
    ],
)
def test_a_schedule_that_does_not_do_what_it_says_is_named_once(
    words: list[str], notes: list[str], train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf" / "scheduler").mkdir(parents=True)
    for name, text in SCHEDULES.items():
        (tmp_path / "conf" / "scheduler" / f"{name}.yaml").write_text(text)
    dry_run_schedule.try_both.cache_clear()
    errors._warned.clear()
    words = ["--config-dir", str(tmp_path / "conf"), "optimizer.lr=0.001", "epochs=4", *words]
    assert train("--plan", "-m", "seed=0,1", *words) == 0
    found = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cnnexp: scheduler")]
    assert len(found) == len(notes) and all(note in message for note, message in zip(notes, found, strict=True)), found
