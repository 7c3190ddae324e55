"""The engine of this machine: a worker process for each slot, replaced when it exits or has grown."""

import math
import signal
from collections.abc import Iterator
from multiprocessing.connection import wait
from time import monotonic

from cnnexp.sweep.engine import GRACE_SECONDS, Ended, Event, Lost, Progress
from cnnexp.sweep.server import continue_server
from cnnexp.sweep.slots import Slot
from cnnexp.sweep.worker import Worker, memory_mib, start, stop
from cnnexp.training.plan import Plan

ATTEMPTS = 3  # to send a run to a worker


class LocalEngine:
    """Computes runs in worker processes, each on a slot; see `Engine`. No worker outlives `close`."""

    def __init__(self, slots: list[Slot]):
        self.slots = slots
        self.workers: list[Worker] = []
        self.kill_at = math.inf  # when workers are killed that have not stopped after a signal
        self.unsent: list[Event] = []  # of runs that no worker could be given

    def free(self) -> int:
        """Return the number of slots without a run."""
        return len(self.slots) - sum(worker.plan is not None for worker in self.workers)

    def start(self, plan: Plan) -> None:
        """Send a run to an idle worker, or to a new one."""
        for _ in range(ATTEMPTS):
            try:
                worker = self.idle_worker() or self.start_worker()
            except (EOFError, ConnectionError):  # the server of the workers ended meanwhile
                continue
            plan.config["device"]["kind"] = worker.slot.device
            try:
                worker.connection.send(plan)
            except OSError:  # it has exited
                self.dismiss(worker)
                continue
            worker.plan = plan
            if self.kill_at < math.inf:  # `stop` was called while the worker was starting, and did not reach it
                worker.send_signals(signal.SIGTERM)
            return
        cause = f"its process ended before it began, {ATTEMPTS} times; allow more processes (ulimit -u) and memory"
        self.unsent.append(Lost(plan, cause, "run"))

    def idle_worker(self) -> Worker | None:
        """Return a worker without a run; those that have exited are removed."""
        idle = [worker for worker in self.workers if worker.plan is None]
        for worker in idle:
            if not worker.is_alive():
                self.dismiss(worker)
        return next((worker for worker in idle if worker in self.workers), None)

    def start_worker(self) -> Worker:
        """Start a worker on the first slot that has none."""
        taken = [worker.slot for worker in self.workers]
        free = (slot for slot in self.slots if taken.count(slot) < self.slots.count(slot))
        worker = start(next(free, self.slots[0]))
        self.workers.append(worker)
        return worker

    def news(self, timeout: float) -> list[Event]:
        """Wait for messages of workers, or a worker's exit. Kills the workers that have not stopped in time."""
        events, self.unsent = self.unsent, []
        busy = [worker for worker in self.workers if worker.plan]
        ready = wait([w.connection for w in busy] + [w.ended for w in busy], 0.0 if events else timeout)
        if monotonic() > self.kill_at:
            for worker in busy:
                worker.send_signals(signal.SIGKILL)
        for worker in busy:
            if worker.connection in ready:
                events += self.receive(worker)
            elif worker.ended in ready:
                events += self.on_exit(worker)
        return events

    def receive(self, worker: Worker) -> Iterator[Event]:
        """Receive one message of a worker."""
        assert worker.plan is not None
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            yield from self.on_exit(worker)
            return
        if message[0] == "progress":
            yield Progress(worker.plan, message[1])
            return
        _, status, text, resident_mib = message
        yield Ended(worker.plan, status, text)
        worker.plan = None
        grown = resident_mib > memory_mib() / (2 * len(self.slots))
        damaged = status in ("failed", "oom") and worker.slot.device != "cpu"  # a device's context may be
        if grown or damaged or status == "interrupted":  # its server may have ended
            self.dismiss(worker)

    def on_exit(self, worker: Worker) -> Iterator[Event]:
        """Remove a worker that has exited. If the server of the workers has ended, the run is not at fault."""
        assert worker.plan is not None
        code, plan, worker.plan = worker.exit_code(), worker.plan, None
        self.dismiss(worker)
        if code is None:
            yield Lost(plan, "its process ended with the server of the workers", "node")
        elif code == -signal.SIGTERM and self.kill_at < math.inf:
            yield Ended(plan, "interrupted", "it had not begun")  # to answer the signal
        else:
            unasked = code == -signal.SIGKILL and self.kill_at == math.inf
            yield Lost(plan, exit_cause(code) + (" (out of memory?)" if unasked else ""), "run")

    def stop(self, now: bool) -> None:
        """Ask every worker to save and stop, or kill it. A worker that was stopped (SIGSTOP) continues, and saves."""
        self.kill_at = min(self.kill_at, monotonic() + GRACE_SECONDS)
        continue_server()
        for worker in self.workers:
            worker.send_signals(*([signal.SIGKILL] if now else [signal.SIGTERM, signal.SIGCONT]))

    def close(self) -> None:
        """End the workers."""
        stop(self.workers, min(self.kill_at, monotonic() + GRACE_SECONDS))

    def dismiss(self, worker: Worker) -> None:
        """End a worker and remove it."""
        stop([worker], min(self.kill_at, monotonic() + GRACE_SECONDS))
        self.workers = [other for other in self.workers if other is not worker]

    def describe(self) -> str:
        """Return "2 slot(s) (cpu; 1 thread(s) each)"."""
        kinds = ", ".join(dict.fromkeys(slot.device for slot in self.slots))
        slot = self.slots[0]
        shared = f", shared by {slot.processes} processes of a run" if slot.processes > 1 else ""
        return f"{len(self.slots)} slot(s) ({kinds}; {slot.threads} thread(s) each{shared})"


def exit_cause(code: int) -> str:
    """Say how a process ended. code: its exit code, or the negative number of the signal that killed it."""
    if code >= 0:
        return f"it ended its process with code {code}"
    names = {number.value: number.name for number in signal.Signals}  # some numbers between have none
    return f"killed by {names.get(-code, f'signal {-code}')}"
