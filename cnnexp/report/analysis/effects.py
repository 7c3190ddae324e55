"""The arithmetic of an ablation: is a combination more than the sum of its parts, and what does each technique add?

How the arms are built is read off the changes that they record: an arm is a combination if its changes are exactly
those of two or more single arms together, the baseline's own left out. Single arms in no combination take no part.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cnnexp.report.analysis.evidence import by_seed
from cnnexp.report.analysis.statistics import Estimate, estimate, holm, verdict
from cnnexp.report.read.study import Arm, Study

Layout = dict[frozenset[str], Arm]  # {labels of the single arms in it: the arm}; the baseline's is empty


@dataclass(frozen=True)
class Effect:
    """An effect in points over the shared seeds. formula: of the arms' accuracies, in words.

    p_holm: corrected over the study's tested effects, nan of those that are not tested here.
    """

    name: str
    formula: str
    points: Estimate
    words: tuple[str, str] | None = None
    p_holm: float = math.nan
    verdict: str = ""


def effects(study: Study) -> list[Effect]:
    """Return main effects and interactions if the arms are a full factorial, else the gains and what is beyond them.

    Of a full factorial also what all techniques together gain beyond the sum of the single gains, unless there are only
    two: that is twice their interaction. [] if no arm combines others.
    """
    arms = layout(study)
    singles = [arm.label for members, arm in arms.items() if len(members) == 1]
    if not singles:
        return []
    full = len(arms) == 2 ** len(singles)
    found = _contrasts(arms, singles) if full else _gains(arms, singles)
    combined = [members for members in arms if len(members) > (2 if full else 1)]
    for members in [max(combined, key=len)] if full and combined else combined:
        found.append(_beyond_the_sum(arms, members))
    return _with_verdicts(found, sum(len(arm.diverged) for arm in arms.values()))


def layout(study: Study) -> Layout:
    """Return the baseline, the combinations, and the single arms that they are made of; {} if there is none."""
    if not (base := study.baseline) or not base.runs:
        return {}
    common = set(base.first.texts("changes"))
    own = {a.label: frozenset(a.first.texts("changes")) - common for a in study.arms if a is not base and a.runs}
    own = {label: changes for label, changes in own.items() if changes and list(own.values()).count(changes) == 1}
    parts = {label: _parts(changes, own) for label, changes in own.items()}
    singles = {label for label, inside in parts.items() if not inside}
    combined = {frozenset(inside & singles): label for label, inside in parts.items() if inside}
    combined = {m: label for m, label in combined.items() if sum(len(own[s]) for s in m) == len(own[label])}
    used = frozenset().union(*combined)
    arms = {arm.label: arm for arm in study.arms}
    found = {frozenset({label}): arms[label] for label in own if label in used}
    found |= {members: arms[label] for members, label in combined.items()}
    return {frozenset(): base, **found} if combined else {}


def _parts(changes: frozenset[str], own: Mapping[str, frozenset[str]]) -> set[str]:
    """Return the arms whose changes are among these, if together they are all of these."""
    inside = {label for label, others in own.items() if others < changes}
    return inside if frozenset().union(*(own[label] for label in inside)) == changes else set()


def _sum(arms: Layout, times: Mapping[frozenset[str], float]) -> Estimate:
    """Return a weighted sum of the arms' test accuracies, in points, over the seeds that all of them have."""
    values = {members: by_seed(arms[members], "test_accuracy") for members in times}
    seeds = sorted(set.intersection(*(set(v) for v in values.values())))
    return estimate([math.fsum(t * values[members][seed] for members, t in times.items()) for seed in seeds])


def _gains(arms: Layout, singles: list[str]) -> list[Effect]:
    """Return what each technique and each combination gains on the baseline; the comparison has tested these."""
    base = arms[frozenset()].label
    members = [frozenset({label}) for label in singles] + [m for m in arms if len(m) > 1]
    return [
        Effect(
            f"{arms[m].label}{' alone' if len(m) == 1 else ''}",
            f"{arms[m].label} - {base}",
            _sum(arms, {m: 1, frozenset(): -1}),
        )
        for m in members
    ]


def _beyond_the_sum(arms: Layout, members: frozenset[str]) -> Effect:
    """Return a combination's gain minus the sum of the single gains."""
    singles = [label for m in arms if len(m) == 1 for label in m if label in members]
    base, rest = arms[frozenset()].label, len(members) - 1
    times: dict[frozenset[str], float] = {members: 1, **{frozenset({s}): -1 for s in singles}, frozenset(): rest}
    formula = " - ".join([arms[members].label, *singles]) + f" + {f'{rest} ' if rest > 1 else ''}{base}"
    words = ("more than the sum", "less than the sum")
    return Effect(f"{arms[members].label} beyond the sum of its parts", formula, _sum(arms, times), words)


def _contrasts(arms: Layout, singles: list[str]) -> list[Effect]:
    """Return the main effects and interactions of a full factorial.

    As in Box, Hunter & Hunter (Statistics for Experimenters, ch. 5): the mean of the half of the arms whose signs
    multiply to +1, minus the mean of the other half. So the interaction of two techniques is half of what one gains
    with the other beyond what it gains without.
    """
    found = []
    for size in range(1, len(singles) + 1):
        for chosen in itertools.combinations(singles, size):
            times = {m: (-1) ** (size - len(m & set(chosen))) / 2 ** (len(singles) - 1) for m in arms}
            if size == 1:
                formula, words = "mean of the arms with it - mean of those without", ("better", "worse")
            else:
                formula = f"mean of the arms with {_count(size)} of them - mean of the others"
                words = ("more than the sum", "less than the sum") if size == 2 else ("above 0", "below 0")
            found.append(Effect(" x ".join(chosen), formula, _sum(arms, times), words))
    return found


def _count(size: int) -> str:
    """Return how many of `size` techniques an arm with sign +1 has: "0 or 2", "1 or 3"."""
    return " or ".join(str(n) for n in range(size % 2, size + 1, 2))


def _with_verdicts(found: list[Effect], diverged: int) -> list[Effect]:
    """Correct the tested effects over each other, and say in words what each shows."""
    tested = iter(holm([effect.points.p for effect in found if effect.words]))
    return [replace(e, p_holm=(p := next(tested)), verdict=_verdict(e, p, diverged)) if e.words else e for e in found]


def _verdict(effect: Effect, p: float, diverged: int) -> str:
    above, below = effect.words or ("", "")
    words = verdict(effect.points, p, diverged, diverged)
    return {"better": above, "worse": below}.get(words, words)
