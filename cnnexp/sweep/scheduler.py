"""The scheduler of a sweep: which run starts next, on any engine; what becomes of each; and when the sweep stops."""

import math
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from types import FrameType

from cnnexp import storage
from cnnexp.errors import EXIT_DONE, EXIT_PREEMPTED, EXIT_SOME_FAILED, STOPPED, BudgetTooShort, Interrupted
from cnnexp.process.signals import CODES, release_terminal, sent_to
from cnnexp.records.fields import FINAL
from cnnexp.records.run_record import RunRecord
from cnnexp.sweep import study
from cnnexp.sweep.board import Board, print_summary, where_to_look
from cnnexp.sweep.engine import GRACE_SECONDS, LATE_SECONDS, Engine, Event, Lost, Progress
from cnnexp.sweep.queue import Queue
from cnnexp.sweep.times import Times
from cnnexp.text import duration, percent
from cnnexp.training.plan import Plan

MAX_LOSSES = 3  # of one run, each time with what is around it
NEWS_SECONDS = 1.0
HELD_SECONDS = 2.0  # between two looks at the runs of other commands


@dataclass
class Running:
    """A run that the engine computes. started: by `monotonic`. fraction: of its steps."""

    plan: Plan
    started: float
    fraction: float = 0.0


class Scheduler:
    """Makes those of `plans` that are not done, on an engine.

    before: by folder, when the last attempt at a run had ended as the sweep was planned; None: now. An attempt of
    another command that has ended since counts as made.
    """

    HARMLESS: tuple[str, ...] = ("done", "skipped")  # the ends of a run after which the sweep has not failed

    def __init__(
        self, plans: Sequence[Plan], engine: Engine, times: Times, budget: int | None = None, fail_fast: bool = False,
        before: Mapping[Path, str | None] | None = None,
    ):  # fmt: skip
        recorded = {plan.folder: plan.record().info for plan in plans}
        left = [plan for plan in plans if recorded[plan.folder].get("status") not in FINAL]
        self.before = {folder: info.get("finished") for folder, info in recorded.items()} | dict(before or {})
        self.engine, self.times, self.fail_fast = engine, times, fail_fast
        self.queue = Queue(left, times)
        self.running: dict[Path, Running] = {}
        self.held: dict[Path, Plan] = {}  # runs that another command makes
        self.waited = False  # for such a run
        self.look_at = 0.0  # when to look at these
        self.losses: dict[Path, int] = {}
        self.over_budget: dict[Path, Plan] = {}
        self.ended: list[tuple[Plan, str, str]] = []  # each with its status and message
        self.failed = False  # a run of this sweep
        self.deadline = math.inf if budget is None else monotonic() + budget
        self.signal: int | None = None
        self.leave_at = math.inf  # when the sweep ends after a signal, even if the engine does not answer
        self.interrupted = False  # by hand, with SIGINT
        self.board = Board(*self.sizes(len(plans), len(left)), self.seconds_left)

    def sizes(self, planned: int, left: int) -> tuple[int, int]:
        """Return how many runs the board counts, and how many of them are done."""
        return planned, planned - left

    def run(self) -> int:
        """Run until nothing is left, or a signal comes; returns the exit code. Nothing that was started outlives this.

        Raises BudgetTooShort if the budget let nothing start, and what the engine raises.
        """
        with sent_to(self.ask):
            try:
                while self.goes_on():
                    for event in self.engine.news(NEWS_SECONDS):
                        self.handle(event)
            except Interrupted:  # nothing computes any more
                print_summary(self.ended, 0, len(self.over_budget), 0)
                if self.fail_fast and self.failed:
                    return EXIT_SOME_FAILED
                raise
            finally:
                self.engine.close()
                self.board.close()
        for one in list(self.running.values()):  # the engine did not answer
            self.note(one.plan, "interrupted", "it has not answered", 0.0)
        print_summary(self.ended, len(self.queue), len(self.over_budget), len(self.held))
        if self.signal is not None:
            return CODES[signal.Signals(self.signal)]
        if self.failed:
            return EXIT_SOME_FAILED
        if self.over_budget and not self.ended and not self.waited:
            known = self.times.shortest(self.over_budget.values())
            least = "" if known is None else f"; the shortest may take {duration(known)}"
            runs = "the run" if len(self.over_budget) == 1 else f"any of the {len(self.over_budget)} runs"
            raise BudgetTooShort(f"--budget: too short for {runs} left{least}")
        return EXIT_PREEMPTED if self.over_budget or self.held or len(self.queue) else EXIT_DONE

    def ask(self, number: int, frame: FrameType | None) -> None:
        """On the first signal, start nothing more and ask every run to save and stop; on a second SIGINT, end them.

        Schedulers repeat their signals, and send one kind after the other: these do not end runs that are saving.
        """
        release_terminal(number)
        again = number == signal.SIGINT and self.interrupted
        self.interrupted |= number == signal.SIGINT
        first, self.signal = self.signal is None, self.signal or number
        if first:
            self.leave_at = monotonic() + GRACE_SECONDS + 3.0
        if first or again:
            self.engine.stop(again)

    def goes_on(self) -> bool:
        """Start what can start; return whether there is anything to wait for."""
        stopping = self.signal is not None or (self.fail_fast and self.failed)
        if not stopping:
            self.look_at_held()
            while self.engine.free() > 0 and self.signal is None and (plan := self.next_plan()) is not None:
                self.running[plan.folder] = Running(plan, monotonic())
                self.engine.start(plan)
        if self.running:
            return monotonic() < self.leave_at
        return not stopping and len(self.queue) + len(self.held) > 0 and monotonic() < self.deadline

    def next_plan(self) -> Plan | None:
        """Take from the queue the first run that is to be made, here and within the budget."""
        while (plan := self.queue.take(len(self.running) + self.engine.free())) is not None:
            needed = plan.upstream
            if any(link.folder in self.over_budget for link in plan.chain()[:-1]):
                self.leave_out(plan)
            elif needed is not None and (status := needed.record().status) != "done":
                self.record_end(plan, "skipped", "Skipped", f"it starts from {needed.folder}, which is {status}", 0.0)
            elif self.is_made_elsewhere(plan):
                continue
            elif monotonic() + (self.times.expected(plan) or 0.0) > self.deadline:
                self.leave_out(plan)
            else:
                return plan
        return None

    def leave_out(self, plan: Plan) -> None:
        """Note a run that would not end within the budget."""
        self.over_budget[plan.folder] = plan
        self.queue.ended(plan)

    def is_made_elsewhere(self, plan: Plan) -> bool:
        """Tell whether another command makes a run, or has made it since the sweep was planned; then note that."""
        info = plan.record().info
        status = info.get("status")
        if status not in FINAL:
            try:
                holder = storage.holder(plan.folder / ".lock")
            except storage.StorageError as error:
                self.note(plan, "failed", str(error), 0.0)
                return True
            if holder == storage.UNREADABLE:
                fix = "ask its owner for access, or choose another outputs=DIR"
                self.note(plan, "failed", f"{plan.folder}: cannot be read (permission denied); {fix}", 0.0)
                return True
            if holder is not None:
                self.hold(plan, f"{plan.folder}: is in use by {holder}")
                return True
            if status not in ("failed", "oom", "skipped") or info.get("finished") == self.before[plan.folder]:
                return False
        self.note(plan, str(status), (info.get("error") or {}).get("message", ""), 0.0, "by another command")
        return True

    def hold(self, plan: Plan, message: str) -> None:
        """Wait for a run that another command makes."""
        self.held[plan.folder], self.waited = plan, True
        self.look_at = max(self.look_at, monotonic() + HELD_SECONDS)
        self.board.pause(plan, f"waits for {plan.label}: {message}")

    def look_at_held(self) -> None:
        """Take back the runs whose holders have ended: `next_plan` finds out whether they have made them."""
        if self.held and monotonic() > self.look_at:
            self.look_at = monotonic() + HELD_SECONDS
            for plan in list(self.held.values()):
                with suppress(storage.StorageError):  # the next look may succeed
                    if storage.holder(plan.folder / ".lock") in (None, storage.UNREADABLE):
                        del self.held[plan.folder]
                        self.queue.add(plan, again=True)

    def handle(self, event: Event) -> None:
        """Note what an engine says of a run."""
        if event.plan.folder not in self.running:  # it has ended
            return
        if isinstance(event, Progress):
            self.running[event.plan.folder].fraction = event.fraction
            self.board.progress(event.plan, event.fraction)
            return
        one = self.running.pop(event.plan.folder)
        plan, seconds = one.plan, monotonic() - one.started
        if isinstance(event, Lost):
            self.handle_loss(plan, event, seconds)
        elif event.status == "held":
            self.hold(plan, event.message)
        elif event.status != "interrupted" or not self.starts_again(plan, "its process was asked to stop", 1):
            self.note(plan, event.status, event.message, seconds)

    def handle_loss(self, plan: Plan, loss: Lost, seconds: float) -> None:
        """Start a lost run again, or record it as failed."""
        if self.signal is not None:
            self.note(plan, "interrupted", loss.cause, seconds)
        elif loss.whose == "run" or not self.starts_again(plan, loss.cause, MAX_LOSSES):
            self.record_end(plan, "failed", "WorkerExited", loss.cause, seconds)

    def starts_again(self, plan: Plan, cause: str, most: int) -> bool:
        """Let a run start again that ended neither by its own fault nor by a signal to this sweep, so often at most."""
        count = self.losses.get(plan.folder, 0)
        if self.signal is not None or count >= most:
            return False
        self.losses[plan.folder] = count + 1
        self.queue.add(plan, again=True)
        self.board.pause(plan, f"continues: {plan.label}: {cause}")
        return True

    def record_end(self, plan: Plan, status: str, kind: str, message: str, seconds: float) -> None:
        """Record the end of a run for its process, and print it."""
        status, message = study.record_end(plan, status, kind, message)
        if status == "held":
            self.hold(plan, message)
        else:
            self.note(plan, status, message, seconds)

    def note(self, plan: Plan, status: str, message: str, seconds: float, where: str = "") -> None:
        """Note how a run ended, and print it. where: "" if it was made here."""
        record = plan.record()
        if status == "done":
            record = self.done_record(plan)
            if record.info.get("status") != "done":  # such as a disk that fails: the same command looks again
                status, message = "failed", record.problem or f"{plan.folder / 'run.json'}: says {record.status}"
        self.ended.append((plan, status, message))
        self.queue.ended(plan)
        self.failed |= status not in self.HARMLESS
        if status == "done" and record.info["result"].get("stopped") != "pruned":
            self.times.learn(plan.fingerprint, self.times.work_of(plan), record.info["seconds"]["total"])
        self.board.ended(plan, status, self.line(plan, status, message, where or duration(seconds), record))

    def done_record(self, plan: Plan) -> RunRecord:
        """Return the record of a run that is done, perhaps on another machine: a network mount may show that late."""
        until = monotonic() + LATE_SECONDS
        while (record := plan.record()).info.get("status") != "done" and self.signal is None and monotonic() < until:
            if record.problem and (plan.folder / "run.json").exists():
                break
            sleep(0.1)
        return record

    def line(self, plan: Plan, status: str, message: str, where: str, record: RunRecord) -> str:
        """Return what is printed of a run that has ended. where: it was made, or in what time."""
        line = f"{status:<7} {plan.label}"
        if status == "done":
            names = ("val_accuracy", "test_accuracy") if record.is_tested else ("val_accuracy",)
            words = {"val_accuracy": "validation", "test_accuracy": "test"}
            accuracies = [f"{words[name]} {percent(record.info['result'][name])}" for name in names]
            return f"{line}: {', '.join([*accuracies, where])}"
        elsewhere = where if where.startswith("by ") else ""
        if why := ", ".join(filter(None, (message if message != STOPPED else "", elsewhere))):
            line += f": {why}{where_to_look(plan, status, 'see')}"
        return line

    def seconds_left(self) -> float | None:
        """Return the expected seconds to the end of the sweep; None while that of a run is unknown."""
        running = [(one.plan, one.fraction) for one in self.running.values()]
        return self.times.left(self.queue, running, len(running) + self.engine.free())
