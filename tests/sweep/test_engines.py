"""The engine that docs/engines.md shows is one."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnnexp.sweep import launcher
from cnnexp.training.plan import Plan

DOCS = Path(__file__).parents[2] / "docs" / "engines.md"


@pytest.mark.skipif(not DOCS.exists(), reason="needs the repository")
def test_the_documented_engine_makes_runs(plan: Callable[..., Plan], capfd: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    plans = [plan(f"seed={seed}", "epochs=1st", "study.arm=a") for seed in range(3)]
    engine = names["OneProcessEach"](2)
    assert launcher.make(plans, engine) == 0
    assert {one.record().status for one in plans} == {"done"}
    assert engine.running == {}
    assert "3 runs, 0 done before, on 2 slot(s), a process for each run" in capfd.readouterr().out
    assert launcher.make([*plans, plan("seed=3", "epochs=1st", "study.arm=a")], engine) == 0
    assert "4 runs, 3 done before" in capfd.readouterr().out
