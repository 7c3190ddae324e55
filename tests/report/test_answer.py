"""The first screen: what it states, where its bars are, and what it advises."""

import json
import math

import numpy as np
import pytest
from fake_records import write_run, write_study

from cnnexp import report, storage
from cnnexp.records import study as study_file
from cnnexp.report.analysis.cost import pareto
from cnnexp.report.analysis.examples import MAX_CONFUSED, PER_CELL, most_voted
from cnnexp.report.analysis.findings import analyse
from cnnexp.report.figures import images
from cnnexp.report.read.collect import collect, find_groups
from cnnexp.report.render import overview, plot_data
from cnnexp.report.render.answer import CORRECTED, DIVERGED, LOOKS, answer
from cnnexp.report.render.plot_data import encode, page_data, rounded


def study_of(folder):
    ((_, records),) = find_groups(folder)
    return collect(folder, records)


THREE = {"baseline": (0.5, 0.3, 60.0), "better": (0.6, 0.1, 70.0), "same": (0.5, 0.1, 30.0)}


def findings_of(folder, seeds, **fields):
    return analyse(study_of(write_study(folder, THREE, seeds=seeds, **fields)))


def test_the_bars_are_where_the_numbers_are(tmp_path):
    found = findings_of(tmp_path, 4)
    said = answer(found)
    forest, rows = said.forest, [row for row in found.rows if not row.is_baseline]
    low, high = ({label: at for at, label in forest.ticks}[text] for text in ("0", "+10"))
    assert low == forest.zero
    for bar, row in zip(forest.bars, rows, strict=True):
        scale = (high - low) / 10  # % of the figure in a point
        assert bar.at == pytest.approx(low + scale * 100 * row.difference.mean, abs=0.05)
        assert bar.start == pytest.approx(low + scale * 100 * row.difference.low, abs=0.05)
        assert bar.width == pytest.approx(scale * 100 * (row.difference.high - row.difference.low), abs=0.1)
    assert [(bar.label, bar.kind) for bar in forest.bars] == [("better", "better"), ("same", "noise")]
    assert forest.bars[1].verdict == "no detectable difference"
    assert said.status[:2] == ("final", "Final") and said.facts["n"] == "4 seeds an arm, 1,000 test images"
    assert (
        said.facts["Tested"].startswith("2 comparisons: paired t-test over the seeds")
        and "Holm" in said.facts["Tested"]
    )


def test_the_first_screen_names_the_claims_the_baseline_and_what_a_verdict_means(tmp_path):
    claims = ["same > baseline", "better > baseline"]
    found = findings_of(tmp_path, 4, claims=claims)
    said = answer(found)
    better, same = said.claims
    assert better[:2] == ("better > baseline", "holds")
    assert same[:2] == ("same > baseline", "no detectable difference")
    differences = {row.arm.label: 100 * row.difference.mean for row in found.rows if row.difference}
    for (_, _, shown), arm in ((better, "better"), (same, "same")):
        assert shown.endswith(" points") and float(shown.split()[0]) == pytest.approx(differences[arm], abs=0.0051)
    assert said.held == "Of 2 claims, 1 holds."
    base = next(row for row in found.rows if row.is_baseline)
    assert said.facts["baseline"] == f"test accuracy {100 * base.test.mean:.2f}%"
    one_alone, not_none = said.explained
    assert one_alone == "Each interval is for one arm alone; verdicts are corrected for 2 comparisons."
    assert not_none.startswith("No detectable difference does not mean none")
    assert said.facts["Data"] == "postcards, 9,000 training images"


def test_an_interval_wider_than_the_means_are_apart_is_cut(tmp_path):
    forest = answer(findings_of(tmp_path, 2)).forest
    assert all(bar.start >= 0 and bar.start + bar.width <= 100 for bar in forest.bars)


def test_planned_seeds_that_are_not_done_make_it_provisional(tmp_path):
    folder = write_study(tmp_path, THREE, seeds=3, command="cnnexp train +study=demo")
    content = storage.read_json(folder / "study.json")
    by_arm = {run["arm"]: run for run in content["runs"]}
    waiting = [{**run, "folder": f"{arm}-{n}", "seed": n} for arm, run in by_arm.items() for n in (8, 9)]
    content["runs"] += waiting
    study_file.write_study(folder, content | {"plan": {"seeds": [0, 1, 2, 8, 9]}})
    found = analyse(study_of(folder))
    kind, words, sentence = answer(found).status
    assert (kind, words) == ("provisional", "Provisional") and sentence.startswith("3 of 5 planned seeds done")
    assert answer(found).next == ("Finish the planned runs:", "cnnexp train +study=demo")


def test_seeds_beyond_the_planned_ones_are_counted(tmp_path):
    for seeds, words, end in (
        (4, "Final", "done. What is decided stays."),
        (6, "Final, extended", "are done. Added since: 2 seeds."),
    ):
        folder = write_study(tmp_path / words, THREE, seeds=seeds)
        study_file.write_study(folder, storage.read_json(folder / "study.json") | {"plan": {"seeds": [0, 1, 2, 3]}})
        kind, shown, sentence = answer(analyse(study_of(folder))).status
        assert (kind, shown) == ("final", words) and sentence.endswith(end)


@pytest.mark.parametrize(
    ("seeds", "fields", "command"),
    [
        (1, {"command": "cnnexp train +study=demo seed=0"}, "cnnexp train +study=demo seed=0,1,2,3,4"),
        (3, {"baseline": None, "command": "x"}, "cnnexp report {} --baseline baseline"),
    ],
)
def test_the_next_command_is_what_is_missing(tmp_path, seeds, fields, command):
    found = findings_of(tmp_path, seeds, **fields)
    assert answer(found).next[1] == command.format(found.study.folder)


def test_where_a_setting_is_chosen_the_first_screen_shows_validation(tmp_path):
    for value, accuracy in (("0.1", 0.5), ("1", 0.6)):
        arm = f"optimizer.lr={value}"
        for seed in range(3):
            write_run(tmp_path, arm, seed, accuracy, changes=[arm])
    found = analyse(study_of(tmp_path / "demo"))
    assert found.study.is_choice
    forest = answer(found).forest
    assert forest.heading == "Validation accuracy (%)"
    value = found.rows[0].over_seeds("result", "val_accuracy")
    assert forest.bars[0].value == f"{100 * value.mean:.2f}"


def test_a_study_without_results_says_so(tmp_path):
    write_run(tmp_path, "a", 0, status="failed", error={"type": "E", "message": "x"})
    said = answer(analyse(study_of(tmp_path / "demo")))
    assert said.forest is None and said.status[1] == "No result yet"


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ({"a": (1.0, 0.5), "b": (2.0, 0.6), "c": (3.0, 0.55)}, ["a", "b"]),
        ({"a": (1.0, 0.5), "b": (1.0, 0.6)}, ["b"]),
        ({"a": (1.0, 0.5), "b": (2.0, 0.5)}, ["a"]),
        ({"a": (1.0, 0.5), "b": (1.0, 0.5)}, ["a", "b"]),
        ({"a": (math.nan, 0.9), "b": (1.0, 0.5), "c": (0.5, math.nan)}, ["b"]),
        ({}, []),
    ],
)
def test_pareto_front_by_hand(points, front):
    assert pareto(points) == front
    for name in front:
        cost, accuracy = points[name]
        assert not [p for p in points.values() if p[0] <= cost and p[1] >= accuracy and p != points[name]]


def test_the_images_of_a_cell_are_those_that_most_seeds_put_there(tmp_path):
    found = findings_of(tmp_path, 4)
    usable = list(found.predictions.values())
    chosen = most_voted(usable)
    assert len({str(usable[0].ids[row]) for cells in chosen.values() for rows in cells.values() for row in rows}) <= (
        MAX_CONFUSED
    )
    of_arm = usable[1]
    for (true, predicted), rows in chosen[of_arm.arm.key].items():
        assert len(rows) <= PER_CELL and (of_arm.labels[rows] == true).all() and true != predicted
        votes = ((of_arm.predicted == predicted) & (of_arm.labels == true)).sum(0)
        assert sorted(votes[rows], reverse=True) == sorted(votes, reverse=True)[: len(rows)]


def test_the_data_of_the_figures_is_small_and_has_no_nan(tmp_path, monkeypatch):
    found = findings_of(tmp_path, 3)
    data = page_data(found, images.TestImages())
    json.dumps(data, allow_nan=False)
    arm = data["arms"][1]
    assert arm["label"] == "better" and arm["test"][0] == pytest.approx(100 * found.rows[1].test.mean, rel=1e-4)
    assert len(arm["runs"]) == 3 and arm["runs"][0]["val"]["epoch"] == list(range(1, 16))
    monkeypatch.setattr(plot_data, "MAX_POINTS", 100)
    thin = page_data(found, images.TestImages())
    assert arm["costs"] == {
        "seconds": pytest.approx(found.rows[1].train_seconds.mean),
        "parameters": 390410,
        "macs": 12345678,
    }
    assert thin["every"] == 3 and thin["arms"][0]["runs"][0]["val"]["epoch"] == [1, 3, 6, 9, 12, 15]
    assert (rounded(math.inf), rounded(1 / 3)) == (None, 0.33333)
    assert encode(np.zeros((300, 200, 3), np.uint8))[8:12] == b"WEBP"


LOOKED, ALONE, CLEAR = (
    [0.055, -0.005, 0.065, 0.045, 0.02],
    [0.005, 0.015, 0.05, 0.045, 0.065],
    [0.05, 0.06, 0.04, 0.05, 0.055],
)


def planned(outputs, gains, seeds=5, failed=(), diverged=(), plan=5, **fields):
    """Write a study of a baseline and arms with these gains, and its plan; failed, diverged: (arm, seed)."""
    entries = []
    for arm, gain in {"baseline": [0.0] * seeds, **gains}.items():
        for seed in range(seeds):
            ends = {**dict.fromkeys(failed, "failed"), **dict.fromkeys(diverged, "diverged")}
            run = write_run(outputs, arm, seed, 0.5 + gain[seed], images=200, status=ends.get((arm, seed), "done"))
            entries.append({"folder": run.folder.name, **{k: run.info[k] for k in ("arm", "seed", "fingerprint")}})
    content = {"name": "demo", "baseline": "baseline", "arms": ["baseline", *gains], "runs": entries, "question": ""}
    content |= {"plan": {"seeds": list(range(plan)), **fields}}
    study_file.write_study(outputs / "demo", content)
    return analyse(study_of(outputs / "demo"))


@pytest.mark.parametrize(
    ("gains", "diverged", "sentence"),
    [
        ({"a": LOOKED}, [], LOOKS),
        ({"a": LOOKED, "b": [0.0] * 5}, [], LOOKS),
        ({"a": ALONE, "b": [0.0] * 5}, [], CORRECTED.format(2)),
        ({"a": CLEAR, "b": [0.0] * 5}, [("a", 4)], DIVERGED),
        ({"a": CLEAR, "b": CLEAR}, [], None),
    ],
)
def test_why_a_comparison_is_open_is_what_keeps_it_open(tmp_path, gains, diverged, sentence):
    found = planned(tmp_path, gains, diverged=diverged)
    said = [line for line in answer(found).explained if line.startswith("Not decided")]
    assert said == [sentence] * (sentence is not None), found.rows[1].difference


@pytest.mark.integration
def test_planned_runs_without_a_result_are_counted(tmp_path):
    clear = {"a": CLEAR, "b": CLEAR}
    lost = [(arm, seed) for arm in ("a", "b") for seed in (0, 1)]
    status = answer(planned(tmp_path, clear, failed=lost[:3], diverged=lost[3:])).status
    said = "All 5 planned seeds have ended; 4 runs have no result. What is decided stays."
    assert status == ("final", "Final, incomplete", said)
    text = " ".join(report.write(tmp_path / "demo", figures=False).terminal.split())
    assert "Planned: 5 seeds (0 to 4), all ended; 4 runs have no result." in text
    one = answer(planned(tmp_path / "one", clear, failed=lost[:1], plan=4)).status
    assert one[1:] == (
        "Final, incomplete",
        "The 4 planned seeds of the study have ended; 1 run has no result. Added since: 1 seed.",
    )
    waits = planned(tmp_path / "waits", clear, failed=lost, plan=6)
    assert answer(waits).status[2].startswith("5 of 6 planned seeds ended in every arm.")


def test_a_plan_that_has_ended_early_is_not_all_done(tmp_path):
    found = planned(tmp_path, {"a": [0.0] * 5}, plan=20, every_seed=True, ended=True)
    assert answer(found).status == (
        *("final", "Final"),
        "Up to 5 of 20 planned seeds are done: the rest would decide nothing, or hardly anything.",
    )


def test_costs_are_shown_in_full(tmp_path):
    for seed in range(2):
        model = {"parameters": 11_181_642, "trainable_parameters": 11_181_642, "macs": 4_089_284_608}
        run = write_run(tmp_path, "baseline", seed, seconds=12_346.7, model=model)
        for epoch in (16, 17):
            run.append(
                kind="epoch", epoch=epoch, step=70 * epoch, split="train", loss=12.3456, accuracy=0.5, seconds=1234.5
            )
        run.sync()
    found = analyse(study_of(tmp_path / "demo"))
    (arm,) = page_data(found, images.TestImages())["arms"]
    costs = {"seconds": 12_346.7, "parameters": 11_181_642, "macs": 4_089_284_608}
    assert arm["costs"] == arm["runs"][0]["costs"] == costs
    assert arm["runs"][0]["seconds"][17] == 15 * 4.0 + 2 * 1234.5
    line = overview.line(tmp_path / "demo", [], found, "", "", [])
    assert overview._data([line])["points"][0]["costs"] == costs
