"""plan.json: the same plans come back, wherever the folder is seen; and nothing else passes for one."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plain_plans import finish, plain_plan

from cnnexp import storage
from cnnexp.errors import UserError
from cnnexp.sweep import plan_file
from cnnexp.sweep.plan_file import read_plans, write_plans
from cnnexp.sweep.study import write_studies
from cnnexp.training.plan import Plan

Plans = Callable[..., Plan]


def replan(plan: Plan, **study: Any) -> Plan:
    """Return a plan with other entries of its study."""
    plan.config["study"].update(study)
    return plan


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """Go to an empty folder, and back in the end."""
    (tmp_path / "here").mkdir()
    with contextlib.chdir(tmp_path / "here"):
        yield tmp_path / "here"


def test_plans_come_back_where_they_were_planned_and_elsewhere(plan: Plans, here: Path, tmp_path: Path) -> None:
    first = plan("outputs=results", "study.name=first")
    then = plan("outputs=results", "study.name=study", "seed=1", "model.norm=none", "study.reported={a: .5}")
    then.upstream, then.config["model"]["weights"] = first, str(first.folder)
    write_studies([then], "")
    write_plans([then])
    os.chdir(tmp_path)
    assert read_plans(here / "results" / "study") == ([then], {first.folder: None, then.folder: None})
    assert Path.cwd() == here, "relative paths are those of the planning command"

    os.chdir(tmp_path)
    (here / "results").rename(tmp_path / "elsewhere")
    ((moved,), before) = read_plans(Path("elsewhere/study"))
    assert moved.folder == tmp_path / "elsewhere" / "study" / then.folder.name and moved.upstream is not None
    assert set(before) == {moved.folder, moved.upstream.folder}
    assert moved.config["model"]["weights"] == str(moved.upstream.folder)
    assert moved.upstream.folder == tmp_path / "elsewhere" / "first" / first.folder.name
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize("outputs", ["relative", "absolute"])
def test_where_the_folder_of_the_planning_command_is_missing(
    plan: Plans, here: Path, tmp_path: Path, outputs: str
) -> None:
    shared = tmp_path / "shared"
    planned = plan(f"outputs={shared if outputs == 'absolute' else '../shared'}", "study.name=study")
    write_studies([planned], "")
    write_plans([planned])
    os.chdir(shared)
    here.rename(tmp_path / "gone")
    ((found,), _) = read_plans(Path("study"))
    assert (Path.cwd(), found.folder) == (shared, shared / "study" / planned.folder.name)


def test_a_later_command_adds_its_runs_and_drops_those_that_are_done_or_superseded(tmp_path: Path) -> None:
    def planned(arm: str, seed: int, fingerprint: str) -> Plan:
        made = plain_plan(tmp_path, arm, seed)
        made.fingerprint, made.folder = fingerprint, tmp_path / "s" / f"{arm}-s{seed}-{fingerprint}"
        made.choices = {"arm": arm}
        made.config["study"].update(dict.fromkeys(("question", "baseline", "reported", "source", "claims")))
        return made

    def ask(*plans: Plan) -> set[str]:
        write_studies(plans, "")
        write_plans(plans)
        return {plan.folder.name for plan in read_plans(tmp_path / "s")[0]}

    done, left, other = planned("a", 0, "0" * 10), planned("a", 1, "0" * 10), planned("b", 0, "1" * 10)
    assert ask(done, left) == {done.folder.name, left.folder.name}
    done.folder.mkdir(parents=True)
    storage.write_json(done.folder / "run.json", {"status": "done", "finished": "then"})
    assert ask(other) == {left.folder.name, other.folder.name}
    assert ask(planned("a", 0, "2" * 10)) == {other.folder.name, "a-s0-2222222222"}


def test_runs_that_another_version_has_planned_are_planned_again_or_left_out(tmp_path: Path) -> None:
    old, new = plain_plan(tmp_path, "old"), plain_plan(tmp_path, "new")
    for plan in (old, new):
        replan(plan, **dict.fromkeys(("question", "baseline", "reported", "source", "claims")))
    write_studies([old], "")
    write_plans([old])
    spoil(tmp_path / "s", lambda content: run_of(content)["config"].pop("tracker"))
    write_studies([new], "")
    write_plans([new])
    assert [plan.arm for plan in read_plans(tmp_path / "s")[0]] == ["new"]
    write_plans([old])
    assert [plan.arm for plan in read_plans(tmp_path / "s")[0]] == ["new", "old"]


def test_it_says_when_the_last_attempt_had_ended(tmp_path: Path) -> None:
    failed = plain_plan(tmp_path, "a")
    finish(failed, "failed")
    write_plans([failed])
    assert read_plans(tmp_path / "s")[1] == {failed.folder: failed.record().info["finished"]}


def spoil(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change plan.json as someone might who knows of checksums."""
    content = storage.read_json(folder / "plan.json")
    change(content)
    storage.write_json(folder / "plan.json", content)


def run_of(content: dict[str, Any]) -> dict[str, Any]:
    """Return the one run of a plan.json."""
    (entry,) = content["runs"].values()
    return entry["plan"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(runs=[]), "is not a plan"),
        (lambda content: content.pop("cwd"), "is not a plan"),
        (lambda content: content["runs"].update(a=3), "is not a plan"),
        (lambda content: run_of(content).pop("config"), "is not a plan"),
        (lambda content: run_of(content).update(more=1), "is not a plan"),
        (lambda content: content.update(runs={}), r"is not a plan \(it has no run\)"),
        (lambda content: run_of(content)["config"].pop("tracker"), r"is not a plan \(config: lacks tracker\)"),
        (lambda content: run_of(content)["facts"].pop("device"), r"is not a plan \(facts: lacks device\)"),
        *[
            (lambda content, name=name: run_of(content).update({name: 3}), rf"is not a plan \({name}: given 3\)")
            for name in plan_file.KINDS
        ],
        (lambda content: run_of(content).update(folder="../x"), "is not a plan"),
        (lambda content: run_of(content).update(folder="/etc/passwd/x"), "is not a plan"),
        (lambda content: run_of(content).update(folder="s/../../x"), "is not a plan"),
        (
            lambda content: run_of(content).update(folder="/evil"),
            r"is not a plan \(/evil: a run's folder is STUDY/RUN\)",
        ),
        (lambda content: run_of(content).update(folder="other/x"), r"is not a plan \(other/x: lies in another study"),
        (lambda content: run_of(content).update(folder="s"), "is not a plan"),
        (
            lambda content: run_of(content).update(upstream={**run_of(content), "folder": "/evil"}),
            r"is not a plan \(/evil: ",
        ),
        (
            lambda content: run_of(content).update(upstream={**run_of(content), "folder": "s/.."}),
            r"is not a plan \(s/\.\.: ",
        ),
    ],
)
def test_what_is_not_a_plan_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    write_plans([plain_plan(tmp_path, "a")])
    spoil(tmp_path / "s", change)
    with pytest.raises(UserError, match=rf"plan\.json: {message}"):
        read_plans(tmp_path / "s")


def test_a_missing_or_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no plan\.json; `cnnexp train` writes it"):
        read_plans(tmp_path)
    write_plans([plain_plan(tmp_path, "a")])
    file = tmp_path / "s" / plan_file.NAME
    file.write_bytes(file.read_bytes().replace(b"cpu", b"gpu"))
    with pytest.raises(storage.Damaged):
        read_plans(tmp_path / "s")
    write_plans([plain_plan(tmp_path, "b")])
    assert [plan.arm for plan in read_plans(tmp_path / "s")[0]] == ["b"], "written again"


def test_it_is_small(plan: Plans, tmp_path: Path) -> None:
    planned = plan()
    assert len(json.dumps(plan_file.as_json(planned, planned.folder.parent.parent))) < 5000
    assert os.sep not in planned.folder.name
