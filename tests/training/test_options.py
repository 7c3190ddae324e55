"""Options of a training step: own losses, parts of a batch, mixed labels, balanced sampling, averaged weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cuts import prepared
from torch.nn import functional

from cnnexp.data.batches import Batch, Batches, DeviceImages
from cnnexp.errors import UserError
from cnnexp.records.run_record import RunRecord
from cnnexp.training import checkpoint
from cnnexp.training import run as runner
from cnnexp.training.features import wanted
from cnnexp.training.loop import fit, train_step
from cnnexp.training.plan import Plan
from cnnexp.training.progress import Progress

pytestmark = pytest.mark.integration

Plans = Callable[..., Plan]
Train = Callable[..., int]
SIMPLE = ["model.norm=none", "model.dropout={pool:0,fc:0}", "optimizer=sgd", "optimizer.lr=0.1"]
OPTIMIZERS = sorted(file.stem for file in Path(__file__).resolve().parents[2].glob("configs/optimizer/*.yaml"))
CODE = """
import torch

def margin(logits, labels, power: float = 1.0):
    return torch.nn.functional.multi_margin_loss(logits, labels) ** power

class Squared:
    def __init__(self, scale: float = 1.0):
        self.scale = scale
    def __call__(self, logits, labels):
        wanted = torch.nn.functional.one_hot(labels, logits.shape[1])
        return self.scale * ((logits - wanted) ** 2).mean()

def each(logits, labels):
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")
"""


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("loss.class_weights=[1,9,1,1,5,1,1,1,1,1]", "loss.label_smoothing=0.1"),
        ("loss=focal", "loss.class_weights=[1,9,1,1,5,1,1,1,1,1]", "mix.mixup=0.5"),
    ],
)
@pytest.mark.parametrize("parts", [2, 3, 8])
def test_a_batch_in_parts_is_the_batch(plan: Plans, parts: int, words: tuple[str, ...]) -> None:
    whole, batches, settings = prepared(plan(*SIMPLE, *words))
    split, _, in_parts = prepared(plan(*SIMPLE, *words, f"accumulate={parts}"))
    for step in range(3):
        train_step(whole, batches.at(step), settings)
        train_step(split, batches.at(step), in_parts)
        whole.step, split.step = whole.step + 1, split.step + 1
    for a, b in zip(whole.model.parameters(), split.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(whole.losses, split.losses, rtol=1e-5, atol=1e-7)
    assert torch.equal(whole.correct, split.correct)


def test_a_batch_has_no_more_parts_than_images(plan: Plans) -> None:
    with pytest.raises(UserError, match="accumulate: given 9; allowed: at most batch_size, 8"):
        runner.run(plan("accumulate=9"), Progress())


def test_one_image_is_not_mixed_with_itself(plan: Plans) -> None:
    with pytest.raises(UserError, match="mix: given with batch_size=1"):
        runner.run(plan(*SIMPLE, "batch_size=1", "mix.mixup=0.2"), Progress())


def test_both_labels_count_with_their_share(plan: Plans) -> None:
    state, batches, settings = prepared(plan(*SIMPLE))
    plain = batches.at(0)
    mixed = Batch(plain.images, plain.labels, 0, plain.positions, plain.labels.roll(1, 0), 0.3)
    with torch.no_grad():
        logits = state.model.train()(plain.images)
    own, other = (functional.cross_entropy(logits, labels) for labels in (mixed.labels, mixed.mixed))
    train_step(state, mixed, settings)
    assert float(state.losses[0]) == pytest.approx(float(0.3 * own + 0.7 * other), rel=1e-5)
    assert int(state.correct[0]) == int((logits.argmax(1) == mixed.mixed).sum()), "the label with the larger share"


def test_the_average_of_the_weights(plan: Plans) -> None:
    """By its recurrence; the decay of step t is at most (1 + t) / (10 + t)."""
    state, batches, settings = prepared(plan("ema.decay=0.5"))
    assert state.average is not None
    expected: dict[str, torch.Tensor] = {}
    for step in range(12):
        train_step(state, batches.at(step), settings)
        state.step += 1
        decay = min(0.5, (2 + step) / (11 + step))
        for name, value in state.model.state_dict().items():
            last = expected.get(name)
            average = value if last is None or not value.is_floating_point() else decay * last + (1 - decay) * value
            expected[name] = average.clone()
    for name, value in state.average.module.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)


def test_the_average_is_what_is_kept(plan: Plans) -> None:
    averaged = runner.run(plan("ema.decay=0.9", "keep_epoch=last"), Progress())
    plain = runner.run(plan("keep_epoch=last"), Progress())
    weights = [checkpoint.weights_in(run.folder / "checkpoints" / "best.pt") for run in (averaged, plain)]
    final = checkpoint.read(averaged.folder / "checkpoints" / "final.pt")
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    for name, value in weights[0].items():
        assert torch.equal(value, final["average"][f"module.{name}"])
        assert torch.equal(weights[1][name], final["model"][name]), "averaging changes nothing in the training"


@pytest.mark.parametrize("balanced", [True, False])
def test_balanced_sampling_draws_the_classes_alike(plan: Plans, balanced: bool) -> None:
    """Of 40 images of one class, 10 of another and 2 of a third."""
    _, made, settings = prepared(plan("data.num_train=400", "sampling=balanced"))
    labels = np.repeat([0, 1, 2], [40, 10, 2])
    split = replace(made.images.split, indices=np.arange(52), labels=labels, ids=np.arange(52).astype(str))
    batches = Batches(DeviceImages(split, settings.device.torch), 8, 0, None, made.normalise, balanced)
    drawn = torch.cat([torch.from_numpy(labels)[batches.order(epoch)] for epoch in range(100)]).bincount() / 5200
    assert drawn.tolist() == pytest.approx([1 / 3] * 3 if balanced else [40 / 52, 10 / 52, 2 / 52], abs=0.02)
    assert made.chances is not None, "the setting reaches the batches"
    again = Batches(DeviceImages(split, settings.device.torch), 8, 0, None, made.normalise, balanced)
    assert torch.equal(batches.order(3), again.order(3))


@pytest.fixture
def own_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_losses.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize(
    "words",
    [
        ["loss._target_=my_losses.margin", "+loss.power=2"],
        ["loss._target_=my_losses.Squared", "+loss.scale=3"],
        ["loss._target_=torch.nn.CrossEntropyLoss", "loss.label_smoothing=0.1"],
        ["loss._target_=torch.nn.functional.multi_margin_loss"],
        ["loss=focal", "loss.class_weights=balanced"],
    ],
)
def test_an_own_loss(
    own_losses: None, train: Train, only: Callable[[], RunRecord], plan: Plans, words: list[str]
) -> None:
    """It is what the weights learn from; rows show the cross entropy."""
    state, batches, settings = prepared(plan(*words, "model.dropout={pool:0,fc:0}"))
    batch = batches.at(0)
    with torch.no_grad():
        logits = state.model.train()(batch.images)
    expected, plain = settings.loss(logits, batch.labels), functional.cross_entropy(logits, batch.labels)
    train_step(state, batch, settings)
    assert float(state.losses[0]) == pytest.approx(float(expected), rel=1e-4)
    assert float(state.shown_losses[0]) == pytest.approx(float(plain), rel=1e-4)
    assert float(expected) != pytest.approx(float(plain), rel=1e-3)
    assert train(*words) == 0
    assert all(0 < row["loss"] < 10 for row in only().rows(split="train"))


def test_own_losses_are_computed_as_they_are_named(own_losses: None, plan: Plans) -> None:
    logits, labels = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 0.3]]), torch.tensor([0, 1])
    margin = functional.multi_margin_loss(logits, labels)
    squared = ((logits - functional.one_hot(labels, 3)) ** 2).mean()
    for words, value in (
        (["loss._target_=my_losses.margin", "+loss.power=2"], margin**2),
        (["loss._target_=my_losses.Squared", "+loss.scale=3"], 3 * squared),
        (["loss._target_=torch.nn.functional.multi_margin_loss"], margin),
    ):
        _, _, settings = prepared(plan(*words))
        assert float(settings.loss(logits, labels)) == pytest.approx(float(value), rel=1e-6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["loss._target_=my_losses.each"],
            "loss: gave a tensor of (8,); it must give the mean over the images, a finite number with a gradient"),
        (["loss.class_weights=[1,2]"], "loss.class_weights: given 2 numbers; allowed: 10, one per class"),
        (["label_smoothing=0.1"], "type loss.label_smoothing=0.1"),
        (["mix.mixup=0"], "mix.mixup: given 0; allowed: a number > 0"),
        (["ema.decay=1"], "ema.decay: given 1; allowed: a number >= 0 and < 1"),
        (["param_groups.rates={head:abc}"], "param_groups.rates.head: given 'abc'; allowed: a number > 0"),
        (["param_groups.rates={head:-1}"], "param_groups.rates.head: given -1; allowed: a number > 0"),
        (["accumulate=8", "model.blocks=[{pool:{kernel:8}},{conv:{out:4,kernel:1}},{fc:{out:8}}]"],
            "batch_size: given 1; allowed with batch norm over a 1 x 1 map: 2 or more, in each part"),
        (["param_groups.rates={neck:2}"], "param_groups.rates: no parameter that learns has the part 'neck'"),
    ],
)  # fmt: skip
def test_one_line_for_a_wrong_option(
    own_losses: None, train: Train, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert train(*words) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("postcards: prepar")]
    assert len(lines) == 1 and said in lines[0]


SMALL = ["model=torchvision", "model.name=shufflenet_v2_x0_5", "model.freeze=backbone", "model.bn=frozen"]


def test_layers_learn_from_their_step_on(plan: Plans) -> None:
    """A frozen weight does not change, has no state of the optimiser, and its Adam begins with its first gradient."""
    more = ["unfreeze={stage4:2st,backbone:1ep}", "optimizer=adamw", "ema.decay=0.5"]
    state, batches, settings = prepared(plan(*SMALL, *more))
    start = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
    assert len(start) > 100

    def changed(until: int) -> set[str]:
        settings.total_steps = until
        fit(state, batches, settings, [])
        tensors = state.model.state_dict().items()
        return {name.partition(".")[0] for name, tensor in tensors if not torch.equal(tensor, start[name])}

    assert changed(2) == {"fc"}
    assert len(state.optimizer.state) == 2
    assert changed(3) == {"fc", "stage4"}
    assert changed(settings.steps_per_epoch) == {"fc", "stage4"}
    assert changed(settings.steps_per_epoch + 2) == {"fc", "stage4", "stage3", "stage2", "conv1", "conv5"}
    steps = {name: int(state.optimizer.state[state.model.get_parameter(name)]["step"]) for name in ("fc.weight", CONV)}
    assert steps == {"fc.weight": settings.steps_per_epoch + 2, CONV: 2}
    assert state.average is not None
    norm = "conv1.1.weight"
    assert torch.equal(state.average.module.state_dict()[norm], start[norm]), "batch norm stays frozen"


CONV = "conv1.0.weight"


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimiser_has_layers_that_learn_later(plan: Plans, optimizer: str) -> None:
    state, batches, settings = prepared(plan(*SMALL, f"optimizer={optimizer}", "unfreeze={backbone:2st}"))
    start = state.model.get_parameter(CONV).clone()
    settings.total_steps = 4
    fit(state, batches, settings, [])
    assert not torch.equal(state.model.get_parameter(CONV), start)


def test_a_layer_that_is_freed_learns_as_one_that_was_never_frozen(plan: Plans) -> None:
    """Without a memory of earlier steps, from the same weights, by the same batch."""
    simple = [*SMALL, "optimizer=sgd", "param_groups.rates={stage4:0.1}"]
    freed, batches, settings = prepared(plan(*simple, "unfreeze={backbone:2st}"))
    settings.total_steps = 2
    fit(freed, batches, settings, [])
    free, _, _ = prepared(plan(*simple[:2], "model.bn=frozen", *simple[4:]))
    free.model.load_state_dict(freed.model.state_dict())
    free.step, settings.total_steps = 2, 3
    fit(freed, batches, settings, [])
    fit(free, batches, settings, [])
    for (name, a), b in zip(freed.model.named_parameters(), free.model.parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([*SMALL, "unfreeze={stage4:0ep}"], "unfreeze.stage4: given '0ep'; allowed: "),
        ([*SMALL, "unfreeze={layer4:1ep}"], "'layer4' matches no frozen weight .* frozen: conv1, stage2, stage3"),
        ([*SMALL, "unfreeze={fc:1ep}"], "'fc' matches no frozen weight"),
        ([*SMALL, "unfreeze={conv1.1:1st}"], r"'conv1.1' matches no frozen weight \(batch norm is left to bn\)"),
        ([*SMALL, "epochs=3", "unfreeze={stage4:3ep}"], "unfreeze.stage4: given 3ep; allowed: less than epochs, 3"),
        ([*SMALL, "epochs=9st", "unfreeze={stage4:9st}"], "unfreeze.stage4: given 9st; allowed: less than epochs, 9st"),
        (["unfreeze={backbone:1ep}"], "frozen: nothing; set model.freeze"),
        ([*SMALL[:2], "model.bn=frozen", "model.freeze=['*']", "unfreeze={fc:1ep}"], "no parameter learns at first"),
    ],
)
def test_what_cannot_be_unfrozen(plan: Plans, given: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(*given)


def test_features_of_a_backbone_that_learns_later_are_not_kept(plan: Plans) -> None:
    assert wanted(plan(*SMALL, "augmentation=none").config)
    assert not wanted(plan(*SMALL, "augmentation=none", "unfreeze={stage4:1ep}").config)
