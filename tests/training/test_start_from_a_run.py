"""Every network can start from a run: model.weights=RUN; what does not fit is listed."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from cnnexp import cli, errors
from cnnexp.errors import UserError
from cnnexp.models.weights import from_file, load_all
from cnnexp.records.run_record import RunRecord
from cnnexp.training.build import build_model
from cnnexp.training.checkpoint import weights_in
from cnnexp.training.plan import Plan

Plans = Callable[..., Plan]
OWN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, width=4):
        super().__init__()
        self.body = nn.Linear(3 * 8 * 8, width)
        self.last = nn.Linear(width, classes)

    def forward(self, images):
        return self.last(self.body(images.flatten(1)).relu())
"""


@pytest.fixture
def source(train: Callable[..., int], runs: Callable[[], dict[str, RunRecord]]) -> RunRecord:
    assert train("name=source", "epochs=1") == 0
    return runs()["source-s0"]


@pytest.mark.integration
def test_a_described_network_starts_from_a_run_bit_for_bit(source: RunRecord, plan: Plans) -> None:
    chosen = plan(f"model.weights={source.folder}", "seed=5", "epochs=2")
    best = weights_in(source.folder / "checkpoints" / "best.pt")
    found = build_model(chosen.config, (3, 8, 8), 10).state_dict()
    assert best.keys() == found.keys() and all(torch.equal(best[name], found[name]) for name in best)
    assert chosen.fingerprint != plan("seed=5", "epochs=2").fingerprint
    assert plan("model.weights=null").fingerprint == plan().fingerprint


@pytest.mark.integration
def test_the_run_can_be_named_as_in_every_command(
    source: RunRecord, outputs: Path, train: Callable[..., int], runs: Callable[[], dict[str, RunRecord]]
) -> None:
    by_name = f"model.weights={outputs}/runs/source/0"
    assert train(by_name, "name=second") == 0
    assert train(f"model.weights={outputs}/latest", "name=third") == 0
    assert runs()["second-s0"].config()["model"]["weights"] == str(source.folder)
    assert runs()["third-s0"].config()["model"]["weights"] == str(runs()["second-s0"].folder)
    assert cli.main(["evaluate", str(runs()["third-s0"].folder)]) == 0


@pytest.mark.integration
def test_what_does_not_fit_is_listed_and_can_be_left_out(
    source: RunRecord,
    train: Callable[..., int],
    runs: Callable[[], dict[str, RunRecord]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    resnet = ["model=torchvision", "model.name=resnet18", "data.size=32", f"model.weights={source.folder}"]
    assert train(*resnet) == 2
    assert "model.weights: resnet18, 11,181,642 parameters, cannot start from convnet, " in capsys.readouterr().err
    other = "model.blocks=[{conv:{out:4,kernel:3}},{pool:{kernel:2}},{fc:{out:6}},{fc:{out:6}}]"
    assert train(f"model.weights={source.folder}", other) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert (
        "does not fit this network: missing: " in told and "of another shape: fc1.weight (8, 64), here (6, 64)" in told
    )
    assert "model.weights: convnet, 634 parameters, cannot start from convnet, 746 parameters: " in told
    assert list(runs()) == ["source-s0"], "nothing is recorded"
    assert told.endswith("that fit") and "model.strict=false loads the " in told
    errors._warned.clear()
    assert train(f"model.weights={source.folder}", other, "model.strict=false") == 0
    assert "loaded; not loaded: missing: " in capsys.readouterr().err


@pytest.mark.integration
def test_a_network_of_ones_own_starts_from_its_run(
    tmp_path: Path,
    train: Callable[..., int],
    runs: Callable[[], dict[str, RunRecord]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "own_weights_net.py").write_text(OWN)
    (tmp_path / "configs" / "model").mkdir(parents=True)
    (tmp_path / "configs" / "model" / "own.yaml").write_text("_target_: own_weights_net.Net\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    own = ["model=own", "--config-dir", str(tmp_path / "configs")]
    try:
        assert train(*own, "name=first", "epochs=1") == 0
        first = runs()["first-s0"].folder
        assert train(*own, "name=second", f"model.weights={first}", "epochs=1st") == 0
        assert train(*own, "name=wide", f"model.weights={first}", "+model.width=5", "epochs=1st") == 2
        assert sorted(runs()) == ["first-s0", "second-s0"], "one that cannot begin is not recorded"
        assert "of another shape: body.weight (4, 192), here (5, 192), body.bias" in capsys.readouterr().err
        assert train(*own, "name=typo", "+model.wieghts=x") == 2
    finally:
        sys.modules.pop("own_weights_net", None)


def test_nothing_that_fits_is_an_error_even_without_strict() -> None:
    with pytest.raises(UserError, match="nothing in here fits this network; it holds a"):
        load_all(nn.Linear(2, 2), {"a": torch.zeros(1)}, "here", strict=False)


def test_the_lists_are_complete_up_to_eight_of_a_kind() -> None:
    given = {f"x{n}": torch.zeros(1) for n in range(10)} | {"weight": torch.zeros(2, 2)}
    with pytest.raises(UserError) as raised:
        load_all(nn.Linear(2, 2), given, "here")
    assert str(raised.value) == (
        "model.weights: here does not fit this network: missing: bias; unexpected: "
        "x0, x1, x2, x3, x4, x5, x6, x7 and 2 more; model.strict=false loads the 1 tensor that fit"
    )


@pytest.mark.integration
@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("model.weights=imagenet", "imagenet is for model=torchvision; give a checkpoint or a run"),
        ("model.weights=nowhere", "nowhere: no such run"),
        ("model.weights=3", "model.weights: given 3; allowed: text or a mapping"),
    ],
)
def test_wrong_weights_are_one_line(
    typed: str, line: str, train: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(typed) == 2
    told = capsys.readouterr().err
    assert line in told and told.count("\n") == 1


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    files = {
        b"<!DOCTYPE html>": "it is not a file of torch.save: it begins with b'<!DOCTYPE ht'",
        b"version https://git-lfs.github.com/spec/v1": "it is a pointer of Git LFS; git lfs pull fetches the file",
        b'\x10\0\0\0\0\0\0\0{"a": {}}': "it is a file of safetensors; convert it: torch.save(",
        b"": "it is empty",
    }
    for content, reason in files.items():
        (tmp_path / "net.pt").write_bytes(content)
        with pytest.raises(UserError, match="cannot be read as a checkpoint") as raised:
            from_file(tmp_path / "net.pt")
        assert reason in str(raised.value)


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.bool, torch.complex64])
def test_quantized_weights_are_not_read_as_if_they_were_numbers_of_the_network(
    kind: torch.dtype, tmp_path: Path
) -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    torch.save(network.state_dict(), tmp_path / "net.pt")
    assert from_file(tmp_path / "net.pt").keys() == network.state_dict().keys()
    torch.save({name: tensor.to(kind) for name, tensor in network.state_dict().items()}, tmp_path / "net.pt")
    with pytest.raises(UserError, match=r"net.pt holds \w+ numbers, as in 0.weight; give weights as floating point"):
        from_file(tmp_path / "net.pt")
