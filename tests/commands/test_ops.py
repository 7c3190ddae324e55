"""`cnnexp ops`: the table of the operations, and the error for a wrong name."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cnnexp.commands import ops
from cnnexp.reference import OPERATIONS, comparison
from cnnexp.reference.catalogue import catalogue
from cnnexp.reference.comparison import Row, compare, median_seconds

Cnnexp = Callable[..., tuple[int, str, str]]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure each time once."""
    monkeypatch.setattr(ops, "TIMING_SECONDS", 0.0)


@pytest.mark.integration
def test_one_operation(cnnexp: Cnnexp) -> None:
    code, out, err = cnnexp("ops", "conv")
    lines = [line.split() for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert lines[0] == ["operation", "implementation", "difference", "ms", "torch", "times", "on"]
    assert [line[:2] for line in lines[1:3]] == [["conv", "loops"], ["conv", "im2col"]]
    assert all(0 < float(line[2]) < 1e-12 for line in lines[1:3])
    assert out.splitlines()[1].endswith("1x3x31x31, 25x3x3x3, 25, stride 2, padding 1")
    assert lines[3][:5] == ["conv:", "loops", "takes", lines[3][3], "times"]
    assert float(lines[3][3].replace(",", "")) > 20, "loops are slow: hundreds of times on an idle machine"
    assert f"torch {torch.__version__}" in out


@pytest.mark.integration
@pytest.mark.usefixtures("quick")
def test_all_operations_are_torchs(cnnexp: Cnnexp) -> None:
    found = json.loads(cnnexp("ops", "--json")[1])
    rows: list[dict[str, Any]] = found["rows"]
    assert list(dict.fromkeys(row["operation"] for row in rows)) == list(OPERATIONS)
    assert {"device", "threads", "torch"} < set(found)
    ways = {(row["operation"], row["implementation"]) for row in rows}
    assert {("conv", "loops"), ("conv", "im2col"), ("batch_norm", "graph"), ("batch_norm", "simplified")} < ways
    for row in rows:
        assert row["difference"] < 1e-11, row
        assert 0 < row["seconds"] < 60 and 0 < row["torch_seconds"] < 60, row


@pytest.mark.usefixtures("quick")
def test_a_wrong_operation_is_reported(cnnexp: Cnnexp, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = catalogue()["relu"]
    for wrong in (lambda y: 1.01 * y, lambda y: y / 0):
        broken = honest._replace(implementations={"broken": lambda z, wrong=wrong: wrong(honest.torch(z))})
        monkeypatch.setattr("cnnexp.reference.catalogue.catalogue", lambda broken=broken: {"relu": broken})
        code, _, err = cnnexp("ops", "relu")
        assert (code, err) == (3, "cnnexp: differ from torch: relu (broken)\n")


def test_an_unknown_name_is_reported_in_one_line(cnnexp: Cnnexp) -> None:
    code, out, err = cnnexp("ops", "conv", "batchnorm")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("cnnexp: ops: unknown operation 'batchnorm'; choose one of conv, filter, ")
    assert err.endswith("(did you mean 'batch_norm'?)\n")


def test_an_unknown_name_needs_no_torch() -> None:
    code = "import sys; from cnnexp.cli import main; sys.exit(main(['ops', 'convv']) != 2 or 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0 and "did you mean 'conv'?" in done.stderr


@pytest.mark.slow
def test_the_compiler_is_not_imported() -> None:
    code = "import sys; from cnnexp.cli import main; sys.exit(main(['ops']) or 'torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_a_time_is_a_median_without_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0, 9, 10, 11, 20, 23, 30, 32])  # calls of 9, 1, 3 and 2 seconds
    monkeypatch.setattr(comparison, "perf_counter", lambda: next(ticks))
    assert median_seconds(lambda: None, 15) == 2
    ticks = iter([0, 9])
    monkeypatch.setattr(comparison, "perf_counter", lambda: next(ticks))
    assert median_seconds(lambda: None, 0) == 9


def test_the_table_compares_the_implementations_with_each_other() -> None:
    rows = [
        Row("conv", "loops", "2x3", 1e-15, 2.0, 0.001),
        Row("conv", "im2col", "2x3", 2e-15, 0.004, 0.001),
        Row("relu", "formula", "4", 0.0, 0.001, 0.002),
    ]
    head, *lines = ops.as_table(rows).splitlines()
    ends = [line.index(word) + len(word) for line, word in zip([head, *lines], ["ms", "2000.00", "4.00"], strict=False)]
    assert len(set(ends)) == 1, "numbers end where their heading does"
    assert lines[0].split()[3:6] == ["2000.00", "1.00", "2,000"] and lines[2].split()[5] == "0.5"
    assert lines[3:] == ["conv: loops takes 500 times as long as im2col"]


def test_a_comparison_has_a_row_for_each_implementation() -> None:
    operation = catalogue()["layer_norm"]
    (row,) = compare("layer_norm", operation, 0.0)
    assert (row.operation, row.implementation, row.measured_on) == ("layer_norm", "formula", "128x1024, 1024, 1024")
    assert row.seconds > 0 < row.torch_seconds
