"""What a training step does: learning, clipping, label smoothing, precision."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from cuts import prepared

from cnnexp.rng import fold
from cnnexp.training import checkpoint
from cnnexp.training import run as runner
from cnnexp.training import setup as start
from cnnexp.training.loop import train_step
from cnnexp.training.plan import Plan
from cnnexp.training.progress import Progress

pytestmark = pytest.mark.integration


def test_it_learns_a_few_images_by_heart(plan: Callable[..., Plan]) -> None:
    easy = [
        "data.num_train=32",
        "data.val_fraction=0",
        "data.size=16",
        "augmentation=none",
        "model.blocks.0.conv.out=16",
    ]
    more = [*easy, "model.dropout={pool:0,fc:0}", "optimizer.lr=0.01", "epochs=40ep"]
    run = runner.run(plan(*more), Progress())
    assert run.info["result"]["train_accuracy"] == 1.0
    assert run.info["result"]["train_loss"] < 0.1


def total_norm(model: torch.nn.Module) -> float:
    """Return the norm of all gradients together, in float64."""
    return float(sum((p.grad.double() ** 2).sum() for p in model.parameters() if p.grad is not None) ** 0.5)


def test_gradients_are_clipped(plan: Callable[..., Plan]) -> None:
    free, batches, settings = prepared(plan("clip_norm=null"))
    clipped, _, bounded = prepared(plan("clip_norm=0.05"))
    for state, own in ((free, settings), (clipped, bounded)):
        train_step(state, batches.at(0), own)
    assert total_norm(free.model) > 0.5
    assert total_norm(clipped.model) == pytest.approx(0.05, rel=1e-4)
    ratio = 0.05 / total_norm(free.model)
    for a, b in zip(free.model.parameters(), clipped.model.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        torch.testing.assert_close(a.grad * ratio, b.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_loss_is_the_smoothed_cross_entropy(plan: Callable[..., Plan], smoothing: float) -> None:
    state, batches, settings = prepared(plan(f"loss.label_smoothing={smoothing}"))
    batch = batches.at(0)
    torch.manual_seed(fold(0, "dropout", 0))
    state.model.train()
    with torch.no_grad():
        log = torch.log_softmax(state.model(batch.images).double(), 1)
    fresh, _, _ = prepared(plan(f"loss.label_smoothing={smoothing}"))
    train_step(fresh, batch, settings)
    target = torch.full_like(log, smoothing / 10)  # Szegedy et al. 2016, section 7
    target[torch.arange(len(log)), batch.labels] += 1 - smoothing
    assert float(fresh.losses[0]) == pytest.approx(float(-(target * log).sum(1).mean()), rel=1e-5)
    plain = -log[torch.arange(len(log)), batch.labels].mean()
    assert float(fresh.shown_losses[0]) == pytest.approx(float(plain), rel=1e-5), "rows show what validation does"
    assert int(fresh.correct[0]) == int((log.argmax(1) == batch.labels).sum())


def test_bfloat16_on_a_cpu(plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    # layers as small as these are as slow in either precision: let none stay in fp32 for it
    monkeypatch.setattr(start, "unfit", lambda *given: [])
    half, full = (runner.run(plan(f"device.precision={p}"), Progress()) for p in ("bf16", "fp32"))
    assert (half.info["device"]["precision"], full.info["device"]["precision"]) == ("bf16", "fp32")
    assert half.folder != full.folder
    logits = [run.predictions()["logits"] for run in (half, full)]
    assert np.isfinite(logits[0]).all() and not np.array_equal(*logits)
    np.testing.assert_allclose(*logits, atol=0.3)
    weights = checkpoint.read(half.folder / "checkpoints" / "best.pt")["model"]
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32, torch.int64}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_an_epoch_never_waits_for_the_device(plan: Callable[..., Plan]) -> None:
    state, batches, settings = prepared(plan("device=cuda", "device.precision=bf16", "device.data_on_device=true"))
    for step in range(2):  # kernels are loaded, which waits
        train_step(state, batches.at(step), settings)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(2, 4):
            train_step(state, batches.at(step), settings)
    finally:
        torch.cuda.set_sync_debug_mode(before)
