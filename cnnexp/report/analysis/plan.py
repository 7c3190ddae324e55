"""The planned seeds of a study and the looks at it, in words: which rule judges, and why."""

from collections.abc import Iterable

from cnnexp.report.analysis.decisions import ANYTIME, AT_PLAN, EXTENDED, MIN_LAST_LOOK, WITH_LOOKS
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.analysis.sequential import FIRST_LOOK
from cnnexp.report.analysis.statistics import LEVEL
from cnnexp.text import plural

FAMILIES = ("comparison", "claim", "effect")


def rules_in_words(findings: Findings) -> list[str]:
    """Return which rule judges the tests of a study, its families, and at how many seeds it was looked at."""
    counts = [
        plural(family.tests, name) for family, name in zip(findings.families, FAMILIES, strict=True) if family.tests
    ]
    if not counts:
        return []
    plan, looks = findings.study.schedule.plan, findings.study.schedule.looks
    found = [_of_plan(findings)]
    if plan and (beyond := [seed for seed in _seeds(findings) if seed not in plan.seeds]):
        found.append(_of_extension(findings, beyond))
    found.append(
        f"Families of tests: {', '.join(counts)}. Each has level {LEVEL:g}, by Holm's method over the tests that are "
        "undecided. What is decided stays decided."
    )
    seen = sorted({*looks, max((len(arm.runs) for arm in findings.arms), default=0)} - {0} if plan else ())
    return [*found, f"Looked at with {_listed(seen)} seed{'s' * (seen != [1])}."] if seen else found


def _of_plan(findings: Findings) -> str:
    plan = findings.study.schedule.plan
    if plan is None:
        return (
            "No plan of seeds is recorded here, so that these seeds count as planned: p is compared with "
            f"{AT_PLAN * LEVEL:g}, divided by Holm's method."
        )
    planned = f"Planned: {plural(len(plan.seeds), 'seed')} ({_listed(sorted(plan.seeds))})"
    if plan.every_seed:
        ended = " It has ended: the rest would decide nothing, or hardly anything." if plan.ended else ""
        return (
            f"{planned}, with a look at every number of seeds from {FIRST_LOOK} on. The chance of a false verdict "
            f"rises linearly with the seeds, to {WITH_LOOKS * LEVEL:g} at the last (alpha spending, Lan & DeMets "
            f"1983).{ended}"
        )
    if len(plan.seeds) < FIRST_LOOK:
        return f"{planned}. Fewer than {FIRST_LOOK} seeds decide nothing."
    return (
        f"{planned}. Until they are done each verdict is provisional. Then p is compared with {AT_PLAN * LEVEL:g}, "
        "divided by Holm's method: what is decided is final, what is not decided may be decided by more seeds. The "
        f"other {LEVEL - AT_PLAN * LEVEL:g} of the level are for these."
    )


def _of_extension(findings: Findings, beyond: list[int]) -> str:
    plan, rules = findings.study.schedule.plan, {decision.rule for decision in findings.decisions.values()}
    assert plan is not None
    last = len(plan.seeds) if plan.every_seed else max(2 * len(plan.seeds), MIN_LAST_LOOK)
    added = f"Beyond the plan: {plural(len(beyond), 'seed')} ({_listed(beyond)})"
    if ANYTIME in rules:
        return (
            f"{added}. Above {last} seeds an e-process judges, which may be looked at at any time: p is 1 / e, "
            f"compared with {LEVEL - WITH_LOOKS * LEVEL:g}, divided by Holm's method."
        )
    why = "the study was looked at before it was extended" if EXTENDED in rules else "they are not done"
    return (
        f"{added}. Alpha spending judges, because {why}: each further seed may be looked at once, and the chance of a "
        f"false verdict rises to {WITH_LOOKS * LEVEL:g} at {last} seeds."
    )


def _seeds(findings: Findings) -> list[int]:
    return sorted({run.seed for arm in findings.arms for run in arm.runs})


def _listed(numbers: Iterable[int]) -> str:
    """Return "0 to 4" of neighbours, and "2, 5" of others."""
    given = list(numbers)
    if len(given) > 2 and given[-1] - given[0] == len(given) - 1:
        return f"{given[0]} to {given[-1]}"
    return ", ".join(map(str, given))
