"""`--until-decided`: make the runs of the next seed, look at the study, and again, until what it asks is decided.

Every look is at the first n seeds, as if no other run were done. So a command that goes on after an interruption sees
the same looks, in the same order, and decides the same.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from cnnexp.config.words import key_of
from cnnexp.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_PREEMPTED, EXIT_SOME_FAILED, UserError
from cnnexp.records.names import study_folder
from cnnexp.records.study import end_plan, read_looks, read_plan, read_study
from cnnexp.report.analysis.compare import nothing_learned
from cnnexp.report.analysis.findings import Findings, Question, analyse, questions
from cnnexp.report.analysis.outlook import MOST_SEEDS
from cnnexp.report.analysis.sequential import FIRST_LOOK
from cnnexp.report.look import look, seeds_by_arm
from cnnexp.report.read.collect import collect, find_groups
from cnnexp.report.render.tables import tables_of
from cnnexp.report.render.write import terminal
from cnnexp.sweep.times import Times
from cnnexp.text import at_home, duration, plural, visible
from cnnexp.training.plan import Plan, unfinished

MIN_CHANCE = 0.1  # a question stops when the seeds that are left decide it with a smaller chance


@dataclass(frozen=True)
class Sweep:
    """How planned runs are made. write: records that the study calls for them. finish: makes them within seconds."""

    write: Callable[[list[Plan]], None]
    finish: Callable[[list[Plan], int | None], int]


class Rounds:
    """The runs of a study by rounds: those up to the first look, then those of one seed each.

    plans: of all arms and seeds that may be needed. going: the arms that the next round is for.
    """

    def __init__(self, plans: list[Plan]):
        self.plans, self.folder = plans, check_study(plans)
        self.seeds = list(dict.fromkeys(plan.seed for plan in plans))
        self.going = list(dict.fromkeys(plan.arm for plan in plans))
        self.first = FIRST_LOOK
        self.answered: set[str] = set()

    def plan_first_look(self) -> None:
        """Find at how many seeds study.json allows the first look. Raises UserError if they are too many."""
        planned = read_plan(read_study(self.folder) or {})
        self.first = FIRST_LOOK if planned is None or planned.every_seed else max(FIRST_LOOK, len(planned.seeds))
        if planned and set(planned.seeds) < set(self.seeds):
            seeds = plural(len(planned.seeds), "seed")
            print(f"{self.folder} was looked at with a plan of {seeds}: that stays, and further seeds extend it")
        if self.first > len(self.seeds):
            raise UserError(
                f"--max-seeds: given {len(self.seeds)}; {self.folder} was looked at with a plan of {self.first} seeds; "
                f"allowed: {self.first} or more"
            )

    def of_round(self, count: int) -> list[Plan]:
        """Return the runs that a look at `count` seeds needs, after the look before."""
        seeds = self.seeds[:count] if count == self.first else self.seeds[count - 1 : count]
        return [plan for plan in self.plans if plan.seed in seeds and plan.arm in self.going]

    def judge(self, findings: Findings, count: int) -> tuple[list[Question], list[str]]:
        """Return the open questions after a look at `count` seeds, and what it decided, in words; set `going`.

        An arm goes on while an open question names it, and the baseline while any is open.
        """
        asked, news = questions(findings), list[str]()
        for question in asked:
            if question.decided and question.text not in self.answered:
                self.answered.add(question.text)
                news.append(f"{question.text} ({question.verdict})")
        alive = {arm.name for arm in findings.arms if arm.runs} & set(self.going)
        left = len(self.seeds) - count
        found = [question for question in asked if alive.issuperset(question.arms) and is_open(question, left)]
        named = {arm for question in found for arm in question.arms} | {self.plans[0].config["study"]["baseline"]}
        self.going = [arm for arm in self.going if arm in named and found]
        return found, news


def is_open(question: Question, left: int) -> bool:
    """Tell whether more seeds, `left` at most, may decide a question."""
    if question.decided or not question.arms or question.n == 0:
        return False
    chances = question.outlook.chances[:left]
    return not chances or chances[-1] >= MIN_CHANCE


def check_study(plans: Sequence[Plan]) -> Path:
    """Return the folder of the study of these runs. Raises UserError if there is nothing in it to decide."""
    folders = list(dict.fromkeys(plan.folder.parent for plan in plans))
    if len(folders) > 1:
        raise UserError(f"--until-decided: given {len(folders)} studies ({folders[0]}, ...); start one for each")
    study, arms = plans[0].config["study"], list(dict.fromkeys(plan.arm for plan in plans))
    if any(plan.fold for plan in plans):
        raise UserError(
            "--until-decided: given with data.folds, whose results are not independent: one look, when all folds are "
            "done, is valid; leave the flag out"
        )
    if len(arms) == 1:
        raise UserError(
            f"--until-decided: there is one arm, {visible(arms[0])}, and so nothing to compare; "
            "add arms (+study=..., or -m with several values), or leave the flag out"
        )
    if study["baseline"] is None and not study["claims"]:
        raise UserError(
            "--until-decided: the study has neither a baseline nor claims, so there is nothing to decide; "
            f"name one of its arms: study.baseline='{visible(arms[0])}'"
        )
    if study["baseline"] is not None and study["baseline"] not in arms:
        raise UserError(
            f"--until-decided: the baseline '{visible(study['baseline'])}' is not among the arms of this command: "
            f"{visible(', '.join(arms))}"
        )
    return folders[0]


def seed_word(words: Sequence[str], composed: Any, most: int) -> str:
    """Return "seed=0,1,2,...": so many seeds; first those of the plan in study.json, then the study's, then 0, 1, ...

    words: the typed overrides. composed: the config of the sweep. Raises UserError for a typed seed.
    """
    if any(key_of(word) == "seed" for word in words):
        raise UserError(
            "seed: given with --until-decided, which chooses the seeds; leave it out, or say which come first: "
            "study.seeds=[5,6,7]"
        )
    folder = study_folder(Path(at_home(str(composed.outputs))), str(composed.study.name))
    planned = read_plan(read_study(folder) or {}) if folder.exists() else None
    seeds = [*(planned.seeds if planned else ()), *(composed.study.get("seeds") or ()), *range(most)]
    return f"seed={','.join(map(str, list(dict.fromkeys(seeds))[:most]))}"


def until_decided(plans: list[Plan], sweep: Sweep, budget: int | None = None, fail_fast: bool = False) -> int:
    """Make runs and look, until every question of their study is decided or out of reach; returns the exit code."""
    deadline = math.inf if budget is None else monotonic() + budget
    rounds, code, count = Rounds(plans), EXIT_DONE, FIRST_LOOK
    sweep.write(rounds.of_round(FIRST_LOOK))
    rounds.plan_first_look()
    for count in range(rounds.first, len(rounds.seeds) + 1):
        here = rounds.of_round(count)
        sweep.write(here)
        if left := unfinished(here):
            if count > rounds.first and is_too_long(left, deadline - monotonic()):
                print(f"not started: {plural(len(left), 'run')} of seed {left[0].seed}, beyond the budget")
                return EXIT_PREEMPTED
            made = sweep.finish(here, None if budget is None else max(1, int(deadline - monotonic())))
            code = max(code, made)
            if made in (EXIT_INTERRUPTED, EXIT_PREEMPTED) or (made == EXIT_SOME_FAILED and fail_fast):
                return made
        still, news = rounds.judge(look(rounds.folder, seeds=rounds.seeds[:count]), count)
        print_look(count, news, still, rounds.going if count < len(rounds.seeds) else ())
        if not still:
            break
    end_plan(rounds.folder)
    found = look(rounds.folder, seeds=rounds.seeds[:count])
    print()
    print(terminal(found, tables_of(found)))
    print_end(questions(found), count, len(rounds.seeds), learned=not nothing_learned(found.rows))
    diverged = any(run.status == "diverged" for run in found.study.runs)
    return EXIT_SOME_FAILED if code == EXIT_DONE and diverged else code


def is_too_long(plans: Sequence[Plan], seconds: float) -> bool:
    """Tell whether no run is expected to end within so many seconds."""
    times = Times([plan.folder.parent for plan in plans])
    return all((times.expected(plan) or 0.0) > seconds - 1.0 for plan in plans)


def print_look(count: int, news: Sequence[str], still: Sequence[Question], going: Sequence[str]) -> None:
    """Print what a look has decided, and which arms go on, if any."""
    line = f"look at {count} seeds: decided: {', '.join(news) or 'nothing new'}; open: {len(still)}"
    print(visible(f"{line}; going on: {', '.join(going)}" if still and going else line), flush=True)


def print_end(asked: Sequence[Question], count: int, most: int, learned: bool = True) -> None:
    """Print how many questions are decided, and of the others how many seeds would decide them.

    learned: False if every run is at chance; then no number of seeds is advised.
    """
    decided = [question for question in asked if question.decided]
    print(f"{len(decided)} of {plural(len(asked), 'question')} decided, with {count} of at most {most} seeds")
    for question in asked:
        if not question.decided:
            verdict = question.verdict.removesuffix(f" (n = {question.n})")
            seeds = f" with {plural(question.n, 'seed')}" if question.n else ""
            words = f"undecided: {question.text}: {verdict}{seeds}"
            print(visible(f"{words}{seeds_needed(question.outlook.enough) if learned else ''}"))


def seeds_needed(enough: float) -> str:
    """Say how many seeds would decide a question, "" if that is unknown."""
    if math.isnan(enough):
        return ""
    about = f"about {enough}" if enough <= MOST_SEEDS else f"more than {MOST_SEEDS:,}"
    return f"; needs {about} if they go on like this"


def show_rounds(plans: list[Plan], with_upstream: Callable[[list[Plan]], list[Plan]], slots: int) -> None:
    """Print which runs come next, and how many there may be until all is decided, with the time they take.

    Looks that are recorded are used; nothing is written, so that no other is made.
    """
    rounds, count = Rounds(plans), FIRST_LOOK
    if (rounds.folder / "study.json").exists() and read_looks(read_study(rounds.folder) or {}):
        rounds.plan_first_look()
    for count in range(rounds.first, len(rounds.seeds) + 1):
        if unfinished(rounds.of_round(count)) or (found := recorded(rounds.folder, rounds.seeds[:count])) is None:
            break
        still, news = rounds.judge(found, count)
        print_look(count, news, still, rounds.going if count < len(rounds.seeds) else ())
        if not still:
            print("nothing to do: every question is decided or out of reach")
            return
    coming = unfinished(with_upstream(here := rounds.of_round(count)))
    later = [plan for plan in plans if plan.arm in rounds.going and plan.seed in rounds.seeds[count:]]
    every = unfinished(with_upstream([*here, *later]))
    of_seeds = plural(len({plan.seed for plan in unfinished(here)}), "seed")
    print(f"next: {plural(len(coming), 'run')} ({of_seeds}; {', '.join(rounds.going)}), then a look at {count} seeds")
    times = Times([rounds.folder])
    least, most = (times.total(left, slots) for left in (coming, every))
    time = "an unknown time, until a run of each arm is done"
    if least is not None and most is not None:
        time = f"about {duration(least)} to {duration(most)}"
    print(f"until all is decided, with {len(rounds.seeds)} seeds at most: {len(coming)} to {len(every)} runs, {time}")


def recorded(folder: Path, seeds: Sequence[int]) -> Findings | None:
    """Return the findings of a look at these seeds that study.json has; None if it has not."""
    study = read_study(folder)
    if study is None:
        return None
    ((_, records),) = find_groups(folder)
    then = collect(folder, records).as_of(seeds)
    made = seeds_by_arm(then)
    return analyse(then) if any(earlier["seeds"] == made for earlier in read_looks(study)) else None
