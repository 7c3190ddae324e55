"""The arithmetic of an ablation: how arms are recognised, published contrasts, and what chance alone finds."""

import csv
import io
import math

import numpy as np
import pytest
from fake_records import study_in_memory, write_run
from scipy import stats

from cnnexp import report
from cnnexp.pages.tables import to_terminal
from cnnexp.records import study as study_file
from cnnexp.report.analysis.effects import effects, layout
from cnnexp.report.analysis.findings import analyse
from cnnexp.report.render import claim_tables

CHANGES = {
    "base": [],
    "n": ["model.norm=batch"],
    "d": ["model.dropout.pool=0.3", "model.dropout.fc=0.3"],
    "a": ["augmentation=full"],
    "all": ["model.norm=batch", "model.dropout.pool=0.3", "model.dropout.fc=0.3", "augmentation=full"],
    "resnet": ["model=resnet18", "model.bn=frozen"],
}
FULL = {
    "base": [],
    **{"t": ["t=1"], "c": ["c=1"], "k": ["k=1"]},
    **{"tc": ["t=1", "c=1"], "tk": ["t=1", "k=1"], "ck": ["c=1", "k=1"], "tck": ["t=1", "c=1", "k=1"]},
}


def members(study):
    return {arm.label: set(inside) for inside, arm in layout(study).items()}


def of(changes, **fields):
    return study_in_memory({arm: [0.5, 0.6] for arm in changes}, changes, **fields)


def test_arms_are_recognised_by_their_changes():
    found = members(of(CHANGES))
    assert found == {"base": set(), "n": {"n"}, "d": {"d"}, "a": {"a"}, "all": {"n", "d", "a"}}
    assert len(layout(of(FULL))) == 8


def test_what_the_baseline_changes_too_is_no_technique():
    swept = {f"{n},{d}": [f"model.norm={n}", f"model.dropout.fc={d}"] for n in ("none", "batch") for d in (0, 0.3)}
    found = members(of(swept))
    assert found["batch,0.3"] == {"none,0.3", "batch,0"}
    assert found["none,0"] == set()


@pytest.mark.parametrize(
    "changes",
    [
        {"base": [], "n": ["n=1"], "d": ["d=1"]},  # no combination
        {"base": [], "n": ["n=1"], "both": ["n=1", "d=1"]},  # a part of it is no arm
        {"base": [], "n": ["n=1"], "m": ["n=1"], "d": ["d=1"], "both": ["n=1", "d=1"]},  # two arms change the same
        {"base": [], "x": ["1", "2"], "y": ["2", "3"], "both": ["1", "2", "3"]},  # they share a change
    ],
)
def test_arms_that_do_not_add_up(changes):
    assert effects(of(changes)) == []
    assert layout(of(CHANGES, baseline=None)) == {}


def test_a_textbook_factorial():
    # Box, Hunter & Hunter, Statistics for Experimenters: the pilot plant's yields by temperature, concentration and
    # catalyst, and its effects.
    yields = {"base": 60, "t": 72, "c": 54, "tc": 68, "k": 52, "tk": 83, "ck": 45, "tck": 80}
    found = analyse(study_in_memory({arm: [y / 100] for arm, y in yields.items()}, FULL)).effects
    points = {effect.name: effect.points.mean for effect in found}
    assert points == pytest.approx(
        {
            **{"t": 23.0, "c": -5.0, "k": 1.5, "t x c": 1.5, "t x k": 10.0, "c x k": 0.0, "t x c x k": 0.5},
            "tck beyond the sum of its parts": 80 - 72 - 54 - 52 + 2 * 60,
        }
    )
    assert {effect.verdict for effect in found} == {"one seed: no verdict"}


def test_the_sum_of_the_parts_by_hand():
    seeds = {
        "base": [0.50, 0.51, 0.52, 0.53],
        "n": [0.60, 0.62, 0.61, 0.63],
        "d": [0.55, 0.56, 0.58, 0.57],
        "a": [0.54, 0.55, 0.57, 0.58],
        "all": [0.63, 0.64, 0.65, 0.65],
        "resnet": [0.9, 0.9, 0.9, 0.9],
    }
    found = {effect.name: effect for effect in analyse(study_in_memory(seeds, CHANGES)).effects}
    assert list(found) == ["n alone", "d alone", "a alone", "all", "all beyond the sum of its parts"]
    beyond = found["all beyond the sum of its parts"]
    y = {arm: 100 * np.array(values) for arm, values in seeds.items()}
    by_seed = (y["all"] - y["base"]) - sum(y[arm] - y["base"] for arm in "nda")
    expected = stats.ttest_1samp(by_seed, 0)
    assert (beyond.points.mean, beyond.points.p) == (pytest.approx(by_seed.mean()), pytest.approx(expected.pvalue))
    assert beyond.points.low == pytest.approx(expected.confidence_interval(0.95).low)
    assert (beyond.formula, beyond.verdict) == ("all - n - d - a + 2 base", "less than the sum")
    assert found["n alone"].points.mean == pytest.approx(10) and found["n alone"].verdict == ""
    study = study_in_memory(seeds, CHANGES)
    study.arms[4].diverged.append(study.arms[4].runs[0])
    assert analyse(study).effects[-1].verdict == "not decided (1 diverged)"


def test_an_effect_of_a_grid_is_named_by_what_it_sets_and_not_by_an_arm():
    arms = [(norm, aug) for norm in ("none", "batch") for aug in ("null", "full")]
    swept = {f"model.norm={n},augmentation={a}": [f"model.norm={n}", f"augmentation={a}"] for n, a in arms}
    found = effects(of(swept))
    assert [effect.name for effect in found] == ["aug=full", "norm=batch", "aug=full x norm=batch"]
    assert found[0].formula == "mean of the arms with it - mean of those without"
    long = {name: [*own, "epochs=3"] for name, own in swept.items()}
    assert [effect.name for effect in effects(of(long))] == ["aug=full", "norm=batch", "aug=full x norm=batch"]


@pytest.mark.integration
def test_an_effect_says_at_how_many_seeds_it_was_decided(tmp_path):
    changes = {"base": [], "n": ["n=1"], "d": ["d=1"], "nd": ["n=1", "d=1"]}
    gains = {"base": 0.0, "n": 0.05, "d": 0.0, "nd": 0.05}
    noise = [[0.0, 0.01, 0.0, 0.01], [0.01, 0.0, 0.01, 0.0], [0.0, 0.0, 0.01, 0.01]]
    later = [[0.0, -0.3, 0.0, -0.3], [0.0, 0.3, 0.0, 0.2]]  # with them no effect of n could be seen
    entries = []
    for seed, of_seed in enumerate([*noise, *later]):
        for arm, more in zip(changes, of_seed, strict=True):
            run = write_run(tmp_path, arm, seed, 0.5 + gains[arm] + more, changes=changes[arm], epochs=1, images=100)
            entries.append({"folder": run.folder.name, **{k: run.info[k] for k in ("arm", "seed", "fingerprint")}})
        if seed == 2 or seed == 4:
            content = study_file.read_study(tmp_path / "demo") or {} if seed == 4 else {}
            plan = {"seeds": [0, 1, 2], "every_seed": False}
            study_file.write_study(
                tmp_path / "demo",
                {"name": "demo", "baseline": "base", "arms": list(changes), "plan": plan, **content, "runs": entries},
            )
            written = report.write(tmp_path / "demo", figures=False)
    lines = list(csv.DictReader(io.StringIO((written.index.parent / "tables" / "effects.csv").read_text())))
    n = next(line for line in lines if line["effect"] == "n")
    assert (n["verdict"], n["n"], n["seeds_compared"]) == ("better (at 3 seeds)", "5", "3")
    assert float(n["points_low95"]) < 0 < float(n["points_high95"])
    assert "better (at 3 seeds)" in written.terminal
    page = written.index.read_text()
    first = page[: page.index("</header>")]
    assert '<span class="said-of">better (at 3 seeds)</span> n <span class="soft">' in first
    assert '<td class="better">better (at 3 seeds)</td>' in page and "what is decided stays, whatever later" in page


def test_two_techniques_have_no_sum_beside_their_interaction():
    changes = {"base": [], "n": ["n=1"], "d": ["d=1"], "nd": ["n=1", "d=1"]}
    seeds = {"base": [0.50, 0.51, 0.52], "n": [0.60, 0.61, 0.63], "d": [0.55, 0.57, 0.57], "nd": [0.60, 0.61, 0.62]}
    found = analyse(study_in_memory(seeds, changes)).effects
    assert [effect.name for effect in found] == ["n", "d", "n x d"]
    assert found[0].points.mean == pytest.approx(100 * np.mean([0.15, 0.14, 0.16]) / 2)
    assert found[2].formula == "mean of the arms with 0 or 2 of them - mean of the others"
    assert {effect.decision.share for effect in found} <= {1, 2, 3}, "the family of the effects alone"


def test_only_seeds_that_all_arms_have_count():
    study = of(CHANGES)
    del study.arms[3].runs[0]
    assert {effect.name: effect.points.n for effect in effects(study)} == {
        **{"n alone": 2, "d alone": 2, "a alone": 1, "all": 2},
        "all beyond the sum of its parts": 1,
    }


@pytest.mark.integration
def test_the_report_shows_effects(tmp_path):
    for place, (arm, changes) in enumerate(FULL.items()):
        for seed in range(3):
            write_run(tmp_path, arm, seed, 0.5 + 0.02 * place + 0.001 * seed, changes=changes, epochs=1, images=100)
    study_file.write_study(tmp_path / "demo", {"name": "demo", "baseline": "base", "arms": list(FULL), "runs": []})
    written = report.write(tmp_path / "demo", figures=False)
    page = written.index.read_text()
    assert 'id="effects"' in page and "Contrasts of a full factorial" in page and "t x c x k" in page
    assert "tck beyond the sum of its parts" in written.terminal
    words = "Effects: the gain of each technique, averaged over the arms with and without the others."
    assert words in page[: page.index("</header>")] and words in " ".join(written.terminal.split())
    lines = list(csv.DictReader(io.StringIO((written.index.parent / "tables" / "effects.csv").read_text())))
    assert len(lines) == 8 and lines[0]["effect"] == "t"
    assert (written.index.parent / "tables" / "effects.md").exists()


def test_without_a_factorial_only_the_tested_effect_is_in_the_terminal():
    found = analyse(of(CHANGES))
    tested = claim_tables.tested_effects(found)
    assert [row[0] for row in tested.cells] == ["all beyond the sum of its parts"]
    assert max(map(len, to_terminal(tested).splitlines())) <= 120
    notes = claim_tables.effects(found).notes
    assert len(notes) == 2 and "share a level of their own" in notes[1]


def test_an_effect_that_is_the_same_at_every_seed_has_no_interval():
    changes = {"base": [], "n": ["n=1"], "d": ["d=1"], "nd": ["n=1", "d=1"]}
    seeds = {"base": [0.5] * 3, "n": [0.52] * 3, "d": [0.5] * 3, "nd": [0.52] * 3}
    text = to_terminal(claim_tables.tested_effects(analyse(study_in_memory(seeds, changes))))
    assert "+2.00 (all 3 seeds equal)" in text and "[" not in text


@pytest.mark.integration
def test_arms_without_effects_get_a_verdict_in_at_most_5_percent_and_intervals_cover():
    studies, generator = 300, np.random.default_rng(5)
    wrong, covered = 0, []
    for values in generator.normal(0.5, 0.01, (studies, 8, 3)):
        found = effects(study_in_memory(dict(zip(FULL, values, strict=True)), FULL))
        wrong += any(effect.verdict in (effect.words or ()) for effect in found)
        covered += [effect.points.low <= 0 <= effect.points.high for effect in found[:1]]
    error = 3 * math.sqrt(0.05 * 0.95 / studies)
    assert wrong / studies < 0.05 + error
    assert abs(np.mean(covered) - 0.95) < error


def test_an_effect_is_named_by_the_configs_of_its_arms():
    before, after = of(CHANGES), of(CHANGES)
    for arm in after.arms:
        arm.fingerprint = "another"
    names = [{effect.hypothesis for effect in effects(study)} for study in (before, after)]
    assert names[0].isdisjoint(names[1]), "what was decided about other configs is not decided about these"
    assert "effect: -1 a@f +1 all@f +2 base@f -1 d@f -1 n@f" in names[0]
