"""The runs of a sweep that have not started yet, and which of them starts next."""

import heapq
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

from cnnexp.sweep.times import Times
from cnnexp.training.plan import Plan

AGAIN, LONG, IN_ORDER = range(3)  # the ranks of runs that can start
LOOK_EVERY = 0.05  # of the runs that can start: between two looks for long ones


class Queue:
    """The runs that wait: in the order given, each after the run that it starts from.

    A run that takes longer than all waiting runs together take on all slots starts before its turn, because the sweep
    would have to wait for it at the end. Adding and taking a run cost O(log n) on average.
    """

    def __init__(self, plans: Iterable[Plan], times: Times):
        self.times = times
        self.order = {plan.folder: position for position, plan in enumerate(plans)}
        self.to_come = set(self.order)  # the folders of runs that have not ended
        self.ready: list[tuple[int, float, int, Plan]] = []  # a heap: rank, minus the expected seconds, position
        self.blocked: dict[Path, list[Plan]] = {}  # by the folder of the run that they need
        self.look_at = 0.0  # the length of `ready` at which to look for long runs
        for plan in plans:
            self.add(plan)
        self.look_at = len(self.ready)

    def __len__(self) -> int:
        return len(self.ready) + sum(map(len, self.blocked.values()))

    def __iter__(self) -> Iterator[Plan]:
        """Yield the runs that wait, in no order."""
        yield from (plan for *_, plan in self.ready)
        yield from itertools.chain.from_iterable(self.blocked.values())

    def add(self, plan: Plan, again: bool = False) -> None:
        """Add a run. again: it was taken before, and now starts before all others."""
        if plan.upstream is not None and plan.upstream.folder in self.to_come:
            self.blocked.setdefault(plan.upstream.folder, []).append(plan)
        else:
            heapq.heappush(self.ready, (AGAIN if again else IN_ORDER, 0.0, self.order[plan.folder], plan))

    def append(self, plan: Plan) -> None:
        """Add a run that was not planned at first, after all others."""
        self.order.setdefault(plan.folder, len(self.order))
        self.to_come.add(plan.folder)
        self.add(plan)

    def take(self, slots: int) -> Plan | None:
        """Take the run that starts next; None if there is none now. slots: how many runs the sweep makes at a time."""
        if not self.ready:
            return None
        if len(self.ready) <= self.look_at:
            self.look_for_long_ones(slots)
        return heapq.heappop(self.ready)[-1]

    def ended(self, plan: Plan) -> None:
        """Note that a run has ended, however: those that need it can be taken."""
        self.to_come.discard(plan.folder)
        for dependent in self.blocked.pop(plan.folder, []):
            self.add(dependent)

    def look_for_long_ones(self, slots: int) -> None:
        """Rank again: runs that take longer than all on all slots first, the longest before the others.

        A run whose time is unknown counts as the mean of the others.
        """
        self.look_at = len(self.ready) * (1 - LOOK_EVERY)
        seconds = [self.times.expected(plan) or 0.0 for *_, plan in self.ready]
        known = sum(expected > 0 for expected in seconds)
        share = sum(seconds) * len(seconds) / max(known, 1) / max(slots, 1)
        for index, (rank, _, position, plan) in enumerate(self.ready):
            if rank != AGAIN:
                long = 0 < share <= seconds[index]
                self.ready[index] = (LONG, -seconds[index], position, plan) if long else (IN_ORDER, 0.0, position, plan)
        heapq.heapify(self.ready)
