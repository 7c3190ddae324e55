"""What the report says of probes: thresholds, since when, on the page only where there are any; no row is fatal."""

from pathlib import Path
from typing import Any

import pytest
from fake_records import write_run

from cnnexp import report, storage
from cnnexp.records.run_record import RunRecord
from cnnexp.report.analysis import diagnostics
from cnnexp.report.read.collect import collect, find_groups
from cnnexp.report.read.probes import Probes, read_probes
from cnnexp.report.render.probe_table import diagnostics as table

STEPS = 70  # an epoch, as in fake_records


def add(run: RunRecord, kind: str, layer: str, values: list[Any], column: str, **more: Any) -> None:
    """Append a row an epoch: `column` has these values."""
    for epoch, value in enumerate(values, 1):
        row = {"epoch": epoch, "step": STEPS * epoch, "kind": kind, "layer": layer, "type": "", **more}
        run.append_probe(**row, **{column: value})


def seen(folder: Path) -> Probes:
    """Read the one arm of a folder."""
    (arm,) = collect(*find_groups(folder)[0]).arms
    found = read_probes(arm)
    assert found is not None
    return found


@pytest.fixture
def run(tmp_path: Path) -> RunRecord:
    """Return a run whose figures are quickly drawn."""
    run = write_run(tmp_path, "dropout", 0, 0.6, classes=["a", "b"])
    run.keep_rows(0)
    return run


def test_dead_units_are_told_from_the_epoch_on_that_they_stay(run: RunRecord) -> None:
    for layer, after, dead in (
        ("act1", "conv1", [0, 0, 0]),
        ("act2", "conv2", [30, 5, 30]),  # of 100: comes back
        ("act3", "conv3", [5, 20, 41]),
        ("act4", "fc1", [50, 9, 10]),  # 10 % is not more than 10 %
    ):
        add(run, "dead_units", layer, dead, "dead", after=after, units=100)
    assert diagnostics.sentences(seen(run.folder)) == [
        "conv3: more than 10 % of its units are dead from epoch 2, 41 % at the end.",
        "conv2: more than 10 % of its units are dead from epoch 3, 30 % at the end.",
        "fc1: 50 % of its units are dead in epoch 1, no longer more than 10 % at the end.",
    ]


def test_many_layers_are_named_in_one_sentence(run: RunRecord) -> None:
    for i in range(6):
        add(run, "dead_units", f"relu{i}", [20 + i], "dead", units=100, after="")
    told = diagnostics.sentences(seen(run.folder))
    assert [line[:5] for line in told[:3]] == ["relu5", "relu4", "relu3"]
    assert told[3:] == ["The same threshold is crossed by 3 more: relu2, relu1, relu0."]


def test_vanishing_gradients_spikes_and_what_is_not_finite(run: RunRecord) -> None:
    add(run, "gradient", "conv1", [2e-3, 1.9e-3, 1.9e-3], "norm", numbers=4, not_finite=0)  # per weight: half of it
    add(run, "gradient", "norm1", [1e-9] * 3, "norm", numbers=4, not_finite=0, type="BatchNorm2d")
    add(run, "gradient", "head", [1.0, 1.0, 20.0], "norm", numbers=1, not_finite=0)
    run.append_probe(
        epoch=2, step=2 * STEPS, kind="gradient", layer="odd", type="", norm=float("nan"), not_finite=3, numbers=4
    )
    assert diagnostics.sentences(seen(run.folder)) == [
        "conv1: its gradient per weight is less than 1 / 1,000 of the largest from epoch 2, 1 / 21,053 at the end: it "
        "vanishes.",
        "odd: gradients that are not finite in epoch 2.",
        "The gradient's norm is 20 in epoch 3, 20 times the run's median.",
    ]


@pytest.mark.parametrize(
    ("kind", "column", "value", "told"),
    [
        (
            "update",
            "ratio",
            2e-6,
            "a step changes it by less than 1e-05 of its norm from epoch 1, 2e-06 at the end",
        ),
        ("update", "ratio", 0.25, "a step changes it by more than 0.1 of its norm from epoch 1, 0.25 at the end: the"),
        ("update", "ratio", 1e-3, None),
        ("update", "ratio", None, None),
        ("batch_norm", "mean_shift", 0.7, "the validation means are more than 0.5 standard deviations from"),
        ("batch_norm", "mean_shift", 0.5, None),
        (
            "batch_norm",
            "variance_ratio",
            3.0,
            "the validation variances differ from its running ones by a factor of more than 2 from epoch 1",
        ),
        ("batch_norm", "variance_ratio", 1.9, None),
    ],
)
def test_thresholds(run: RunRecord, kind: str, column: str, value: float | None, told: str | None) -> None:
    add(run, kind, "layer", [value], column)
    said = diagnostics.sentences(seen(run.folder))
    assert said == [] if told is None else (len(said) == 1 and said[0].startswith(f"layer: {told}"))


def test_seeds_are_averaged(tmp_path: Path) -> None:
    for seed, dead in ((0, 10), (1, 30)):
        add(write_run(tmp_path, "dropout", seed, 0.6), "dead_units", "act1", [dead], "dead", after="conv1", units=100)
    found = seen(tmp_path / "demo")
    assert found.seeds == 2
    assert diagnostics.sentences(found) == [
        "conv1: more than 10 % of its units are dead from epoch 1, 20 % at the end."
    ]
    assert table([found]).cells == [["dropout", "2", "20 (conv1)", "-", "-", "-", "-"]]


def test_the_norm_of_the_whole_gradient_is_the_mean_of_the_seeds(tmp_path: Path) -> None:
    for seed, norms in ((0, (3.0, 4.0)), (1, (0.0, 1.0))):
        run = write_run(tmp_path, "dropout", seed, 0.6)
        for layer, norm in zip(("conv1", "head"), norms, strict=True):
            add(run, "gradient", layer, [norm], "norm", numbers=4, not_finite=0)
    assert seen(tmp_path / "demo").total_norm() == {STEPS: (5.0 + 1.0) / 2}


def test_sentences_on_updates_are_of_the_layers_in_the_figure(run: RunRecord) -> None:
    add(run, "update", "conv1", [1e-3], "ratio", type="Conv2d")
    add(run, "update", "norm1", [0.5], "ratio", type="BatchNorm2d")
    found = seen(run.folder)
    assert list(found.updates()) == ["conv1"]
    assert diagnostics.sentences(found) == []
    assert table([found]).cells[0][4] == "1.0e-03"


def test_histograms_are_added_up_and_shared_out(tmp_path: Path) -> None:
    for seed, counts in ((0, [10, 30]), (1, [10, 0])):
        run = write_run(tmp_path, "dropout", seed, 0.6)
        add(run, "gradient", "conv1", [1.0], "norm", numbers=50, zeros=0, not_finite=0, first=-3, counts=counts)
    steps, shares = seen(tmp_path / "demo").histograms("gradient")["conv1"]
    assert steps == [STEPS] and shares[126 - 3 : 126 - 1, 0].tolist() == [0.2, 0.3] and shares.sum() == 0.5


@pytest.mark.integration
def test_the_page_has_diagnostics_only_of_runs_with_probes(run: RunRecord) -> None:
    page = report.write(run.folder).index
    assert "Diagnostics" not in page.read_text()
    histogram = {"numbers": 100, "zeros": 50, "not_finite": 0, "first": -3, "counts": [30, 20]}
    add(run, "gradient", "conv1", [1.0, 1.0], "norm", **histogram)
    add(run, "update", "conv1", [1e-3, 1e-3], "ratio")
    add(run, "activation", "act1", [0.5, 0.5], "mean", after="conv1", **histogram)
    add(run, "dead_units", "act1", [5, 20], "dead", after="conv1", units=100)
    add(run, "batch_norm", "norm1", [0.1, 0.2], "mean_shift", variance_ratio=1.5)
    page = report.write(run.folder).index
    text = page.read_text()
    assert '<section id="diagnostics">' in text and 'href="#diagnostics"' in text
    told = "conv1: more than 10 % of its units are dead from epoch 2, 20 % at the end."
    assert told in text
    drawn = {file.name for file in (page.parent / "figures").glob("probes_*.svg")}
    assert drawn == {f"probes_{n}_dropout.svg" for n in diagnostics.FIGURES}
    assert all(text.count(f"figures/{name}") == 1 for name in drawn), "each is shown once, in its own section"
    assert told in (page.parent / "tables" / "diagnostics.md").read_text()
    plain = report.write(run.folder, figures=False).index.read_text()
    assert told in plain and "probes_" not in plain


@pytest.mark.integration
def test_rows_that_make_no_sense_are_left_out(run: RunRecord) -> None:
    good: dict[str, Any] = {"epoch": 1, "step": STEPS, "kind": "dead_units", "layer": "act1", "units": 4, "dead": 1}
    odd: list[Any] = [None, "x", [], {}, True, -1, 0, float("nan"), float("inf"), 10**400, {"a": [1]}]
    rows = [{**good, key: value} for key in good for value in odd]
    histogram = {**good, "kind": "gradient", "norm": 1.0, "numbers": 4, "first": 0, "counts": [1, 3]}
    rows += [{**histogram, key: value} for key in histogram for value in [*odd, [10**400], [None], ["x"], [-5]]]
    rows += [{**histogram, "kind": kind} for kind in ("update", "batch_norm", "activation", "other")]
    rows += [{}, {"kind": "gradient"}, {**histogram, "first": 10**9}, {**histogram, "counts": [1] * 999}]
    for row in rows:
        run.append_probe(**row)
    storage.append_text(run.folder / "probes.jsonl", '{"torn": ')
    text = report.write(run.folder).index.read_text()
    assert '<section id="diagnostics">' in text
