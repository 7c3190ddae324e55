"""The scheduler of a sweep: assigns runs to workers, records how they end, replaces workers that exit or grow."""

import math
import signal
from multiprocessing.connection import wait
from time import monotonic
from types import FrameType

from cnnexp.errors import EXIT_DONE, EXIT_PREEMPTED, EXIT_SOME_FAILED, UserError
from cnnexp.process.signals import CODES, release_terminal, sent_to
from cnnexp.sweep import study
from cnnexp.sweep.board import Board, exit_cause, print_summary, where_to_look
from cnnexp.sweep.server import continue_server
from cnnexp.sweep.slots import Slot
from cnnexp.sweep.times import Times, work_of
from cnnexp.sweep.worker import GRACE_SECONDS, Worker, memory_mib, start, stop
from cnnexp.text import duration
from cnnexp.training.plan import Plan


class Sweep:
    """Makes those of `plans` that are `left`, on slots."""

    def __init__(
        self, plans: list[Plan], left: list[Plan], slots: list[Slot], times: Times, budget: int | None, fail_fast: bool
    ):
        self.waiting = list(left)
        self.slots, self.times, self.fail_fast = slots, times, fail_fast
        self.deadline = None if budget is None else monotonic() + budget
        self.ended: list[tuple[Plan, str, str]] = []
        self.over_budget: list[Plan] = []
        self.workers: list[Worker] = []
        self.continued: set[str] = set()  # folders of runs that were interrupted here once
        self.signal: int | None = None
        self.kill_at = math.inf  # when workers are killed that have not stopped after a signal
        self.interrupted = False  # by hand, with SIGINT
        self.board = Board(len(plans), len(plans) - len(left))

    def run(self) -> int:
        """Run until nothing is left, or a signal comes; returns the exit code. No worker outlives this.

        Raises UserError if the budget let nothing start.
        """
        with sent_to(self.ask):
            try:
                while self.dispatch() or any(worker.plan for worker in self.workers):
                    self.listen()
            finally:
                stop(self.workers, min(self.kill_at, monotonic() + GRACE_SECONDS))
                self.board.close()
        print_summary(self.ended, self.waiting, self.over_budget)
        if self.signal is not None:
            return CODES[signal.Signals(self.signal)]
        if self.failed():
            return EXIT_SOME_FAILED
        if self.over_budget and not self.ended:
            known = self.times.shortest(self.over_budget)
            least = "" if known is None else f"; the shortest may take {duration(known)}"
            runs = "the run" if len(self.over_budget) == 1 else f"any of the {len(self.over_budget)} runs"
            raise UserError(f"--budget: too short for {runs} left{least}")
        return EXIT_PREEMPTED if self.over_budget or self.held() else EXIT_DONE

    def failed(self) -> bool:
        """Tell whether a run of this sweep failed; one that another process is making did not."""
        return any(status not in ("done", "skipped", "held") for _, status, _ in self.ended)

    def held(self) -> set[str]:
        """Return the folders of the runs that another process makes, and of those that start from them."""
        return {str(plan.folder) for plan, status, _ in self.ended if status == "held"}

    def ask(self, number: int, frame: FrameType | None) -> None:
        """On the first signal, start nothing more and ask every run to save and stop; on a second SIGINT, kill them.

        Schedulers repeat their signals, and send one kind after the other: these do not kill runs that are saving.
        """
        release_terminal(number)
        again = number == signal.SIGINT and self.interrupted
        self.interrupted |= number == signal.SIGINT
        first, self.signal = self.signal is None, self.signal or number
        if first:
            self.kill_at = monotonic() + GRACE_SECONDS
        continue_server()
        for worker in self.workers:
            if first or again:  # SIGCONT: a process that was stopped saves, too
                worker.send_signals(*([signal.SIGKILL] if again else [signal.SIGTERM, signal.SIGCONT]))

    def dispatch(self) -> bool:
        """Give every idle slot a run that can start; returns whether any run is still waiting."""
        if self.signal is not None or (self.fail_fast and self.failed()):
            return False
        for worker in [worker for worker in self.workers if not worker.plan and not worker.is_alive()]:
            self.dismiss(worker)
        idle = [worker for worker in self.workers if worker.plan is None]
        while (idle or len(self.workers) < len(self.slots)) and (plan := self.next_plan()) is not None:
            self.assign(plan, idle.pop() if idle else self.start_worker())
        return bool(self.waiting)

    def assign(self, plan: Plan, worker: Worker) -> None:
        """Send a run to an idle worker; if the worker has exited, the run waits for the next one."""
        plan.config["device"]["kind"] = worker.slot.device
        try:
            worker.connection.send(plan)
        except OSError:
            self.waiting.insert(0, plan)
            self.dismiss(worker)
            return
        worker.plan, worker.started, worker.fraction = plan, monotonic(), 0.0
        if self.signal is not None:  # it came while the worker was starting, and was not passed on to it
            worker.send_signals(signal.SIGTERM)

    def next_plan(self) -> Plan | None:
        """Return the first waiting run whose upstream is done and which would end within the budget."""
        for plan in list(self.waiting):
            needed = plan.upstream
            if needed is not None and (status := needed.record().status) != "done":
                if not self.is_to_come(needed):
                    self.waiting.remove(plan)
                    self.skip(plan, needed, status)
                continue
            self.waiting.remove(plan)
            expected = self.times.expected(plan)
            if self.deadline is not None and monotonic() + (expected or 0.0) > self.deadline:
                self.over_budget.append(plan)
                continue
            return plan
        return None

    def is_to_come(self, needed: Plan) -> bool:
        """Tell whether a run that another one needs is waiting or being made in this sweep."""
        to_come = [*self.waiting, *(worker.plan for worker in self.workers if worker.plan)]
        return any(plan.folder == needed.folder for plan in to_come)

    def start_worker(self) -> Worker:
        """Start a worker on the first slot that has none."""
        taken = [worker.slot for worker in self.workers]
        free = (slot for slot in self.slots if taken.count(slot) < self.slots.count(slot))
        worker = start(next(free, self.slots[0]))
        self.workers.append(worker)
        return worker

    def listen(self) -> None:
        """Wait for a message of the workers: progress, or the end of a run; or for a worker's exit.

        Kills the workers that have not stopped in time after a signal.
        """
        busy = [worker for worker in self.workers if worker.plan]
        if not busy:
            return
        ready = wait([w.connection for w in busy] + [w.ended for w in busy], timeout=1.0)
        if monotonic() > self.kill_at:
            for worker in busy:
                worker.send_signals(signal.SIGKILL)
        for worker in busy:
            if worker.connection in ready:
                self.receive(worker)
            elif worker.ended in ready:
                self.on_exit(worker)

    def receive(self, worker: Worker) -> None:
        """Receive one message of a worker."""
        assert worker.plan is not None
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            self.on_exit(worker)
            return
        if message[0] == "progress":
            worker.fraction = message[1]
            self.board.progress(worker.plan, worker.fraction, self.seconds_left())
            return
        _, status, text, resident_mib = message
        plan, worker.plan = worker.plan, None
        if not (status == "interrupted" and self.wait_again(plan, "its process was asked to stop")):
            self.note(plan, status, text, monotonic() - worker.started)
        grown = resident_mib > memory_mib() / (2 * len(self.slots))
        damaged = status in ("failed", "oom") and worker.slot.device != "cpu"  # a device's context may be
        if grown or damaged or status == "interrupted":  # its server may have ended
            self.dismiss(worker)

    def on_exit(self, worker: Worker) -> None:
        """Record the run of a worker that exited as failed, and remove the worker.

        If the server of the workers has ended, which ends them too, the run waits for a new worker.
        """
        plan, seconds, code = worker.plan, monotonic() - worker.started, worker.exit_code()
        assert plan is not None
        worker.plan = None
        self.dismiss(worker)
        if code is None and self.wait_again(plan, "its process ended with the server of the workers"):
            return
        cause = "it ended with the server of the workers" if code is None else exit_cause(code)
        if self.signal is not None:
            self.note(plan, "interrupted", cause, seconds)
            return
        message = cause + (" (out of memory?)" if code == -signal.SIGKILL else "")
        self.record_end(plan, "failed", "WorkerExited", message, seconds)

    def wait_again(self, plan: Plan, cause: str) -> bool:
        """Let a run that was interrupted, but not by a signal to this sweep, wait for a worker again; but only once.

        Returns whether it does.
        """
        if self.signal is not None or str(plan.folder) in self.continued:
            return False
        self.continued.add(str(plan.folder))
        self.waiting.insert(0, plan)
        self.board.say(f"continues: {plan.label}: {cause}")
        return True

    def skip(self, plan: Plan, needed: Plan, status: str) -> None:
        """Skip a run whose upstream was not made, unless another process makes that or the budget was too short."""
        reason = f"it starts from {needed.folder}, which is {status}"
        if str(needed.folder) in self.held():
            self.note(plan, "held", f"it starts from {needed.folder}, which another command makes", 0.0)
        elif any(needed.folder == other.folder for needed in plan.chain() for other in self.over_budget):
            self.over_budget.append(plan)
        else:
            self.record_end(plan, "skipped", "Skipped", reason, 0.0)

    def record_end(self, plan: Plan, status: str, kind: str, message: str, seconds: float) -> None:
        """Record the end of a run for its process, and print it."""
        self.note(plan, *study.record_end(plan, status, kind, message), seconds)

    def note(self, plan: Plan, status: str, message: str, seconds: float) -> None:
        """Note how a run ended, and print it."""
        self.ended.append((plan, status, message))
        line = f"{status:<7} {plan.label}"
        if status == "done":
            info = plan.record().info
            self.times.learn(plan.fingerprint, work_of(plan.config), info["seconds"]["total"])
            line += f": test accuracy {info['result']['test_accuracy']:.2%}, {duration(seconds)}"
        else:
            line += f": {message}{where_to_look(plan, status, 'see')}"
        self.board.ended(plan, status, line, self.seconds_left())

    def seconds_left(self) -> float | None:
        """Return the expected seconds to the end of the sweep; None while that of a run is unknown."""
        running = [(worker.plan, worker.fraction) for worker in self.workers if worker.plan]
        return self.times.left(self.waiting, running, len(self.slots))

    def dismiss(self, worker: Worker) -> None:
        """Stop a worker and remove it."""
        stop([worker], min(self.kill_at, monotonic() + GRACE_SECONDS))
        self.workers = [other for other in self.workers if other is not worker]
