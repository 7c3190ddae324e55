"""Schedules against torch's, step by step; optimisers against torch's with the same settings, to rounding."""

import copy
import gc
import inspect
import math
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.optim import lr_scheduler

from cnnexp.config import signature
from cnnexp.errors import UserError
from cnnexp.optim import optimizers, schedules
from cnnexp.optim.lean import lean
from cnnexp.optim.schedules import Schedule, TorchSchedule
from cnnexp.training import build

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LR = 0.3
EPOCHS, STEPS = 6, 7  # epochs of so many steps
TOTAL = EPOCHS * STEPS


def optimizer(lr: float = LR) -> torch.optim.Optimizer:
    """Return an optimiser of two groups, the second of which has a third of the learning rate."""
    first, second = (torch.nn.Parameter(torch.ones(size)) for size in (2, 3))
    groups = [{"params": [first]}, {"params": [second], "lr": lr / 3}]
    return torch.optim.SGD(groups, lr=lr, momentum=0.9)


def rates(schedule: Schedule) -> list[float]:
    """Return the learning rate of the first group at every step, and check the second's."""
    found = []
    for step in range(TOTAL):
        schedule.before_step(step)
        first, second = (group["lr"] for group in schedule.optimizer.param_groups)
        assert second == pytest.approx(first / 3, rel=1e-12)
        assert schedule.learning_rate == first
        found.append(first)
        schedule.optimizer.step()
        if (step + 1) % STEPS == 0:
            schedule.after_epoch(1.0)
    return found


def torch_rates(make: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler], lr: float = LR) -> list[float]:
    """Return the learning rate of the first group at every step, as torch's scheduler sets it."""
    own = optimizer(lr)
    scheduler = make(own)
    found = []
    for _ in range(TOTAL):
        found.append(own.param_groups[0]["lr"])
        own.step()
        scheduler.step()
    return found


def same(schedule: Schedule, expected: list[float]) -> None:
    """Compare a schedule's learning rates with the expected ones, at every step."""
    assert rates(schedule) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_constant() -> None:
    assert rates(schedules.constant(optimizer(), STEPS, "0ep")) == [LR] * TOTAL


@pytest.mark.parametrize("warmup", ["1ep", "10st", 2])
def test_warmup_is_linear(warmup: int | str) -> None:
    rise = signature.steps(warmup, STEPS)
    schedule = schedules.constant(optimizer(), STEPS, warmup)
    same(schedule, torch_rates(lambda own: lr_scheduler.LambdaLR(own, lambda step: min((step + 1) / rise, 1.0))))


@pytest.mark.parametrize(("every", "period"), [("2ep", 14), ("10st", 10), (1, 7)])
def test_step(every: int | str, period: int) -> None:
    schedule = schedules.step(optimizer(), STEPS, every, 0.1, "0ep")
    same(schedule, torch_rates(lambda own: lr_scheduler.StepLR(own, period, gamma=0.1)))


@pytest.mark.parametrize("floor", [0.0, 0.1, 1.0])
def test_cosine(floor: float) -> None:
    schedule = schedules.cosine(optimizer(), TOTAL, STEPS, floor, "0ep")
    curve = lambda step: floor + (1 - floor) * (1 + math.cos(math.pi * step / TOTAL)) / 2  # noqa: E731
    same(schedule, torch_rates(lambda own: lr_scheduler.LambdaLR(own, curve)))
    if floor == 0.0:  # torch's own has one floor for all groups, so that only 0 is the same for both
        same(schedule, torch_rates(lambda own: lr_scheduler.CosineAnnealingLR(own, TOTAL)))


def test_warmup_then_cosine() -> None:
    def chained(own: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        rise = lr_scheduler.LinearLR(own, 1 / STEPS, 1.0, STEPS - 1)
        fall = lr_scheduler.CosineAnnealingLR(own, TOTAL - STEPS)
        return lr_scheduler.SequentialLR(own, [rise, fall], [STEPS])

    same(schedules.cosine(optimizer(), TOTAL, STEPS, 0.0, "1ep"), torch_rates(chained))


@pytest.mark.parametrize("rise", [0.3, 0.1, 0.5])
def test_onecycle(rise: float) -> None:
    def one_cycle(own: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        peaks = [LR, LR / 3]
        return lr_scheduler.OneCycleLR(own, peaks, TOTAL, pct_start=rise, cycle_momentum=False)

    same(schedules.onecycle(optimizer(), TOTAL, rise, 1 / 25, 1 / 25 / 1e4), torch_rates(one_cycle))


@pytest.mark.parametrize("total", [2, 3, 7, 10])
@pytest.mark.parametrize("rise", [0.0, 0.05, 0.3, 0.9, 0.99])
def test_onecycle_of_few_steps_is_torchs(total: int, rise: float) -> None:
    own, theirs = optimizer(), torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    schedule = schedules.onecycle(own, total, rise, 1 / 25, 1 / 25 / 1e4)
    scheduler = lr_scheduler.OneCycleLR(theirs, LR, total, pct_start=rise, cycle_momentum=False)
    for step in range(total):
        schedule.before_step(step)
        assert own.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-9, abs=1e-12)
        theirs.step()
        scheduler.step()


def test_onecycle_config_is_torchs_default() -> None:
    node = yaml.safe_load((CONFIGS / "scheduler" / "onecycle.yaml").read_text())
    assert (node["rise"], node["start"], node["end"]) == (0.3, 1 / 25, 1 / 25 / 1e4)


@pytest.mark.parametrize("total", [1, 2, 3])
@pytest.mark.parametrize("rise", [0.0, 0.3, 0.9])
def test_a_cycle_of_few_steps_stays_in_bounds(total: int, rise: float) -> None:
    schedule = schedules.onecycle(optimizer(), total, rise, 0.04, 0.0)
    for step in range(total):
        schedule.before_step(step)
        assert 0 <= schedule.learning_rate <= LR * (1 + 1e-12)


LOSSES = [
    [3, 2, 1, 1, 1, 1, 1, 1, 0.5, 0.5],
    [1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    [1, 0.9999, 0.9998, 2, 0.99, 3, 3, 3, 3, 3],
]


@pytest.mark.parametrize("losses", LOSSES)
@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("threshold", [1e-4, 0.0, 0.3])
def test_plateau(losses: list[float], patience: int, threshold: float) -> None:
    own, other = optimizer(), optimizer()
    schedule = schedules.plateau(own, STEPS, 0.1, patience, threshold, 0.0, "0ep")
    reference = lr_scheduler.ReduceLROnPlateau(other, factor=0.1, patience=patience, threshold=threshold, eps=0.0)
    for epoch, loss in enumerate(losses):
        schedule.before_step(epoch * STEPS)
        assert schedule.learning_rate == pytest.approx(other.param_groups[0]["lr"], rel=1e-12)
        schedule.after_epoch(loss)
        reference.step(loss)


@pytest.mark.parametrize("threshold", [1e-4, 0.0, 0.3])
def test_plateau_of_a_metric_that_should_rise(threshold: float) -> None:
    own, other = optimizer(), optimizer()
    schedule = schedules.plateau(own, STEPS, 0.1, 1, threshold, 0.0, "0ep", "f1")
    reference = lr_scheduler.ReduceLROnPlateau(other, mode="max", factor=0.1, patience=1, threshold=threshold, eps=0.0)
    for epoch, value in enumerate([0.1, 0.5, 0.5, 0.50001, 0.4, 0.6, 0.9, 0.9, 0.2, 0.1, 0.1]):
        schedule.before_step(epoch * STEPS)
        assert schedule.learning_rate == pytest.approx(other.param_groups[0]["lr"], rel=1e-12)
        schedule.after_epoch(value)
        reference.step(value)


def test_plateau_has_a_floor_and_a_state() -> None:
    def make() -> Schedule:
        return schedules.plateau(optimizer(), STEPS, 0.1, 0, 1e-4, 0.02, "1ep")

    schedule = make()
    found = []
    for epoch in range(5):
        schedule.after_epoch(1.0)
        resumed = make()
        resumed.load_state_dict(copy.deepcopy(schedule.state_dict()))
        for one in (schedule, resumed):
            one.before_step(STEPS + epoch)
        assert resumed.learning_rate == schedule.learning_rate
        found.append(schedule.learning_rate / LR)
    assert found == pytest.approx([1.0, 0.1, 0.02, 0.02, 0.02])
    schedule.before_step(0)
    assert schedule.learning_rate == pytest.approx(LR * 0.02 / STEPS), "the warm-up is scaled, too"


def test_torchs_schedulers_are_stepped_once_per_epoch() -> None:
    own, other = optimizer(), optimizer()
    schedule = TorchSchedule(own, lr_scheduler.ExponentialLR(own, 0.5), every_step=False)
    assert rates(schedule) == [LR * 0.5 ** (step // STEPS) for step in range(TOTAL)]
    stalling = TorchSchedule(other, lr_scheduler.ReduceLROnPlateau(other, factor=0.5, patience=1), every_step=False)
    assert rates(stalling) == [LR * (1, 1, 1, 0.5, 0.5, 0.25)[step // STEPS] for step in range(TOTAL)]


def test_schedules_are_pure_functions_of_the_step() -> None:
    schedule = schedules.cosine(optimizer(), TOTAL, STEPS, 0.0, "1ep")
    expected = rates(schedule)
    for step in (20, 3, 41, 0, 20):
        schedule.before_step(step)
        assert schedule.learning_rate == expected[step]
    assert schedule.state_dict() == {}


SETTINGS: list[tuple[str, dict[str, Any], Callable[..., torch.optim.Optimizer]]] = [
    ("adam", {"lr": 0.01, "betas": [0.8, 0.9], "eps": 1e-6, "weight_decay": 0.1}, torch.optim.Adam),
    ("adamw", {"lr": 0.01, "betas": [0.8, 0.9], "eps": 1e-6, "weight_decay": 0.1}, torch.optim.AdamW),
    ("sgd", {"lr": 0.01, "momentum": 0.0, "nesterov": False, "weight_decay": 0.1}, torch.optim.SGD),
    ("sgd", {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0}, torch.optim.SGD),
    ("rmsprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-6, "momentum": 0.5, "weight_decay": 0.1}, torch.optim.RMSprop),
    ("adagrad", {"lr": 0.1, "lr_decay": 0.01, "eps": 1e-6, "weight_decay": 0.1}, torch.optim.Adagrad),
]


@pytest.mark.parametrize(("name", "settings", "reference"), SETTINGS)
def test_optimizers_are_torchs(
    name: str, settings: dict[str, Any], reference: Callable[..., torch.optim.Optimizer]
) -> None:
    start = [torch.linspace(-1, 1, 12).reshape(3, 4), torch.linspace(0.5, 2, 5)]
    mine, theirs = ([torch.nn.Parameter(t.clone()) for t in start] for _ in range(2))
    own = getattr(optimizers, name)(iter(mine), **settings)
    other = reference(theirs, **settings)
    for step in range(20):
        for params, one in ((mine, own), (theirs, other)):
            one.zero_grad()
            loss = sum(((p - 0.3) ** 2 * (step % 3 + 1)).sum() + p.sin().sum() for p in params)
            loss.backward()  # type: ignore[union-attr]
            one.step()
    for a, b, before in zip(mine, theirs, start, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)
        assert not torch.allclose(a, before, atol=1e-2), "it did move"


@pytest.mark.parametrize("file", sorted((CONFIGS / "optimizer").glob("*.yaml")), ids=lambda file: file.stem)
def test_default_settings_are_torchs_except_the_learning_rate(file: Path) -> None:
    node = yaml.safe_load(file.read_text())
    name = file.stem.removeprefix("reference_")
    if name == "momentum":  # what it changes of plain SGD is its very point
        return
    reference = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop", "adagrad": "Adagrad"}[name]
    defaults = inspect.signature(getattr(torch.optim, reference)).parameters
    for key, value in node.items():
        if key not in ("_target_", "lr"):
            default = defaults[key].default
            assert value == (list(default) if isinstance(default, tuple) else default), key


def test_nesterov_needs_momentum() -> None:
    node = {"nesterov": True, "momentum": 0.0}
    with pytest.raises(UserError, match=r"optimizer\.nesterov: given true .* needs momentum > 0"):
        optimizers.sgd.check("optimizer", node, {})  # type: ignore[attr-defined]
    optimizers.sgd.check("optimizer", {**node, "momentum": 0.5}, {})  # type: ignore[attr-defined]


@pytest.mark.parametrize(("total", "rise"), [(10, 0.1), (1, 0.3), (1, 0.0), (2, 0.99)])
def test_onecycle_of_a_few_steps(total: int, rise: float) -> None:
    """One step, and a rise of exactly one step (by which torch's divides by zero), have the rate of the peak."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = schedules.onecycle(optimizer, total, rise, 0.04, 0.0)
    rates = []
    for step in range(total):
        schedule.before_step(step)
        rates.append(schedule.learning_rate)
    assert all(0 <= rate <= 0.1 for rate in rates)
    assert max(rates) == pytest.approx(0.1) or rise * total > 1


def test_torchs_schedulers_count_epochs() -> None:
    node = {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 0.1}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = build.build_schedule({"scheduler": node}, optimizer, total_steps=150, steps_per_epoch=10)
    rates = []
    for _ in range(14):
        optimizer.step()
        schedule.after_epoch(1.0)
        rates.append(schedule.learning_rate)
    assert max(rates) > 0.099 and rates[-1] < 0.001, "15 epochs see the whole cycle"


@pytest.mark.parametrize(
    ("scheduler", "settings", "refused"),
    [
        ("OneCycleLR", {"max_lr": 0.1}, True),
        ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "cycle_momentum": False}, True),
        ("CosineAnnealingLR", {"T_max": 5}, False),
        ("LinearLR", {"start_factor": 0.01}, False),
    ],
)
def test_a_scheduler_that_undoes_the_rates_of_groups_is_refused(
    scheduler: str, settings: dict[str, Any], refused: bool
) -> None:
    node = {"_target_": f"torch.optim.lr_scheduler.{scheduler}", **settings}
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 0.05)]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    if not refused:
        build.build_schedule({"scheduler": node}, optimizer, total_steps=150, steps_per_epoch=10)
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert first == pytest.approx(2 * second)
        return
    with pytest.raises(UserError, match=f"param_groups: {scheduler} gives all groups the same learning rate"):
        build.build_schedule({"scheduler": node}, optimizer, total_steps=150, steps_per_epoch=10)


@pytest.mark.parametrize("cut", [1, 2, 7])
def test_a_schedule_in_steps_resumes(cut: int) -> None:
    def made() -> tuple[torch.optim.Optimizer, TorchSchedule]:
        own = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        return own, TorchSchedule(own, lr_scheduler.ExponentialLR(own, 0.5), every_step=True)

    def rates(own: torch.optim.Optimizer, schedule: TorchSchedule, steps: range) -> list[float]:
        found = []
        for step in steps:
            schedule.before_step(step)
            own.step()
            found.append(schedule.learning_rate)
        return found

    whole = rates(*made(), range(10))
    assert whole == [0.1 * 0.5**step for step in range(10)]
    own, schedule = made()
    begun = rates(own, schedule, range(cut))
    resumed, going_on = made()
    resumed.load_state_dict(own.state_dict())
    going_on.load_state_dict(schedule.state_dict())
    assert [*begun, *rates(resumed, going_on, range(cut, 10))] == whole


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "RMSprop", "Adagrad"])
def test_a_lean_step_is_torchs(name: str) -> None:
    """The wrappers that are left out change no bit of a step, and torch's schedulers go with it."""
    weights = []
    for make_lean in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Linear(5, 3)
        own = getattr(torch.optim, name)(model.parameters(), lr=0.1)
        if make_lean:
            wrapped = type(own).step
            assert type(lean(own)).step is not wrapped
            own.load_state_dict(own.state_dict())
            assert vars(type(own).step)["__wrapped__"] is inspect.unwrap(wrapped), "not wrapped again"
        scheduler = lr_scheduler.StepLR(own, 2)
        for _ in range(4):
            own.zero_grad()
            model(torch.ones(2, 5)).square().sum().backward()
            own.step()
            scheduler.step()
        weights.append(model.weight.detach().clone())
    assert torch.equal(*weights)
    assert not torch.equal(weights[0], torch.nn.Linear(5, 3).weight)


def test_a_lean_optimizer_is_freed_with_its_run() -> None:
    """The workers of a sweep make many runs: what an earlier one leaves on a GPU would count as the next one's."""
    gc.collect()
    gc.disable()
    try:
        own = lean(torch.optim.Adam(torch.nn.Linear(5, 3).parameters()))
        own.step()
        left = weakref.ref(own)
        del own
        assert left() is None
    finally:
        gc.enable()


@pytest.mark.integration
def test_training_does_not_import_torchs_compiler(tmp_path: Path) -> None:
    code = (
        "import sys; from cnnexp.cli import main; "
        "assert main(['train', 'epochs=2st', 'data.num_train=60', 'data.num_test=20', 'data.size=8']) == 0; "
        "assert 'torch' in sys.modules; assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, timeout=120)
