"""Probes see what is there, change nothing, cost nothing when they are off, and say the same after any interruption."""

import json
import math
import os
import signal
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lives import KINDS, difference, everything
from torch import Tensor, nn
from torchvision.models import resnet18

from cnnexp.errors import Interrupted, UserError
from cnnexp.records.fields import PROBE_ROWS
from cnnexp.records.run_record import RunRecord
from cnnexp.training import run as runner
from cnnexp.training.loop import TrainState
from cnnexp.training.plan import Plan
from cnnexp.training.probes.magnitudes import counts, histogram
from cnnexp.training.probes.passes import IMAGES, Pass
from cnnexp.training.probes.weights import Step
from cnnexp.training.progress import Progress

Plans = Callable[..., Plan]
ALL = {"gradients": True, "updates": True, "activations": True, "dead_units": True, "batch_norm": True}
LEFT_OUT = ("torch's step", "residual")  # without validation images to look at; with a config of the other tests
EVERY_KIND = {"gradient", "update", "activation", "dead_units", "batch_norm"}


@pytest.fixture(autouse=True)
def keep_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep last.pt of runs that are done, so that the whole state at the end can be compared."""
    monkeypatch.setattr(RunRecord, "drop_resume_files", lambda self: None)


def by_kind(rows: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """Return the rows of a kind by layer."""
    return {row["layer"]: row for row in rows if row["kind"] == kind}


@pytest.mark.integration
@pytest.mark.parametrize(
    "kind",
    [
        k if k in ("cosine", "perceptron") else pytest.param(k, marks=pytest.mark.slow)
        for k in KINDS
        if k not in LEFT_OUT
    ],
)
def test_a_probe_changes_no_bit(plan: Plans, outputs: Any, kind: str) -> None:
    without = runner.run(plan(*KINDS[kind]), Progress())
    probed = plan(*KINDS[kind], "probes=all", "probes.every=2st", f"outputs={outputs}/probed")
    assert probed.fingerprint == plan(*KINDS[kind]).fingerprint
    run = runner.run(probed, Progress())
    assert not without.probe_rows() and "probes" not in without.info["seconds"]
    assert run.probe_rows() and run.info["seconds"]["probes"] > 0
    mine, theirs = everything(run.folder), everything(without.folder)
    assert mine["state"].pop("probe_rows") == len(run.probe_rows()) and theirs["state"].pop("probe_rows") == 0
    assert mine["state"].pop("probes_digest") != theirs["state"].pop("probes_digest")
    assert difference(mine, theirs) is None


class NoHooks(Progress):
    """Holds every module and parameter of a run to have no hook, step by step."""

    def __init__(self) -> None:
        self.steps = 0

    def step(self, state: TrainState) -> None:
        for module in state.model.modules():
            assert not module._forward_hooks and not module._forward_pre_hooks and not module._backward_hooks
        assert not any(getattr(p, "_post_accumulate_grad_hooks", None) for p in state.model.parameters())
        self.steps += 1


@pytest.mark.integration
@pytest.mark.parametrize("more", [["probes=none"], ["probes=all", "probes.every=1st"]], ids=" ".join)
def test_no_hook_stays(plan: Plans, monkeypatch: pytest.MonkeyPatch, more: list[str]) -> None:
    made = []
    for kind in (Step, Pass):
        monkeypatch.setattr(kind, "__init__", _noting(kind.__init__, made))
    watch = NoHooks()
    run = runner.run(plan("epochs=1ep", *more), watch)
    assert watch.steps == 5
    assert len(made) == (0 if more == ["probes=none"] else 10)
    assert (run.folder / "probes.jsonl").exists() == bool(made)


def _noting(original: Callable[..., None], made: list[object]) -> Callable[..., None]:
    def init(self: object, *given: Any) -> None:
        made.append(self)
        original(self, *given)

    return init


class StopAt(Progress):
    """Asks the run to stop at a step, or kills it."""

    def __init__(self, step: int, kills: bool):
        self.at, self.kills = step, kills

    def step(self, state: TrainState) -> None:
        if state.step == self.at:
            if self.kills:
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("every", "cuts", "kills"),
    [("1ep", [4, 5, 6], False), ("2st", [1, 7, 8], False), ("2st", [4, 8, 14], True), ("1ep", [14], True)],
)
def test_rows_are_the_same_after_any_cut(plan: Plans, outputs: Any, every: str, cuts: list[int], kills: bool) -> None:
    more = ["probes=all", f"probes.every={every}", "checkpoint.every=3st"]
    whole = runner.run(plan(*more, f"outputs={outputs}/uncut"), Progress())
    own = plan(*more)
    for step in cuts:
        with pytest.raises(KeyboardInterrupt if kills else Interrupted):
            runner.run(own, StopAt(step, kills))
    run = runner.run(own, Progress())
    assert run.info["resumed"] == len(cuts)
    steps = [5, 10, 15] if every == "1ep" else [2, 4, 6, 8, 10, 12, 14, 15]
    assert list(dict.fromkeys(row["step"] for row in run.probe_rows())) == steps
    assert (run.folder / "probes.jsonl").read_bytes() == (whole.folder / "probes.jsonl").read_bytes()
    assert difference(everything(run.folder), everything(whole.folder)) is None


def test_rows_have_the_columns_that_the_record_names(plan: Plans) -> None:
    run = runner.run(plan("probes=all", "epochs=1ep"), Progress())
    assert {row["kind"] for row in run.probe_rows()} == EVERY_KIND == set(PROBE_ROWS)
    for row in run.probe_rows():
        columns = set(row) - {"epoch", "step", "kind", "layer", "type"}
        histogram = {"numbers", "zeros", "not_finite", "first", "counts"}
        assert all(column in PROBE_ROWS[row["kind"]] for column in columns - histogram), row


@pytest.mark.integration
@pytest.mark.parametrize("name", ["gradients", "updates", "activations", "dead_units", "batch_norm"])
def test_a_probe_alone(plan: Plans, name: str) -> None:
    run = runner.run(plan(f"probes={name}", "epochs=1ep"), Progress())
    assert {row["kind"] for row in run.probe_rows()} == {name.removesuffix("s") if name != "dead_units" else name}


@pytest.mark.integration
def test_kept_features_show_the_head_alone(plan: Plans) -> None:
    frozen = [
        "model=resnet18",
        "model.freeze=backbone",
        "model.bn=frozen",
        "augmentation=flip",
        "probes=all",
        "epochs=1ep",
    ]
    kept = runner.run(plan(*frozen), Progress())
    assert {(row["kind"], row["layer"]) for row in kept.probe_rows()} == {("gradient", "fc"), ("update", "fc")}
    whole = runner.run(plan(*frozen, "cache_features=false", "study.name=whole"), Progress())
    rows = [row for row in whole.probe_rows() if row["kind"] in ("gradient", "update")]
    assert {row["layer"] for row in rows} == {"fc"}, "what is frozen has no gradient"
    assert len(by_kind(whole.probe_rows(), "batch_norm")) == 20
    mine, theirs = (by_kind(run.probe_rows(), "gradient")["fc"]["norm"] for run in (kept, whole))
    assert mine == pytest.approx(theirs, rel=1e-3)


@pytest.mark.integration
def test_the_reference_layers_are_seen_as_torchs_are(plan: Plans) -> None:
    runs = [
        runner.run(plan("probes=all", "epochs=1ep", f"model.impl={impl}"), Progress()) for impl in ("torch", "im2col")
    ]
    mine, theirs = (by_kind(run.probe_rows(), "gradient") for run in runs)
    assert list(mine) == list(theirs) == ["conv1", "norm1", "fc1", "norm2", "head"]
    for layer, row in mine.items():
        assert row["norm"] == pytest.approx(theirs[layer]["norm"], rel=1e-3)
    mine, theirs = (by_kind(run.probe_rows(), "dead_units") for run in runs)
    assert [row["dead"] for row in mine.values()] == [row["dead"] for row in theirs.values()]


def test_magnitudes_are_counted_exactly() -> None:
    x = torch.tensor([0.0, -0.0, 1e-40, 1.0, -1.5, 2.0, 0.25, math.inf, math.nan, -0.49])
    told = histogram(counts(x))
    assert told == {"numbers": 10, "zeros": 3, "not_finite": 2, "first": -2, "counts": [2, 0, 2, 1]}
    empty = histogram(counts(torch.zeros(4)))
    assert empty == {"numbers": 4, "zeros": 4, "not_finite": 0, "first": 0, "counts": []}
    image = torch.randn(3, 5, 4, 4)
    values, exponents = image.frexp()
    expected = torch.bincount((exponents + 126).flatten(), minlength=256)
    assert values.ne(0).all() and torch.equal(counts(image), expected)
    for same in (image.contiguous(memory_format=torch.channels_last), image[:, :, ::2].repeat_interleave(1, 0)):
        assert counts(same).sum() == same.numel()
    assert torch.equal(counts(image.contiguous(memory_format=torch.channels_last)), expected)
    assert torch.equal(counts(image.bfloat16()), counts(image.bfloat16().float()))


def by_hand(pooled_first: bool) -> nn.Sequential:
    """Return conv 1 -> 3, ReLU and max-pool (in either order, the ReLU in place), fc 3 -> 2 with ReLU, fc 2 -> 2.

    Of x = [[1, 2], [3, 4]] the channels are x, -x and x - 3.5: after ReLU and pooling 4, 0 and 0.5. The second channel
    is dead for positive images.
    """
    conv, fc, last = nn.Conv2d(1, 3, 1), nn.Linear(3, 2), nn.Linear(2, 2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, -1.0, 1.0]).view(3, 1, 1, 1))
        conv.bias.copy_(torch.tensor([0.0, 0.0, -3.5]))
        fc.weight.copy_(torch.tensor([[1.0, 1.0, 2.0], [-1.0, 0.0, 0.0]]))
        fc.bias.zero_()
        last.weight.copy_(torch.eye(2))
        last.bias.zero_()
    relu, pool = nn.ReLU(inplace=True), nn.MaxPool2d(2)
    middle = [("pool1", pool), ("act1", relu)] if pooled_first else [("act1", relu), ("pool1", pool)]
    dense = [("flatten", nn.Flatten()), ("fc1", fc), ("act2", nn.ReLU(inplace=True)), ("head", last)]
    layers: list[tuple[str, nn.Module]] = [("conv1", conv), *middle, *dense]
    return nn.Sequential(OrderedDict(layers))


X = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 2, 2)


@pytest.mark.parametrize("pooled_first", [False, True])
def test_a_pass_through_a_network_computed_by_hand(pooled_first: bool) -> None:
    network = by_hand(pooled_first).eval()
    with Pass(network, network, ALL) as watched, torch.inference_mode():
        network(X)
    dead = by_kind(watched.rows(), "dead_units")
    assert [(row["layer"], row["after"], row["units"], row["dead"]) for row in dead.values()] == [
        ("act1", "conv1", 3, 1),
        ("act2", "fc1", 2, 1),  # 4 + 0 + 2 * 0.5 = 5, and -4
    ]
    seen = by_kind(watched.rows(), "activation")
    if pooled_first:  # 4, 0, 0.5
        assert (seen["act1"]["zeros"], seen["act1"]["first"], seen["act1"]["counts"]) == (1, -1, [1, 0, 0, 1])
        assert seen["act1"]["mean"] == pytest.approx(1.5)
    else:  # 1, 2, 3, 4; four zeros; three zeros and 0.5
        assert (seen["act1"]["zeros"], seen["act1"]["first"], seen["act1"]["counts"]) == (7, -1, [1, 1, 2, 1])
        assert seen["act1"]["mean"] == pytest.approx(10.5 / 12)
    assert seen["act2"]["mean"] == pytest.approx(2.5) and seen["act2"]["std"] == pytest.approx(2.5)


def test_a_unit_is_dead_only_if_it_is_zero_for_every_batch() -> None:
    network = by_hand(True).eval()
    for second, dead in ((-X, 0), (X, 1), (0 * X, 1)):
        with Pass(network, network, ALL) as watched, torch.inference_mode():
            network(X)
            network(second)
        assert by_kind(watched.rows(), "dead_units")["act1"]["dead"] == dead


def test_activations_are_of_the_first_images_however_large_the_batches() -> None:
    network = nn.Sequential(nn.Linear(5, 4), nn.ReLU()).eval()
    x = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))

    def seen(batch: int) -> dict[str, Any]:
        with Pass(network, network, ALL) as watched, torch.inference_mode():
            for images in x.split(batch):
                network(images)
        return by_kind(watched.rows(), "activation")["1"]

    first = network(x)[:IMAGES].detach()
    assert seen(100)["numbers"] == first.numel() == 256
    for batch in (1, 16, 50, 64):
        given = seen(batch)
        assert given["mean"] == pytest.approx(float(first.mean()), rel=1e-5)
        assert given["std"] == pytest.approx(float(first.std(correction=0)), rel=1e-5)
        assert {**given, "mean": 0, "std": 0} == {**seen(100), "mean": 0, "std": 0}


@pytest.mark.parametrize("pooled_first", [False, True])
def test_a_step_computed_by_hand(pooled_first: bool) -> None:
    network = by_hand(pooled_first)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    step = Step(network, gradients=True, updates=True, loss_scale=4.0)
    (4.0 * network(X)[0, 0]).backward()  # d logit / d logit = 1, scaled
    nn.utils.clip_grad_norm_(network.parameters(), 1e-3)  # comes after what the probe sees
    optimizer.step()
    rows = step.rows()
    gradients = by_kind(rows, "gradient")
    assert list(gradients) == ["conv1", "fc1", "head"]
    # head: activations 5 and 0, and the bias 1. fc1's first unit: 4, 0, 0.5, bias 1. conv1: by channel, 1 * 4 and 1 for
    # the first, 0 for the dead one, 2 * 4 and 2 for the third.
    assert gradients["head"]["norm"] == pytest.approx(math.sqrt(25 + 1))
    assert gradients["fc1"]["norm"] == pytest.approx(math.sqrt(16 + 0.25 + 1))
    assert gradients["conv1"]["norm"] == pytest.approx(math.sqrt(16 + 1 + 64 + 4))
    assert (gradients["conv1"]["zeros"], gradients["conv1"]["first"]) == (2, 0)
    assert gradients["conv1"]["counts"] == [1, 1, 1, 1]
    clipped = 1e-3 * math.sqrt(26 / (26 + 17.25 + 85))  # head's part of a gradient whose norm is 1e-3
    update = by_kind(rows, "update")["head"]
    assert update["weight_norm"] == pytest.approx(math.sqrt(2))
    assert update["ratio"] == pytest.approx(0.1 * clipped / math.sqrt(2), rel=1e-2), "weights of 1 move by 4e-5"


class OneNorm(nn.Module):
    """Batch norm alone."""

    def __init__(self, features: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(features, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


def test_batch_norm_drift_over_batches_of_different_size() -> None:
    network = OneNorm(2).eval()
    x = torch.randn(9, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    x = x * torch.tensor([1.0, 5.0]).view(1, 2, 1, 1) + torch.tensor([10.0, -3.0]).view(1, 2, 1, 1)
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)

    def drift() -> dict[str, Any]:
        with Pass(network, network, ALL) as watched, torch.inference_mode():
            for batch in x.split(4):
                network(batch)
        return by_kind(watched.rows(), "batch_norm")["norm"]

    network.norm.running_mean, network.norm.running_var = mean.clone(), variance.clone()
    same = drift()
    assert same["mean_shift"] == pytest.approx(0, abs=1e-5) and same["variance_ratio"] == pytest.approx(1, rel=1e-4)
    network.norm.running_mean += variance.sqrt() * torch.tensor([3.0, 4.0])
    network.norm.running_var *= torch.tensor([4.0, 0.25])
    far = drift()  # 3 and 4 deviations, of which the running ones are 2 and 1/2: 1.5 and 8
    assert far["mean_shift"] == pytest.approx(math.sqrt((1.5**2 + 8**2) / 2), rel=1e-4)
    assert far["variance_ratio"] == pytest.approx(4, rel=1e-3)


@pytest.mark.integration
def test_a_module_that_is_used_twice_is_two_layers() -> None:
    torch.manual_seed(0)
    network = resnet18(num_classes=4).eval()
    with Pass(network, network, ALL) as watched, torch.inference_mode():
        for _ in range(2):
            network(torch.randn(2, 3, 32, 32))
    dead = by_kind(watched.rows(), "dead_units")
    assert len(dead) == 17 and dead["relu"]["after"] == "conv1"
    assert dead["layer1.0.relu"]["after"] == "layer1.0.conv1"
    assert dead["layer1.0.relu, use 2"]["after"] == "layer1.0.conv2"
    assert dead["layer2.0.relu, use 2"]["after"] == "", "the sum of two branches is after no one layer"
    assert dead["layer4.1.relu, use 2"]["units"] == 512


def test_units_of_a_fully_connected_layer_lie_in_the_last_dimension() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.GELU())
    with torch.no_grad():
        network[0].weight.zero_()  # type: ignore[union-attr]
        network[0].bias.copy_(torch.tensor([1.0, -1e3, 0.0]))  # type: ignore[union-attr]
    with Pass(network, network, ALL) as watched, torch.inference_mode():
        network(torch.randn(4, 5, 6, 2))
    (row,) = by_kind(watched.rows(), "dead_units").values()
    assert (row["units"], row["dead"]) == (3, 2)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["probes=al"], "probes: unknown choice 'al'"),
        (["probes.every=0ep"], "probes.every: given '0ep'; allowed: a duration of at least 1"),
        (["probes.gradients=1"], "probes.gradients: given 1; allowed: true or false"),
        (["+probes.gradient=true"], "probes.gradient: unknown key"),
    ],
)
def test_a_wrong_probe_is_told(
    train: Callable[..., int], capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert train(*words) == 2
    assert told in capsys.readouterr().err


@pytest.mark.integration
def test_a_pass_needs_a_validation_split(plan: Plans) -> None:
    with pytest.raises(UserError, match=r"probes\.activations: there is no validation split to look at"):
        plan("probes=all", "data.val_fraction=0")
    assert plan("probes=gradients", "data.val_fraction=0")


@pytest.mark.integration
def test_probes_make_no_arm(train: Callable[..., int], outputs: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("optimizer.lr=0.01", "probes=dead_units", "epochs=1ep") == 0
    assert "without probes" not in capsys.readouterr().out
    (folder,) = (outputs / "runs").iterdir()
    assert "probes" not in folder.name and "probes" not in json.dumps(RunRecord.read(folder).info["changes"])


@pytest.mark.integration
def test_a_run_that_was_done_without_probes_is_told(
    train: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("epochs=1ep", "seed=0") == 0
    assert "without probes" not in capsys.readouterr().out
    assert train("epochs=1ep", "seed=0", "probes=updates") == 0
    assert "it was done without probes; to get them, make it again under another study.name=" in capsys.readouterr().out
    assert train("-m", "epochs=1ep", "seed=0,1", "probes=updates", "slots=cpu:1") == 0
    assert "1 done without probes" in capsys.readouterr().out
