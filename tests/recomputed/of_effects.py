"""The effects of techniques in an ablation, computed a second time from the changes that the arms record."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from cnnexp.report.read.study import Arm
from recomputed.arithmetic import Spread, spread
from recomputed.of_tests import Table, Tested, decided, limits, limits_of, verdict_of

Members = frozenset[str]  # labels of the arms that an arm combines
Weights = dict[Members, float]
BETTER, MORE = ("better", "worse"), ("more than the sum", "less than the sum")


class Effects(Tested):
    """The effects of one study."""

    def layout(self) -> dict[Members, Arm]:
        """Return the baseline by the empty set, arms of one technique, and arms that combine those; {} if none does."""
        base = self.study.baseline
        if base is None or not base.runs:
            return {}
        near = [arm for arm in self.study.arms if not self.apart(arm, base)]
        changes = {a.label: set(a.first.texts("changes")) - set(base.first.texts("changes")) for a in near}
        arms = {arm.label: arm for arm in near if arm is not base and arm.runs and changes[arm.label]}
        arms = {name: arm for name, arm in arms.items() if sum(changes[o] == changes[name] for o in arms) == 1}
        below = {name: [other for other in arms if changes[other] < changes[name]] for name in arms}
        made = {name for name in arms if set().union(*(changes[other] for other in below[name])) == changes[name]}
        combined = {}
        for name in arms:
            parts = [other for other in below[name] if other not in made]
            if name in made and sum(len(changes[part]) for part in parts) == len(changes[name]):
                combined[frozenset(parts)] = arms[name]
        used = set().union(*combined)
        single = {frozenset({name}): arm for name, arm in arms.items() if name in used}
        return {frozenset(): base, **single, **combined} if combined else {}

    def effects(self) -> Table:
        """Return what effects.csv should hold."""
        arms = self.layout()
        found = [(name, self.effect(weights, arms), words) for name, weights, words in weighted(arms, techniques(arms))]
        diverged = sum(len(arm.diverged) for arm in arms.values())
        corrected = limits_of({name: (points, diverged > 0) for name, points, words in found if words})
        lines: list[dict[str, Any]] = []
        for name, points, words in found:
            limit = corrected[name] if words else math.nan
            numbers = {f"points_{k}{limits(k)}": points[k] for k in ("mean", "std", "low", "high")}
            line = {"effect": name, **numbers, "n": points["n"], "p": points["p"], **decided(points, limit)}
            lines.append(line | {"verdict": verdict_of(points, limit, diverged, diverged, words) if words else ""})
        return lines

    def effect(self, weights: Weights, arms: Mapping[Members, Arm]) -> Spread:
        """Return a weighted sum of the arms' accuracies, in points."""
        values = {members: self.metric(arms[members], "test_accuracy") for members in weights}
        seeds = set.intersection(*(set(value) for value in values.values()))
        return spread({seed: sum(w * values[members][seed] for members, w in weights.items()) for seed in seeds})


def techniques(arms: Mapping[Members, Arm]) -> dict[str, str]:
    """Return the name of each technique: of a grid's arm what it alone sets, without the first part of each key."""
    found = {}
    shared = set(arms[Members()].first.texts("changes")) if arms else set()
    for members, arm in arms.items():
        if len(members) == 1:
            own = [change.split("=", 1) for change in arm.first.texts("changes") if change not in shared]
            short = [{"augmentation": "aug"}.get(key.lstrip("+"), key.split(".", 1)[-1]) for key, _ in own]
            sets = " ".join(f"{key}={value}" for key, (_, value) in zip(short, own, strict=True))
            found[arm.label] = sets if "=" in arm.name else arm.label
    return found


def weighted(
    arms: Mapping[Members, Arm], names: Mapping[str, str]
) -> Iterator[tuple[str, Weights, tuple[str, str] | None]]:
    """Yield each effect: its name, how much each arm counts, and the words of its verdict, None if it is not tested.

    A full factorial has contrasts: half of the arms, by the parity of the techniques that they lack, against the rest.
    """
    singles = [name for members in arms if len(members) == 1 for name in members]
    full = len(arms) == 2 ** len(singles)
    if full:
        for size in range(1, len(singles) + 1):
            for chosen in itertools.combinations(singles, size):
                lacks = {members: len(set(chosen) - members) for members in arms}
                signs = {members: (-1 if lacks[members] % 2 else 1) / (len(arms) / 2) for members in arms}
                words = (BETTER, MORE)[size - 1] if size < 3 else ("above 0", "below 0")
                yield " x ".join(names[label] for label in chosen), signs, words
    else:
        for members, arm in arms.items():
            if members:
                alone = " alone" if len(members) == 1 else ""
                yield f"{arm.label}{alone}", {members: 1.0, frozenset(): -1.0}, None
    combined = [members for members in arms if len(members) > 1]
    if full:
        combined = [members for members in combined if len(members) == len(singles) > 2]
    for members in combined:
        weights = {members: 1.0, **{frozenset({name}): -1.0 for name in members}, frozenset(): len(members) - 1.0}
        yield f"{arms[members].label} beyond the sum of its parts", weights, MORE
