"""Runs until a study is decided: what each round makes, when arms stop, and that an interruption changes nothing."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_records import write_run
from omegaconf import OmegaConf
from tiny import TINY

from cnnexp import cli
from cnnexp.config.flags import read
from cnnexp.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_PREEMPTED, EXIT_SOME_FAILED, UserError
from cnnexp.records.fields import FINAL
from cnnexp.records.names import run_folder
from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.records.study import read_crossings, read_looks, read_plan, read_study
from cnnexp.report.look import look
from cnnexp.sweep.study import write_studies
from cnnexp.sweep.until import Sweep, seed_word, show_rounds, until_decided
from cnnexp.training.plan import Plan

pytestmark = pytest.mark.integration

CLAIMS = ["large > small"]
GAINS = {"baseline": 0.0, "large": 0.2, "small": 0.06, "nothing": 0.0}
NOISE = {"baseline": 0.01, "large": 0.01, "small": 0.04, "nothing": 0.02}


def plans(outputs: Path, seeds: int = 12, baseline: str | None = "baseline", claims: Any = CLAIMS) -> list[Plan]:
    """Return the runs of a study of all arms of GAINS, which no run can be made of."""
    study = {"name": "demo", "question": "", "baseline": baseline, "reported": None, "source": None, "claims": claims}
    found = []
    for seed in range(seeds):
        for arm in GAINS:
            config = {"study": {**study, "arm": arm, "seeds": None}, "seed": seed}
            folder = run_folder(outputs, "demo", arm, seed, f"f-{arm}")
            found.append(Plan(config, [], [], {}, f"f-{arm}", folder, "cnnexp train", choices={"arm": arm}))
    return found


def accuracy(plan: Plan) -> float:
    """Return the accuracy of a run, which is the same however often it is made."""
    noise = np.random.default_rng([plan.seed, *map(ord, plan.arm)]).normal()
    return float(0.5 + GAINS[plan.arm] + NOISE[plan.arm] * noise)


@dataclass
class Pretended:
    """Makes runs by writing their records. fails: those that fail. stop_after: so many runs, then it ends with `code`.

    diverges: those that diverge, as "arm seed". rounds: the runs that were asked for, as "arm seed".
    """

    every: int = 12
    fails: Callable[[Plan], bool] = lambda plan: False
    stop_after: int = 10_000
    code: int = EXIT_INTERRUPTED
    made: int = 0
    diverges: Set[str] = frozenset()
    rounds: list[list[str]] = field(default_factory=list)

    def finish(self, here: list[Plan], budget: int | None) -> int:
        left = [plan for plan in here if plan.record().info.get("status") not in FINAL]
        self.rounds.append([f"{plan.arm} {plan.seed}" for plan in left])
        failed = False
        for plan in left:
            if self.made == self.stop_after:
                return self.code
            self.made += 1
            failed |= (bad := self.fails(plan))
            status = "failed" if bad else "diverged" if f"{plan.arm} {plan.seed}" in self.diverges else "done"
            write_run(plan.folder.parent.parent, plan.arm, plan.seed, accuracy(plan), fingerprint=plan.fingerprint,
                      status=status, images=1000)  # fmt: skip
        return EXIT_SOME_FAILED if failed or self.diverges else EXIT_DONE

    def sweep(self) -> Sweep:
        return Sweep(lambda here: write_studies(here, "cnnexp train", tuple(range(self.every))), self.finish)


def recorded(folder: Path) -> tuple[list[Mapping[str, Any]], Mapping[str, Any]]:
    """Return the looks at a study, without their times, and what they have decided."""
    study = read_study(folder) or {}
    return [made["seeds"] for made in read_looks(study)], read_crossings(study)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pretended]:
    outputs = tmp_path_factory.mktemp("undisturbed")
    pretended = Pretended()
    assert until_decided(plans(outputs), pretended.sweep()) == EXIT_DONE
    return outputs, pretended


def test_rounds_go_seed_by_seed_and_arms_stop_when_decided(
    undisturbed: tuple[Path, Pretended], capsys: pytest.CaptureFixture[str]
) -> None:
    outputs, pretended = undisturbed
    assert pretended.rounds[0] == [f"{arm} {seed}" for seed in range(3) for arm in GAINS], (
        "all arms up to the first look"
    )
    assert all(len({run.split()[1] for run in made}) == 1 for made in pretended.rounds[1:]), "then a seed at a time"
    count = {arm: sum(run.info["arm"] == arm for run in find_runs(outputs / "demo")) for arm in GAINS}
    assert count["large"] < count["baseline"] == max(count.values()) < 12
    decided = recorded(outputs / "demo")[1]
    assert any("large" in name and "baseline" in name for name in decided)
    assert not any("nothing" in name for name in decided)
    looks = recorded(outputs / "demo")[0]
    assert [max(map(len, made.values())) for made in looks] == list(range(3, 3 + len(pretended.rounds)))
    plan = read_plan(read_study(outputs / "demo") or {})
    assert plan and plan.every_seed and plan.seeds == tuple(range(12))


def test_an_arm_goes_on_while_an_open_claim_names_it(undisturbed: tuple[Path, Pretended]) -> None:
    pretended = undisturbed[1]
    for made in pretended.rounds[1:]:
        asked = {run.split()[0] for run in made}
        assert "baseline" in asked and ("large" not in asked or "small" in asked)


@pytest.mark.parametrize("stop_after", [1, 5, 11, 12, 13, 17, 20])
def test_an_interrupted_command_goes_on_with_the_same_looks(
    tmp_path: Path, undisturbed: tuple[Path, Pretended], stop_after: int
) -> None:
    first = Pretended(stop_after=stop_after)
    assert until_decided(plans(tmp_path), first.sweep()) == EXIT_INTERRUPTED and first.made == stop_after
    assert until_decided(plans(tmp_path), (again := Pretended()).sweep()) == EXIT_DONE
    assert recorded(tmp_path / "demo") == recorded(undisturbed[0] / "demo")
    assert first.made + again.made == undisturbed[1].made, "no run is made twice"
    until_decided(plans(tmp_path), (third := Pretended()).sweep())
    assert third.rounds == [] and recorded(tmp_path / "demo") == recorded(undisturbed[0] / "demo"), "nothing is left"


def test_each_interruption_between_any_two_runs_leads_to_the_same(
    tmp_path: Path, undisturbed: tuple[Path, Pretended]
) -> None:
    for _ in range(undisturbed[1].made + 1):
        code = until_decided(plans(tmp_path), Pretended(stop_after=1, code=EXIT_PREEMPTED).sweep())
    assert code == EXIT_DONE and recorded(tmp_path / "demo") == recorded(undisturbed[0] / "demo")


def test_a_report_on_the_way_does_not_change_which_seeds_a_look_has(
    tmp_path: Path, undisturbed: tuple[Path, Pretended]
) -> None:
    until_decided(plans(tmp_path), Pretended(stop_after=14).sweep())
    look(tmp_path / "demo")
    until_decided(plans(tmp_path), Pretended().sweep())
    looks = recorded(tmp_path / "demo")[0]
    assert [made for made in recorded(undisturbed[0] / "demo")[0] if made not in looks] == []


def test_a_failing_arm_does_not_keep_a_study_going(tmp_path: Path) -> None:
    pretended = Pretended(fails=lambda plan: plan.arm == "nothing")
    assert until_decided(plans(tmp_path), pretended.sweep()) == EXIT_SOME_FAILED
    assert not any("nothing" in run for made in pretended.rounds[1:] for run in made), "after three failures it stops"
    assert any("small" in run for made in pretended.rounds[1:] for run in made)


def test_nothing_is_decided_and_nothing_goes_on_if_all_runs_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretended = Pretended(fails=lambda plan: True)
    assert until_decided(plans(tmp_path), pretended.sweep()) == EXIT_SOME_FAILED and len(pretended.rounds) == 1
    assert "0 of 1 question decided" in capsys.readouterr().out
    assert until_decided(plans(tmp_path), Pretended().sweep()) == EXIT_DONE, "the same command makes failed runs again"
    assert recorded(tmp_path / "demo")[1]


def test_diverged_runs_give_the_exit_code_of_other_sweeps_each_time(tmp_path: Path) -> None:
    diverge = {"large 1"}
    first = Pretended(diverges=diverge)
    assert until_decided(plans(tmp_path), first.sweep()) == EXIT_SOME_FAILED
    assert until_decided(plans(tmp_path), (again := Pretended()).sweep()) == EXIT_SOME_FAILED and again.made == 0


def test_a_question_that_diverged_runs_keep_open_is_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pretended = Pretended(diverges={"large 1"})
    until_decided(plans(tmp_path), pretended.sweep())
    large = [run for made in pretended.rounds for run in made if run.startswith("large")]
    assert large == [f"large {seed}" for seed in range(4)], "three of them have a result, and then it stops"
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("undecided: large:"))
    assert line == "undecided: large: not decided (1 diverged) with 3 seeds"


def test_a_final_plan_is_extended_by_the_arms_that_are_not_decided(tmp_path: Path) -> None:
    fixed = plans(tmp_path, seeds=5)
    write_studies(fixed, "cnnexp train")
    Pretended().finish(fixed, None)
    look(tmp_path / "demo")
    final = recorded(tmp_path / "demo")[1]
    assert until_decided(plans(tmp_path), (pretended := Pretended()).sweep()) == EXIT_DONE
    assert final and recorded(tmp_path / "demo")[1].items() >= final.items(), "what is final stays"
    assert pretended.rounds[0][0] == "baseline 5" and not any("large" in run for run in pretended.rounds[0])


def test_a_failure_with_fail_fast_ends_it(tmp_path: Path) -> None:
    pretended = Pretended(fails=lambda plan: plan.seed == 1)
    assert until_decided(plans(tmp_path), pretended.sweep(), fail_fast=True) == EXIT_SOME_FAILED
    assert len(pretended.rounds) == 1 and recorded(tmp_path / "demo")[0] == []


def test_at_the_last_seed_it_says_what_is_undecided_and_what_would_decide(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert until_decided(plans(tmp_path, seeds=3), Pretended(every=3).sweep()) == EXIT_DONE
    printed = capsys.readouterr().out
    assert "look at 3 seeds: decided: large (better)" in printed
    assert "undecided: nothing: within noise with 3 seeds; needs about 24 if they go on like this" in printed
    assert (
        "2 of 4 questions decided, with 3 of at most 3 seeds" in printed
        and "Difference: points against the baseline" in printed
    )


def test_no_seeds_are_advised_where_no_network_learned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "accuracy", lambda plan: 0.1 + 0.001 * (plan.seed % 3))
    assert until_decided(plans(tmp_path, seeds=3), Pretended(every=3).sweep()) == EXIT_DONE
    printed = capsys.readouterr().out
    assert "Nothing shows that a network learned: every run is at chance" in printed
    assert "undecided: nothing: " in printed and "if they go on like this" not in printed
    assert "look at 3 seeds: decided: nothing new; open: " in printed and "going on" not in printed


def test_a_plan_that_was_looked_at_before_keeps_its_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs, fixed = tmp_path, plans(tmp_path, seeds=5)
    write_studies(fixed, "cnnexp train")
    Pretended().finish(fixed[:8], None)
    look(outputs / "demo")
    pretended = Pretended()
    assert until_decided(plans(outputs), pretended.sweep()) == EXIT_DONE
    assert "demo was looked at with a plan of 5 seeds: that stays, and further" in capsys.readouterr().out
    study = read_study(outputs / "demo") or {}
    plan = read_plan(study)
    assert plan and plan.seeds == (0, 1, 2, 3, 4) and not plan.every_seed
    assert {crossing.rule for crossing in read_crossings(study).values()} <= {"planned seeds", "extended plan"}
    assert pretended.rounds[0] == [f"{arm} {seed}" for seed in range(2, 5) for arm in GAINS], "first the planned seeds"
    with pytest.raises(UserError, match=r"--max-seeds: given 3; .*demo was looked at with a plan of 5 seeds"):
        until_decided(plans(outputs, seeds=3), Pretended().sweep())


def test_it_counts_the_runs_that_may_be_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_rounds(plans(tmp_path), list, 2)
    assert "until all is decided, with 12 seeds at most: 12 to 48 runs, an unknown time" in capsys.readouterr().out
    assert not (tmp_path / "demo").exists(), "nothing is written"
    until_decided(plans(tmp_path), Pretended(stop_after=13).sweep())
    before = recorded(tmp_path / "demo")
    capsys.readouterr()
    show_rounds(plans(tmp_path), list, 2)
    printed = capsys.readouterr().out
    assert "look at 3 seeds: decided: large (better)" in printed and "then a look at 4 seeds" in printed
    assert "3 to 35 runs, about 2 min to 19 min" in printed and recorded(tmp_path / "demo") == before


@pytest.mark.parametrize(
    ("baseline", "claims", "match"),
    [
        (None, [], "neither a baseline nor claims"),
        ("other", CLAIMS, "the baseline 'other' is not among the arms of this command: baseline, large"),
    ],
)
def test_a_study_with_nothing_to_decide_is_refused(tmp_path: Path, baseline: str, claims: Any, match: str) -> None:
    with pytest.raises(UserError, match=match):
        until_decided(plans(tmp_path, 3, baseline, claims), Pretended().sweep())
    assert not (tmp_path / "demo").exists()


def test_one_arm_is_refused(tmp_path: Path) -> None:
    alone = [plan for plan in plans(tmp_path) if plan.arm == "baseline"]
    with pytest.raises(UserError, match="there is one arm, baseline, and so nothing to compare; add arms"):
        until_decided(alone, Pretended().sweep())


def test_a_study_without_a_baseline_runs_until_its_claims_are_decided(tmp_path: Path) -> None:
    assert until_decided(plans(tmp_path, baseline=None), (pretended := Pretended()).sweep()) == EXIT_DONE
    assert pretended.rounds[0] == [f"{arm} {seed}" for seed in range(3) for arm in GAINS]
    assert all(run.split()[0] in ("large", "small") for made in pretended.rounds[1:] for run in made)
    (decided,) = recorded(tmp_path / "demo")[1]
    assert "large" in decided and "small" in decided


def test_seeds_that_are_done_before_are_looked_at_one_by_one(
    tmp_path: Path, undisturbed: tuple[Path, Pretended]
) -> None:
    before = [plan for plan in plans(tmp_path) if plan.seed < 5]
    write_studies(before, "cnnexp train")
    Pretended().finish(before, None)
    assert until_decided(plans(tmp_path), (pretended := Pretended()).sweep()) == EXIT_DONE
    assert all(int(run.split()[1]) >= 5 for made in pretended.rounds for run in made)
    looks, decided = recorded(tmp_path / "demo")
    assert decided == recorded(undisturbed[0] / "demo")[1]
    assert [len(max(made.values(), key=len)) for made in looks] == list(range(3, 3 + len(looks)))


def test_the_order_of_the_seeds_is_the_same_when_it_goes_on(tmp_path: Path) -> None:
    composed = OmegaConf.create({"outputs": str(tmp_path), "study": {"name": "demo", "seeds": [7, 5]}})
    assert seed_word([], composed, 4) == "seed=7,5,0,1"
    first = [plan for plan in plans(tmp_path) if plan.seed in (7, 5, 0, 1)]
    write_studies(first, "cnnexp train", every_seed=(7, 5, 0, 1))
    assert seed_word([], composed, 4) == "seed=7,5,0,1" and seed_word([], composed, 6) == "seed=7,5,0,1,2,3"


def test_a_stopped_question_is_not_provisional_at_the_end_and_goes_on_if_more_seeds_are_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert until_decided(plans(tmp_path, seeds=4), Pretended(every=4).sweep()) == EXIT_DONE
    assert "provisional" not in capsys.readouterr().out
    assert (read_study(tmp_path / "demo") or {})["plan"]["ended"] is True
    assert until_decided(plans(tmp_path), (more := Pretended()).sweep()) == EXIT_DONE
    assert more.rounds and all(int(run.split()[1]) >= 3 for made in more.rounds for run in made)
    assert read_plan(read_study(tmp_path / "demo") or {}).seeds == (0, 1, 2, 3)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--until-decided", "--max-seeds", "2"], "--max-seeds: given '2'; allowed: a whole number from 3"),
        (["--until-decided", "--max-seeds"], "--max-seeds: given ''"),
        (["--until-decided", "--max-seeds=many"], "--max-seeds: given 'many'"),
        (["--max-seeds=5"], "--max-seeds: belongs to --until-decided"),
        (["--until-decided=yes"], "--until-decided takes no value"),
        (["--until-decided", "--cfg", "job"], "prints one run's config"),
    ],
)
def test_a_wrong_flag_is_one_line(words: list[str], match: str) -> None:
    with pytest.raises(UserError, match=match):
        read(words)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["seed=1,2"], "seed: given with --until-decided, which chooses the seeds"),
        (["study.seeds=5"], "study.seeds: given 5; allowed: a list of whole numbers or null"),
        (["cluster=slurm"], "--until-decided: works with cluster=local only, because it looks after each seed"),
        (
            ["cluster=by_hand", "--plan"],
            "--until-decided: works with cluster=local only, because it looks after each seed",
        ),
    ],
)
def test_what_does_not_go_with_it_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], match: str
) -> None:
    assert cli.main(["train", "+study=ablation", "--until-decided", *words, f"outputs={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert match in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_ctrl_c_ends_it_and_the_same_command_goes_on(tmp_path: Path) -> None:
    words = ["train", "-m", "--until-decided", "--max-seeds=4", *TINY, "model.norm=none,batch", f"outputs={tmp_path}"]
    words += ["study.name=norm", "study.baseline=model.norm=none", "slots=cpu:1"]
    command = [sys.executable, "-m", "cnnexp", *(word for word in words if word != "model.norm=batch")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if line.startswith("[2/6]"):
                process.send_signal(signal.SIGINT)
    assert process.returncode == EXIT_INTERRUPTED and recorded(tmp_path / "norm")[0] == []
    done = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(r"^6 runs, [2345] done before", done, re.MULTILINE) and "look at 3 seeds" in done
    assert [len(max(made.values(), key=len)) for made in recorded(tmp_path / "norm")[0]] in ([3], [3, 4])


@pytest.mark.slow
def test_real_runs_until_decided(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["train", "-m", "--until-decided", "--max-seeds=4", *TINY, "model.norm=none,batch", f"outputs={tmp_path}"]
    words += ["study.name=norm", "study.baseline=model.norm=none", "study.seeds=[7]", "slots=cpu:1"]
    assert cli.main([word for word in words if word != "model.norm=batch"]) == 0
    printed = capfd.readouterr().out
    assert "look at 3 seeds" in printed and "compare them" not in printed
    runs = [RunRecord.read(run.folder).info for run in find_runs(tmp_path / "norm")]
    assert {run["seed"] for run in runs} in ({7, 0, 1}, {7, 0, 1, 2}) and {run["status"] for run in runs} == {"done"}
    looks = recorded(tmp_path / "norm")
    assert cli.main([word for word in words if word != "model.norm=batch"]) == 0, "again: nothing is made"
    assert recorded(tmp_path / "norm") == looks and "done before" not in capfd.readouterr().out
