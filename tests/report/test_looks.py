"""Planned seeds, looks and extensions: which rule judges, that a decision stays, and that verify says the same."""

import html
import itertools
import math
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from consistent_study import make_consistent
from fake_records import write_run, write_study

from cnnexp import report, storage
from cnnexp.records.study import Plan, end_plan, plan_seeds, read_crossings, read_looks, read_plan, read_study
from cnnexp.report.analysis.decisions import limit_of
from cnnexp.report.analysis.findings import Findings, analyse, questions
from cnnexp.report.analysis.plan import rules_in_words
from cnnexp.report.analysis.sequential import linear_limits, spending_limits
from cnnexp.report.look import look
from cnnexp.report.read.collect import collect, find_groups
from cnnexp.report.verify import check
from cnnexp.sweep.until import is_open

pytestmark = pytest.mark.integration

UP = [0.05, 0.08, 0.02, 0.06, 0.04, 0.05, 0.05, 0.04, 0.06, 0.05, 0.05, 0.04]  # what "up" gains, by seed
BASE = [0.50, 0.51, 0.52, 0.50, 0.49, 0.51, 0.50, 0.52, 0.51, 0.50, 0.49, 0.51]


def study(outputs: Path, seeds: int, gains: list[float] = UP, plan: Any = (0, 1, 2, 3, 4), **fields: Any) -> Path:
    """Write or extend a study of two arms; keep what study.json says of looks."""
    old = read_study(outputs / "demo") if (outputs / "demo").exists() else {}
    kept = {key: old[key] for key in ("looks", "decided", "tested", "plan") if old and key in old}
    entries = []
    for arm, gain in (("baseline", [0.0] * 20), ("up", gains)):
        for seed in range(seeds):
            run = write_run(outputs, arm, seed, BASE[seed] + gain[seed], images=200)
            entries.append({"folder": run.folder.name, **{k: run.info[k] for k in ("arm", "seed", "fingerprint")}})
    make_consistent(outputs, {})
    content = {"name": "demo", "baseline": "baseline", "arms": ["baseline", "up"], "runs": entries, "question": ""}
    plan = {"seeds": list(plan), "every_seed": False} if isinstance(plan, tuple) else plan
    storage.write_json(outputs / "demo" / "study.json", {**content, "plan": plan, **kept, **fields})
    return outputs / "demo"


def verdict(found: Findings) -> str:
    return found.rows[1].verdict


def test_a_verdict_is_provisional_until_all_planned_seeds_are_done_and_then_final(tmp_path: Path) -> None:
    for seeds in (1, 2, 4):
        found = look(study(tmp_path, seeds))
        assert verdict(found) == f"provisional: {seeds} of 5 seeds" and math.isnan(found.rows[1].decision.limit)
    folder = study(tmp_path, 5)
    found = look(folder)
    assert (verdict(found), found.rows[1].decision.rule) == ("better", "planned seeds")
    assert found.rows[1].decision.limit == pytest.approx(0.04)
    content = read_study(folder) or {}
    assert [next(iter(made["seeds"].values())) for made in read_looks(content)] == [
        [0],
        [0, 1],
        [0, 1, 2, 3],
        [*range(5)],
    ]
    assert [made["tests"] for made in read_looks(content)] == [[], [], [], [1, 0, 0]]
    (crossing,) = read_crossings(content).values()
    assert crossing.seeds == (0, 1, 2, 3, 4) and crossing.p == found.rows[1].difference.p


def test_the_same_look_counts_once(tmp_path: Path) -> None:
    folder = study(tmp_path, 3)
    first = report.write(folder, figures=False)
    page, recorded = first.index.read_bytes(), (folder / "study.json").read_bytes()
    second = report.write(folder, figures=False)
    assert (folder / "study.json").read_bytes() == recorded and second.index.read_bytes() == page
    assert "provisional: 3 of 5 seeds" in page.decode() and "Looked at with 3 seeds." in page.decode()


def test_a_report_says_in_words_what_an_open_verdict_means_and_counts_no_look_without_seeds(tmp_path: Path) -> None:
    weak = [0.06, -0.02, 0.05, -0.01, 0.04]
    text = report.write(study(tmp_path, 5, weak), figures=False).terminal
    assert "\nwithin noise: these seeds show no difference; that does not prove that there is none.\n" in text
    assert "\nnot decided:" not in text and "Looked at with 5 seeds." in text
    content = storage.read_json(tmp_path / "demo" / "study.json")
    before = {**content["looks"][0], "seeds": {arm: [] for arm in content["looks"][0]["seeds"]}}
    storage.write_json(tmp_path / "demo" / "study.json", {**content, "looks": [before, *content["looks"]]})
    assert "Looked at with 5 seeds." in report.write(tmp_path / "demo", figures=False).terminal
    text = report.write(study(tmp_path / "few", 2, plan=(0, 1)), figures=False).terminal
    assert "\nnot decided: these seeds are too few for a verdict; more seeds may decide.\n" in text


def test_what_was_decided_stays_decided_with_more_seeds_and_verify_agrees(tmp_path: Path) -> None:
    assert verdict(look(study(tmp_path, 5))) == "better"
    gains = [*UP[:5], -0.4, 0.4, -0.3]  # which alone would decide nothing
    folder = study(tmp_path, 8, gains)
    found = look(folder)
    row = found.rows[1]
    assert row.difference.p > 0.5 and (row.decision.n, row.decision.rule) == (5, "planned seeds")
    assert row.verdict == "better (at 5 seeds)", "beside an interval of 8 seeds, which contains 0"
    report.write(folder, figures=False)
    assert check(folder, folder / "report").wrong == []
    changed = storage.read_json(folder / "study.json")
    (name,) = changed["decided"]
    storage.write_json(folder / "study.json", {**changed, "decided": {name: {**changed["decided"][name], "p": 1e-9}}})
    wrong = check(folder, folder / "report").wrong
    assert name in {value.name for value in wrong}, "a recorded decision is recomputed from the seeds that it names"


def test_an_extended_study_is_judged_by_alpha_spending_and_then_by_the_e_process(tmp_path: Path) -> None:
    weak = [0.06, -0.02, 0.05, -0.01, 0.04, 0.05, 0.04, 0.06, 0.05, 0.04, 0.05, 0.06]
    found = look(study(tmp_path, 5, weak))
    assert verdict(found) == "within noise" and "more seed" in found.rows[1].outlook.advice
    found = look(study(tmp_path, 7, weak))
    spent = [(n, 0.04 + 0.0015 * (n - 5)) for n in range(5, 11)]
    assert found.rows[1].decision.rule == "extended plan"
    assert found.rows[1].decision.limit == pytest.approx(spending_limits(tuple(spent))[7])
    found = look(study(tmp_path, 12, weak))
    assert (found.rows[1].decision.rule, found.rows[1].decision.limit) == ("e-process", pytest.approx(0.0025))


def test_limits_by_hand() -> None:
    five, twenty = Plan((0, 1, 2, 3, 4)), Plan(tuple(range(20)), every_seed=True)
    assert limit_of(five, 5, 5, 0.05) == (pytest.approx(0.04), "planned seeds")
    assert limit_of(twenty, 9, 9, 0.05 / 3) == (linear_limits(0.0475 / 3, 3, 20)[9], "every seed")
    assert limit_of(twenty, 21, 21, 0.05)[0] == pytest.approx(0.0025)
    assert math.isnan(limit_of(Plan((0, 1)), 2, 2, 0.05)[0]) and math.isnan(limit_of(twenty, 2, 2, 0.05)[0])
    assert limit_of(Plan((0, 1)), 2, 4, 0.05) == (linear_limits(0.0475, 3, 10)[4], "extended plan")


def test_a_plan_that_was_looked_at_is_kept_and_another_config_is_another_study() -> None:
    runs = [{"folder": "a", "arm": "a", "seed": seed, "fingerprint": "f"} for seed in range(8)]
    old = {"plan": {"seeds": [0, 1, 2, 3, 4]}, "looks": [{"made": "", "seeds": {"a@f": [0, 1]}}]}
    asked = Plan(tuple(range(10)))
    assert plan_seeds(old, runs, asked) == Plan((0, 1, 2, 3, 4))
    assert plan_seeds({**old, "looks": []}, runs, asked).seeds == tuple(range(10))
    one_seed = [{"made": "", "seeds": {"a@f": [0]}}]
    assert plan_seeds({**old, "looks": one_seed}, runs, asked).seeds == tuple(range(10)), "it cannot be tested"
    other = [{**run, "fingerprint": "g"} for run in runs]
    assert plan_seeds(old, other, Plan(())).seeds == tuple(range(8))


def test_a_planned_run_that_failed_and_is_made_again_extends_the_plan(tmp_path: Path) -> None:
    weak = [0.06, -0.02, 0.05, -0.01, 0.04]
    folder = study(tmp_path, 5, weak)
    failed = next(run for run in find_groups(folder)[0][1] if run.name.startswith("up-s4"))
    info = dict(failed.info)
    failed.update(status="failed")
    found = look(folder)
    assert (verdict(found), found.rows[1].decision.n) == ("within noise", 4)
    failed.update(**info)
    found = look(folder)
    limit = spending_limits(((4, 0.04), (5, 0.04 + 0.0075 / 6)))[5]
    assert (found.rows[1].decision.rule, found.rows[1].decision.limit) == ("extended plan", pytest.approx(limit))
    assert limit < 0.02, "a second look has what is left of the level"


def test_without_a_recorded_plan_every_number_of_seeds_is_a_look(tmp_path: Path) -> None:
    folder = study(tmp_path, 5, plan=None)
    (folder / "study.json").unlink()
    found = look(folder)
    assert (found.rows[1].decision.rule, found.rows[1].decision.limit) == (
        "every seed",
        pytest.approx(linear_limits(0.0475, 3, 10)[5]),
    )
    assert limit_of(None, 11, 11, 0.05) == (pytest.approx(0.0025), "e-process")
    assert "every number of seeds counts as a look" in " ".join(report.write(folder, figures=False).terminal.split())


def test_arms_that_are_added_after_a_look_are_named(tmp_path: Path) -> None:
    folder = study(tmp_path, 5)
    look(folder)
    assert not any("An earlier report" in rule for rule in rules_in_words(look(folder)))
    content = storage.read_json(folder / "study.json")
    new = [write_run(tmp_path, "late", seed, BASE[seed], images=200) for seed in range(5)]
    entries = [{"folder": r.folder.name, **{k: r.info[k] for k in ("arm", "seed", "fingerprint")}} for r in new]
    content |= {"arms": [*content["arms"], "late"], "runs": [*content["runs"], *entries]}
    storage.write_json(folder / "study.json", content)
    (said,) = (rule for rule in rules_in_words(look(folder)) if "An earlier report" in rule)
    assert said.startswith("An earlier report had 1 comparison, and this one 2.")


def test_what_an_earlier_report_had_is_counted_in_tests_and_called_so(tmp_path: Path) -> None:
    claims = ["up > baseline", "up - baseline > 1 points", "baseline - up < -1 points"]
    folder = study(tmp_path, 5, claims=claims)  # the first is the comparison; the others are one test
    look(folder)
    content = storage.read_json(folder / "study.json")
    storage.write_json(folder / "study.json", {**content, "claims": [*claims, "up - baseline > 2 points"]})
    rules = rules_in_words(look(folder))
    assert any(rule.startswith("An earlier report had 1 claim test, and this one 2.") for rule in rules)
    assert any("0.05 for all 2 claim tests together" in rule for rule in rules)


def test_a_look_that_tested_nothing_is_no_other_family(tmp_path: Path) -> None:
    folder = study(tmp_path, 5)
    look(folder)
    content = storage.read_json(folder / "study.json")
    (first,) = content["looks"]
    nothing = {**first, "tests": [0] * len(first["tests"])}
    storage.write_json(folder / "study.json", content | {"looks": [first, nothing]})
    assert not any("An earlier report" in rule for rule in rules_in_words(look(folder)))


def test_a_failed_run_leaves_the_plan_done_and_one_under_way_does_not(tmp_path: Path) -> None:
    folder = study(tmp_path, 5)
    write_run(tmp_path, "up", 4, status="failed")
    assert verdict(look(folder)) == "better" and look(folder).rows[1].decision.n == 4
    other = tmp_path / "other"
    folder = study(other, 5)
    write_run(other, "up", 4, status="interrupted")
    assert verdict(look(folder)) == "provisional: 4 of 5 seeds"


def test_arms_under_way_count_in_the_family(tmp_path: Path) -> None:
    folder = study(tmp_path, 5)
    content = storage.read_json(folder / "study.json")
    later = [{"folder": f"later-s{seed}-x", "arm": "later", "seed": seed, "fingerprint": "x"} for seed in range(5)]
    storage.write_json(folder / "study.json", {**content, "runs": content["runs"] + later})
    assert analyse(collect(*find_groups(folder)[0])).rows[1].decision.limit == pytest.approx(0.04 / 2)


def test_a_folder_that_cannot_be_written_is_judged_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = study(tmp_path, 5)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Read-only file system")

    monkeypatch.setattr(storage, "lock", refuse)
    found = look(folder)
    assert verdict(found) == "better" and any("could not be recorded" in note for note in found.study.notes)


@pytest.mark.parametrize("name", ["plan", "looks", "decided"])
@pytest.mark.parametrize("given", [1, "x", [], {}, [1], {"seeds": 3}, {"seeds": ["a"]}, {"x": {"side": 1}}, None])
def test_what_is_no_plan_or_look_is_left_out(tmp_path: Path, name: str, given: Any) -> None:
    folder = study(tmp_path, 3)
    content = storage.read_json(folder / "study.json")
    storage.write_json(folder / "study.json", {**content, name: given})
    assert verdict(look(folder)) in ("provisional: 3 of 5 seeds", "within noise")


def test_another_baseline_decides_nothing_for_later(tmp_path: Path) -> None:
    folder = study(tmp_path, 5)
    assert look(folder, baseline="up").rows[1].verdict == "worse"
    assert read_crossings(read_study(folder) or {}) == {} and len(read_looks(read_study(folder) or {})) == 1
    assert verdict(look(folder, baseline="baseline")) == "better" and len(read_crossings(read_study(folder) or {})) == 1
    other = study(tmp_path / "other", 5, baseline=None)
    assert look(other, baseline="up").rows[1].verdict == "worse" and len(read_crossings(read_study(other) or {})) == 1


def test_every_seed_is_a_look_if_it_was_planned_so(tmp_path: Path) -> None:
    plan = {"seeds": list(range(20)), "every_seed": True}
    assert verdict(look(study(tmp_path, 3, plan=plan))) == "provisional: 3 of 20 seeds"
    found = look(study(tmp_path, 6, plan=plan))
    (asked,) = questions(found)
    assert asked.decided and (asked.text, asked.arms, asked.rule) == ("up", ("up", "baseline"), "every seed")


def test_nothing_is_provisional_once_a_plan_has_ended(tmp_path: Path) -> None:
    plan = {"seeds": list(range(20)), "every_seed": True}
    folder = study(tmp_path, 4, [0.03, -0.02, 0.01, -0.02], plan)
    assert verdict(look(folder)) == "provisional: 4 of 20 seeds"
    end_plan(folder)
    assert verdict(look(folder)) == "within noise"
    assert "It has ended" in " ".join(rules_in_words(look(folder)))
    all_done = study(tmp_path / "all", 3, plan={"seeds": [0, 1, 2], "every_seed": True, "ended": True})
    assert "It has ended" not in " ".join(rules_in_words(look(all_done)))
    content, more = read_study(folder) or {}, Plan(tuple(range(20)), every_seed=True)
    listed = [*content["runs"], {**content["runs"][-1], "folder": "next", "seed": 4}]
    assert plan_seeds(content, listed, Plan(())).ended, "runs that are added are expected, other planned seeds are not"
    assert not plan_seeds(content, listed, more).ended, "it is taken up again"
    changed = [{**run, "fingerprint": f"{run['fingerprint']}0"} if run["arm"] == "up" else run for run in listed]
    assert not plan_seeds(content, changed, Plan(())).ended, "the config of an arm has changed"
    storage.write_json(folder / "study.json", {**content, "runs": listed})
    assert verdict(look(folder)) == "within noise", "the baseline has no run of that seed"


def test_more_seeds_are_not_advised_for_a_claim_about_every_epoch_but_a_hopeless_one_is_found(tmp_path: Path) -> None:
    folder = study(tmp_path, 5, [0.03, -0.02, 0.01, -0.02, 0.01], claims=["up > baseline at every epoch"])
    (outlook,) = (asked.outlook for asked in questions(look(folder)) if "epoch" in asked.text)
    assert outlook.advice == "" and len(outlook.chances) == 20 and 0 <= outlook.chances[9] < 0.3


@pytest.mark.parametrize("diverged", [{"baseline"}, {"up"}, {"baseline", "up"}])
@pytest.mark.parametrize("claims", [[], ["up - baseline > 1 points"]])
def test_no_seed_is_promised_to_decide_what_diverged_runs_keep_open(
    tmp_path: Path, diverged: set[str], claims: list[str]
) -> None:
    for seeds in (6, 9):
        folder = study(tmp_path, seeds, [-gain for gain in UP], tuple(range(seeds)), command="cnnexp train a",
                       claims=claims)  # fmt: skip
        for arm in diverged:
            shutil.rmtree(next(folder.glob(f"{arm}-s0*")))
            write_run(tmp_path, arm, 0, status="diverged")
        found, text = look(folder), report.write(folder, figures=False).terminal
        lost = diverged != {"up"}  # "up" is worse, so what is left out of it does not help the winner
        for asked in questions(found):
            assert asked.verdict == ("not decided (1 diverged)" if lost else asked.verdict)
            assert asked.decided is not lost and is_open(asked, 20) is False
            assert asked.outlook.more == 0 and math.isnan(asked.outlook.enough)
            assert max(asked.outlook.chances, default=0.0) < 0.1
        assert "more seed" not in text + (folder / "report" / "index.html").read_text()


def test_the_side_that_diverged_runs_bar_has_no_part_in_the_chance_of_a_decision(tmp_path: Path) -> None:
    close = [0.005, -0.03, 0.035, -0.02, 0.025, -0.01]
    plan = {"seeds": list(range(20)), "every_seed": True}
    free = look(study(tmp_path / "free", 6, close, plan)).rows[1].outlook
    folder = study(tmp_path, 6, close, plan)
    write_run(tmp_path, "baseline", 6, status="diverged")
    barred = look(folder).rows[1].outlook
    assert 0 < barred.chances[-1] < 0.8 * free.chances[-1]
    write_run(tmp_path, "up", 7, status="diverged")
    assert look(folder).rows[1].outlook.chances == (0.0,) * 20


def test_the_planned_seeds_keep_their_order(tmp_path: Path) -> None:
    runs = [{"arm": "up", "fingerprint": "f", "seed": seed} for seed in (1, 0)]
    asked = Plan((7, 5, 6), every_seed=True)
    assert plan_seeds({}, runs, asked).seeds == (7, 5, 6, 0, 1)
    assert read_plan({"plan": {"seeds": [7, 5, 6, 7], "every_seed": True}}) == asked


def test_a_margin_holds_by_two_one_sided_tests(tmp_path: Path) -> None:
    folder = write_study(tmp_path, {"baseline": (0.5, 0.1, 9.0), "same": (0.501, 0.1, 9.0), "up": (0.6, 0.1, 9.0)}, 5)
    content = storage.read_json(folder / "study.json")
    claims = [
        "same within 3 points of baseline",
        "baseline within 3 points of up",
        "same within 0.1 points of baseline",
    ]
    storage.write_json(folder / "study.json", {**content, "claims": claims})
    judged = look(folder).judged
    assert [found.verdict for found in judged] == ["holds", "does not hold", "within noise"]
    assert [found.decision.limit for found in judged] == pytest.approx([0.04 / 3, 0.04 / 3, 0.04])


def test_the_rules_are_one_line_and_more_seeds_are_a_command(tmp_path: Path) -> None:
    weak = [0.06, -0.02, 0.05, -0.01, 0.04]
    made = "cnnexp train +study=demo 'study.question=why?' seed=0,1,2,3,4"
    written = report.write(study(tmp_path, 5, weak, command=made), figures=False)
    judged = [line for line in written.terminal.splitlines() if line.startswith("Judged: ")]
    (line,) = judged
    assert line.startswith(
        "Judged: Planned: 5 seeds (0 to 4), all done. Level 0.05 for the comparison (Holm's method); "
    )
    advice, command = next(itertools.pairwise(written.terminal.split("Looked at with 5 seeds.\n")[1].splitlines()))
    words = r"Still open: up\. (\d+) more seeds would decide it with probability about 0\.\d:"
    found = re.fullmatch(words, advice)
    assert found, advice
    seeds = [*range(5, 5 + int(found[1]))]
    listed = ",".join(map(str, seeds)) if len(seeds) <= 8 else f"range(5,{seeds[-1] + 1})"
    assert shlex.split(command) == ["cnnexp", "train", "+study=demo", "study.question=why?", f"seed={listed}"]
    assert f"<code>{command.strip()}</code><button" in html.unescape(written.index.read_text())


def test_all_open_tests_are_named_or_counted_once(tmp_path: Path) -> None:
    arms = ["baseline", *(f"a{n}" for n in range(6))]
    fields = {"claims": ["a0 > baseline", "a0 - a1 > 1 points"], "command": "cnnexp train +study=demo"}
    for seeds, more in ((3, 3), (5, 2)):  # with 5, one is decided
        folder = write_study(tmp_path, dict.fromkeys(arms, (0.5, 0.1, 9.0)), seeds, **fields)
        storage.write_json(
            folder / "study.json", storage.read_json(folder / "study.json") | {"plan": {"seeds": [*range(5)]}}
        )
        text = report.write(folder, figures=False).terminal
        (said,) = (line for line in text.splitlines() if line.startswith("Still open: "))
        assert re.match(
            rf"Still open: a0, a1, a2, a3 and {more} more. Soonest a.*: \d+ more seeds? would decide it", said
        ), said


def test_missing_planned_seeds_are_the_ones_to_make(tmp_path: Path) -> None:
    text = report.write(study(tmp_path, 3, command="cnnexp train +study=demo"), figures=False).terminal
    assert "Until all are done, verdicts are provisional." in text
    assert "  cnnexp train +study=demo seed=3,4\n" in text


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_recorded_command_that_was_cut_gives_no_advice(tmp_path: Path, seeds: int) -> None:
    text = report.write(study(tmp_path, seeds, command="cnnexp train 'cut"), figures=False).terminal
    assert "seed=" not in text


def test_the_notes_of_a_table_are_of_what_is_in_it(tmp_path: Path) -> None:
    def of(name: str, **fields: Any) -> str:
        written = report.write(study(tmp_path / name, 5, claims=["up > baseline"], **fields), figures=False)
        tables = written.index.parent / "tables"
        return (tables / "comparison.md").read_text() + (tables / "claims.md").read_text()

    clear, weak = of("clear"), of("weak", gains=[0.06, -0.02, 0.05, -0.01, 0.04])
    for note, present in (
        ("within noise:", (False, True)),
        ("better / worse:", (True, False)),
        ("div.", (False, False)),
    ):
        assert (note in clear, note in weak) == present, note
    for note in (
        "provisional:",
        "TOST",
        "std(...)",
        "At every epoch:",
        "<= and >=",
        "Converges faster",
        "At chance",
        "div.",
    ):
        assert note not in clear + weak, note


def test_the_note_on_an_open_verdict_is_of_what_keeps_it_open(tmp_path: Path) -> None:
    folder = study(tmp_path, 6, plan=tuple(range(6)), claims=["up - baseline > 1 points"])
    shutil.rmtree(next(folder.glob("up-s0*")))
    write_run(tmp_path, "up", 0, status="diverged")
    tables = report.write(folder, figures=False).index.parent / "tables"
    for name in ("comparison", "claims"):
        text = (tables / f"{name}.md").read_text()
        assert "not decided (1 diverged)" in text and "not decided (diverged): p below the limit" in text
        assert "p \\< 0.05 but" not in text and "0.05 but above" not in text
