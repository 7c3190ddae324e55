"""`+search=tpe`: trials that are proposed while others run, each a run that never evaluates the test images.

A trial is recorded as it is proposed (search/trials.py), so the same command goes on from the records.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

from cnnexp import storage
from cnnexp.config import compose as configs
from cnnexp.config.flags import Request
from cnnexp.config.set_by_data import print_set_by_data
from cnnexp.errors import EXIT_DONE, EXIT_PREEMPTED, EXIT_SOME_FAILED, UserError
from cnnexp.process.limits import check_open_files
from cnnexp.records.under_way import SEARCH_LOCK
from cnnexp.search.optuna_study import check_installed
from cnnexp.search.proposal import propose
from cnnexp.search.space import as_words
from cnnexp.search.trials import BEST_OF_MANY, Search, Trial, Trials, counts, read_search, retrain_words, winner
from cnnexp.storage.presence import at_work
from cnnexp.storage.space import check_writable
from cnnexp.sweep.engine import Engine
from cnnexp.sweep.local import LocalEngine
from cnnexp.sweep.planning import at_a_time, check_request, cluster_of, elsewhere, machine
from cnnexp.sweep.search_scheduler import SearchScheduler, result_of
from cnnexp.sweep.server import import_ahead
from cnnexp.sweep.slots import Slot
from cnnexp.sweep.times import Times
from cnnexp.sweep.trial_plans import TrialPlanner
from cnnexp.text import duration, in_shell, plural, visible
from cnnexp.trackers.follow import check_setting, follow_study
from cnnexp.training.plan import Plan

CONTINUES = "the same command continues"
SAME = ("sampler", "space", "monitor", "keep_epoch", "seed")  # of a search that goes on


@dataclass(frozen=True)
class Searched:
    """What a command for a search has done. code: its exit code. retrain: the words of `cnnexp train` that retrain the
    winner; [] if it is not to be retrained now. has_made: whether a trial has ended meanwhile.
    """

    code: int
    retrain: Sequence[str] = ()
    has_made: bool = False


def launch(words: list[str], request: Request) -> Searched:
    """Make the trials of a search that are not done, or print what it would do.

    words: prepared. Raises UserError for the first thing that is wrong, before anything is made.
    """
    check_installed()
    start = monotonic()
    with configs.loader() as hydra:
        planner = TrialPlanner(words, request, hydra)
        search, cluster = planner.search, cluster_of([planner.base])
        check_request(request, cluster, [planner.base])
        slots = checked(planner, cluster, request)
        trials = Trials(search)
        if request.plan:
            print_plan(planner, trials, at_a_time(slots, cluster))
            return Searched(EXIT_DONE)
        check_open_files(len(slots))
        check_writable(search.folder)
        with proposing(search):
            unfinished = plans_again(planner, trials)
            engine = LocalEngine(slots) if slots else on_ray(planner, trials, unfinished, cluster)
            search.write()  # now that nothing is refused any more
            follow_study(planner.base[0]["tracker"], search.folder)
            scheduler = scheduled(planner, trials, unfinished, engine, request)
            code = scheduler.run()
    made = trials.read()
    best = winner(search, made)
    print_end(search, made, best)
    if best is None and code == EXIT_DONE:
        code = EXIT_SOME_FAILED
    if best is None or not planner.node.retrain or code not in (EXIT_DONE, EXIT_SOME_FAILED):
        return Searched(code)
    if scheduler.over_budget or (request.fail_fast and scheduler.failed):
        return Searched(code)
    has_made = bool(scheduler.ended) or scheduler.waited
    flags = ["--fail-fast"] * request.fail_fast
    if request.budget is not None:
        left = int(request.budget - (monotonic() - start)) if has_made else request.budget
        if left < 1:
            print(f"not started: the retraining, because the budget is spent; {CONTINUES}", flush=True)
            return Searched(max(code, EXIT_PREEMPTED))
        flags += [f"--budget={left}"]
    return Searched(code, [*retrain_words(search, best, planner.node.retrain), *flags], has_made)


def checked(planner: TrialPlanner, cluster: dict[str, Any], request: Request) -> list[Slot]:
    """Check a search, also with its data, and set its machine; return the slots of this one, [] for a cluster's."""
    planner.check_space()
    check_setting(planner.base[0]["tracker"])
    here = cluster["engine"] == "local"
    if here and not request.plan:
        check_open_files()
        import_ahead()
    slots, planner.target = machine([planner.base]) if here else ([], elsewhere([planner.base], cluster))
    check_same(planner.search)
    planner.check_with_data()
    print_set_by_data([planner.base])
    return slots


def check_same(search: Search) -> None:
    """Raise UserError if the folder holds another search, or runs that are no trials."""
    there = read_search(search.folder)
    fix = "add study.name=NAME for a new search"
    if there is None:
        if (search.folder / "study.json").exists():
            raise UserError(f"{search.folder}: holds a study that is no search; {fix}")
        return
    for name in SAME:
        if (then := getattr(there, name)) != (now := getattr(search, name)):
            values = "" if name == "space" else f" ({then} there, {now} now)"
            raise UserError(f"{search.folder}: holds a search with another {name}{values}; {fix}")


@contextmanager
def proposing(search: Search) -> Iterator[None]:
    """Be the only command that proposes trials of this search during the block."""
    storage.make_folder(search.folder)
    with storage.lock(search.folder / SEARCH_LOCK), at_work(search.folder):
        yield


def plans_again(planner: TrialPlanner, trials: Trials) -> list[Plan]:
    """Plan the recorded trials that have not ended. Raises UserError if the first trial would be another run now."""
    made = [trial for trial in trials.read() if trial.status != "refused"]
    unfinished = [trial for trial in made if trial.number not in trials.ended]
    for trial in made[:1]:
        planner.again(trial)
    return [planner.again(trial) for trial in unfinished]


def on_ray(planner: TrialPlanner, trials: Trials, unfinished: list[Plan], cluster: dict[str, Any]) -> Engine:
    """Return the engine that makes trials on a Ray cluster."""
    from cnnexp.sweep.ray import isolated_engine

    left = trials.search.trials - len(trials.ended)
    example = unfinished[:1] or [planner.plan(propose(trials.search, trials.read(), len(trials.ended)) or {}, 0)]
    return isolated_engine(cluster, example, left)


def scheduled(
    planner: TrialPlanner, trials: Trials, unfinished: list[Plan], engine: Engine, request: Request
) -> SearchScheduler:
    """Return the scheduler of a search, and print what it is going to do."""
    search, made = trials.search, len(trials.read()) - len(unfinished)
    print(f"search {search.folder}: {described(search)}")
    print(f"{plural(search.trials, 'trial')}, {made} done before, on {engine.describe()}", flush=True)
    times = Times([search.folder])
    return SearchScheduler(trials, planner.propose, unfinished, engine, times, request.budget, request.fail_fast)


def described(search: Search) -> str:
    """Return what is searched, in a line."""
    return visible(f"{search.sampler} over {'; '.join(f'{key} {of}' for key, of in search.space.items())}")


def print_end(search: Search, trials: list[Trial], best: Trial | None) -> None:
    """Print the best trial, and what to type next."""
    print(counts(trials))
    if best is None:
        print("no trial is complete, so there are no best settings yet")
        return
    print(visible(f"best: {best.name} {' '.join(as_words(best.params))}: {result_of(search, best)}"))
    print(f"{BEST_OF_MANY}; train it on new seeds, and test once:")
    print(f"  {in_shell(['cnnexp', 'train', *retrain_words(search, best)])}")
    print(f"look at the search: {in_shell(['cnnexp', 'report', str(search.folder)])}", flush=True)


def print_plan(planner: TrialPlanner, trials: Trials, slots: int) -> None:
    """Print the space, the trials so far, the next one, and an estimate of the time."""
    search, made = trials.search, trials.read()
    print("\n".join(f"{key}: {of}" for key, of in search.space.items()))
    for trial in made:
        value = "" if trial.value is None else f": {result_of(search, trial)}"
        print(visible(f"{trial.shown_state:<8} {trial.name} {' '.join(as_words(trial.params))}{value}"))
    unfinished = [trial for trial in made if trial.number not in trials.ended]
    number = made[-1].number + 1 if made else 0
    params = propose(search, made, number) if number < search.trials else None
    if params is not None:
        print(f"next     trial-{number:03d} {' '.join(as_words(params))}")
    left = len(unfinished) + (search.trials - number if params is not None else 0)
    example = params or next((trial.params for trial in unfinished), None)
    expected = Times([search.folder]).expected(planner.plan(example, number)) if example else None
    known = f"about {duration(expected * left / slots)}" if expected is not None else ""
    time = known or "an unknown time, until a first trial is done"
    counted = f"{plural(search.trials, 'trial')}, {len(trials.ended)} done, {left} to do"
    print(f"{counted}: {time} on {slots} slot(s)" if left else counted)
