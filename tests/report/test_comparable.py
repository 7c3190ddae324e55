"""Runs of before and after a change of a study: only like is compared with like."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from consistent_study import FACTORIAL, make_consistent, rows_of
from fake_records import write_run, write_study
from recomputed.check import check, wrong

from cnnexp import report, storage
from cnnexp.records.run_record import find_runs
from cnnexp.report.analysis.findings import Findings, analyse, questions
from cnnexp.report.read.collect import collect, find_groups
from cnnexp.report.read.comparable import settings_apart, why_not
from cnnexp.report.read.study import Arm, Study
from cnnexp.report.verify import check as verify
from cnnexp.sweep.until import is_open, print_end

pytest_plugins = ["studies"]

ARMS = {
    "baseline": (0.5, 0.3, 60.0),
    "batchnorm": (0.6, 0.3, 60.0),
    "dropout": (0.7, 0.1, 60.0),
    "combined": (0.8, 0.1, 60.0),
}
CLAIMS = ["combined > dropout", "combined > batchnorm", "batchnorm > baseline"]
OLD, NEW = {"epochs": "3ep"}, {"epochs": "6ep"}
APART = "not comparable: epochs 3ep and 6ep"


def configure(folder: Path, configs: Mapping[str, Mapping[str, Any]], changes: Mapping[str, Sequence[str]]) -> None:
    """Write the config and the changes of every run, by its arm."""
    for run in find_runs(folder):
        with run.held():
            run.info.pop("files", None)
            run.write_config({"seed": run.info["seed"], **configs[run.info["arm"]]})
            run.update(changes=list(changes.get(run.info["arm"], [])), status=run.info["status"])


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """Return a study of which baseline and batchnorm were made again with six epochs, dropout and combined were not."""
    folder = write_study(tmp_path, ARMS, claims=CLAIMS, command="cnnexp train +study=demo +arm=baseline,batchnorm")
    make_consistent(tmp_path, FACTORIAL)
    configs = {"baseline": NEW, "batchnorm": NEW, "dropout": OLD, "combined": OLD}
    configure(folder, configs, FACTORIAL)
    return folder


def read(folder: Path, baseline: str | None = None) -> Study:
    ((path, records),) = find_groups(folder)
    return collect(path, records, baseline)


def verdicts(found: Findings) -> dict[str, str]:
    return {row.arm.label: row.verdict for row in found.rows} | {j.evidence.text: j.verdict for j in found.judged}


def test_arms_of_before_and_after_a_change_get_no_verdict(changed: Path) -> None:
    found = analyse(read(changed))
    assert verdicts(found) == {
        **{"baseline": "", "batchnorm": "better", "dropout": APART, "combined": APART},
        **{CLAIMS[0]: "holds", CLAIMS[1]: "not comparable", CLAIMS[2]: "holds"},
    }
    assert [row.difference is None for row in found.rows] == [True, False, True, True]
    assert found.judged[1].remark == "combined and batchnorm, epochs 3ep and 6ep"
    assert found.effects == [] and list(found.class_differences) == ["batchnorm"]
    assert [one.arm.arm.label for one in found.disagreements] == ["batchnorm"]
    assert [family.tests for family in found.families] == [1, 1, 0]


@pytest.mark.integration
def test_the_report_says_so_everywhere(changed: Path, tmp_path: Path) -> None:
    made = report.write(changed, figures=False)
    tables = changed / "report" / "tables"
    said = {row["arm"]: row for row in rows_of(tables / "comparison.csv")}
    assert said["dropout"]["verdict"] == APART and said["dropout"]["difference_mean_points"] == ""
    assert said["dropout"]["test_accuracy_mean_percent"] != ""
    assert [row["verdict"] for row in rows_of(tables / "claims.csv")] == ["holds", "not comparable", "holds"]
    text = made.terminal
    assert (
        "Better than baseline: batchnorm. Not comparable with baseline: dropout, combined (epochs 3ep and 6ep)." in text
    )
    assert "Claims: 2 hold, 1 not comparable." in text
    assert "Not compared with baseline: dropout, combined (epochs 3ep and 6ep)." in text
    again = "cnnexp train +study=demo"
    assert f"Make all arms with the same settings; runs that have them are not repeated:\n  {again}\n" in text
    page = made.index.read_text()
    assert "Mixed settings" in page and "2 arms have other settings than baseline: not compared." in page
    assert "Not comparable with baseline: dropout, combined (epochs 3ep and 6ep)." in page and APART in page
    assert wrong(changed) == [] and len(check(changed)) > 300
    assert verify(changed, changed / "report").wrong == []


def test_no_more_seeds_are_made_of_arms_that_cannot_be_compared(
    changed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {question.text: question for question in questions(analyse(read(changed)))}
    apart = [asked["dropout"], asked["combined"], asked[CLAIMS[1]]]
    assert not any(question.decided or is_open(question, 10) for question in apart)
    print_end([*asked.values()], 3, 10)
    said = capsys.readouterr().out
    assert "3 of 6 questions decided" in said and f"undecided: dropout: {APART}\n" in said


@pytest.mark.integration
def test_earlier_runs_of_an_arm_are_left_out_with_what_has_changed(changed: Path, tmp_path: Path) -> None:
    old = write_run(tmp_path, "baseline", 0, 0.99, fingerprint="0ld")
    with old.held():
        old.info.pop("files", None)
        old.write_config({"seed": 0, **OLD, "batch_size": 4})
        old.update(changes=[], status="done")
    (left,) = read(changed).left_out
    assert left.status == "superseded"
    assert left.reason == "made with other settings than its arm has now: epochs 3ep, now 6ep; batch_size 4, now none"
    made = report.write(changed, figures=False)
    for text in (made.terminal, made.index.read_text().replace("&#39;", "'")):
        assert "1 superseded run: made with earlier settings, data or code." in text
        assert (
            f"`cnnexp runs {changed}` lists them, and `cnnexp gc {changed} --superseded --delete` deletes them" in text
        )


def test_all_arms_made_again_are_compared(changed: Path) -> None:
    configure(changed, dict.fromkeys(ARMS, NEW), FACTORIAL)
    found = analyse(read(changed))
    assert found.effects and not any("not comparable" in verdict for verdict in verdicts(found).values())
    assert not any("Not compared" in note for note in found.study.notes)


@pytest.mark.integration
def test_an_old_baseline_is_compared_with_old_arms_only(changed: Path) -> None:
    found = analyse(read(changed, "dropout"))
    assert found.rows[0].arm.label == "dropout"
    assert verdicts(found) | {CLAIMS[1]: ""} == {
        **{"dropout": "", "combined": "better", "baseline": "not comparable: epochs 6ep and 3ep"},
        **{"batchnorm": "not comparable: epochs 6ep and 3ep", CLAIMS[0]: "holds", CLAIMS[1]: "", CLAIMS[2]: "holds"},
    }


def test_a_sweep_over_the_setting_is_compared(tmp_path: Path) -> None:
    arms = {"epochs=3ep": (0.5, 0.3, 60.0), "epochs=6ep": (0.6, 0.3, 60.0)}
    folder = write_study(tmp_path, arms, baseline="epochs=3ep")
    configure(folder, {"epochs=3ep": OLD, "epochs=6ep": NEW}, {name: [name] for name in arms})
    assert verdicts(analyse(read(folder))) == {"epochs=3ep": "", "epochs=6ep": "better"}


def test_an_arm_that_sets_it_is_compared_with_a_baseline_that_does_not(tmp_path: Path) -> None:
    folder = write_study(tmp_path, {"baseline": (0.5, 0.3, 60.0), "longer": (0.6, 0.3, 60.0)})
    configure(folder, {"baseline": OLD, "longer": NEW}, {"longer": ["epochs=6ep"]})
    assert verdicts(analyse(read(folder)))["longer"] == "better"


def test_two_configs_of_one_arm_are_compared_if_asked_for(tmp_path: Path) -> None:
    for fingerprint, config, accuracy in (("0ld", OLD, 0.5), ("new", NEW, 0.7)):
        for seed in range(3):
            run = write_run(
                tmp_path, "norm", seed, accuracy + 0.01 * seed * (fingerprint == "new"), fingerprint=fingerprint
            )
            run.write_config({"seed": seed, **config})
            run.update(files={}, changes=[])
    found = analyse(read(tmp_path / "demo", "norm (epochs=3ep)"))
    assert found.rows[1].arm.label == "norm (epochs=6ep)" and found.rows[1].difference is not None


def arm(tmp_path: Path, name: str, changes: Sequence[str], config: Mapping[str, Any], **data: Any) -> Arm:
    run = write_run(tmp_path, name)
    run.write_config({"seed": 0, **config})
    run.update(files={}, changes=list(changes))
    return next(one for one in read(tmp_path / "demo").arms if one.name == name)


TORCHVISION, TIMM = "cnnexp.models.zoo.torchvision_model", "cnnexp.models.zoo.timm_model"


@pytest.mark.parametrize(
    ("changes", "config", "expected"),
    [
        ([], {"data": {"size": 16}}, ["data.size"]),
        (["data.size=16"], {"data": {"size": 16}}, []),
        (["data=other"], {"data": {"size": 16}, "epochs": "9ep"}, []),  # a data set's file may set any
        (["+preset=small"], {"epochs": "9ep"}, []),
        (["model=resnet18"], {"model": {"_target_": TORCHVISION}, "data": {"size": 16}}, ["data.size"]),
        (["model=timm"], {"model": {"_target_": TIMM}, "data": {"size": 16}}, []),  # its own config names the size
        (["model=mine"], {"model": {"_target_": "mine.net"}, "data": {"size": 16}}, []),
        (["model.norm=batch"], {"model": {"norm": "batch", "_target_": TIMM}}, ["model._target_"]),
        (["model.dropout={fc: 0.5}"], {"model": {"dropout": {"fc": 0.5}}}, []),
        (["model.dropout.fc=0.5"], {"model": {"dropout": 0.5}}, []),
        ([], {"log": {"steps": "1st"}, "device": {"threads": 2}, "data": {"root": "/b", "fold": 3}}, []),
    ],
)  # fmt: skip
def test_which_settings_set_two_arms_apart(
    tmp_path: Path, changes: list[str], config: dict[str, Any], expected: list[str]
) -> None:
    base = {"data": {"size": 8}, "model": {"_target_": TORCHVISION}}
    whole = {key: {**base.get(key, {}), **value} if isinstance(value, dict) else value for key, value in config.items()}
    first, second = arm(tmp_path, "baseline", [], base), arm(tmp_path, "other", changes, {**base, **whole})
    assert sorted(settings_apart(second, first)) == sorted(settings_apart(first, second)) == sorted(expected)


def test_many_and_long_values_are_shortened(tmp_path: Path) -> None:
    first = arm(tmp_path, "baseline", [], {"model": {"blocks": ["fc"] * 9}, "epochs": "3ep"})
    second = arm(tmp_path, "other", [], {"model": {"blocks": []}, "epochs": "6ep", "batch_size": 8, "clip_norm": 1.0})
    assert why_not(second, first) == "not comparable: model.blocks; epochs 6ep and 3ep and 2 more"


@pytest.mark.integration
def test_without_a_config_nothing_is_known(changed: Path) -> None:
    for run in find_runs(changed):
        (run.folder / "config.yaml").unlink()
    assert verdicts(analyse(read(changed)))["dropout"] == "better"


@pytest.mark.integration
def test_no_command_is_advised_where_none_is_known(changed: Path) -> None:
    content = storage.read_json(changed / "study.json")
    storage.write_json(changed / "study.json", {**content, "command": "cnnexp train -m model.norm=none,batch"})
    assert "Make all arms" not in report.write(changed, figures=False).terminal
