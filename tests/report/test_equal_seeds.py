"""Values that are the same at every seed: no interval of width 0, which would look like certainty."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
from consistent_study import make_consistent
from fake_records import write_run
from recomputed.check import wrong

from cnnexp import report, storage
from cnnexp.export.card import _of_seeds
from cnnexp.report.analysis.calibration import sentence
from cnnexp.report.analysis.compare import sentences
from cnnexp.report.analysis.findings import Findings, analyse
from cnnexp.report.analysis.statistics import Estimate, estimate
from cnnexp.report.figures import images
from cnnexp.report.read.collect import collect, find_groups
from cnnexp.report.render import formats
from cnnexp.report.render.answer import NOT_NONE, SAME, answer
from cnnexp.report.render.plot_data import page_data
from cnnexp.report.verify import check

pytestmark = pytest.mark.integration

BASE = [0.5, 0.52, 0.51, 0.53]
CLAIMS = ["up > baseline", "flat - baseline > 1 points", "up - baseline > 4 points"]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Write a study: "up" gains the same at every seed, "same" nothing, and "flat" has one accuracy at all seeds."""
    arms = {"baseline": BASE, "up": [x + 0.02 for x in BASE], "same": BASE, "flat": [0.6] * 4}
    entries = []
    for arm, values in arms.items():
        for seed, accuracy in enumerate(values):
            run = write_run(tmp_path, arm, seed, accuracy, images=200)
            entries.append({"folder": run.folder.name, **{k: run.info[k] for k in ("arm", "seed", "fingerprint")}})
    make_consistent(tmp_path, {})
    content = {"name": "demo", "baseline": "baseline", "arms": [*arms], "runs": entries, "question": ""}
    storage.write_json(tmp_path / "demo" / "study.json", {**content, "plan": {"seeds": [0, 1, 2, 3]}, "claims": CLAIMS})
    return tmp_path / "demo"


def found_of(folder: Path) -> Findings:
    ((_, records),) = find_groups(folder)
    return analyse(collect(folder, records))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.1] * 5, "all 5 seeds equal"),
        ([0.3, 0.1 + 0.2], "both seeds equal"),
        ([0.1], ""),
        ([], ""),
        ([0.1, 0.1, 0.1001], ""),
    ],
)
def test_equal_values_are_said_to_be_equal(values: list[float], said: str) -> None:
    found = estimate(values)
    assert found.all_equal == said
    if said:
        assert formats.interval(found) == formats.limits(found, "points") == said
        assert formats.points(found) == f"{100 * values[0]:+.2f} ({said})"
    assert Estimate(5, 0.1, 0.1, 0.1, math.nan, 0.0, folds=5).all_equal == "all 5 folds equal"


def test_no_interval_of_width_0_is_shown(study: Path) -> None:
    made = report.write(study, figures=False)
    page, tables = made.index.read_text(), study / "report" / "tables"
    texts = [made.terminal, page, *((tables / f"{name}.md").read_text() for name in ("comparison", "claims"))]
    for text in texts:
        assert "all 4 seeds equal" in text
        assert not any(f"{x}, {x}]" in text or f"{x} to {x}" in text for x in ("+2.00", "60.00", "+0.00"))
    with open(tables / "comparison.csv", newline="") as file:
        up = next(row for row in csv.DictReader(file) if row["arm"] == "up")
    for end in ("low", "high"):
        assert float(up[f"difference_{end}95_points"]) == pytest.approx(2.0)
    assert check(study, study / "report").wrong == [] and wrong(study) == []
    assert "no spread: all seeds are equal, and a t-test needs values that vary." in made.terminal
    assert "too few for a verdict" not in made.terminal


def test_the_first_screen_says_why_it_is_not_decided(study: Path) -> None:
    found = found_of(study)
    said = answer(found)
    assert said.forest is not None
    bars = {bar.label: bar for bar in said.forest.bars}
    assert bars["up"].interval == bars["same"].interval == "all 4 seeds equal" and math.isnan(bars["up"].width)
    assert bars["up"].verdict == "not decided (n\u00a0=\u00a04, no spread)" and bars["flat"].width > 0
    assert SAME in said.explained and NOT_NONE not in said.explained
    up = next(line for line in sentences(found.study, found.rows) if line.startswith("up: "))
    assert up == "up: not decided (n = 4, no spread); +2.00 points against baseline (at each of 4 shared seeds)."


def test_figures_have_no_interval_of_equal_seeds(study: Path) -> None:
    found = found_of(study)
    flat = next(arm for arm in page_data(found, images.TestImages())["arms"] if arm["label"] == "flat")
    assert flat["test"] == [60.0, None, None]
    equal = replace(found.calibrations[0], gap=estimate([0.1] * 4))
    assert sentence(equal).endswith("+10.00 points, all 4 seeds equal).")


def test_a_model_card_says_so_too(study: Path) -> None:
    record = next(record for _, records in find_groups(study) for record in records if record.info["arm"] == "flat")
    assert _of_seeds(record) == [("test accuracy, mean of 4 seeds", "60.00% (all 4 seeds equal)")]
