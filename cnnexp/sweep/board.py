"""What a sweep shows: a bar with done, failed, running and the time left where it is seen, plain lines elsewhere."""

from collections.abc import Callable, Iterable, Mapping
from time import monotonic

from cnnexp.errors import STOPPED
from cnnexp.process import bars
from cnnexp.sweep.times import Times
from cnnexp.text import align, duration, plural, visible
from cnnexp.training.plan import Plan

REDRAW_SECONDS = 0.5
MAX_NAMED = 2  # interrupted runs in the last line


class Board:
    """Shows the sweep's progress. seconds_left: returns those to the end of the sweep, None if they are unknown."""

    def __init__(self, total: int, already: int, seconds_left: Callable[[], float | None]):
        self.counts = {"done": already}
        self.seconds_left, self.redraw_at = seconds_left, 0.0
        self.fractions: dict[str, float] = {}
        self.terminal = bars.shown()
        self.total = total
        layout = "{desc} {bar} {n:.1f}/{total} runs [{elapsed}{postfix}]"
        self.bar = bars.bar(total=total, initial=already, bar_format=layout, disable=not self.terminal, desc="sweep")

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        line = visible(line)
        if self.terminal:
            self.bar.write(line)
        else:
            print(line, flush=True)

    def progress(self, plan: Plan, fraction: float) -> None:
        """Note how far a run is."""
        self.fractions[plan.label] = fraction
        self.show()

    def pause(self, plan: Plan, line: str) -> None:
        """Note a run that has stopped for now, and print why."""
        self.fractions.pop(plan.label, None)
        self.say(line)

    def ended(self, plan: Plan, status: str, line: str) -> None:
        """Note a run that ended, and print it."""
        self.fractions.pop(plan.label, None)
        self.counts[status] = self.counts.get(status, 0) + 1
        self.say(f"[{sum(self.counts.values())}/{self.total}] {line}")
        self.show()

    def add(self, count: int) -> None:
        """Note that there are so many runs more than was known."""
        self.total += count
        self.bar.total = self.total

    def show(self) -> None:
        """Draw the bar again, unless it was drawn a moment ago."""
        if not self.terminal or monotonic() < self.redraw_at:
            return
        self.redraw_at = monotonic() + REDRAW_SECONDS
        left = self.seconds_left()
        said = [f"{status} {count}" for status, count in self.counts.items() if count]
        said += [f"running {len(self.fractions)}"] + ([f"about {duration(left)} left"] if left is not None else [])
        self.bar.set_postfix_str(", ".join(said), refresh=False)
        self.bar.n = sum(self.counts.values()) + sum(self.fractions.values())
        self.bar.refresh()

    def close(self) -> None:
        """End the bar."""
        self.bar.close()


def plan_table(plans: list[Plan], statuses: Mapping[str, str], times: Times) -> str:
    """Return a table of a line per run: status, arm, seed, expected time, and what its arm changes."""
    rows = [("status", "arm", "seed", "time", "changes")]
    for plan in plans:
        expected = times.expected(plan)
        time = "" if statuses[str(plan.folder)] == "done" else duration(expected) if expected is not None else "?"
        changes = ", ".join(plan.changes) or "nothing"
        rows.append((statuses[str(plan.folder)], plan.arm, str(plan.seed), time, changes))
    return align(rows)


def print_summary(ended: Iterable[tuple[Plan, str, str]], waiting: int, over_budget: int, held: int) -> None:
    """Print which runs were not made, and why. ended: (run, status, message). The others are numbers of runs."""
    saved = []
    for plan, status, message in ended:
        if (status, message) == ("interrupted", STOPPED):
            saved.append(plan.label)
        elif status != "done":
            print(visible(f"{status}: {plan.label}: {message}{where_to_look(plan, status, 'log:')}"))
    if held:
        print(f"not made here: {plural(held, 'run')} of another command; when that has ended, run this again")
    if over_budget:
        print(f"not started: {plural(over_budget, 'run')}, which would not end within the budget")
    named = " and ".join(saved[:MAX_NAMED]) + (f" and {len(saved) - MAX_NAMED} more" if len(saved) > MAX_NAMED else "")
    left = [f"interrupted and saved: {named}"] * bool(saved) + [f"not started: {plural(waiting, 'run')}"] * bool(
        waiting
    )
    if left:
        print(visible(f"{'; '.join(left)}; the same command continues"))


def where_to_look(plan: Plan, status: str, word: str) -> str:
    """Return "; see .../train.log", or "" for a run that was interrupted: its log says nothing more."""
    return "" if status == "interrupted" else f"; {word} {plan.folder / 'train.log'}"
