"""The scheduler of a search: when nothing waits and a slot is free, it proposes a trial from those that have ended."""

from collections.abc import Callable, Sequence
from time import monotonic

from cnnexp.errors import EXIT_DONE, EXIT_PREEMPTED, one_line
from cnnexp.records.run_record import RunRecord
from cnnexp.search.proposal import propose
from cnnexp.search.space import Params, as_words
from cnnexp.search.trials import Refused, Search, Trial, Trials, winner
from cnnexp.sweep.engine import Engine
from cnnexp.sweep.planning import with_upstream
from cnnexp.sweep.scheduler import Scheduler
from cnnexp.sweep.times import Times
from cnnexp.text import plural
from cnnexp.training.plan import Plan


class SearchScheduler(Scheduler):
    """Makes the trials of a search. unfinished: the plans of those that are recorded but not done.

    plan: plans the run of a trial from its settings and number; raises Refused if no run can have these. A trial that
    diverges or runs out of memory is a result, and no failure.
    """

    HARMLESS = (*Scheduler.HARMLESS, "diverged", "oom")

    def __init__(
        self, trials: Trials, plan: Callable[[Params, int], Plan], unfinished: Sequence[Plan], engine: Engine,
        times: Times, budget: int | None, fail_fast: bool,
    ):  # fmt: skip
        known = trials.read()
        self.trials, self.search, self.plan = trials, trials.search, plan
        self.number = known[-1].number + 1 if known else 0
        self.before_now = len(known) - len(unfinished)
        self.exhausted = False
        super().__init__(with_upstream(list(unfinished)), engine, times, budget, fail_fast)

    def sizes(self, planned: int, left: int) -> tuple[int, int]:
        """Return how many runs there will be, those that trials start from too, and how many are done."""
        return self.before_now + left + max(self.search.trials - self.number, 0), self.before_now

    def run(self) -> int:
        """Run until nothing is left; returns the exit code: that of a budget too if it ends before a slot is free."""
        code = super().run()
        if code != EXIT_DONE or not self.may_propose():
            return code
        left = plural(self.search.trials - self.number, "trial")
        print(f"not started: {left}, because no slot was free within the budget; the same command continues")
        return EXIT_PREEMPTED

    def goes_on(self) -> bool:
        """Start what can start; return whether there is anything to wait for: a slot for the next trial, too.

        An engine that first connects to its cluster has no slot at the start.
        """
        stopping = self.signal is not None or (self.fail_fast and self.failed)
        return super().goes_on() or (not stopping and self.may_propose() and monotonic() < self.deadline)

    def next_plan(self) -> Plan | None:
        """Take the next run; if none waits, propose a trial."""
        while (plan := super().next_plan()) is None and self.may_propose():
            self.propose()
        return plan

    def may_propose(self) -> bool:
        """Tell whether there is a trial to come that could start now."""
        left = self.number < self.search.trials and not self.exhausted
        return left and not len(self.queue) and not self.over_budget and self.signal is None

    def propose(self) -> None:
        """Propose a trial, record it, and let it wait for a slot."""
        params = propose(self.search, self.trials.read(), self.number)
        if params is None:
            self.exhausted = True
            self.board.say(f"all settings of the space are tried: {plural(self.number, 'trial')}")
            return
        number, self.number = self.number, self.number + 1
        try:
            plan = self.plan(params, number)
        except Refused as error:
            self.trials.add(number, params, error=one_line(error))
            self.board.say(f"refused trial-{number:03d} {' '.join(as_words(params))}: {one_line(error)}")
            return
        self.trials.add(number, params, plan.folder)
        for link in plan.chain():
            if link.folder not in self.before:
                self.before[link.folder] = link.record().info.get("finished")
                self.queue.append(link)
        self.board.add(len(self.queue) - 1)  # what the trial starts from

    def line(self, plan: Plan, status: str, message: str, where: str, record: RunRecord) -> str:
        """Return what is printed of a trial that has ended: its settings, and what it is compared by."""
        trials = self.trials.read()
        trial = next((trial for trial in trials if trial.folder.name == plan.folder.name), None)
        if trial is None or trial.state not in ("complete", "pruned"):
            return super().line(plan, status, message, where, record)
        best = ", the best so far" if trial == winner(self.search, trials) else ""
        head = f"{'pruned' if trial.state == 'pruned' else status:<7} {trial.name} {' '.join(as_words(trial.params))}: "
        return f"{head}{result_of(self.search, trial)}{best}, {where}"


def result_of(search: Search, trial: Trial) -> str:
    """Return "validation accuracy 61.20%" of a trial that has ended, and after how many epochs it was pruned."""
    if trial.state == "pruned":
        return f"{search.metric} {search.shown(trial.curve[trial.epochs])} after {plural(trial.epochs, 'epoch')}"
    return f"{search.metric} {search.shown(trial.value or 0.0)}"
