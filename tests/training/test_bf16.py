"""bf16 on a CPU: each shape is tested once, and what is slow or wrong stays in fp32 and is recorded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cnnexp.records.run_record import RunRecord
from cnnexp.storage import read_json
from cnnexp.training import bf16
from cnnexp.training.bf16 import Measurement, keep_in_fp32, unfit
from cnnexp.training.device import Device
from cnnexp.training.moving_average import MovingAverage


@pytest.fixture
def cpu() -> Device:
    return Device(torch.device("cpu"), "cpu", "bf16", 1, True, False, None)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(288, 5))


def measured(monkeypatch: pytest.MonkeyPatch, measurement: Callable[[str], Measurement]) -> list[str]:
    """Let `measurement` stand in for the tests; return the list that the tested shapes are added to."""
    tested: list[str] = []

    def stand_in(layer: nn.Module, key: str, device: Device) -> Measurement:
        tested.append(key)
        return measurement(key)

    monkeypatch.setattr(bf16, "test", stand_in)
    return tested


def test_a_shape_is_tested_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cpu: Device) -> None:
    tested = measured(monkeypatch, lambda key: Measurement(2.0 if key.startswith("Linear") else 1.0, 1.5, 0.001))
    assert unfit(network(), (3, 8, 8), 64, cpu, tmp_path) == ["4"]
    assert [key.rpartition(" of ")[2] for key in tested] == ["32 x 3 x 8 x 8", "32 x 8 x 8 x 8", "32 x 288"]
    assert unfit(network(), (3, 8, 8), 64, cpu, tmp_path) == ["4"]
    assert len(tested) == 3
    answers = read_json(tmp_path / "bf16.json")
    assert len(answers) == 1 and len(next(iter(answers.values()))) == 3


def test_wrong_numbers_count_as_much_as_slowness(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cpu: Device) -> None:
    measured(monkeypatch, lambda key: Measurement(1.0, 2.0, 0.5 if "8, 8, kernel" in key else 0.001))
    assert unfit(network(), (3, 8, 8), 4, cpu, tmp_path) == ["2"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": {"b": {"c": 1}}}', '{"a": 3}'])
def test_a_damaged_cache_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cpu: Device, content: str
) -> None:
    (tmp_path / "bf16.json").write_text(content)
    tested = measured(monkeypatch, lambda key: Measurement(1.0, 2.0, 0.0))
    assert unfit(network(), (3, 8, 8), 4, cpu, tmp_path) == []
    assert len(tested) == 3


def test_a_layer_kept_in_fp32_gives_fp32_numbers(cpu: Device) -> None:
    model, twin = network(), network()
    before = list(model.state_dict())
    keep_in_fp32(model, ["0", "4"])
    assert list(model.state_dict()) == before
    x = torch.randn(2, 3, 8, 8)
    with cpu.autocast():
        kept, low = model[0](x), twin[0](x)
    assert (kept.dtype, low.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(kept, twin[0](x)) and not torch.equal(low.float(), kept)


def test_real_numbers_are_near_and_times_are_measured(cpu: Device) -> None:
    for layer, shape in ((nn.Conv2d(16, 16, 3), "8 x 16 x 12 x 12"), (nn.Linear(64, 32), "8 x 64")):
        found = bf16.test(layer, f"{layer} of {shape}", cpu)
        assert 0 < found.error < bf16.MAX_ERROR
        assert found.bf16_ms > 0 and found.fp32_ms > 0


@pytest.mark.integration
def test_a_run_records_its_choice_and_keeps_it(
    monkeypatch: pytest.MonkeyPatch, train: Callable[..., int], only: Callable[[], RunRecord], own_tuning: Path
) -> None:
    tested = measured(monkeypatch, lambda key: Measurement(9.0 if key.startswith("Conv2d(3") else 1.0, 2.0, 0.0))
    assert train("device.precision=bf16", "epochs=1st") == 0
    run = only()
    assert tested and run.info["device"]["fp32_layers"] == ["conv1"]
    assert "in fp32, because bf16 is slower" in (run.folder / "train.log").read_text()
    measured(monkeypatch, lambda key: Measurement(9.0, 1.0, 0.0))
    import cnnexp

    assert type(cnnexp.load(run.folder).model.conv1) is bf16.Fp32Conv2d


@pytest.mark.integration
def test_averaged_weights_are_evaluated_with_the_same_precisions(
    monkeypatch: pytest.MonkeyPatch, train: Callable[..., int], only: Callable[[], RunRecord], own_tuning: Path
) -> None:
    measured(monkeypatch, lambda key: Measurement(9.0 if key.startswith("Conv2d(3") else 1.0, 2.0, 0.0))
    seen = []
    update = MovingAverage.update
    monkeypatch.setattr(MovingAverage, "update", lambda own, *given: (seen.append(own.module), update(own, *given)))
    assert train("device.precision=bf16", "epochs=1st", "ema.decay=0.9") == 0
    assert {type(module.conv1) for module in seen} == {bf16.Fp32Conv2d}


@pytest.mark.integration
def test_fp32_runs_test_nothing(
    monkeypatch: pytest.MonkeyPatch, train: Callable[..., int], only: Callable[[], RunRecord]
) -> None:
    tested: list[Any] = measured(monkeypatch, lambda key: Measurement(1.0, 1.0, 0.0))
    assert train("epochs=1st") == 0
    assert not tested and "fp32_layers" not in only().info["device"]


@pytest.fixture
def own_tuning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the answers of this test out of the session's cache."""
    monkeypatch.setenv("CNNEXP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
