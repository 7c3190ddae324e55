"""Progress bars show what is recorded."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from cnnexp.training import run as runner
from cnnexp.training.plan import Plan
from cnnexp.training.progress import Bars, Progress, resumed_line

pytestmark = pytest.mark.integration


def test_bars_show_what_is_recorded(plan: Callable[..., Plan], capsys: pytest.CaptureFixture[str]) -> None:
    bars = Bars()
    bars.REFRESH_SECONDS = 0.0
    record = runner.run(plan(), bars)
    told = capsys.readouterr()
    for row in record.rows(split="val"):
        assert f"epoch {row['epoch']}/3" in told.out and f"val loss {row['loss']:.3f}" in told.out
    assert "3/3" in told.err, "the bar of the epochs ends full"
    assert bars.epochs.disable and bars.steps.disable, "closed"


def test_a_run_that_continues_says_where() -> None:
    settings = SimpleNamespace(steps_per_epoch=4, epochs=4)
    steps = {0: "", 4: "continues after epoch 1 of 4", 6: "continues after step 2 of epoch 2 of 4"}
    assert {step: resumed_line(settings, SimpleNamespace(step=step)) for step in steps} == steps


def test_the_score_that_chooses_the_epoch_is_shown(plan: Callable[..., Plan]) -> None:
    record = runner.run(plan("monitor=f1"), Progress())
    log = (record.folder / "train.log").read_text()
    for row in record.rows(split="val"):
        assert f"val accuracy {row['accuracy']:6.1%}  val f1 {row['f1']:6.1%}" in log
