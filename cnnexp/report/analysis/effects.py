"""The arithmetic of an ablation: is a combination more than the sum of its parts, and what does each technique add?

How the arms are built is read from the changes that they record: an arm is a combination if its changes are exactly
those of two or more single arms together, without the baseline's own. Single arms in no combination are left out.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cnnexp.records.names import arm_labels, settings_of
from cnnexp.records.study import identity
from cnnexp.report.analysis.decisions import BOTH_SIDES, NO_DECISION, Decision, Test, in_words
from cnnexp.report.analysis.evidence import by_seed
from cnnexp.report.analysis.sequential import anytime_p
from cnnexp.report.analysis.statistics import Estimate, estimate
from cnnexp.report.read.comparable import settings_apart
from cnnexp.report.read.study import Arm, Study
from cnnexp.report.read.tested import same_test_images

Layout = dict[frozenset[str], Arm]  # {labels of the single arms in it: the arm}; the baseline's is empty
SUM_WORDS = ("more than the sum", "less than the sum")


@dataclass(frozen=True)
class Effect:
    """An effect in points over the shared seeds. formula: of the arms' accuracies, in words.

    words: the verdicts above and below 0, None of an effect that is not tested here, because the comparison tests it.
    seeds: that all its arms have. arms: their names. hypothesis: what names it in study.json, with their configs.
    decision: within the family of the study's tested effects.
    """

    name: str
    formula: str
    points: Estimate
    words: tuple[str, str] | None = None
    seeds: tuple[int, ...] = ()
    arms: tuple[str, ...] = ()
    hypothesis: str = ""
    decision: Decision = NO_DECISION
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
    found = _contrasts(arms, singles) if full else _gains(arms)
    combined = [members for members in arms if len(members) > (2 if full else 1)]
    for members in [max(combined, key=len)] if full and combined else combined:
        found.append(_beyond_the_sum(arms, members))
    return found


def effect_tests(study: Study, found: Sequence[Effect]) -> dict[str, Test]:
    """Return the tests of the effects that the comparison does not make: the third family."""
    barred = BOTH_SIDES if _diverged(study) else frozenset[int]()
    tests = {}
    for effect in found:
        if effect.words:
            waits, total = study.schedule.seeds_of(effect.arms)
            side, points = 1 if effect.points.mean > 0 else -1, effect.points
            anytime = anytime_p(points)
            tests[effect.hypothesis] = Test(effect.seeds, points.p, anytime, side, False, barred, waits, total, points)
    return tests


def judge_effect(study: Study, effect: Effect, decisions: Mapping[str, Decision]) -> Effect:
    """Add the decision and the verdict to an effect that is tested here. decisions: on all tests of the study."""
    if effect.words is None:
        return effect
    decision = decisions[effect.hypothesis]
    verdict = in_words(effect.points, decision, decision.side, effect.words, _diverged(study))
    return replace(effect, decision=decision, verdict=verdict)


def _diverged(study: Study) -> int:
    return sum(len(arm.diverged) for arm in layout(study).values())


def layout(study: Study) -> Layout:
    """Return the baseline, the single arms that are combined, and the combinations; {} if there is none."""
    if not (base := study.baseline) or not base.runs:
        return {}
    common = set(base.first.texts("changes"))
    others = [a for a in study.arms if a is not base and a.runs and not settings_apart(a, base)]
    others = [a for a in others if same_test_images(a, base)]
    changed = {a.label: frozenset(a.first.texts("changes")) - common for a in others}
    changed = {label: own for label, own in changed.items() if own and list(changed.values()).count(own) == 1}
    parts = {label: _parts(own, changed) for label, own in changed.items()}
    singles = {label for label, inside in parts.items() if not inside}
    combined = {frozenset(inside & singles): label for label, inside in parts.items() if inside}
    combined = {m: label for m, label in combined.items() if sum(len(changed[s]) for s in m) == len(changed[label])}
    used = frozenset().union(*combined)
    arms = {arm.label: arm for arm in study.arms}
    found = {frozenset({label}): arms[label] for label in changed if label in used}
    found |= {members: arms[label] for members, label in combined.items()}
    return {frozenset(): base, **found} if combined else {}


def _parts(own: frozenset[str], changed: Mapping[str, frozenset[str]]) -> set[str]:
    """Return the arms whose changes are among these, if together they are all of these."""
    inside = {label for label, others in changed.items() if others < own}
    return inside if frozenset().union(*(changed[label] for label in inside)) == own else set()


def _effect(
    name: str, formula: str, arms: Layout, times: Mapping[frozenset[str], float], words: tuple[str, str] | None = None
) -> Effect:
    """Return a weighted sum of the arms' test accuracies, in points, over the seeds that all of them have."""
    values = {members: by_seed(arms[members], "test_accuracy") for members in times}
    seeds = sorted(set.intersection(*(set(v) for v in values.values())))
    points = estimate({seed: math.fsum(t * values[m][seed] for m, t in times.items()) for seed in seeds})
    terms = sorted((identity(arms[m].name, arms[m].fingerprint), t) for m, t in times.items())
    hypothesis = "effect: " + " ".join(f"{t:+g} {arm}" for arm, t in terms)
    return Effect(name, formula, points, words, tuple(seeds), tuple(arms[m].name for m in times), hypothesis)


def _gains(arms: Layout) -> list[Effect]:
    """Return the gain of each technique and each combination over the baseline; the comparison has tested these."""
    base, found = arms[frozenset()].label, []
    for members in sorted((m for m in arms if m), key=lambda m: len(m) > 1):
        label, alone = arms[members].label, " alone" if len(members) == 1 else ""
        found.append(_effect(f"{label}{alone}", f"{label} - {base}", arms, {members: 1, frozenset(): -1}))
    return found


def _beyond_the_sum(arms: Layout, members: frozenset[str]) -> Effect:
    """Return a combination's gain minus the sum of the single gains."""
    singles = [label for m in arms if len(m) == 1 for label in m if label in members]
    base, rest = arms[frozenset()].label, len(members) - 1
    times: dict[frozenset[str], float] = {members: 1, **{frozenset({s}): -1 for s in singles}, frozenset(): rest}
    formula = " - ".join([arms[members].label, *singles]) + f" + {f'{rest} ' if rest > 1 else ''}{base}"
    return _effect(f"{arms[members].label} beyond the sum of its parts", formula, arms, times, SUM_WORDS)


def _contrasts(arms: Layout, singles: list[str]) -> list[Effect]:
    """Return the main effects and interactions of a full factorial.

    As in Box, Hunter & Hunter (Statistics for Experimenters, ch. 5): the mean of the half of the arms whose signs
    multiply to +1, minus the mean of the other half. So the interaction of two techniques is half of what one gains
    with the other beyond what it gains without.
    """
    found, techniques = [], _techniques(arms, singles)
    for size in range(1, len(singles) + 1):
        for chosen in itertools.combinations(singles, size):
            times = {m: (-1) ** (size - len(m & set(chosen))) / 2 ** (len(singles) - 1) for m in arms}
            if size == 1:
                formula, words = "mean of the arms with it - mean of those without", ("better", "worse")
            else:
                count = " or ".join(str(n) for n in range(size % 2, size + 1, 2))  # of arms with sign +1: "0 or 2"
                formula = f"mean of the arms with {count} of them - mean of the others"
                words = SUM_WORDS if size == 2 else ("above 0", "below 0")
            name = " x ".join(techniques[single] for single in chosen)
            found.append(_effect(name, formula, arms, times, words))
    return found


def _techniques(arms: Layout, singles: Sequence[str]) -> dict[str, str]:
    """Return what to call the technique of each single arm, by the arm's label.

    Of a grid, whose arms' names consist of settings, it is what the arm sets that the baseline does not: an arm
    "norm=none aug=full" beside a baseline "norm=none aug=null" is where "aug=full" alone is added.
    """
    names, common = [], set(arms[frozenset()].first.texts("changes"))
    for single in singles:
        arm = arms[frozenset({single})]
        own = [change for change in arm.first.texts("changes") if change not in common]
        names.append(",".join(own) if settings_of(arm.name) else arm.label)
    return dict(zip(singles, arm_labels(names, [[]] * len(names)), strict=True))
