"""Features computed once: the same run, up to rounding, as with those of every batch; and only where nothing varies."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cnnexp import cli
from cnnexp.config.compose import compose, resolve
from cnnexp.data.batches import Normalise
from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.training.device import Device
from cnnexp.training.features import Features, wanted
from cnnexp.training.ranks import ALONE


@pytest.fixture
def cpu() -> Device:
    return Device(torch.device("cpu"), "cpu", "fp32", 1, True, False, None)


SMALL = ["data.num_train=60", "data.num_test=20", "data.size=16", "batch_size=8", "epochs=3", "device=cpu"]
FROZEN = ["model=resnet18", "model.freeze=backbone", "model.bn=frozen", "device.threads=1", "optimizer.lr=0.01"]


def pair(tmp_path: Path, *overrides: str) -> list[RunRecord]:
    """Make a run with features computed once, and one without; return both."""
    runs = []
    for cached in ("true", "false"):
        outputs = tmp_path / cached
        words = [*SMALL, *FROZEN, f"cache_features={cached}", f"outputs={outputs}", *overrides]
        assert cli.main(["train", *words]) == 0
        runs += find_runs(outputs)
    return runs


@pytest.mark.integration
@pytest.mark.parametrize("augmentation", ["none", "flip"])
def test_the_result_is_that_of_features_of_every_batch(tmp_path: Path, augmentation: str) -> None:
    kept, plain = pair(tmp_path, f"augmentation={augmentation}")
    assert kept.info["features"] == "computed once" and "features" not in plain.info
    assert kept.info["seconds"]["features"] > 0 == plain.info["seconds"]["features"]
    assert kept.info["fingerprint"] != plain.info["fingerprint"]
    weights = [torch.load(run.folder / "checkpoints" / "best.pt")["model"] for run in (kept, plain)]
    assert weights[0].keys() == weights[1].keys()
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-3, atol=1e-4)
    first, *_, last = kept.rows(split="train")
    assert last["loss"] != first["loss"], "the head learns"
    for ours, theirs in zip(kept.rows(), plain.rows(), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
    logits = [run.predictions()["logits"] for run in (kept, plain)]
    np.testing.assert_allclose(*logits, rtol=1e-2, atol=1e-3)


@pytest.mark.integration
def test_flips_change_the_result(tmp_path: Path) -> None:
    losses = [pair(tmp_path / name, f"augmentation={name}")[0].rows()[-1]["loss"] for name in ("none", "flip")]
    assert losses[0] != losses[1]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (FROZEN[:3], True),
        ([*FROZEN[:3], "+aug=flip"], True),
        ([*FROZEN[:3], "cache_features=false"], False),
        ([*FROZEN[:3], "+aug=full"], False),
        (["model=resnet18", "model.freeze=backbone", "model.bn=train"], False),
        (["model=resnet18", "model.freeze=[conv1]", "model.bn=frozen"], False),
        ([], False),
    ],
)
def test_only_what_cannot_vary_is_kept(overrides: list[str], expected: bool) -> None:
    assert wanted(resolve(compose(overrides))) is expected


class Noisy(nn.Module):
    """A frozen layer and dropout below a head."""

    def __init__(self, p: float):
        super().__init__()
        self.below, self.drop, self.fc = nn.Linear(12, 6).requires_grad_(False), nn.Dropout(p), nn.Linear(6, 10)

    def forward(self, x: torch.Tensor) -> Any:
        return self.fc(self.drop(self.below(x.flatten(1))))


class FourPixels:
    """Stands in for DeviceImages: ten images of 2 x 2."""

    device = torch.device("cpu")

    def __len__(self) -> int:
        return 10

    def gather(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = torch.arange(120, dtype=torch.uint8).view(10, 3, 2, 2)
        return pixels[rows], torch.zeros(len(rows), dtype=torch.int64)


def features(model: nn.Module, cpu: Device) -> Features:
    return Features(model, cpu, 4, Normalise([0.5] * 3, [0.25] * 3, cpu.torch, cpu.layout), ALONE, lambda: None)


def test_dropout_below_the_head_is_noticed(cpu: Device) -> None:
    images: Any = FourPixels()
    assert features(Noisy(0.0), cpu).why_not_cacheable(images) is None
    assert "vary" in str(features(Noisy(0.5), cpu).why_not_cacheable(images))


def test_more_than_a_head_is_noticed(cpu: Device) -> None:
    model = Noisy(0.0)
    model.below.bias.requires_grad_(True)
    assert str(features(model, cpu).why_not_cacheable(FourPixels())) == "more learns than the head: below, fc"  # type: ignore[arg-type]


class Ended(Noisy):
    """A head whose output is not the logits yet."""

    def __init__(self, end: str):
        super().__init__(0.0)
        self.end = end

    def forward(self, x: torch.Tensor) -> Any:
        y = super().forward(x)
        if self.end == "twice":
            return y + super().forward(x.flip(-1))
        if self.end == "in training":
            return 2 * y if self.training else y
        return y[:, :, None].flatten(1) if self.end == "same" else 2 * y


@pytest.mark.parametrize(("end", "kept"), [("same", True), ("twice", False), ("scaled", False), ("in training", False)])
def test_a_head_that_does_not_end_the_network_is_noticed(cpu: Device, end: str, kept: bool) -> None:
    """As of a ResNetV2 of timm, whose head is a convolution, or a distilled DeiT, which takes the mean of two heads."""
    reason = features(Ended(end), cpu).why_not_cacheable(FourPixels())  # type: ignore[arg-type]
    assert reason == (None if kept else "fc does not give the logits")


def test_features_are_what_reaches_the_head(cpu: Device) -> None:
    model, images = Noisy(0.0), FourPixels()
    kept: Any = features(model, cpu)
    x = (images.gather(torch.arange(10))[0] / 255 - 0.5) / 0.25
    torch.testing.assert_close(kept.of(images), model.below(x.flatten(1)))
    torch.testing.assert_close(kept.of(images, mirrored=True), model.below(x.flip(-1).flatten(1)))
    assert kept.of(images) is kept.of(images)
