"""The arms and runs of one report."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cnnexp.records.identical import differing
from cnnexp.records.names import arm_folder, arm_labels, short_keys, slug
from cnnexp.records.study import Crossing, Plan
from cnnexp.report.read.runs import Run
from cnnexp.text import plain, shorten

MAX_SETTINGS_IN_LABEL = 3


@dataclass
class Arm:
    """The runs of one arm with one fingerprint: the `done` ones, by seed, the diverged and the unfinished ones.

    label: for people. key: for file names. Both are unique in the study.
    """

    name: str
    fingerprint: str
    runs: list[Run] = field(default_factory=list)
    diverged: list[Run] = field(default_factory=list)
    unfinished: list[Run] = field(default_factory=list)
    label: str = ""
    key: str = ""

    def values(self, *path: str) -> dict[int, float]:
        """Return {unit: a number of run.json} of the done runs, nan where it is missing."""
        return {run.unit: run.number(*path) for run in self.runs}

    def accuracies(self) -> dict[int, float]:
        """Return {unit: test accuracy as a fraction} of the done runs."""
        return {run.unit: run.test_accuracy for run in self.runs}

    @property
    def folds(self) -> int:
        """Return how many folds its runs are of; 0 without cross-validation."""
        return self.first.fold.of if self.first.fold else 0

    @property
    def fold_is_test(self) -> bool:
        """Tell whether runs of different folds were tested on different images."""
        return self.folds > 0 and len({run.tested for run in self.runs if run.tested}) > 1

    @property
    def first(self) -> Run:
        """Return a run to read what all of them share."""
        return (self.runs or self.diverged or self.unfinished)[0]

    def class_names(self, count: int) -> list[str]:
        """Return the names of the classes; numbers where the record does not have `count` names."""
        names = self.first.texts("data", "classes")
        return names if len(names) == count else [str(i) for i in range(count)]


@dataclass(frozen=True)
class LeftOut:
    """A run that is not in the table."""

    folder: str
    arm: str
    seed: str
    status: str
    reason: str


@dataclass(frozen=True)
class Schedule:
    """The seeds that a study planned, and the looks at it. plan: None if none is recorded.

    listed: {arm's name: the seeds of its runs in study.json}. waiting: of these and the awaited ones, those without an
    end. looks: at how many seeds, in order. decided, tested: by hypothesis, as records/study.py has them. families: how
    many tests each family had, of each look. lost: the seeds of the runs that ended without a result, each run's.
    """

    plan: Plan | None = None
    listed: Mapping[str, frozenset[int]] = field(default_factory=dict)
    waiting: Mapping[str, frozenset[int]] = field(default_factory=dict)
    looks: tuple[int, ...] = ()
    decided: Mapping[str, Crossing] = field(default_factory=dict)
    tested: Mapping[str, int] = field(default_factory=dict)
    families: tuple[list[int], ...] = ()
    lost: tuple[int, ...] = ()

    @property
    def without_result(self) -> int:
        """Return how many planned runs have ended without a result: failed, diverged or skipped."""
        return sum(seed in self.plan.seeds for seed in self.lost) if self.plan else 0

    @property
    def is_stopped(self) -> bool:
        """Tell whether the plan has ended before some arm got all its seeds, because they would decide nothing."""
        return self.plan is not None and self.plan.ended and any(set(self.plan.seeds) - s for s in self.listed.values())

    @property
    def awaited(self) -> frozenset[int]:
        """Return the planned seeds that every arm is to get: none of a plan that has ended."""
        return frozenset(self.plan.seeds if self.plan and not self.plan.ended else ())

    def seeds_of(self, arms: Iterable[str]) -> tuple[frozenset[int], int]:
        """Return the seeds that a test of these arms waits for, and how many are planned for it."""
        names = list(dict.fromkeys(arms))
        if not names:
            return frozenset(), 0
        shared = frozenset.intersection(*(self.listed.get(name, frozenset()) for name in names))
        expected = self.awaited | shared
        return frozenset().union(*(self.waiting.get(name, frozenset()) for name in names)) & expected, len(expected)

    def as_of(self, seeds: Collection[int]) -> "Schedule":
        """Return the schedule as it was when these seeds were done, and no other."""
        then = frozenset(seeds)
        return replace(
            self,
            listed={arm: listed & then for arm, listed in self.listed.items()},
            waiting={arm: (waiting & then) | (self.awaited - then) for arm, waiting in self.waiting.items()},
            decided={name: crossing for name, crossing in self.decided.items() if then.issuperset(crossing.seeds)},
            tested={name: count for name, count in self.tested.items() if count <= len(then)},
            lost=tuple(seed for seed in self.lost if seed in then),
        )


@dataclass
class Study:
    """The runs of one report, and what study.json says of them. notes: what a reader of the table must know.

    reported: {arm's name: {metric: number}}, as claims.study.read_reported gives it. source: where it is from.
    """

    folder: Path
    name: str
    question: str
    command: str
    arms: list[Arm]
    baseline: Arm | None
    runs: list[Run]
    left_out: list[LeftOut]
    notes: list[str]
    reported: dict[str, dict[str, float]] = field(default_factory=dict)
    source: str = ""
    claims: list[str] = field(default_factory=list)
    is_choice: bool = False  # whether a setting is to be chosen among the arms: there is nothing they are compared with
    under_way: list[Arm] = field(default_factory=list)  # arms whose runs are all unfinished: not among `arms`
    schedule: Schedule = field(default_factory=Schedule)
    has_own_baseline: bool = True  # False: another baseline than that of study.json was asked for

    @property
    def folds(self) -> int:
        """Return how many folds its arms have; 0 without cross-validation."""
        return max((arm.folds for arm in self.arms), default=0)

    @property
    def planned_waiting(self) -> frozenset[int]:
        """Return the seeds that verdicts wait for: over folds, none beyond the plan."""
        plan, waiting = self.schedule.plan, frozenset[int]().union(*self.schedule.waiting.values())
        if plan is None or plan.ended:
            return frozenset()
        return waiting & set(plan.seeds) if self.folds else waiting

    def named(self, name: str) -> list[Arm]:
        """Return the arms of a name: several if it has several configs."""
        return [arm for arm in self.arms if arm.name == name]

    def only(self, seeds: Collection[int]) -> "Study":
        """Return the study as it would be with the runs of these seeds, or units, only."""
        arms = {
            id(arm): replace(arm, runs=_of_seeds(arm.runs, seeds), diverged=_of_seeds(arm.diverged, seeds))
            for arm in self.arms
        }
        baseline = arms[id(self.baseline)] if self.baseline else None
        return replace(self, arms=[arm for arm in arms.values() if arm.runs or arm.diverged], baseline=baseline)

    def as_of(self, seeds: Collection[int]) -> "Study":
        """Return the study as it was when these seeds were done, with what was decided until then."""
        return replace(self.only(seeds), schedule=self.schedule.as_of(seeds))


def _of_seeds(runs: list[Run], seeds: Collection[int]) -> list[Run]:
    return [run for run in runs if run.unit in seeds or run.seed in seeds]


def set_labels(arms: list[Arm]) -> None:
    """Give each arm its label and its key."""
    shorts = [plain(arm.fingerprint)[:8] for arm in arms]
    endings = [f" ({settings or short})" for settings, short in zip(_settings(arms), shorts, strict=True)]
    changes = [arm.first.texts("changes") for arm in arms]
    names = [plain(label) or "(no name)" for label in arm_labels([arm.name for arm in arms], changes)]
    labels = _unique(names, endings)
    keys = _unique([arm_folder(plain(arm.name)) for arm in arms], [f"-{slug(short)}" for short in shorts])
    for arm, label, key in zip(arms, labels, keys, strict=True):
        arm.label, arm.key = label, key


def _settings(arms: list[Arm]) -> list[str]:
    """Return "lr=0.1 wd=0" of every arm that shares its name with others: the settings in which these differ.

    "" where there are none, or more than MAX_SETTINGS_IN_LABEL, or a config cannot be read.
    """
    found, same = [""] * len(arms), dict[str, list[int]]()
    for index, arm in enumerate(arms):
        same.setdefault(plain(arm.name).lower(), []).append(index)
    for group in same.values():
        keys = differing([arms[index].first.record for index in group], "difference") if len(group) > 1 else ()
        for index in group if 0 < len(keys) <= MAX_SETTINGS_IN_LABEL else []:
            config, short = arms[index].first.settings or {}, short_keys(keys)
            found[index] = shorten(plain(" ".join(f"{short[key]}={config.get(key)}" for key in keys)), 60)
    return found


def _unique(names: list[str], endings: list[str]) -> list[str]:
    """Make equal names different by their endings, and if those are equal too, by a number."""
    counts = Counter(n.lower() for n in names)
    unique = [n if counts[n.lower()] == 1 else n + e for n, e in zip(names, endings, strict=True)]
    seen: Counter[str] = Counter()
    for i, name in enumerate(unique):
        seen[name.lower()] += 1
        if seen[name.lower()] > 1:
            unique[i] = f"{name}-{seen[name.lower()]}"
    return unique
